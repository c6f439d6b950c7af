"""Where checkpoints are: on the Hub or on disk, at a revision, with every fault reported by its key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from data_builders.hub.retry import ASKING_ATTEMPTS, again, quiet
from data_builders.reading import read_json
from data_builders.redaction import redact
from data_builders.registry import unknown
from hf_lgt.config.schema import GGUF, HUB_ID, PACKAGE, ModelConfig, short
from hf_lgt.models.gguf import about, model_folder, packaged
from hf_lgt.models.local_hub import is_repository, natural_order, snapshot
from hf_lgt.utils.atomic_io import sha256
from hf_lgt.utils.errors import ConfigError

PRETRAINING_FILE = "pretraining.json"
"""step, tokens and validation loss, where whoever pretrained a checkpoint wrote them down"""
_SMALL = ["*.json", "*.txt", "*.model", "*.jinja"]
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_MODEL_FILES = [*_SMALL, "*.safetensors", "*.bin"]


@dataclass(frozen=True)
class ResolvedCheckpoint:
    """A model folder, found; its weights need not be there yet."""

    name: str
    """as the config names it"""
    revision: str | None
    commit: str | None
    """on the Hub or of a local revision; of a folder without revisions a hash of its files"""
    folder: Path
    on_hub: bool
    gguf: Mapping[str, Any] | None = None
    """``file``, ``quantization`` and ``sha256`` of the GGUF file that the folder was made of"""

    @property
    def told(self) -> tuple[str, str]:
        """What messages name, and its setting."""
        return f"{short(self.name)}{at_revision(self.revision)}", "model.name_or_path"

    @property
    def pretraining(self) -> dict[str, Any] | None:
        """What is written down of its pretraining, if anything."""
        try:
            return read_json(self.folder / PRETRAINING_FILE)
        except OSError:
            return None

    def about(self) -> dict[str, Any]:
        """Plain data for ``checkpoint.json``."""
        return {
            "name_or_path": self.name,
            "revision": self.revision,
            "commit": self.commit,
            "on_hub": self.on_hub,
            "pretraining": self.pretraining,
            **({"gguf": dict(self.gguf)} if self.gguf else {}),
        }


def resolve(model: ModelConfig, commit: str | None = None) -> ResolvedCheckpoint:
    """Find a checkpoint and fetch its config and tokenizer, not yet its weights; a GGUF file whole.

    Args:
        model: names it.
        commit: read it at this commit, though the revision may name another by now.

    Raises:
        ConfigError: no such folder, file, package, Hub id or revision, or the Hub cannot be reached; also
            see `hf_lgt.models.gguf.model_folder`.
    """
    name, revision, file = str(model.name_or_path), model.revision, model.gguf_file
    path, at = Path(name), commit or revision
    if not name.startswith(PACKAGE) and not os.path.exists(path):  # noqa: PTH110  # unlike Path's, false for a name that no file can have
        if not HUB_ID.fullmatch(name):
            hint = "; hf-lgt pretrain makes those below pretrained/" if "pretrained" in path.parts else ""
            raise ConfigError(
                [f"model.name_or_path: {short(name)} is no folder here and no id of the Hub{hint}"]
            )
        folder = _fetch(model, at, [file] if file else _SMALL)
        found = ResolvedCheckpoint(name, revision, folder.name, folder, on_hub=True)
        return _of_gguf(found, model, file) if file else _of_model(found)
    if is_repository(path):
        folder = snapshot(path, at)
        found = ResolvedCheckpoint(name, revision, folder.name, folder, on_hub=False)
        return _of_gguf(found, model, file) if file else found
    if revision is not None:
        raise ConfigError(
            [
                f"model.revision: {short(revision)} is for the Hub, or a folder with refs/, which "
                f"{short(name)} is not"
            ]
        )
    if name.startswith(PACKAGE):
        path = packaged(name.removeprefix(PACKAGE), file)
    found = ResolvedCheckpoint(name, None, None, path, on_hub=False)
    if file or (path.suffix == GGUF and path.is_file()):
        found = _of_gguf(found, model, file)
    else:
        found = replace(_of_model(found), commit=_fingerprint(path))
    if commit not in (None, found.commit):
        raise ConfigError(
            [f"model.name_or_path: the files of {short(name)} are no longer those that the run began with"]
        )
    return found


def _of_gguf(found: ResolvedCheckpoint, model: ModelConfig, file: str | None) -> ResolvedCheckpoint:
    """A checkpoint whose place is known, with the folder of its GGUF file's model."""
    path = found.folder if found.folder.is_file() else found.folder / str(file)
    if not path.is_file():
        names = _files(found, model) if found.on_hub else {p.name for p in found.folder.glob(f"*{GGUF}")}
        there = sorted((n for n in names if n.endswith(GGUF)), key=natural_order)
        raise ConfigError([f"model.gguf_file: {short(found.name)}: {unknown('file', str(file), there)}"])
    folder = model_folder(path)
    told = {**about(folder), "file": path.name}  # the same bytes may have had another name
    return replace(found, folder=folder, gguf=told, commit=found.commit or told["sha256"][:40])


