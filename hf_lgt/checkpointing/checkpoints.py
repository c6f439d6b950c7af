"""Checkpoints: written under another name, flushed to disk, renamed; verified when read.

A checkpoint is a folder that `from_pretrained` reads (weights, config, tokenizer), with the
optimizer's state and the counters of the loop beside them and a manifest of SHA-256 hashes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_builders.reading import LARGEST_LOG, read_bytes, read_json, read_text
from hf_lgt.checkpointing.adapter_files import ADAPTER_FILE, is_adapted, read_adapters, save_adapters
from hf_lgt.data.codec import TextCodec
from hf_lgt.utils.atomic_io import atomic_directory, remove, sha256
from hf_lgt.utils.errors import CheckpointError, RunError, TrainingError
from hf_lgt.utils.jsonl import kept_lines, step_of
from hf_lgt.utils.run_lock import check_held

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
    logs: dict[str, int] = field(default_factory=dict)
    """name of each of the run's logs -> its lines, those of an evaluation after this step not among them"""
    held: int = 0
    """evaluations in a row at which ``train.until`` held"""
    reached: int | None = None
    """step at which it had held often enough"""


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """``checkpoints/step-000500`` below the run's folder."""
    return run_dir / "checkpoints" / f"step-{step:06d}"


def save_weights(model: Any, folder: Path, state: Mapping[str, Any] | None = None) -> None:
    """Write a model's weights and config, or only its adapters where it has some.

    Args:
        model: of transformers, or one with adapters.
        folder: where they go.
        state: the weights, where the model holds only a part of them.
    """
    if is_adapted(model):
        save_adapters(model, folder, state)
    else:
        model.save_pretrained(folder, **({} if state is None else {"state_dict": state}))


def save_checkpoint(
    run_dir: Path,
    model: Any,
    optimizer: Mapping[str, Any],
    codec: TextCodec,
    state: LoopState,
    weights: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of a step; one that is there already stays, if it is whole.

    Args:
        run_dir: the run's folder.
        model: see `save_weights`.
        optimizer: its state.
        codec: saved with it.
        state: the loop's counters.
        weights: see `save_weights`.

    Raises:
        CheckpointError: it could not be written, as when the disk is full; nothing else has changed.
    """
    import torch

    path = checkpoint_path(run_dir, state.step)
    if path.exists():
        with suppress(CheckpointError):
            verify(path)
            return path
    with writing(f"checkpoint {path}"), atomic_directory(path, replace=True) as draft:
        save_weights(model, draft, weights)
        codec.save(draft)
        # to a file of ours: to one of its own torch does not say why it cannot be written
        with open(draft / "optimizer.pt", "wb") as file:
            torch.save(dict(optimizer), file)
        (draft / "state.json").write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
        hashes = {file.name: sha256(file) for file in sorted(draft.iterdir())}
        (draft / MANIFEST).write_text(_manifest(hashes), encoding="utf-8")
    return path


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Tell of what cannot be written, as on a full disk.

    Raises:
        CheckpointError: in the place of what the libraries raise.
    """
    from safetensors import SafetensorError

    try:
        yield
    except RunError:
        raise
    except Exception as error:
        # the library of tokenizers raises plain `Exception`
        if not isinstance(error, (OSError, RuntimeError, SafetensorError)) and type(error) is not Exception:
            raise
        reason = _said_by_the_system(error) or " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{what} could not be written: {reason}; nothing that was there is lost: put this right (free "
            "disk space), then rerun the same command, which resumes from the newest checkpoint"
        ) from error


def _said_by_the_system(error: BaseException | None) -> str:
    """The system's reason, which torch hides behind an assertion of its own where it closes the file."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return ""


def prune(run_dir: Path, step: int, keep: int | None, trusted: set[Path]) -> None:
    """Remove the oldest checkpoints until `keep` whole ones are left.

    Those that are damaged are not counted, and none is removed that is newer than the oldest one kept.

    Args:
        run_dir: the run's folder.
        step: that the run is at; checkpoints of later ones, which it went back from, are left alone.
        keep: how many; None: all.
        trusted: those that this process has written or verified; the others are verified now, and added.
    """
    whole = 0
    for at, path in reversed(list_checkpoints(run_dir)) if keep else ():
        if at > step:
            continue
        if whole == keep:
            remove(path)
            continue
        with suppress(CheckpointError):
            if path not in trusted:
                verify(path)
                trusted.add(path)
            whole += 1


class CheckpointWriter:
    """Writes the checkpoints of a run, and removes those that are too many.

    Args:
        run_dir: the run's folder, whose lock is held.
        codec: saved beside each.
        keep_last: how many are kept; None: all.
        trusted: a checkpoint that was verified when it was read.
    """

    def __init__(self, run_dir: Path, codec: TextCodec, keep_last: int | None, trusted: Path | None) -> None:
        self.run_dir, self.codec, self.keep_last = run_dir, codec, keep_last
        self._trusted: set[Path] = {trusted} if trusted else set()

    def write(
        self,
        model: Any,
        optimizer: Mapping[str, Any],
        state: LoopState,
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one.

        Args:
            model: the bare model.
            optimizer: its state.
            state: the loop's counters.
            weights: the model's, where it holds only a part of them.

        Raises:
            TrainingError: the weights are not finite.
            CheckpointError: it cannot be written.
        """
        check_held(self.run_dir)
        _require_finite(model.state_dict() if weights is None else weights, state.step)
        self._trusted.add(save_checkpoint(self.run_dir, model, optimizer, self.codec, state, weights))
        prune(self.run_dir, state.step, self.keep_last, self._trusted)


