"""Symbol codes to token ids and back, and the tokenizer that is saved beside a model.

A full sequence is ``BOS tag prompt target EOS``; a mixture may do without tags.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class Codec:
    """Maps every symbol to exactly one token of a tokenizer.

    Args:
        tokenizer: its vocabulary must hold the symbols' texts, as `Codec.build` makes it.
        tags: whether sequences carry their task's tag.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, tags: bool = True) -> None:
        self.tokenizer = tokenizer
        self.tags = tags
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
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        built_in = [name for family in ("arithmetic", "strings") for name in list_tasks(family)]
        built_in = [n for n in built_in if get_task(n).rule.__module__.startswith("data_builders.tasks.")]
        tagged = dict.fromkeys([*built_in, *tasks])
        texts = [*CONTROL_TEXT, UNKNOWN, *CHARACTERS, *(text_of(tag_code(name)) for name in tagged)]
        texts += [text_of(node(k)) for k in range(1, nodes + 1)]
        pad, bos, eos = (CONTROL_TEXT[code] for code in (PAD, BOS, EOS))
        words = Tokenizer(models.WordLevel({t: i for i, t in enumerate(texts)}, unk_token=UNKNOWN))
        words.pre_tokenizer = pre_tokenizers.Split(Regex(SYMBOL_PATTERN), behavior="isolated")
        words.decoder = decoders.Fuse()
        words.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, texts.index(bos))]
        )
        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=words,
            pad_token=pad,
            bos_token=bos,
            eos_token=eos,
            unk_token=UNKNOWN,
            padding_side="right",
            model_input_names=["input_ids", "attention_mask"],
            clean_up_tokenization_spaces=False,
        )
        return cls(tokenizer, tags=tags)

    @classmethod
    def load(cls, path: str | Path, *, tags: bool = True) -> Codec:
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
        return int(self._ids[PAD])

    @property
    def bos_id(self) -> int:
        return int(self._ids[BOS])

    @property
    def eos_id(self) -> int:
        return int(self._ids[EOS])

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

    def decode(self, ids: Any) -> list[str]:
        """Text of each row of ids, without padding, BOS and EOS."""
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts
