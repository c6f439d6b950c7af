"""Look into the heads of saved runs, checkpoint by checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_lgt.analysis.heads import find_heads
from hf_lgt.analysis.maps import TaskMaps, task_maps
from hf_lgt.analysis.subjects import Looked, Subject, Wanted, gaps_of
from hf_lgt.config import ConfigError
from hf_lgt.progress import bar
from hf_lgt.reevaluate import find_model, load_model, tests_of
from hf_lgt.report.heads import FILES


def look(subjects: Sequence[Subject], wanted: Wanted, *, progress: bool = True) -> Iterator[Looked]:
    """The maps of every checkpoint of every run, one run after the other.

    Raises:
        ConfigError: weights cannot be read, or a model's family is not known.
    """
    total = sum(len(s.states) * len(s.cells) for s in subjects)
    with bar(total=total, desc="heads", unit="map", visible=progress) as done:
        for subject in subjects:
            looked = Looked(subject)
            gaps = gaps_of(subject)
            for step, folder in subject.states:
                looked.gaps[step] = gaps.get(step)
                looked.maps[step] = [*_maps_of(subject, folder, wanted, done.update)]
            yield looked


def _maps_of(
    subject: Subject, folder: Path, wanted: Wanted, tell: Callable[[int], Any]
) -> Iterator[TaskMaps]:
    low, high = min(subject.lengths), max(subject.lengths)
    settings = [f"eval.lengths=[{low},{high}]", "eval.every=1", f"eval.examples={wanted.examples}"]
    run = subject.run_dir
    found = find_model(run if folder == run / "model" else folder, None, settings)
    model, codec = load_model(found)
    find_heads(model)
    tests = tests_of(found, codec, model)
    for task, length in subject.cells:
        cell = next(c for c in tests.cells if (c.task, c.length) == (task, length))
        yield task_maps(model, tests, cell, batch_tokens=wanted.batch_tokens)
        tell(1)


def output_folder(subjects: Sequence[Subject], output: str | None, overwrite: bool) -> Path:
    """Where an analysis of heads goes.

    Args:
        subjects: the runs.
        output: the user's choice, if any.
        overwrite: whether an analysis that is there may be replaced.

    Raises:
        ConfigError: the folder is there already, or holds something else.
    """
    first = subjects[0].run_dir
    out = Path(output) if output else (first if len(subjects) == 1 else first.parent) / "analysis" / "heads"
    if not out.exists():
        return out
    if not overwrite:
        raise ConfigError([f"--output: {out} exists; choose another, or give --overwrite to replace it"])
    if not out.is_dir() or {p.name for p in out.iterdir() if p.suffix != ".png"} - FILES:
        raise ConfigError([f"--output: {out} holds more than an analysis of heads; --overwrite spares it"])
    return out
