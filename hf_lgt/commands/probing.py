"""Probe models with a battery: measure, choose what fits the time, train, answer."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_builders.corpus.language import write_language
from data_builders.corpus.marker import FolderError, is_there
from data_builders.reading import read_json
from data_builders.texts import line
from hf_lgt.commands.experiment import Execution, execute_runs
from hf_lgt.config.schema import Config
from hf_lgt.experiments.folder_lock import experiment_lock
from hf_lgt.experiments.launch import last_error
from hf_lgt.experiments.plan import PlannedRun, manifest_of, record_plan, todo
from hf_lgt.experiments.probe.answers import Probe, probe_of, read_probe, with_references, write_data
from hf_lgt.experiments.probe.battery import Battery
from hf_lgt.experiments.probe.report import advice, card_section, markdown_of, picture_of, tables_of
from hf_lgt.experiments.probe.subjects import JOINT, MODEL, Subject, planned_runs, subjects_of, twins_of
from hf_lgt.experiments.probe.units import Unit, fitting, jobs_for
from hf_lgt.experiments.report.outputs import write_results
from hf_lgt.experiments.report.page import write_report
from hf_lgt.experiments.report.stored import Results
from hf_lgt.experiments.results import collect
from hf_lgt.experiments.spec import ExperimentSpec
from hf_lgt.report.canvas import optional
from hf_lgt.report.figures import save_figure
from hf_lgt.utils import memory, yaml
from hf_lgt.utils.atomic_io import atomic_directory, clear_drafts, write_text
from hf_lgt.utils.environment import describe_environment
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.threads import available_cores
from hf_lgt.workflows.costs import Cost, measure_cost

PLAN, ANSWERS = "plan.json", "probe.json"
CORPORA, NEXT, CARDS = "corpora", "next", "cards"
AGAIN = "the same command draws it"
Key = tuple[str, str, str]
"""family, model, arm"""


@dataclass(frozen=True)
class Wanted:
    """What a user asked for."""

    models: Sequence[str]
    battery: Battery
    overrides: Sequence[str]
    output_dir: str
    references: Sequence[Path]
    minutes: float | None = None
    jobs: int | None = None
    lora: bool = False

    @property
    def adapters(self) -> dict[str, Any]:
        """Settings of the models, not of their twins, which have nothing to adapt."""
        return {"peft.method": "lora"} if self.lora else {}

    @property
    def folder(self) -> Path:
        """Where the probe's files go."""
        return Path(self.output_dir) / self.battery.name


def run_probe(wanted: Wanted) -> int:
    """Do all of it; gives the command's exit status.

    Raises:
        ConfigError: no model can be probed; or something is wrong with the battery, a reference or a folder.
    """
    references = [(path, read_probe(path)) for path in wanted.references]
    models = subjects_of(wanted.models)
    models = [dataclasses.replace(m, settings={**m.settings, **wanted.adapters}) for m in models]
    _plans(wanted, models)  # faults of the battery come before any work
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with experiment_lock(wanted.folder):
        _write_corpora(wanted)
        measured, refused = _measured(wanted, models)
        subjects = _sized(wanted.battery, models, measured)
        if not subjects:
            raise ConfigError([f"{words}: {reason}" for words, reason in refused.items()])
        spec, every = _plans(wanted, subjects)
        chosen, not_run, jobs = _chosen(wanted, every, subjects, measured)
        record_plan(spec, chosen)
        how = Execution(jobs, retries=1)
        failed = execute_runs(spec, todo(chosen), wanted.folder, how, wanted.battery.name)
        for log in dict.fromkeys(log for _, log in failed):
            print(f"a training failed; see {log}\n{last_error(log)}")
        _answer(wanted, spec, chosen, subjects, not_run, refused, references)
    return 1 if failed else 0


def _plans(wanted: Wanted, subjects: Sequence[Subject]) -> tuple[ExperimentSpec, list[PlannedRun]]:
    overrides = [*wanted.overrides, f"output_dir={wanted.output_dir}"]
    given = {override.partition("=")[0] for override in wanted.overrides}
    # what the command line gives replaces what the battery has for a model's size
    own = [
        dataclasses.replace(s, settings={k: v for k, v in s.settings.items() if k not in given})
        for s in subjects
    ]
    spec, runs = planned_runs(wanted.battery, own, wanted.folder / CORPORA, overrides)
    return spec, [dataclasses.replace(run, folder=wanted.folder) for run in runs]


