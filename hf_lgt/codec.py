"""Symbol codes to token ids and back, and the tokenizer that is saved beside a model.

A full sequence is ``BOS tag prompt target EOS``; a mixture may do without tags.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Sample, join
from data_builders.registry import get_task, list_tasks
from data_builders.symbols import (
    BOS,
    CHARACTERS,
    CONTROL_TEXT,
    EOS,
    FIRST_NODE,
    LAST_NODE,
    PAD,
    SYMBOL_PATTERN,
    base_symbols,
    code_of,
    is_node,
    node,
    tag_code,
    text_of,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast
    from typing_extensions import Self

Ids = NDArray[np.int64]
UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Encoded:
    """Token ids of n sequences."""

    ids: Ids
    """int64 [n, W], right-padded with the padding id"""
    lengths: NDArray[np.int64]
    """int64 [n], tokens of each sequence"""
    scored: NDArray[np.bool_]
    """bool [n, W], the tokens that count in loss and exact match"""


class TextCodec:
    """Token ids of texts, prompt and target apart, so that no token spans their boundary.

    Args:
        tokenizer: needs padding, beginning and end tokens, and ``<task>`` tokens if `tags`.
        tags: whether sequences carry their task's tag.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, tags: bool = True) -> None:
        self.tokenizer = tokenizer
        self.tags = tags

    @classmethod
    def of_words(cls, texts: Iterable[str], *, tasks: Sequence[str] = (), tags: bool = True) -> TextCodec:
        """A codec whose tokens are the words and punctuation marks of these texts, frequent ones first.

        Args:
            texts: all that must have tokens.
            tasks: names of the tasks, for the tags.
            tags: whether sequences carry their task's tag.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

        # A word keeps the space before it, as the first one does, so that decoding only joins.
        split = pre_tokenizers.Split(Regex(r"\s*(\w+|[^\w\s])"), behavior="isolated")
        space = normalizers.Prepend(" ")
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(piece for piece, _ in split.pre_tokenize_str(" " + text) if text)
        known = [*CONTROL_TEXT, UNKNOWN, *(f"<{name}>" for name in dict.fromkeys(tasks) if tags)]
        words = sorted(counts, key=lambda word: (-counts[word], word))
        vocabulary = {text: i for i, text in enumerate(dict.fromkeys([*known, *words]))}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        core.normalizer, core.pre_tokenizer = space, split
        core.decoder = decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        core.add_special_tokens(known[len(CONTROL_TEXT) + 1 :])
        return cls(_fast_tokenizer(core, vocabulary), tags=tags)

    @classmethod
    def load(cls, path: str | Path, *, tags: bool = True) -> Self:
        """The codec of a saved model's tokenizer.

        Raises:
            OSError: there is no tokenizer.
        """
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        return cls(tokenizer, tags=tags)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer into a folder."""
        self.tokenizer.save_pretrained(path)

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding needs."""
        return len(self.tokenizer)

    @property
    def pad_id(self) -> int:
        """Fills up shorter rows; it is never read, so a tokenizer without one lends its end token."""
        return self.eos_id if self.tokenizer.pad_token_id is None else int(self.tokenizer.pad_token_id)

    @property
    def bos_id(self) -> int:
        """Begins every sequence; raises ValueError if the tokenizer has none."""
        return _token(self.tokenizer.bos_token_id, "beginning-of-sequence")

    @property
    def eos_id(self) -> int:
        """Ends every answer; raises ValueError if the tokenizer has none."""
        return _token(self.tokenizer.eos_token_id, "end-of-sequence")

    def head(self, task: str) -> list[int]:
        """Ids before a prompt: beginning of sequence and tag.

        Raises:
            ValueError: the tokenizer has no tag for the task.
        """
        if not self.tags:
            return [self.bos_id]
        tag = self.tokenizer.get_vocab().get(f"<{task}>")
        if tag is None:
            raise ValueError(f"the tokenizer has no tag <{task}>")
        return [self.bos_id, tag]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text alone; the id of `UNKNOWN` where there is no token."""
        encoded = self.tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [piece.ids for piece in encoded]

    def missing(self, text: str) -> list[str]:
        """The pieces of a text that have no token, and the control tokens that it must not hold."""
        encoded = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        wrong = [
            text[start:stop]
            for token, (start, stop) in zip(encoded.ids, encoded.offsets, strict=True)
            if token in self.forbidden
        ]
        return list(dict.fromkeys(wrong))

    @property
    def forbidden(self) -> set[int]:
        """Ids that no prompt or target has: unknown, padding, beginning and end."""
        unknown = self.tokenizer.unk_token_id
        return {self.pad_id, self.bos_id, self.eos_id, *([] if unknown is None else [int(unknown)])}

    def decode(self, ids: Any) -> list[str]:
        """Text of each row of ids, without padding, BOS and EOS."""
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts


