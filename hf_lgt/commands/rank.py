"""Rank candidate auxiliaries of a target before the long run, by a short joint training with each.

A target is trained for some steps beside each candidate, over several seeds, as a small sweep; the scores of
`hf_lgt.analysis.relatedness` are taken of the weights that come out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_builders.registry import get_task, list_tasks, unknown
from hf_lgt.analysis.ranking import Measured, Question
from hf_lgt.analysis.relatedness import relatedness
from hf_lgt.config.consent import Consent
from hf_lgt.config.load import load_config
from hf_lgt.config.schema import ComponentConfig, Config
from hf_lgt.data.eval_sets import TestSets
from hf_lgt.evaluation.trained_model import find_model, load_trained_model, tests_of
from hf_lgt.experiments.controls import TRANSFER, given, stand_in
from hf_lgt.experiments.plan import PlannedRun, plan
from hf_lgt.experiments.spec import ArmSpec, ExperimentSpec
from hf_lgt.models.heads import find_heads
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.progress import bar


def plan_related(
    question: Question, config: str | Path, overrides: Sequence[str] = ()
) -> tuple[ExperimentSpec, list[PlannedRun]]:
    """The short runs as a sweep, a group a candidate, all checked.

    Args:
        question: what is asked.
        config: file of a run. Model and training are taken from it; its target and its longest auxiliary give
            lengths and options to tasks that it does not have itself.
        overrides: ``section.key=value`` for all runs.

    Raises:
        ConfigError: with every fault.
    """
    given_keys = {word.partition("=")[0] for word in overrides}
    base = load_config(config, overrides)
    names = list_tasks()
    every = {"target": (question.target,), "candidates": question.candidates}
    faults = [
        f"--{option}: {unknown('task', name, names)}"
        for option, given_names in every.items()
        for name in given_names
        if name not in names
    ]
    own_options = {"train.steps": "--steps", "seed.init": "--seeds", "seed.data": "--seeds"}
    faults += [f"{key}: say {option} instead" for key, option in own_options.items() if key in given_keys]
    if twice := [name for name in dict.fromkeys(question.candidates) if question.candidates.count(name) > 1]:
        faults.append(f"--candidates: {', '.join(twice)} is a duplicate")
    if base.peft.method != "none":
        faults.append(f"peft.method: {base.peft.method!r}; candidates are compared with all weights trained")
    if question.target in question.candidates:
        faults.append(f"--candidates: {question.target} is the target itself")
    auxiliaries = [c for c in base.mixture if c.role == "auxiliary"]
    if not auxiliaries:
        faults.append(f"--config: {base.name} has no auxiliary, whose lengths the candidates would have")
    if base.data.source == "dataset":
        faults.append("--config: data.source is 'dataset'; candidates are compared on generated tasks")
    if faults:
        raise ConfigError(faults)
    target = _component(base, question.target, next(c for c in base.mixture if c.role == "target"))
    like = max(auxiliaries, key=lambda c: c.lengths[1])
    groups = {name: _short(base, question, [target, _component(base, name, like)])
              for name in question.candidates}  # fmt: skip
    arms = (ArmSpec(TRANSFER, TRANSFER),)
    spec = ExperimentSpec(f"related-{question.target}", Path(config), arms, question.seeds, groups=groups)
    runs = plan(spec)
    faults = [
        f"{run.group}: there is no length that {question.target} is trained on as well, or none beyond it"
        for run in runs
        if not all(ranges(run.config))
    ]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return spec, runs


def check_apart(out: Path, runs: Sequence[PlannedRun]) -> None:
    """Refuse a place for the ranking that holds the short runs, or lies in one: it is written as a whole.

    Raises:
        ConfigError: it is such a place.
    """
    out, folders = out.resolve(), [run.run_dir.resolve() for run in runs]
    holds = [own for own in (runs[0].folder.resolve(), *folders) if out == own or out in own.parents]
    if held := [*holds, *(own for own in folders if own in out.parents)]:
        raise ConfigError([f"--output: {out} is not apart from the short runs ({held[0]}); choose another"])


def _component(base: Config, task: str, like: ComponentConfig) -> ComponentConfig:
    """The config's own component of a task where it has one in this role, else one in the place of `like`."""
    own = next((c for c in base.mixture if c.task == task and c.role == like.role), None)
    if own:
        return dataclasses.replace(own, weight=1.0)
    # in the other role the config may have the task with options of its own
    options = next((c.options for c in base.mixture if c.task == task), like.options)
    return dataclasses.replace(stand_in(dataclasses.replace(like, options=options), task), weight=1.0)


def _short(base: Config, question: Question, mixture: Sequence[ComponentConfig]) -> dict[str, Any]:
    data = base.to_dict()
    data["mixture"] = [given(c) for c in mixture]
    data["train"] |= {"steps": question.steps, "eval_every": None, "save_every": None}
    # of its own evaluation nothing is used but that the test prompts are held out from training
    longest = max(c.lengths[1] for c in mixture)
    data["eval"] |= {"lengths": [1, longest], "every": 1, "examples": question.examples, "mistakes": 0}
    return data


def ranges(config: Config) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(near, far): lengths that both roles are trained on, and those that the auxiliary alone is."""
    target = next(c for c in config.mixture if c.role == "target")
    other = next(c for c in config.mixture if c.role == "auxiliary")
    definitions = [(get_task(c.task), c.options) for c in (target, other)]

    def fits(length: int) -> bool:
        return all(task.length_fault(length, options) is None for task, options in definitions)

    last = target.lengths[1]
    near = range(max(target.lengths[0], other.lengths[0]), min(last, other.lengths[1]) + 1)
    far = range(last + 1, other.lengths[1] + 1)
    return tuple(filter(fits, near)), tuple(filter(fits, far))


def check_finished(question: Question, runs: Sequence[PlannedRun]) -> None:
    """Read the short runs that are finished, so that a damaged one is reported before others are trained.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[str] = []
    for run in runs:
        if run.finished:
            try:
                _opened(question, run)
            except ConfigError as error:
                faults += error.faults
    if faults:
        raise ConfigError(faults)


def measure(question: Question, runs: Sequence[PlannedRun], *, progress: bool = True) -> list[Measured]:
    """The scores of every finished short run.

    Raises:
        ConfigError: weights cannot be read, or a model's family is not known.
    """
    found = []
    for run in bar(iterable=runs, desc="scores", unit="run", visible=progress):
        near, far = ranges(run.config)
        model, tests = _opened(question, run)
        both = [[_batches(tests, c.task, lengths) for c in run.config.mixture] for lengths in (near, far)]
        scored = relatedness(model, *((a, b) for a, b in both), batch_tokens=question.batch_tokens)
        found.append(Measured(run.group, run.seed, run.id, near, far, scored))
    return found


def _opened(question: Question, run: PlannedRun) -> tuple[Any, TestSets]:
    """The model of a finished short run, and its test sets."""
    near, far = ranges(run.config)
    settings = [f"eval.lengths=[{near[0]},{far[-1]}]", f"eval.examples={question.examples}"]
    settings += Consent.of(run.config.model).overrides()
    where = find_model(run.run_dir, None, settings)
    model, codec = load_trained_model(where)
    find_heads(model)
    return model, tests_of(where, codec, model)


def _batches(tests: TestSets, task: str, lengths: Sequence[int]) -> list[Any]:
    cells = {cell.length: cell for cell in tests.cells if cell.task == task}
    return [tests.examples(cells[length]).batch for length in lengths]
