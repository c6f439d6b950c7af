"""Look into the heads of saved runs, checkpoint by checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_lgt.analysis.maps import TaskMaps, task_maps
from hf_lgt.analysis.subjects import AnalysisOptions, AnalyzedRun, HeadAnalysis, gaps_of
from hf_lgt.checkpointing.run_folder import check_place
from hf_lgt.evaluation.trained_model import TrainedModel, find_model, load_trained_model, tests_of
from hf_lgt.models.heads import find_heads
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.progress import bar


def find_states(
    subjects: Sequence[AnalyzedRun], wanted: AnalysisOptions
) -> dict[AnalyzedRun, list[TrainedModel]]:
    """The weights of every state of every run, before any is loaded.

    Raises:
        ConfigError: a model cannot be read, or is too short for a length.
    """
    states: dict[AnalyzedRun, list[TrainedModel]] = {}
    faults: list[str] = []
    for subject in subjects:
        low, high = min(subject.lengths), max(subject.lengths)
        settings = [f"eval.lengths=[{low},{high}]", "eval.every=1", f"eval.examples={wanted.examples}"]
        settings += wanted.consent.overrides()
        for _, folder in subject.states:
            path = subject.run_dir if folder == subject.run_dir / "model" else folder
            try:
                states.setdefault(subject, []).append(find_model(path, None, settings))
            except ConfigError as error:
                # said of the options that the user gave, not of the keys that they stand for
                faults += [fault.replace("eval.lengths:", "--lengths:") for fault in error.faults]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return states


def look(
    states: Mapping[AnalyzedRun, Sequence[TrainedModel]], wanted: AnalysisOptions, *, progress: bool = True
) -> Iterator[HeadAnalysis]:
    """The maps of every checkpoint of every run, one run after the other.

    Args:
        states: from `find_states`.
        wanted: what to look at.
        progress: show a bar.

    Raises:
        ConfigError: weights cannot be read, or a model's family is not known.
    """
    total = sum(len(found) * len(subject.cells) for subject, found in states.items())
    with bar(total=total, desc="heads", unit="map", visible=progress) as done:
        for subject, every in states.items():
            looked = HeadAnalysis(subject)
            gaps = gaps_of(subject)
            for (step, _), found in zip(subject.states, every, strict=True):
                looked.gaps[step] = gaps.get(step)
                looked.maps[step] = [*_maps_of(subject, found, wanted, done.update)]
            yield looked


def _maps_of(
    subject: AnalyzedRun, found: TrainedModel, wanted: AnalysisOptions, tell: Callable[[int], Any]
) -> Iterator[TaskMaps]:
    model, codec = load_trained_model(found)
    find_heads(model)  # told before any test set is made
    tests = tests_of(found, codec, model)
    for task, length in subject.cells:
        cell = next(c for c in tests.cells if (c.task, c.length) == (task, length))
        yield task_maps(model, tests, cell, batch_tokens=wanted.batch_tokens)
        tell(1)


def output_folder(
    subjects: Sequence[AnalyzedRun], what: str, files: Collection[str], output: str | None, overwrite: bool
) -> Path:
    """Where an analysis goes.

    Args:
        subjects: the runs.
        what: kind of analysis, a name for the folder.
        files: names of what it writes, its figures aside.
        output: the user's choice, if any.
        overwrite: whether an analysis that is there may be replaced.

    Raises:
        ConfigError: the folder is there already, or holds something else.
    """
    first = subjects[0].run_dir
    out = Path(output) if output else (first if len(subjects) == 1 else first.parent) / "analysis" / what
    free_folder(out, files, overwrite)
    return out


def free_folder(out: Path, files: Collection[str], overwrite: bool) -> None:
    """Refuse to write an analysis where something is.

    Args:
        out: where it goes.
        files: names of what it writes, its figures aside.
        overwrite: whether an analysis that is there may be replaced.

    Raises:
        ConfigError: the folder is there already, holds something else, or cannot be made.
    """
    check_place(out)
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise ConfigError([f"--output: {out} exists; choose another, or give --overwrite to replace it"])
    if not out.is_dir() or {p.name for p in out.iterdir() if p.suffix != ".png"} - set(files):
        raise ConfigError([f"--output: {out} holds more than such an analysis; --overwrite spares it"])
