"""Tokenizers for a codec: of symbols, of words, or a checkpoint's own with symbols added.

All of them begin a text with the beginning-of-sequence token and pad on the right, and all are saved as
the generic class of transformers, so that reading them back gives the very same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from data_builders.registry import get_task, list_tasks
from data_builders.symbols import BOS, CHARACTERS, CONTROL_TEXT, EOS, PAD, SYMBOL_PATTERN, node, text_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"


def symbol_tokenizer(tasks: Sequence[str] = (), nodes: int = 0) -> PreTrainedTokenizerFast:
    """A vocabulary of single symbols: control tokens, all characters, tags, maze nodes.

    It has the tags of the built-in arithmetic and string tasks whether a mixture has them or not, and
    not those of tasks that somebody registered: see `Codec.build`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    built_in = [name for family in ("arithmetic", "strings") for name in list_tasks(family)]
    built_in = [n for n in built_in if get_task(n).rule.__module__.startswith("data_builders.tasks.")]
    texts = [*CONTROL_TEXT, UNKNOWN, *CHARACTERS, *_special_texts(dict.fromkeys([*built_in, *tasks]), nodes)]
    core = Tokenizer(models.WordLevel({text: i for i, text in enumerate(texts)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(SYMBOL_PATTERN), behavior="isolated")
    core.decoder = decoders.Fuse()
    return _with_own_controls(core)


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
    Pythia's does with digits); what it lacks comes after the last id. The price is that ordinary text
    is cut into these characters too.

    Args:
        tokenizer: the checkpoint's; left as it is.
        tags: names of tasks.
        nodes: maze nodes ``[1]`` to ``[nodes]``.
        characters: whether the characters of our symbols are tokens; else the text keeps the
            checkpoint's own tokens.

    Raises:
        ValueError: the tokenizer has no end-of-sequence token, or is no fast one.
    """
    from tokenizers import AddedToken, Tokenizer, decoders

    if not getattr(tokenizer, "is_fast", False):
        raise ValueError("the tokenizer is not one of the tokenizers library (a 'fast' one)")
    if tokenizer.eos_token is None:
        raise ValueError("the tokenizer has no end-of-sequence token")
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.no_padding()
    core.no_truncation()
    if characters and core.decoder is None:
        core.decoder = decoders.Fuse()  # without one, tokens are joined by spaces
    texts = [*(CHARACTERS if characters else ""), *_special_texts(tags, nodes)]
    core.add_tokens([AddedToken(text, normalized=False, special=False) for text in texts])
    eos, pad = tokenizer.eos_token, tokenizer.pad_token
    return _wrapped(core, bos=tokenizer.bos_token or eos, eos=eos, unk=tokenizer.unk_token, pad=pad)


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
