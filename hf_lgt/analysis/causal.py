"""Causal tests of the heads of saved runs, on their last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_lgt.analysis.ablation import ablation_map
from hf_lgt.analysis.head_maps import find_states
from hf_lgt.analysis.necessity import most_needed, necessity
from hf_lgt.analysis.patching import patch_map
from hf_lgt.analysis.report.causes import Needed, Patched
from hf_lgt.analysis.subjects import AnalysisOptions, AnalyzedRun, find_subjects
from hf_lgt.data.eval_sets import TestSets
from hf_lgt.evaluation.curves import training_lengths
from hf_lgt.evaluation.trained_model import TrainedModel, load_trained_model, tests_of
from hf_lgt.models.heads import find_heads
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.progress import bar


def look_necessity(
    states: Mapping[AnalyzedRun, Sequence[TrainedModel]],
    ks: Sequence[int],
    wanted: AnalysisOptions,
    *,
    progress: bool = True,
) -> Iterator[Needed]:
    """What each run's target loses without the heads that its auxiliaries need most.

    Args:
        states: the runs and their weights, of which the last count.
        ks: how many heads.
        wanted: what to look at.
        progress: show a bar.

    Raises:
        ConfigError: weights cannot be read, a family is not known, or k is too many.
    """
    for subject, every in bar(iterable=states.items(), desc="necessity", unit="run", visible=progress):
        model, tests = _opened(every[-1])
        size, lengths = wanted.batch_tokens, subject.lengths
        maps = [
            ablation_map(model, tests.examples(cell).batch, batch_tokens=size)
            for cell in tests.cells
            if cell.role == "auxiliary" and cell.length in lengths
        ]
        (target, _), *_ = training_lengths(subject.config, "target")
        cells = [cell for cell in tests.cells if cell.task == target and cell.length in lengths]
        targets = [tests.examples(cell).batch for cell in cells]
        if not maps or not targets:
            raise ConfigError([f"{subject.run_dir}: no auxiliary, or no target, has lengths {lengths}"])
        try:
            found = {k: necessity(model, targets, most_needed(maps, k), batch_tokens=size) for k in ks}
        except ValueError as error:
            raise ConfigError([f"--k: {subject.run_dir}: {error}"]) from None
        yield Needed(subject.label, lengths, found)


def look_patching(
    pairs: Sequence[tuple[AnalyzedRun, TrainedModel, AnalyzedRun, TrainedModel]],
    wanted: AnalysisOptions,
    *,
    progress: bool = True,
) -> Iterator[Patched]:
    """The target's score in each receiver with heads of its donor.

    Args:
        pairs: donor and receiver, each with its last weights.
        wanted: what to look at.
        progress: show a bar.

    Raises:
        ConfigError: weights cannot be read, a family is not known, or the two differ in size.
    """
    for donor, gives, receiver, takes in bar(iterable=pairs, desc="patching", unit="pair", visible=progress):
        theirs, tests = _opened(gives)
        own, _ = _opened(takes)
        (target, _), *_ = training_lengths(donor.config, "target")
        cells = [c for c in tests.cells if c.task == target and c.length in donor.lengths]
        try:
            batches = {cell.length: tests.examples(cell).batch for cell in cells}
            maps = {
                length: patch_map(own, theirs, batch, batch_tokens=wanted.batch_tokens)
                for length, batch in batches.items()
            }
        except ValueError as error:
            raise ConfigError([f"--into: {receiver.run_dir}: {error}"]) from None
        yield Patched(donor.label, receiver.label, target, maps)


def pair_up(
    donors: Mapping[AnalyzedRun, Sequence[TrainedModel]], into: str, wanted: AnalysisOptions
) -> list[tuple[AnalyzedRun, TrainedModel, AnalyzedRun, TrainedModel]]:
    """Each donor with the run of another arm that has the same name, its seed.

    Args:
        donors: the runs whose heads are moved, and their weights.
        into: folder of the other arm, or a run where there is one donor.
        wanted: what to look at.

    Raises:
        ConfigError: a run is missing or cannot be read, or began from other weights.
    """
    arm = Path(into).resolve()
    single = len(donors) == 1 and (arm / "config.yaml").is_file()
    found = [arm if single else arm / donor.run_dir.name for donor in donors]
    if missing := [path for path in found if not (path / "config.yaml").is_file()]:
        raise ConfigError([f"--into: {path} is no run" for path in missing])
    takers = find_subjects(found, replace(wanted, lengths=next(iter(donors)).lengths))
    faults = [fault for donor, taker in zip(donors, takers, strict=True) if (fault := _differs(donor, taker))]
    if faults:
        raise ConfigError(faults)
    states = find_states(takers, wanted)
    return [
        (donor, gives[-1], taker, states[taker][-1])
        for (donor, gives), taker in zip(donors.items(), takers, strict=True)
    ]


def _differs(donor: AnalyzedRun, taker: AnalyzedRun) -> str:
    """Why heads cannot be moved from one run into another, empty where they can."""
    a, b = donor.config, taker.config
    if a.model.role_heads != b.model.role_heads:
        return (
            f"--into: {taker.run_dir} has model.role_heads {b.model.role_heads!r}, {donor.run_dir} "
            f"{a.model.role_heads!r}: an example may not use the same heads in both"
        )
    same = {"model": a.model == b.model, "seed.init": a.seed.init == b.seed.init}
    names = [name for name, equal in same.items() if not equal]
    if not names:
        return ""
    return (
        f"--into: {taker.run_dir} has another {' and '.join(names)} than {donor.run_dir}: heads of models "
        "that did not begin alike have nothing in common"
    )


def _opened(found: TrainedModel) -> tuple[Any, TestSets]:
    model, codec = load_trained_model(found)
    find_heads(model)
    return model, tests_of(found, codec, model)
