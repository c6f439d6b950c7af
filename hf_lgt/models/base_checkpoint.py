"""What must be known of a checkpoint before its weights are read: architecture, tokenizer, context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hf_lgt.config.schema import ModelConfig, short
from hf_lgt.data.codec import TextCodec
from hf_lgt.data.tokenizers import chat_template
from hf_lgt.models.readable import readable
from hf_lgt.models.resolve import ResolvedCheckpoint, resolve
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.memory import check_model_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

C = TypeVar("C", bound=TextCodec)

_FULL_SHARE = 0.9
"""of a checkpoint's rows, the share that its own tokenizer uses at least; padding is a few hundred rows"""


@dataclass(frozen=True)
class BaseCheckpoint:
    """A checkpoint with what must be known of it before any weight is read."""

    checkpoint: ResolvedCheckpoint
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerFast
    limit: int | None
    """longest sequence in tokens, None where the positions set no bound"""

    @property
    def name(self) -> str:
        """Hub id or folder."""
        return self.checkpoint.name

    def codec(self, kind: type[C], **wanted: Any) -> C:
        """A codec on its tokenizer, see `TextCodec.of_pretrained`.

        Raises:
            ConfigError: none can be made of it.
        """
        try:
            return kind.of_pretrained(self.tokenizer, **wanted)
        except ValueError as error:
            fault = str(error).replace("the tokenizer", f"the tokenizer of {short(self.checkpoint.name)}", 1)
            raise ConfigError([f"model.name_or_path: {fault}"]) from None


def open_base_checkpoint(model: ModelConfig, commit: str | None = None) -> BaseCheckpoint:
    """Find a checkpoint and read its architecture and tokenizer.

    Args:
        model: names it.
        commit: read it at this commit, though the revision may name another by now.

    Raises:
        ConfigError: see `resolve`; also a folder that cannot be read, a tokenizer without an end token,
            more positions asked for than the checkpoint has.
    """
    checkpoint = resolve(model, commit)
    config = open_config(checkpoint, model)
    limit = context_length(config)
    if model.max_positions is not None:
        if limit is not None and model.max_positions > limit:
            raise ConfigError(
                [
                    f"model.max_positions: {model.max_positions} is more than the {limit} tokens that "
                    f"{short(checkpoint.name)} takes"
                ]
            )
        limit = model.max_positions
    tokenizer = open_tokenizer(checkpoint, model)
    for part in (config, config.get_text_config()):
        if getattr(part, "pad_token_id", None) in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            # the row of a padding token gets no gradient, but texts begin and end with this one
            part.pad_token_id = None
    return BaseCheckpoint(checkpoint, config, tokenizer, limit)


def open_config(checkpoint: ResolvedCheckpoint, model: ModelConfig) -> PretrainedConfig:
    """The checkpoint's architecture.

    Raises:
        ConfigError: it cannot be read, or its positions are not those of a decoder.
    """
    check_model_folder(checkpoint.folder, f"model.name_or_path: {short(checkpoint.name)}")
    with readable(*checkpoint.told):
        config = read_architecture(checkpoint.folder, trust_remote_code=model.trust_remote_code)
        config.get_text_config()  # fails where there are several
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            [
                f"model.name_or_path: {short(checkpoint.name)} is an encoder-decoder, not a causal language "
                "model"
            ]
        )
    return config


def read_architecture(folder: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    """What stands in a model's ``config.json``, less what would fetch code."""
    from transformers import AutoConfig

    from hf_lgt.models import looped  # noqa: F401  lets transformers know the family

    config: PretrainedConfig = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=trust_remote_code
    )
    if not trust_remote_code:
        config._attn_implementation = None  # may name a kernel on the Hub
    return config


def context_length(config: Any) -> int | None:
    """Longest sequence in tokens that a checkpoint's positions allow, None where they set no bound."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(limit := getattr(text, name, None), int) and limit > 0:
            return limit
    return None


def open_tokenizer(checkpoint: ResolvedCheckpoint, model: ModelConfig) -> PreTrainedTokenizerFast:
    """The checkpoint's tokenizer, as its ``tokenizer.json`` has it.

    Raises:
        ConfigError: there is none that can be read, or it has no end-of-sequence token.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = checkpoint.folder / "tokenizer.json"
    with readable(*checkpoint.told):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=model.trust_remote_code
        )
        if file.is_file():
            # The named classes make their own core from the vocabulary and may lose or add steps and tokens.
            core = Tokenizer.from_file(str(file))
            named = {
                key: getattr(tokenizer, key) for key in ("bos_token", "eos_token", "unk_token", "pad_token")
            }
            there = {k: v for k, v in named.items() if v is not None and core.token_to_id(v) is not None}
            template = chat_template(tokenizer)
            tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **there)  # type: ignore[no-untyped-call]
            tokenizer.chat_template = template
    if not tokenizer.is_fast:
        raise ConfigError(
            [f"model.name_or_path: {short(checkpoint.name)} has no fast tokenizer (tokenizer.json)"]
        )
    if tokenizer.eos_token is None:
        raise ConfigError(
            [f"model.name_or_path: the tokenizer of {short(checkpoint.name)} has no end-of-sequence token"]
        )
    return tokenizer  # type: ignore[no-any-return]


def check_vocabulary(checkpoint: ResolvedCheckpoint, tokens: int, rows: int) -> None:
    """Refuse a checkpoint whose tokenizer is another model's.

    Args:
        checkpoint: named in the message.
        tokens: ids of its tokenizer, from 0.
        rows: rows of its embedding.

    Raises:
        ConfigError: there are more tokens than rows, or far fewer.
    """
    # not _FULL_SHARE * rows: a config.json may say more rows than a float holds
    if rows <= tokens / _FULL_SHARE and tokens <= rows:
        return
    raise ConfigError(
        [
            f"model.name_or_path: the tokenizer of {short(checkpoint.name)} has {tokens} tokens, its "
            f"embedding {short(rows)} rows; they are not of one model"
        ]
    )
