"""Where checkpoints are: on the Hub or on disk, at a revision, with every fault told by its key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.registry import unknown
from data_builders.retry import ASKING_ATTEMPTS, again, quiet, redact
from hf_lgt.config import ModelConfig
from hf_lgt.errors import ConfigError
from hf_lgt.revisions import is_repository, natural_order, snapshot
from hf_lgt.schema import short

PRETRAINING_FILE = "pretraining.json"
"""step, tokens and validation loss, where whoever pretrained a checkpoint wrote them down"""
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SMALL = ["*.json", "*.txt", "*.model", "*.jinja"]
_SAFE = ["model.safetensors", "model-*-of-*.safetensors"]
_PICKLED = ["pytorch_model.bin", "pytorch_model-*-of-*.bin"]


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
        _require_config(folder, f"{short(name)} on the Hub{at_revision(revision)}")
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


def at_revision(revision: str | None) -> str:
    """`` at revision 'x'``, for messages; empty for none."""
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
            f"model.name_or_path: {name}{at_revision(revision)} is no folder here and not in the cache, and "
            f"the Hub cannot be reached: {reason}"
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
    where = f"{short(checkpoint.name)}{at_revision(checkpoint.revision)}"
    raise ConfigError(
        [f"model.name_or_path: {where} has no weights in safetensors (model.safetensors){hint}"]
    )


def _any(folder: Path, patterns: list[str]) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))
