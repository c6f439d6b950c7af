"""What of a probe is trained: the models that can be, what it takes, what fits the time."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_builders.reading import read_json
from data_builders.texts import line
from hf_lgt.experiments.launch import visible_gpus
from hf_lgt.experiments.plan import PlannedRun, config_digest, distinct, todo
from hf_lgt.experiments.probe.battery import Battery, Size
from hf_lgt.experiments.probe.subjects import JOINT, MODEL, Subject, planned_runs, subjects_of, twins_of
from hf_lgt.experiments.probe.units import Unit, duration, fitting, jobs_for
from hf_lgt.experiments.spec import ExperimentSpec
from hf_lgt.utils import memory
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.errors import ConfigError, RunError
from hf_lgt.utils.threads import available_cores
from hf_lgt.workflows.costs import Cost, count_parameters, measure_cost

PLAN, CORPORA = "plan.json", "corpora"
FIXED = (
    "model",
    "model.init",
    "model.name_or_path",
    "model.revision",
    "name",
    "mixture",
    "data",
    "peft.method",
)
"""what the command's own arguments and the battery say"""
Key = tuple[str, str, str]
"""family, model, arm"""
BROKEN = (RunError, RuntimeError, ValueError, MemoryError, OSError)
"""what a model that cannot be trained raises in the libraries, beside a `ConfigError`"""


@dataclass(frozen=True)
class Wanted:
    """What a user asked for."""

    models: Sequence[str]
    battery: Battery
    overrides: Sequence[str]
    output_dir: str
    minutes: float | None = None
    jobs: int | None = None
    lora: bool = False

    @property
    def changes(self) -> list[str]:
        """What makes it another probe than the battery's own: overrides, adapters."""
        return sorted([*self.overrides, *(["peft.method=lora"] if self.lora else [])])

    @property
    def identity(self) -> tuple[str, int, str]:
        """Name, version and digest of what is asked: results of equal ones can be compared."""
        own = self.battery.digest
        if self.changes:
            own = hashlib.sha256(json.dumps([own, *self.changes]).encode()).hexdigest()[:12]
        return self.battery.name, self.battery.version, own

    @property
    def folder(self) -> Path:
        """Where the probe's files go: one for each set of models, families, seeds and settings."""
        asked = [self.identity, [f.name for f in self.battery.families], self.battery.seeds, *self.models]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]
        names = "-".join(subject.label for subject in subjects_of(self.models))
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", names).strip("-.")[:60]
        return Path(self.output_dir) / f"{self.battery.name}-of-{slug}-{digest}"

    @property
    def corpora(self) -> Path:
        """Where the rows in English are, for all probes with this battery."""
        return Path(self.output_dir) / CORPORA / f"{self.battery.name}-{self.battery.digest}"


@dataclass
class Chosen:
    """What is trained, and what is not."""

    spec: ExperimentSpec
    runs: list[PlannedRun]
    subjects: list[Subject]
    refused: dict[str, str]
    """model, or model and family, in words -> why"""
    not_run: list[str] = field(default_factory=list)
    jobs: int = 1


def models_of(wanted: Wanted) -> tuple[list[Subject], dict[str, str]]:
    """The models that there are, with what the battery has for their size, and why others are refused.

    Raises:
        ConfigError: the battery or the command line has a fault; nothing was looked up yet.
    """
    given = [o.partition("=")[0] for o in wanted.overrides]
    if faults := [f"{key}: is set by the probe; see its own options" for key in given if key in FIXED]:
        raise ConfigError(faults)
    adapters = {"peft.method": "lora"} if wanted.lora else {}
    models = [dataclasses.replace(m, settings={**m.settings, **adapters}) for m in subjects_of(wanted.models)]

    def settings_of(size: Mapping[str, Any]) -> dict[str, Any]:
        # what the command line gives replaces what the battery has for a model's size
        return {key: value for key, value in size.items() if key not in given}

    for size in wanted.battery.sizes or (Size(None, {}),):
        settings = settings_of(size.settings)
        plans(wanted, [dataclasses.replace(m, settings={**m.settings, **settings}) for m in models])
    known, refused = [], {}
    for model in models:
        try:
            _, runs = plans(wanted, [model])
            count = count_parameters(runs[0].config.model)
        except ConfigError as error:
            refused[model.label] = line(error.faults[0])
        except BROKEN as error:
            refused[model.label] = line(str(error))[:300]
        else:
            own = settings_of(wanted.battery.settings_for(count))
            known.append(dataclasses.replace(model, settings={**model.settings, **own}, parameters=count))
    if not known:
        raise ConfigError([f"{label}: {reason}" for label, reason in refused.items()])
    return known, refused