def _token(token: Any, name: str) -> int:
    if not isinstance(token, int):
        raise ValueError(f"the tokenizer has no {name} token")
    return token


def _fast_tokenizer(core: Any, vocabulary: Mapping[str, int]) -> PreTrainedTokenizerFast:
    """A tokenizer of transformers that begins each text with BOS and pads on the right."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    pad, bos, eos = (CONTROL_TEXT[code] for code in (PAD, BOS, EOS))
    core.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=UNKNOWN,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


class Codec(TextCodec):
    """Maps every symbol to exactly one token of a tokenizer.

    Args:
        tokenizer: its vocabulary must hold the symbols' texts, as `Codec.build` makes it.
        tags: whether sequences carry their task's tag.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, tags: bool = True) -> None:
        super().__init__(tokenizer, tags=tags)
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._ids = np.full(FIRST_NODE + LAST_NODE + 1, -1, dtype=np.int64)
        for text, token in vocabulary.items():
            if is_node(text):
                self._ids[code_of(text)] = token
        for text, code in base_symbols().items():
            self._ids[code] = vocabulary.get(text, -1)

    @classmethod
    def build(cls, *, tasks: Sequence[str] = (), nodes: int = 0, tags: bool = True) -> Codec:
        """A codec with a vocabulary of its own.

        It holds all characters and the tags of the built-in arithmetic and string tasks, whether a
        mixture has them or not: so two arms of a comparison start from the same weights, and so does
        the same config where somebody registered tasks of their own.

        Args:
            tasks: other tasks whose tags are needed.
            nodes: maze nodes ``[1]`` to ``[nodes]``.
            tags: whether sequences carry their task's tag.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        built_in = [name for family in ("arithmetic", "strings") for name in list_tasks(family)]
        built_in = [n for n in built_in if get_task(n).rule.__module__.startswith("data_builders.tasks.")]
        tagged = dict.fromkeys([*built_in, *tasks])
        texts = [*CONTROL_TEXT, UNKNOWN, *CHARACTERS, *(f"<{name}>" for name in tagged)]
        texts += [text_of(node(k)) for k in range(1, nodes + 1)]
        vocabulary = {text: i for i, text in enumerate(texts)}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        core.pre_tokenizer = pre_tokenizers.Split(Regex(SYMBOL_PATTERN), behavior="isolated")
        core.decoder = decoders.Fuse()
        return cls(_fast_tokenizer(core, vocabulary), tags=tags)

    def encode(self, sample: Sample, task: str) -> Encoded:
        """Token ids of full sequences.

        Args:
            sample: n examples.
            task: name of the task they are of, for the tag.

        Raises:
            ValueError: a symbol has no token in this vocabulary; names the symbols.
        """
        # A scored symbol travels as its negative code, so that one layout serves ids and mask.
        target = np.where(sample.loss_mask, -sample.target, sample.target)
        head = [BOS, tag_code(task)] if self.tags else [BOS]
        end = -EOS if sample.scores_eos else EOS
        prompt, here = sample.prompt != PAD, target != PAD
        codes = join(len(sample), [*head, (sample.prompt, prompt), (target, here), end])
        plain = np.abs(codes)
        ids = self._ids[plain]
        if ids.min(initial=0) < 0:
            missing = [text_of(int(c)) for c in np.unique(plain[ids < 0])]
            raise ValueError(f"the tokenizer lacks {', '.join(missing)}, which {task} writes")
        return Encoded(ids, (codes != PAD).sum(axis=1), codes < 0)