def _require_finite(weights: Mapping[str, Any], step: int) -> None:
    """Keep weights that went wrong out of the checkpoints: a run could not resume from them."""
    import torch

    if not all(bool(torch.isfinite(p).all()) for p in weights.values()):
        raise TrainingError(
            f"the weights are not finite after step {step}; a lower train.learning_rate may help; "
            "earlier checkpoints are unharmed"
        )


def list_checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each checkpoint, by ascending step."""
    folder = run_dir / "checkpoints"
    found = [(_NAME.fullmatch(p.name), p) for p in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(match[1]), p) for match, p in found if match)


def _manifest(hashes: Mapping[str, str]) -> str:
    return json.dumps(hashes, indent=1) + "\n"


def verify(path: Path) -> None:
    """Compare a checkpoint's files with its manifest.

    Raises:
        CheckpointError: a file is missing or differs; names it.
    """
    try:
        text = read_text(path / MANIFEST)
        hashes = json.loads(text)
        weights = ADAPTED if ADAPTED & hashes.keys() else WHOLE
        if missing := (NEEDED | weights).difference(hashes):
            lacks = ", ".join(sorted(missing))
            raise CheckpointError(f"checkpoint {path} is not whole: {MANIFEST} lacks {lacks}")
        if text != _manifest(hashes):
            raise CheckpointError(f"checkpoint {path} is not whole: {MANIFEST} is not as it was written")
        wrong = [name for name, digest in hashes.items() if sha256(path / name) != digest]
    except OSError as error:
        lost = Path(error.filename or MANIFEST).name
        raise CheckpointError(f"checkpoint {path} is not whole: {lost}: {error.strerror}") from None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {path} is not whole: {MANIFEST} cannot be read: {error}") from None
    if wrong:
        raise CheckpointError(
            f"checkpoint {path}: {', '.join(wrong)} changed since it was written, or {MANIFEST} did"
        )


def read_state(path: Path) -> LoopState:
    """The counters of a verified checkpoint.

    Raises:
        CheckpointError: its file holds something else.
    """
    file = path / "state.json"
    try:
        state = LoopState(**read_json(file))
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} is not whole: {file.name}: {error.strerror}") from None
    except TypeError:
        state = LoopState(step=-1)
    counts = [state.step, state.examples, state.tokens, state.held, state.reached or 0]
    counts += state.logs.values() if isinstance(state.logs, dict) else [-1]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise CheckpointError(f"checkpoint {path} is not whole: {file.name} holds no counters of a training")
    return state


def logged_lines(path: Path, run_dir: Path, logs: Sequence[str]) -> dict[str, int]:
    """Lines to keep of each log of a run that resumes from a verified checkpoint.

    Raises:
        CheckpointError: a log lacks some of them.
    """
    state = read_state(path)
    counts = (
        {name: state.logs.get(name, 0) for name in logs} if state.logs else _by_step(run_dir, state, logs)
    )
    for name, count in counts.items():
        kept_lines(run_dir / name, count, state.step)
    return counts


def _by_step(run_dir: Path, state: LoopState, logs: Sequence[str]) -> dict[str, int]:
    """As `logged_lines`, for a checkpoint that does not say: the evaluation of its step is made again."""
    counts = {}
    for name in logs:
        most = state.step if name == logs[0] else state.step - 1
        file = run_dir / name
        lines = read_bytes(file, LARGEST_LOG).splitlines() if file.is_file() else []
        steps = [step_of(line) for line in lines]
        counts[name] = next((i for i, step in enumerate(steps) if not 0 <= step <= most), len(steps))
    return counts


def load_checkpoint(path: Path, model: Any) -> tuple[LoopState, dict[str, Any]]:
    """Read a checkpoint into a model; no pickled code is run.

    Returns:
        The loop's counters and the state of the optimizer.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    import torch

    verify(path)
    with reading(path):
        if is_adapted(model):
            read_adapters(model, path)
        else:
            _read_weights(model, path)
        state = read_state(path)
        return state, torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu")


@contextmanager
def reading(path: Path | None) -> Iterator[None]:
    """Turn whatever a checkpoint raises that is as it was written, but not by us, into one error.

    Raises:
        CheckpointError: in the place of what the libraries raise.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # JSON, safetensors and torch each raise their own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"checkpoint {path} cannot be read: {type(error).__name__}: {reason}") from None


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