def plans(wanted: Wanted, subjects: Sequence[Subject]) -> tuple[ExperimentSpec, list[PlannedRun]]:
    """The experiment with all its runs."""
    overrides = [*wanted.overrides, f"output_dir={json.dumps(wanted.output_dir)}"]
    spec, runs = planned_runs(wanted.battery, subjects, wanted.corpora, overrides)
    return spec, [dataclasses.replace(run, folder=wanted.folder) for run in runs]


def choose_runs(wanted: Wanted, models: Sequence[Subject], refused: dict[str, str], startup: float) -> Chosen:
    """Measure the trainings and choose what fits the time; told to the user.

    What an earlier start measured and chose is kept, so that an interrupted probe goes on with the same plan.

    Args:
        wanted: what was asked for.
        models: that there are.
        refused: why others are not probed.
        startup: seconds that this process took before it did anything.

    Raises:
        ConfigError: no model can be trained, or nothing fits the time.
    """
    began, kept = time.monotonic(), _read_plan(wanted.folder / PLAN)
    largest = max(model.parameters for model in models)
    jobs = wanted.jobs or len(visible_gpus()) or jobs_for(largest, available_cores(), memory.limit())
    costs, faults = _measured(wanted, models, kept, jobs, startup)
    for words, reason in (refused := refused | _refused(wanted, models, faults)).items():
        print(f"{words}: not probed: {reason}", flush=True)
    subjects = [m for m in models if any(key[1] == m.label for key in costs)]
    if not subjects:
        raise ConfigError([f"{words}: {reason}" for words, reason in refused.items()])
    subjects = [*subjects, *twins_of(subjects)]
    spec, every = plans(wanted, subjects)
    units, runs = _units(wanted, every, subjects, costs)
    asked = json.dumps([wanted.identity, wanted.minutes, jobs, [u.words for u in units], *wanted.models])
    seconds = None if wanted.minutes is None else wanted.minutes * 60 - (time.monotonic() - began) - startup
    taken = fitting(units, seconds, jobs)[0]
    if (known := kept["chosen"].get(asked)) is not None:
        taken = [unit for unit in units if unit.words in known]
    elif taken:
        kept["chosen"][asked] = [unit.words for unit in taken]
        _write_plan(wanted.folder / PLAN, kept)
    chosen = Chosen(spec, [r for u in taken for r in runs[u.words]], subjects, refused, jobs=jobs)
    chosen.not_run = [unit.words for unit in units if unit not in taken]
    _tell(wanted, chosen, units, duration(taken, jobs))
    return chosen


def _tell(wanted: Wanted, chosen: Chosen, units: Sequence[Unit], seconds: float) -> None:
    if not chosen.runs:
        first = duration(units[:1], chosen.jobs) / 60
        raise ConfigError(
            [
                f"--minutes: {wanted.minutes:g} is too short for any family: after measuring, the first "
                f"takes about {first:.1f} minutes more. Give a larger --minutes, or fewer --train.steps"
            ]
        )
    count, missing = len(distinct(chosen.runs)), len(todo(chosen.runs))
    print(
        f"{count} trainings, {count - missing} finished, {chosen.jobs} at a time; at most about "
        f"{seconds / 60:.0f} min, less where a criterion is reached",
        flush=True,
    )
    if chosen.not_run:
        print(f"left out, as --minutes is {wanted.minutes:g}: {'; '.join(chosen.not_run)}", flush=True)