def _of_model(found: ResolvedCheckpoint) -> ResolvedCheckpoint:
    _require_config(
        found.folder,
        f"{short(found.name)}{' on the Hub' if found.on_hub else ''}{at_revision(found.revision)}",
    )
    return found


def _require_config(folder: Path, what: str) -> None:
    if (folder / "adapter_config.json").is_file():
        # transformers would put them on the model, or take the base that they name for it
        raise ConfigError(
            [f"model.name_or_path: {what} holds adapters; merge them into their base, and name that"]
        )
    if (folder / "config.json").is_file():
        return
    hint = f"; {short(str(folder / 'model'))} is one" if (folder / "model/config.json").is_file() else ""
    if not hint and (files := sorted(path.name for path in folder.glob(f"*{GGUF}"))):
        hint = f"; model.gguf_file can name a file of weights: {', '.join(files[:6])}"
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
        return Path(again(download, name, ASKING_ATTEMPTS))


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

    try:
        refs = HfApi().list_repo_refs(str(model.name_or_path))
    except Exception:  # the fault is reported without them
        return []
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return sorted(names, key=natural_order)


def fetch_weights(checkpoint: ResolvedCheckpoint, model: ModelConfig) -> Path:
    """Download what is missing of the weights; gives the folder that has them.

    Raises:
        ConfigError: there are none of the kind that may be read, or the Hub cannot be reached.
    """
    name = _find_weights(checkpoint, model)
    if _has_weights(checkpoint.folder, name):
        return checkpoint.folder
    stem, _, ending = name.partition(".")
    return _fetch(model, checkpoint.commit, [*_SMALL, name, f"{stem}-*-of-*.{ending}"])


def check_weights(checkpoint: ResolvedCheckpoint, model: ModelConfig) -> None:
    """Whether `fetch_weights` will find some, without fetching them.

    Raises:
        ConfigError: as there.
    """
    _find_weights(checkpoint, model)


def _find_weights(checkpoint: ResolvedCheckpoint, model: ModelConfig) -> str:
    """Name of the file that the weights are in, or that their shards are named after."""
    names = [_SAFE] if model.use_safetensors else [_SAFE, _PICKLED]
    for name in names:
        if _has_weights(checkpoint.folder, name):
            return name
    if checkpoint.on_hub:
        there = _files(checkpoint, model)
        for name in names:
            if there & {name, f"{name}.index.json"}:
                return name
    hint = f"; if it has a {_PICKLED}, model.use_safetensors false takes that" if len(names) == 1 else ""
    where = f"{short(checkpoint.name)}{at_revision(checkpoint.revision)}"
    raise ConfigError([f"model.name_or_path: {where} has no weights in safetensors ({_SAFE}){hint}"])


def _has_weights(folder: Path, name: str) -> bool:
    """Whether weights are there, all their shards if they are cut."""
    if (folder / name).is_file():
        return True
    try:
        index = read_json(folder / f"{name}.index.json")
        shards = set(index["weight_map"].values())
        # a shard lies beside its index, nowhere else on this disk
        return bool(shards) and all(Path(s).name == s and (folder / s).is_file() for s in shards)
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def _files(checkpoint: ResolvedCheckpoint, model: ModelConfig) -> set[str]:
    """Names of a model's files on the Hub."""
    from huggingface_hub import HfApi

    def ask() -> list[str]:
        return HfApi().list_repo_files(checkpoint.name, revision=checkpoint.commit)

    with _hub_errors(model, checkpoint.revision), quiet():
        return set(again(ask, checkpoint.name, ASKING_ATTEMPTS))


def _fingerprint(folder: Path) -> str:
    """A hash of a model folder's config, tokenizer and weights, 40 hexadecimal digits."""
    digest = hashlib.sha1(usedforsecurity=False)
    for file in sorted(p for p in folder.iterdir() if any(fnmatch(p.name, n) for n in _MODEL_FILES)):
        digest.update(f"{file.name} {sha256(file)}\n".encode())
    return digest.hexdigest()