def _write_corpora(wanted: Wanted) -> None:
    """The rows of the families in English; those that are there stay.

    Raises:
        ConfigError: a folder holds something else.
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    for family in wanted.battery.families:
        if (corpus := family.corpus) is None:
            continue
        place = wanted.folder / CORPORA / family.name
        place.parent.mkdir(parents=True, exist_ok=True)
        clear_drafts(place.parent, place.name)
        try:
            if is_there(place, corpus.fingerprint, overwrite=False, push=True):
                continue
        except FolderError:
            told = (
                f"output_dir: {place} holds no corpus of this battery and this code, or not the whole of it"
            )
            raise ConfigError([f"{told}; remove the folder, or name another --output_dir"]) from None
        with atomic_directory(place) as draft:
            write_language(draft, corpus, f"hf-lgt probe, family {family.name}")


def _measured(wanted: Wanted, models: Sequence[Subject]) -> tuple[dict[Key, Cost], dict[str, str]]:
    """The cost of both trainings of every family and model; what cannot be trained, in words, and why.

    What an earlier start measured is kept, so that an interrupted probe goes on with the same plan.
    """
    import psutil  # type: ignore[import-untyped,unused-ignore]
    from accelerate import Accelerator
    from transformers.utils import logging

    path, known = wanted.folder / PLAN, _known_costs(wanted)
    costs: dict[Key, Cost] = {}
    faults: dict[tuple[str, str], str] = {}
    startup = time.time() - psutil.Process().create_time()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of the "loading weights" kind
    accelerator = Accelerator(cpu=not _has_gpu())
    _, runs = _plans(wanted, models)
    for run in _first_of_each(runs):
        key = (run.group, run.point[MODEL], run.arm)
        if key[:2] in faults:
            continue
        name = json.dumps([wanted.battery.digest, wanted.lora, *wanted.overrides, *key])
        if name not in known:
            print(f"measuring {key[1]}, {key[0]}, {'jointly' if run.arm == JOINT else 'alone'}", flush=True)
            try:
                known[name] = measure_cost(run.config, accelerator, startup)
            except ConfigError as error:
                faults[key[:2]] = line(error.faults[0])
                continue
            write_text(path, json.dumps({n: asdict(cost) for n, cost in known.items()}, indent=1) + "\n")
        costs[key] = known[name]
    kept = {key: cost for key, cost in costs.items() if key[:2] not in faults}
    return kept, _refused(wanted, models, faults)


def _refused(
    wanted: Wanted, models: Sequence[Subject], faults: Mapping[tuple[str, str], str]
) -> dict[str, str]:
    """What cannot be trained, a model as a whole where it is every family, and why; told to the user."""
    refused: dict[str, str] = {}
    for model in models:
        own = {family: fault for (family, label), fault in faults.items() if label == model.label}
        if len(own) == len(wanted.battery.families):
            refused[model.label] = next(iter(own.values()))
        else:
            refused |= {f"{model.label}, {family}": fault for family, fault in own.items()}
    for words, reason in refused.items():
        print(f"{words}: not probed: {reason}", flush=True)
    return refused


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _known_costs(wanted: Wanted) -> dict[str, Cost]:
    with suppress(OSError, ValueError, TypeError, AttributeError):
        data: Mapping[str, Any] = read_json(wanted.folder / PLAN)
        return {name: Cost(**cost) for name, cost in data.items()}
    return {}


def _first_of_each(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """One run of each family, model and arm, a model's together."""
    found: dict[Key, PlannedRun] = {}
    for run in runs:
        found.setdefault((run.group, run.point[MODEL], run.arm), run)
    order = list(dict.fromkeys(run.point[MODEL] for run in runs))
    return sorted(found.values(), key=lambda run: order.index(run.point[MODEL]))


def _sized(battery: Battery, models: Sequence[Subject], measured: Mapping[Key, Cost]) -> list[Subject]:
    """The models that can be probed with what the battery has for their size, and their random twins."""
    sizes = {model: cost.parameters for (_, model, _), cost in measured.items()}
    own = [
        dataclasses.replace(
            model,
            settings={**model.settings, **battery.settings_for(sizes[model.label])},
            parameters=sizes[model.label],
        )
        for model in models
        if model.label in sizes
    ]
    return [*own, *twins_of(own)]


