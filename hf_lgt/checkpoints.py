"""Checkpoints: written under another name, flushed to disk, renamed; verified when read.

A checkpoint is a folder that `from_pretrained` reads (weights, config, tokenizer), with the
optimizer's state and the counters of the loop beside them and a manifest of SHA-256 hashes.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_lgt.adapters import ADAPTER_FILE, is_adapted, read_adapters, save_adapters
from hf_lgt.codec import TextCodec
from hf_lgt.errors import CheckpointError
from hf_lgt.files import atomic_directory, sha256

MANIFEST = "manifest.json"
NEEDED = {"optimizer.pt", "state.json"}
WHOLE, ADAPTED = {"config.json", "model.safetensors"}, {"adapter_config.json", ADAPTER_FILE}
"""what holds the weights of a model, and those of adapters alone"""
_NAME = re.compile(r"step-(\d+)")


@dataclass
class LoopState:
    """Counters of the training loop."""

    step: int = 0
    """optimizer steps taken"""
    examples: int = 0
    tokens: int = 0
    """without padding"""


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """``checkpoints/step-000500`` below the run's folder."""
    return run_dir / "checkpoints" / f"step-{step:06d}"


def save_weights(model: Any, folder: Path) -> None:
    """Write a model's weights and config, or only its adapters where it has some."""
    if is_adapted(model):
        save_adapters(model, folder)
    else:
        model.save_pretrained(folder)


def save_checkpoint(run_dir: Path, model: Any, optimizer: Any, codec: TextCodec, state: LoopState) -> Path:
    """Write the checkpoint of a step; one that is there already stays, if it is whole."""
    import torch

    path = checkpoint_path(run_dir, state.step)
    if path.exists():
        with suppress(CheckpointError):
            verify(path)
            return path
    with atomic_directory(path, replace=True) as draft:
        save_weights(model, draft)
        codec.save(draft)
        torch.save(optimizer.state_dict(), draft / "optimizer.pt")
        (draft / "state.json").write_text(json.dumps(asdict(state)) + "\n")
        hashes = {file.name: sha256(file) for file in sorted(draft.iterdir())}
        (draft / MANIFEST).write_text(json.dumps(hashes, indent=1) + "\n")
    return path


def list_checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each checkpoint, by ascending step."""
    folder = run_dir / "checkpoints"
    found = [(_NAME.fullmatch(p.name), p) for p in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(match[1]), p) for match, p in found if match)


def verify(path: Path) -> None:
    """Compare a checkpoint's files with its manifest.

    Raises:
        CheckpointError: a file is missing or differs; names it.
    """
    try:
        hashes = json.loads((path / MANIFEST).read_text())
        weights = ADAPTED if ADAPTED & hashes.keys() else WHOLE
        if missing := (NEEDED | weights).difference(hashes):
            raise ValueError(f"the manifest lacks {', '.join(sorted(missing))}")
        wrong = [name for name, digest in hashes.items() if sha256(path / name) != digest]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path} is not whole: {error}") from None
    if wrong:
        raise CheckpointError(f"checkpoint {path}: {', '.join(wrong)} changed since it was written")


def load_checkpoint(path: Path, model: Any, optimizer: Any) -> LoopState:
    """Read a verified checkpoint into a model and its optimizer; no pickled code is run.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    import torch

    verify(path)
    if is_adapted(model):
        read_adapters(model, path)
    else:
        _read_weights(model, path)
    optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu"))
    return LoopState(**json.loads((path / "state.json").read_text()))


def _read_weights(model: Any, path: Path) -> None:
    """Set a model's weights to those of a checkpoint, whose file may have other names for them."""
    loaded, report = type(model).from_pretrained(
        path,
        config=model.config,
        dtype=model.dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    if lacking := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise CheckpointError(f"checkpoint {path} has not the weights of this model: {lacking[0]}")
    model.load_state_dict(loaded.state_dict())


def newest_checkpoint(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and what is wrong with newer ones."""
    faults: list[str] = []
    for _, path in reversed(list_checkpoints(run_dir)):
        try:
            verify(path)
            return path, faults
        except CheckpointError as error:
            faults.append(str(error))
    return None, faults
