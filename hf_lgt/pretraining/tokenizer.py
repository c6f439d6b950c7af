"""A byte-level BPE tokenizer of a model's own, made from the training documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_lgt.data.codec import TextCodec
from hf_lgt.pretraining.config import TokenizerConfig
from hf_lgt.utils.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
"""ends a document, and begins and ends a sequence, as in SmolLM2 and Pythia"""
_CHUNK = 256
"""documents that are tokenized at a time"""


def train_tokenizer(documents: Sequence[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """Learn merges from documents; any text can be written, for each byte has a token.

    The same documents in the same order give the same tokenizer.

    Args:
        documents: the training documents.
        config: number of tokens, and what becomes of digits.

    Raises:
        ConfigError: the documents do not give so many tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    parts: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if config.digits == "single":
        parts.insert(0, pre_tokenizers.Digits(individual_digits=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(parts)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(documents, trainer)
    if (size := core.get_vocab_size()) < config.vocab_size:
        raise ConfigError(
            [f"tokenizer.vocab_size: the text gives {size} tokens, not {config.vocab_size}; take less"]
        )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        clean_up_tokenization_spaces=False,
    )


def token_stream(documents: Sequence[str], codec: TextCodec) -> NDArray[np.uint16]:
    """Ids of the documents one after another, each with an end token before it; uint16 [tokens]."""
    end = np.array([codec.eos_id], dtype=np.uint16)
    pieces: list[NDArray[np.uint16]] = []
    for start in range(0, len(documents), _CHUNK):
        for ids in codec.tokenize(documents[start : start + _CHUNK]):
            pieces += [end, np.array(ids, dtype=np.uint16)]
    return np.concatenate([*pieces, end])


def bytes_of_tokens(tokenizer: PreTrainedTokenizerFast) -> NDArray[np.int64]:
    """Bytes of text that each token stands for, int64 [vocabulary]; none for the end token."""
    sizes = np.zeros(len(tokenizer), dtype=np.int64)
    for token, place in tokenizer.get_vocab().items():
        # byte-level tokens are spelt with one character a byte
        sizes[place] = 0 if token == END else len(token)
    return sizes