def _chosen(
    wanted: Wanted,
    every: Sequence[PlannedRun],
    subjects: Sequence[Subject],
    measured: Mapping[Key, Cost],
) -> tuple[list[PlannedRun], list[str], int]:
    """The runs that fit the time, what does not, and how many are trained at a time; told to the user."""
    largest = max(cost.parameters for cost in measured.values())
    jobs = wanted.jobs or (1 if _has_gpu() else jobs_for(largest, available_cores(), memory.limit()))
    twins = {subject.label: subject.name for subject in subjects if subject.twin}
    origin = {s.name: s.label for s in subjects if not s.twin}

    def key(run: PlannedRun) -> Key:
        label = run.point[MODEL]
        return run.group, origin[twins[label]] if label in twins else label, run.arm

    units, runs = [], {}
    for seed, twin, family in itertools.product(
        wanted.battery.seeds, (False, True), [f.name for f in wanted.battery.families]
    ):
        own = [r for r in every if (r.seed, r.group, r.point[MODEL] in twins) == (seed, family, twin)]
        own = [r for r in own if key(r) in measured]
        if own:
            units.append(Unit(family, seed, twin, sum(measured[key(r)].of(r.config) for r in own)))
        runs[family, seed, twin] = own
    taken, left = fitting(units, wanted.minutes, jobs)
    spent = sum(unit.seconds for unit in taken) / jobs / 60
    chosen = [run for unit in taken for run in runs[unit.family, unit.seed, unit.twins]]
    missing = len(todo(chosen))
    print(
        f"{len(chosen)} trainings, {len(chosen) - missing} finished, {jobs} at a time; at most about "
        f"{spent:.0f} minutes in all, less where a criterion is reached earlier",
        flush=True,
    )
    if left:
        print(f"left out, as --minutes is {wanted.minutes:g}: {'; '.join(u.words for u in left)}", flush=True)
    if not taken:
        raise ConfigError(
            [
                f"--minutes: {wanted.minutes:g} is too short for any family; the first takes about "
                f"{units[0].seconds / jobs / 60:.0f}. Give more, --families, or --train.steps"
            ]
        )
    return chosen, [unit.words for unit in left], jobs


def _answer(
    wanted: Wanted,
    spec: ExperimentSpec,
    chosen: Sequence[PlannedRun],
    subjects: Sequence[Subject],
    not_run: Sequence[str],
    refused: Mapping[str, str],
    references: Sequence[tuple[Path, Probe]],
) -> None:
    """Write and show what the finished trainings say."""
    folder, manifest = wanted.folder, manifest_of(spec, chosen)
    cells = collect(manifest, folder)
    if not cells:
        return
    write_results("sweep", Results(manifest, cells, ()), folder)
    made_with = {key: describe_environment("cpu", 1)[key] for key in ("python", "packages")}
    own = probe_of(wanted.battery, subjects, cells, not_run, refused, made_with)
    write_text(folder / ANSWERS, write_data(own))
    probe, notes = with_references(own, references)
    text = markdown_of(probe, notes)
    write_text(folder / "probe.md", text)
    print(f"\n{text}")
    _write_next(wanted, chosen)
    for model in (m for m in own.models if not m.twin):
        (folder / CARDS).mkdir(exist_ok=True)
        write_text(folder / CARDS / f"{_file_name(model.label)}.md", card_section(own, model.label))
    with optional("probe.png", AGAIN):
        picture = picture_of(probe)
        print(f"figure: {save_figure(picture.figure, folder / 'probe.png')}")
    with optional("the page", AGAIN):
        page, _ = write_report(folder, lead=(tables_of(probe, notes), [picture_of(probe)]))
        print(f"page:   {page}")
    print(f"answers: {folder / ANSWERS}, advice: {len(list(advice(probe)))} lines above")


def _write_next(wanted: Wanted, chosen: Sequence[PlannedRun]) -> None:
    """A config of each family and model that a longer training can go on from."""
    folder = wanted.folder / NEXT
    folder.mkdir(exist_ok=True)
    for run in chosen:
        if run.arm != JOINT or run.seed != wanted.battery.seeds[0] or run.config.model.init == "random":
            continue
        name = _file_name(f"{run.point[MODEL]}-{run.group}")
        write_text(folder / f"{name}.yaml", _next_config(run.config, name))
    print(f"to go on: hf-lgt finetune --config {shlex.quote(str(folder))}/NAME.yaml")


def _next_config(config: Config, name: str) -> str:
    """The joint training with four times the steps, on a whole evaluation."""
    data = dataclasses.replace(config, name=name).to_dict()
    data["train"]["steps"] *= 4
    data["eval"] |= {"examples": 4 * config.eval.examples, "during": "all"}
    return yaml.dump(data)


def _file_name(label: str) -> str:
    """A label as the name of a run or file."""
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in label).strip("-.")
