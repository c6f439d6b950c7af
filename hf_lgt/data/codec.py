"""Symbol codes to token ids and back, and the tokenizer that is saved beside a model.

A full sequence is ``BOS tag prompt target EOS``; a mixture may do without tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Sample, join
from data_builders.symbols import (
    BOS,
    CHARACTERS,
    EOS,
    FIRST_NODE,
    LAST_NODE,
    PAD,
    Codes,
    base_symbols,
    code_of,
    is_node,
    tag_code,
    text_of,
)
from hf_lgt.data.tokenizers import can_drop, extended_tokenizer, symbol_tokenizer, telling, word_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast
    from typing_extensions import Self

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """Token ids of n sequences."""

    ids: Ids
    """int64 [n, W], right-padded with the padding id"""
    lengths: NDArray[np.int64]
    """int64 [n], tokens of each sequence"""
    scored: NDArray[np.bool_]
    """bool [n, W], the tokens that count in loss and exact match"""
    positions: NDArray[np.int64] | None = None
    """int64 [n, W], the position ID of each token; None: 0, 1, 2, ..."""


class TextCodec:
    """Token ids of texts, prompt and target apart, so that no token spans their boundary.

    Args:
        tokenizer: needs padding, beginning and end tokens, and ``<task>`` tokens if `tags`.
        tags: whether sequences carry their task's tag.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, tags: bool = True) -> None:
        self.tokenizer = tokenizer
        self.tags = tags
        self.added: tuple[int, ...] = ()
        """ids that a checkpoint's tokenizer lacked, ascending"""
        self.inherited = 0
        """ids from 0 that a checkpoint's own tokenizer has"""

    @classmethod
    def of_words(cls, texts: Iterable[str], *, tasks: Sequence[str] = (), tags: bool = True) -> TextCodec:
        """A codec whose tokens are the words and punctuation marks of these texts, frequent ones first.

        Args:
            texts: all that must have tokens.
            tasks: names of the tasks, for the tags.
            tags: whether sequences carry their task's tag.
        """
        return cls(word_tokenizer(texts, tasks if tags else ()), tags=tags)

    @classmethod
    def of_pretrained(
        cls,
        tokenizer: PreTrainedTokenizerFast,
        *,
        tasks: Sequence[str] = (),
        nodes: int = 0,
        tags: bool = True,
    ) -> Self:
        """A codec on a checkpoint's tokenizer: `Codec` maps each symbol to one id, this class texts.

        Args:
            tokenizer: the checkpoint's; left as it is.
            tasks: names of the tasks, for the tags.
            nodes: maze nodes ``[1]`` to ``[nodes]``.
            tags: whether sequences carry their task's tag.

        Raises:
            ValueError: the tokenizer has no end-of-sequence token, is no fast one, has two tokens with one
                id, or does not give symbols back as they are.
        """
        known = set(tokenizer.get_vocab().values())
        wider = extended_tokenizer(
            tokenizer, tags=tasks if tags else (), nodes=nodes, characters=cls._by_symbols
        )
        codec = cls(wider, tags=tags)
        codec.inherited = max(known) + 1
        codec.added = tuple(range(codec.inherited, codec.vocab_size))
        codec._check_symbols()
        return codec

    def _check_symbols(self) -> None:
        """Texts are checked row by row, see `altered`."""

    _by_symbols = False
    """whether texts are cut into our symbols"""

    @classmethod
    def load(cls, path: str | Path, *, tags: bool = True, trust_remote_code: bool = False) -> Self:
        """The codec of a saved model's tokenizer.

        Args:
            path: the model's folder.
            tags: whether sequences carry their task's tag.
            trust_remote_code: run Python code that comes with it.

        Raises:
            OSError: there is no tokenizer.
            ValueError: it needs code that is not to be run.
        """
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=trust_remote_code
        )
        return cls(tokenizer, tags=tags)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer into a folder."""
        self.tokenizer.save_pretrained(path)

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding needs."""
        return max(self.tokenizer.get_vocab().values()) + 1

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
        """Ids of each text alone; the unknown token where there is none, see also `dropped`."""
        encoded = self.tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [piece.ids for piece in encoded]

    def dropped(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text has characters that the tokenizer passes over, without an unknown token."""
        if self._telling is None:
            return [False] * len(texts)
        core, mark = self._telling
        return [mark in piece.ids for piece in core.encode_batch_fast([*texts], add_special_tokens=False)]

    def altered(self, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> list[str | None]:
        """What the tokenizer gives back of each text, None where that is the text itself.

        Args:
            texts: what was put in.
            ids: `tokenize` of them.
        """
        core = self.tokenizer.backend_tokenizer
        back = core.decode_batch([list(row) for row in ids], skip_special_tokens=False)
        return [None if text == given else given for text, given in zip(texts, back, strict=True)]

    def missing(self, text: str) -> list[str]:
        """The pieces of a text that have no token, and the control tokens that it must not hold."""
        found = [(self.tokenizer.backend_tokenizer, self.forbidden)]
        if self._telling:
            found.append((self._telling[0], {self._telling[1]}))
        wrong = []
        for core, marks in found:
            encoded = core.encode(text, add_special_tokens=False)
            places = zip(encoded.ids, encoded.offsets, strict=True)
            wrong += [text[start:stop] for token, (start, stop) in places if token in marks]
        return list(dict.fromkeys(wrong))

    @cached_property
    def _telling(self) -> tuple[Any, int] | None:
        """A tokenizer that has an id for what this one drops, and that id; None where nothing is dropped."""
        core = self.tokenizer.backend_tokenizer
        return telling(core) if can_drop(core) else None

    @property
    def forbidden(self) -> set[int]:
        """Ids that no prompt or target has: unknown, padding, beginning and end."""
        core = self.tokenizer.backend_tokenizer
        name = getattr(core.model, "unk_token", None)  # the core's own need not be named to transformers
        unknown = {self.tokenizer.unk_token_id, None if name is None else core.token_to_id(name)}
        return {self.pad_id, self.bos_id, self.eos_id, *(int(i) for i in unknown if i is not None)}

    def decode(self, ids: Any) -> list[str]:
        """Text of each row of ids, without padding, BOS and EOS."""
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts


def _token(token: Any, name: str) -> int:
    if not isinstance(token, int):
        raise ValueError(f"the tokenizer has no {name} token")
    return token


class Codec(TextCodec):
    """Maps every symbol to exactly one token of a tokenizer.

    Args:
        tokenizer: its vocabulary must hold the symbols' texts, as `Codec.build` and
            `Codec.of_pretrained` make it.
        tags: whether sequences carry their task's tag.
    """

    _by_symbols = True

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, tags: bool = True) -> None:
        super().__init__(tokenizer, tags=tags)
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._ids = np.full(FIRST_NODE + LAST_NODE + 1, -1, dtype=np.int64)
        for text, token in vocabulary.items():
            if is_node(text):
                self._ids[code_of(text)] = token
        for text, code in base_symbols().items():
            self._ids[code] = vocabulary.get(text, -1)
        # a checkpoint's control tokens have names of their own, and several may be one
        controls = {BOS: tokenizer.bos_token_id, EOS: tokenizer.eos_token_id}
        controls[PAD] = controls[EOS] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        for code, token in controls.items():
            self._ids[code] = -1 if token is None else token

    @classmethod
    def build(cls, *, tasks: Sequence[str] = (), nodes: int = 0, tags: bool = True) -> Codec:
        """A codec with a vocabulary of its own.

        It holds all characters and the tags of eleven arithmetic and string tasks, whether a mixture has
        them or not (`hf_lgt.data.tokenizers.ALWAYS`): so two arms of a comparison start from the same
        weights, and so does the same config where there are more tasks.

        Args:
            tasks: other tasks whose tags are needed.
            nodes: maze nodes ``[1]`` to ``[nodes]``.
            tags: whether sequences carry their task's tag.
        """
        return cls(symbol_tokenizer(tasks, nodes), tags=tags)

    def _check_symbols(self) -> None:
        """Refuse a tokenizer that does not give the symbols back, as one whose decoder lowercases.

        Raises:
            ValueError: with an example.
        """
        text = "".join(CHARACTERS)
        (back,) = self.altered([text], self.tokenize([text]))
        if back is not None:
            raise ValueError(
                f"the tokenizer turns {text!r} into {back!r}; it must give symbols back as they are"
            )

    def ids_of(self, codes: Codes) -> Ids:
        """The id of each symbol, -1 where the vocabulary has none."""
        found: Ids = self._ids[codes]
        return found

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


T = TypeVar("T", bound=TextCodec)


class CheckpointTokenizer(Protocol):
    """What data needs of a checkpoint, see `hf_lgt.models.base_checkpoint`."""

    @property
    def name(self) -> str:
        """Hub id or folder."""

    @property
    def limit(self) -> int | None:
        """Longest sequence in tokens, None where the positions set no bound."""

    def codec(self, kind: type[T], **wanted: Any) -> T:
        """A codec on its tokenizer."""
