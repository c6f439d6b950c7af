"""Tokenizers for a codec: of symbols, of words, or a checkpoint's own with symbols added.

All of them begin a text with the beginning-of-sequence token and pad on the right, and all are saved as
the generic class of transformers, so that reading them back gives the very same ids.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_builders.symbols import BOS, CHARACTERS, CONTROL_TEXT, EOS, PAD, SYMBOL_PATTERN, node, text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"


def symbol_tokenizer(tasks: Sequence[str] = (), nodes: int = 0) -> PreTrainedTokenizerFast:
    """A vocabulary of single symbols: control tokens, all characters, tags, maze nodes.

    It has the tags of eleven arithmetic and string tasks whether a mixture has them or not, and others only
    where they are asked for: see `Codec.build`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    tags = [*ALWAYS, *other_tasks(tasks)]
    texts = [*CONTROL_TEXT, UNKNOWN, *CHARACTERS, *_special_texts(tags, nodes)]
    core = Tokenizer(models.WordLevel({text: i for i, text in enumerate(texts)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(SYMBOL_PATTERN), behavior="isolated")
    core.decoder = decoders.Fuse()
    return _with_own_controls(core)


ALWAYS = (
    "reverse_add", "no_carry", "carry_only", "reverse_subtract", "copy_first_op", "cot_multiply",
    "string_copy", "capitalize", "reverse", "capitalize_reverse", "mqar",
)  # fmt: skip
"""tasks whose tags each vocabulary of symbols has; one more here would change all initial weights"""
TOGETHER = (
    "unique_copy", "sort", "next_larger", "induction", "anti_induction", "repeat_copy", "first_letter",
    "last_letter", "selective_copy", "reverse_hints", "parity", "parity_scratchpad", "modular_sum",
    "majority", "count_char", "dyck_close", "binary_add",
)  # fmt: skip
"""tasks whose tags a vocabulary has once it has one of them, so that arms with several start alike"""


def other_tasks(tasks: Iterable[str]) -> list[str]:
    """Those of some tasks whose tags `symbol_tokenizer` has only where they are asked for, in their order."""
    asked = list(dict.fromkeys(tasks))
    together = TOGETHER if any(name in TOGETHER for name in asked) else ()
    return [*together, *(name for name in asked if name not in (*ALWAYS, *TOGETHER))]


def word_tokenizer(texts: Iterable[str], tags: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A vocabulary of the words and punctuation marks of some texts, frequent ones first."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    # A word keeps the space before it, as the first one does, so that decoding only joins.
    split = pre_tokenizers.Split(Regex(r"\s*(\w+|[^\w\s])"), behavior="isolated")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in split.pre_tokenize_str(" " + text) if text)
    known = [*CONTROL_TEXT, UNKNOWN, *_special_texts(dict.fromkeys(tags), 0)]
    words = sorted(counts, key=lambda word: (-counts[word], word))
    vocabulary = {text: i for i, text in enumerate(dict.fromkeys([*known, *words]))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer, core.pre_tokenizer = normalizers.Prepend(" "), split
    core.decoder = decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    core.add_special_tokens(known[len(CONTROL_TEXT) + 1 :])
    return _with_own_controls(core)


def extended_tokenizer(
    tokenizer: PreTrainedTokenizerFast, *, tags: Iterable[str] = (), nodes: int = 0, characters: bool = True
) -> PreTrainedTokenizerFast:
    """A checkpoint's tokenizer in which tags, nodes and characters are one token each, in any text.

    What the vocabulary has keeps its id, though the tokenizer would merge it with its neighbours (as
    Pythia's does with digits); what it lacks comes after the last id. Ids that it leaves out below that
    are given to tokens ``<|unused-2|>`` of no text. The price is that ordinary text is cut into these
    characters too.

    Args:
        tokenizer: the checkpoint's; left as it is.
        tags: names of tasks.
        nodes: maze nodes ``[1]`` to ``[nodes]``.
        characters: whether the characters of our symbols are tokens; else the text keeps the
            checkpoint's own tokens.

    Raises:
        ValueError: the tokenizer has no end-of-sequence token, is no fast one, or has two tokens with
            one id.
    """
    from tokenizers import AddedToken, decoders

    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("the tokenizer is not one of the tokenizers library (a 'fast' one)")
    if tokenizer.eos_token is None:
        raise ValueError("the tokenizer has no end-of-sequence token")
    core = _without_holes(tokenizer.backend_tokenizer)
    core.no_padding()
    core.no_truncation()
    if core.decoder is None:
        core.decoder = decoders.Fuse()  # without one, tokens are joined by spaces
    texts = [*(CHARACTERS if characters else ""), *_special_texts(tags, nodes)]
    core.add_tokens([AddedToken(text, normalized=False, special=False) for text in texts])
    _check_ids(core.get_vocab())
    eos, pad = tokenizer.eos_token, tokenizer.pad_token
    wider = _wrapped(core, bos=tokenizer.bos_token or eos, eos=eos, unk=tokenizer.unk_token, pad=pad)
    wider.chat_template = chat_template(tokenizer)
    return wider


def chat_template(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """A checkpoint's template of conversations, the default one of several; None where it has none."""
    found: Any = tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    return found if isinstance(found, str) else None


def _without_holes(core: Any) -> Any:
    """A copy whose vocabulary leaves out no id: the library numbers added tokens from its count of tokens."""
    from tokenizers import Tokenizer

    ids = core.get_vocab()
    _check_ids(ids)
    text = core.to_str()
    if len(ids) == max(ids.values()) + 1:
        return Tokenizer.from_str(text)
    data, texts = json.loads(text), {token: name for name, token in ids.items()}
    vocabulary = data["model"]["vocab"]  # a list, which has no holes, is that of Unigram alone
    for token in range(max(vocabulary.values()) + 1):
        name = texts.get(token, f"<|unused-{token}|>")
        while token not in texts and name in ids:
            name = f"<{name}>"
        vocabulary[name] = token
    filled = Tokenizer.from_str(json.dumps(data))
    now = filled.get_vocab()
    if moved := [name for name, token in ids.items() if now.get(name) != token]:
        raise ValueError(f"the tokenizer has ids that cannot be kept, as that of {moved[0]!r}")
    return filled


def _check_ids(ids: Mapping[str, int]) -> None:
    """Refuse a vocabulary of which two tokens have one id."""
    texts: dict[int, str] = {}
    for text, token in sorted(ids.items()):
        if token in texts:
            raise ValueError(
                f"the tokenizer has two tokens with the id {token}: {texts[token]!r} and {text!r}"
            )
        texts[token] = text


def can_drop(core: Any) -> bool:
    """Whether a tokenizer may pass over characters in silence.

    So does a BPE that has no unknown token and not all bytes.
    """
    data = json.loads(core.to_str())
    model = data["model"]
    vocabulary = model.get("vocab", ())
    if model["type"] != "BPE" or model.get("unk_token") in vocabulary:
        return False
    if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        return False
    from tokenizers import pre_tokenizers

    by_bytes = '"ByteLevel"' in json.dumps([data["normalizer"], data["pre_tokenizer"]])
    affixed = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    return not (by_bytes and not affixed and vocabulary.keys() >= {*pre_tokenizers.ByteLevel.alphabet()})


def telling(core: Any) -> tuple[Any, int]:
    """A copy of a BPE with a token for what it drops, and the id of that; other ids may differ."""
    from tokenizers import Tokenizer

    ids, data = core.get_vocab(), json.loads(core.to_str())
    name = "<|dropped|>"
    while name in ids:
        name = f"<{name}>"
    # beyond the ids that added tokens may get
    mark = max(ids.values()) + len(ids) + 1
    data["model"]["vocab"][name] = mark
    data["model"] |= {"unk_token": name, "fuse_unk": False}
    return Tokenizer.from_str(json.dumps(data)), mark


def _special_texts(tags: Iterable[str], nodes: int) -> list[str]:
    return [*(f"<{name}>" for name in tags), *(text_of(node(k)) for k in range(1, nodes + 1))]


def _with_own_controls(core: Any) -> PreTrainedTokenizerFast:
    return _wrapped(core, bos=CONTROL_TEXT[BOS], eos=CONTROL_TEXT[EOS], unk=UNKNOWN, pad=CONTROL_TEXT[PAD])


def _wrapped(core: Any, *, bos: str, eos: str, unk: str | None, pad: str | None) -> PreTrainedTokenizerFast:
    """The tokenizer of transformers, which begins each text with BOS and pads on the right."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    core.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
    )
    named = {"bos_token": bos, "eos_token": eos, "unk_token": unk, "pad_token": pad}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        **{name: token for name, token in named.items() if token is not None},
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
