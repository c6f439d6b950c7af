"""Checkpoints to start from: on the Hub or on disk, at a revision, with every fault told by its key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.registry import unknown
from data_builders.retry import ASKING_ATTEMPTS, again, quiet, redact
from hf_lgt.config import ModelConfig
from hf_lgt.errors import ConfigError
from hf_lgt.revisions import is_repository, natural_order, snapshot
from hf_lgt.schema import short

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

PRETRAINING_FILE = "pretraining.json"
"""step, tokens and validation loss, where whoever pretrained a checkpoint wrote them down"""
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SMALL = ["*.json", "*.txt", "*.model", "*.jinja"]
_SAFE = ["model.safetensors", "model-*-of-*.safetensors"]
_PICKLED = ["pytorch_model.bin", "pytorch_model-*-of-*.bin"]
_FULL_SHARE = 0.9
"""of a checkpoint's rows, the share that its own tokenizer uses at least; padding is a few hundred rows"""


@dataclass(frozen=True)
class Checkpoint:
    """A model folder, found; its weights need not be there yet."""

    name: str
    """as the config names it"""
    revision: str | None
    commit: str | None
    """None for a local folder without revisions"""
    folder: Path
    on_hub: bool

    @property
    def pretraining(self) -> dict[str, Any] | None:
        """What is written down of its pretraining, if anything."""
        try:
            found = json.loads((self.folder / PRETRAINING_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def about(self) -> dict[str, Any]:
        """Plain data for ``checkpoint.json``."""
        return {
            "name_or_path": self.name,
            "revision": self.revision,
            "commit": self.commit,
            "on_hub": self.on_hub,
            "pretraining": self.pretraining,
        }


@dataclass(frozen=True)
class Start:
    """A checkpoint with what must be known of it before any weight is read."""

    checkpoint: Checkpoint
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerFast
    limit: int | None
    """longest sequence in tokens, None where the positions set no bound"""


def open_start(model: ModelConfig, commit: str | None = None) -> Start:
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
    if getattr(config, "pad_token_id", None) in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        # the row of a padding token gets no gradient, but texts begin and end with this one
        config.pad_token_id = None
    return Start(checkpoint, config, tokenizer, limit)


def resolve(model: ModelConfig, commit: str | None = None) -> Checkpoint:
    """Find a checkpoint and fetch its config and tokenizer, not yet its weights.

    Args:
        model: names it.
        commit: read it at this commit, though the revision may name another by now.

    Raises:
        ConfigError: no such folder, Hub id or revision, or the Hub cannot be reached.
    """
    name, revision = str(model.name_or_path), model.revision
    path = Path(name)
    if not os.path.exists(path):  # noqa: PTH110  # unlike Path's, false for a name that no file can have
        if not _HUB_ID.fullmatch(name):
            raise ConfigError([f"model.name_or_path: {short(name)} is no folder here and no id of the Hub"])
        folder = _fetch(model, commit or revision, _SMALL)
        _require_config(folder, f"{short(name)} on the Hub{_at(revision)}")
        return Checkpoint(name, revision, folder.name, folder, on_hub=True)
    if is_repository(path):
        folder = snapshot(path, commit or revision)
        return Checkpoint(name, revision, folder.name, folder, on_hub=False)
    if revision is not None:
        raise ConfigError(
            [
                f"model.revision: {short(revision)} is for the Hub, or a folder with refs/, which "
                f"{short(name)} is not"
            ]
        )
    _require_config(path, short(name))
    return Checkpoint(name, None, None, path, on_hub=False)


def _require_config(folder: Path, what: str) -> None:
    if (folder / "config.json").is_file():
        return
    hint = f"; {short(str(folder / 'model'))} is one" if (folder / "model/config.json").is_file() else ""
    raise ConfigError([f"model.name_or_path: {what} is no model: it has no config.json{hint}"])


def _at(revision: str | None) -> str:
    return f" at revision {short(revision)}" if revision else ""


def _fetch(model: ModelConfig, revision: str | None, patterns: list[str]) -> Path:
    """Files of a model on the Hub, from the cache where they are there."""
    from huggingface_hub import snapshot_download

    if model.trust_remote_code:
        patterns = [*patterns, "*.py"]
    name = str(model.name_or_path)

    def download() -> str:
        return snapshot_download(name, revision=revision, allow_patterns=patterns)

    with _hub_errors(model, revision), quiet():
        return Path(again(download, lambda line: None, name, ASKING_ATTEMPTS))


@contextmanager
def _hub_errors(model: ModelConfig, revision: str | None) -> Iterator[None]:
    """Turns what the client raises over a model into one message."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = short(model.name_or_path)
    try:
        yield
    except RevisionNotFoundError:
        fault = f"model.revision: {name} on the Hub: {unknown('revision', revision, _revisions(model))}"
    except (RepositoryNotFoundError, GatedRepoError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        fault = (
            f"model.name_or_path: {name} is no folder here, and no model on the Hub that may be read "
            f"(status {status}); for a private or gated one run 'hf auth login' or set HF_TOKEN"
        )
    except HfHubHTTPError as error:
        fault = f"model.name_or_path: the Hub refused {name}: {redact(' '.join(str(error).split()))[:200]}"
    except OSError as error:  # no network, and not in the cache
        reason = redact(" ".join(str(error.__cause__ or error).split()))[:200]
        fault = (
            f"model.name_or_path: {name}{_at(revision)} is no folder here and not in the cache, and the Hub "
            f"cannot be reached: {reason}"
        )
    except Exception as error:  # the HTTP library's own, which differs between versions
        reason = redact(" ".join(str(error).split()))[:200]
        fault = f"model.name_or_path: {name} cannot be fetched from the Hub: {type(error).__name__}: {reason}"
    else:
        return
    raise ConfigError([fault]) from None


def _revisions(model: ModelConfig) -> list[str]:
    """Branches and tags of a model on the Hub, ``step-20`` before ``step-100``."""
    from huggingface_hub import HfApi

    refs = HfApi().list_repo_refs(str(model.name_or_path))
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return sorted(names, key=natural_order)


def fetch_weights(checkpoint: Checkpoint, model: ModelConfig) -> Path:
    """Download what is missing of the weights; gives the folder that has them.

    Raises:
        ConfigError: there are none of the kind that may be read.
    """
    wanted = [*_SAFE, *([] if model.use_safetensors else _PICKLED)]
    folder = checkpoint.folder
    if checkpoint.on_hub and not _any(folder, _SAFE):
        folder = _fetch(model, checkpoint.commit, [*_SMALL, *_SAFE])
        if not _any(folder, _SAFE) and not model.use_safetensors:
            folder = _fetch(model, checkpoint.commit, [*_SMALL, *_PICKLED])
    if _any(folder, wanted):
        return folder
    hint = (
        ""
        if not model.use_safetensors
        else ("; if it has a pytorch_model.bin, model.use_safetensors false takes that")
    )
    where = f"{short(checkpoint.name)}{_at(checkpoint.revision)}"
    raise ConfigError(
        [f"model.name_or_path: {where} has no weights in safetensors (model.safetensors){hint}"]
    )


def _any(folder: Path, patterns: list[str]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))


@contextmanager
def readable(checkpoint: Checkpoint) -> Iterator[None]:
    """Turns whatever a damaged or foreign model folder makes the libraries raise into one message."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # JSON, tokenizers, safetensors and torch each raise their own
        reason = redact(" ".join(str(error).split()))
        where = f"{short(checkpoint.name)}{_at(checkpoint.revision)}"
        fault = f"model.name_or_path: {where} cannot be loaded: {type(error).__name__}: {reason[:300]}"
        if "trust_remote_code" in reason:
            fault = f"model.trust_remote_code: {where} needs Python code that comes with it; true runs it"
        raise ConfigError([fault]) from None


def open_config(checkpoint: Checkpoint, model: ModelConfig) -> PretrainedConfig:
    """The checkpoint's architecture.

    Raises:
        ConfigError: it cannot be read, or its positions are not those of a decoder.
    """
    from transformers import AutoConfig

    with readable(checkpoint):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=model.trust_remote_code
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            [
                f"model.name_or_path: {short(checkpoint.name)} is an encoder-decoder, not a causal language "
                "model"
            ]
        )
    return config


def context_length(config: Any) -> int | None:
    """Longest sequence in tokens that a checkpoint's positions allow, None where they set no bound."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(limit := getattr(config, name, None), int) and limit > 0:
            return limit
    return None


def open_tokenizer(checkpoint: Checkpoint, model: ModelConfig) -> PreTrainedTokenizerFast:
    """The checkpoint's tokenizer, as its ``tokenizer.json`` has it.

    Raises:
        ConfigError: there is none that can be read, or it has no end-of-sequence token.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = checkpoint.folder / "tokenizer.json"
    with readable(checkpoint):
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
            tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **there)  # type: ignore[no-untyped-call]
    if not tokenizer.is_fast:
        raise ConfigError(
            [f"model.name_or_path: {short(checkpoint.name)} has no fast tokenizer (tokenizer.json)"]
        )
    if tokenizer.eos_token is None:
        raise ConfigError(
            [f"model.name_or_path: the tokenizer of {short(checkpoint.name)} has no end-of-sequence token"]
        )
    return tokenizer  # type: ignore[no-any-return]


def check_vocabulary(checkpoint: Checkpoint, tokens: int, rows: int) -> None:
    """Refuse a checkpoint whose tokenizer is another model's.

    Args:
        checkpoint: named in the message.
        tokens: ids of its tokenizer, from 0.
        rows: rows of its embedding.

    Raises:
        ConfigError: there are more tokens than rows, or far fewer.
    """
    if _FULL_SHARE * rows <= tokens <= rows:
        return
    raise ConfigError(
        [
            f"model.name_or_path: the tokenizer of {short(checkpoint.name)} has {tokens} tokens, its "
            f"embedding {rows} rows; they are not of one model"
        ]
    )