def _measured(
    wanted: Wanted, models: Sequence[Subject], kept: Mapping[str, Any], jobs: int, startup: float
) -> tuple[dict[Key, Cost], dict[tuple[str, str], str]]:
    """The cost of both trainings of every family and model; (family, model) -> why it cannot be trained."""
    import torch

    costs: dict[Key, Cost] = {}
    faults: dict[tuple[str, str], str] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, available_cores() // jobs))  # as each training will have
    _, runs = plans(wanted, models)
    for run in _first_of_each(runs):
        key = (run.group, run.point[MODEL], run.arm)
        if key[:2] in faults:
            continue
        name = f"{config_digest(run.config)}-{jobs}"
        if name not in kept["costs"]:
            print(f"measuring {key[1]}, {key[0]}, {'jointly' if run.arm == JOINT else 'alone'}", flush=True)
            try:
                kept["costs"][name] = asdict(measure_cost(run.config, startup))
            except ConfigError as error:
                faults[key[:2]] = line(error.faults[0])
                continue
            except BROKEN as error:
                faults[key[:2]] = line(str(error))[:300]
                continue
            _write_plan(wanted.folder / PLAN, kept)
        costs[key] = Cost.read(kept["costs"][name])
    torch.set_num_threads(threads)
    return {key: cost for key, cost in costs.items() if key[:2] not in faults}, faults


def _refused(
    wanted: Wanted, models: Sequence[Subject], faults: Mapping[tuple[str, str], str]
) -> dict[str, str]:
    """What cannot be trained, a model as a whole where it is every family, and why."""
    refused: dict[str, str] = {}
    for model in models:
        own = {family: fault for (family, label), fault in faults.items() if label == model.label}
        if len(own) == len(wanted.battery.families):
            refused[model.label] = next(iter(own.values()))
        else:
            refused |= {f"{model.label}, {family}": fault for family, fault in own.items()}
    return refused


def _read_plan(path: Path) -> dict[str, Any]:
    """What an earlier start measured and chose; nothing where the file is missing or damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        data = read_json(path)
        for cost in data["costs"].values():
            Cost.read(cost)
        chosen = {str(asked): [str(words) for words in own] for asked, own in data["chosen"].items()}
        return {"costs": dict(data["costs"]), "chosen": chosen}
    return {"costs": {}, "chosen": {}}


def _write_plan(path: Path, kept: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(kept, indent=1) + "\n")


def _first_of_each(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """One run of each family, model and arm, a model's together."""
    found: dict[Key, PlannedRun] = {}
    for run in runs:
        found.setdefault((run.group, run.point[MODEL], run.arm), run)
    order = list(dict.fromkeys(run.point[MODEL] for run in runs))
    return sorted(found.values(), key=lambda run: order.index(run.point[MODEL]))


def _units(
    wanted: Wanted, every: Sequence[PlannedRun], subjects: Sequence[Subject], costs: Mapping[Key, Cost]
) -> tuple[list[Unit], dict[str, list[PlannedRun]]]:
    """What can be trained, the most wanted first, and the runs of each unit by its words."""
    models = {subject.name: subject.label for subject in subjects if not subject.twin}
    twins = {subject.label: models[subject.name] for subject in subjects if subject.twin}

    def key(run: PlannedRun) -> Key:
        label = run.point[MODEL]
        return run.group, twins.get(label, label), run.arm

    units, runs = [], {}
    families = [family.name for family in wanted.battery.families]
    for seed, twin, family in itertools.product(wanted.battery.seeds, (False, True), families):
        own = [r for r in every if (r.seed, r.group, r.point[MODEL] in twins) == (seed, family, twin)]
        if own := [r for r in own if key(r) in costs]:
            unit = Unit(family, seed, twin, tuple(costs[key(r)].of(r.config) for r in own))
            units.append(unit)
            runs[unit.words] = own
    return units, runs
