"""From an experiment's file to its runs: every config made, checked and given a name of its own.

The runs of a comparison are called with their arm's file and overrides, and named by that file; those of a
sweep are called with a config in the experiment's folder, and named by a hash of what it holds.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.reading import holds_text
from data_builders.texts import printable
from hf_lgt.checkpointing.run_folder import has_files, is_finished, refusals
from hf_lgt.config.files import merge, set_key, set_value
from hf_lgt.config.load import config_from_dict, load_config
from hf_lgt.config.schema import NAME, SECTIONS, Config, plain_data, short
from hf_lgt.experiments.conflicts import fixed_faults, same_names, set_twice
from hf_lgt.experiments.controls import arm_settings, given
from hf_lgt.experiments.manifest import CONFIGS, Entry, Manifest, relative, setting_words, write_manifest
from hf_lgt.experiments.revisions import LONGEST_NAME, ListedCheckpoint, setting
from hf_lgt.experiments.spec import LENGTHS, ArmSpec, ExperimentSpec
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.errors import ConfigError

MOST_RUNS = 10_000
"""of an experiment; each is checked before any is started, which takes some milliseconds"""


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment."""

    group: str
    arm: str
    point: Mapping[str, str]
    seed: int
    config: Config
    checkpoint: ListedCheckpoint | None
    """what it starts from, None where the experiment lists no checkpoints"""
    folder: Path
    """the experiment's own"""
    own_arguments: tuple[str, ...] = ()
    """what `launch.FINETUNE` is called with, empty: its `config_file`"""

    @property
    def id(self) -> str:
        """The run's name and seed."""
        return f"{self.config.name}/seed-{self.seed}"

    @property
    def label(self) -> str:
        """The run in words, its seed aside."""
        return self.entry.label

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return self.config.run_dir

    @property
    def finished(self) -> bool:
        """Whether it is."""
        return is_finished(self.run_dir)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `launch.FINETUNE` is called with."""
        return self.own_arguments or ("--config", str(self.config_file))

    @property
    def config_file(self) -> Path:
        """Where its config is written, if it is."""
        return self.folder / CONFIGS / f"{self._file_name}.yaml"

    @property
    def log(self) -> str:
        """File name of what it prints."""
        return f"{self._file_name}.log"

    @property
    def _file_name(self) -> str:
        name = self.arm if self.own_arguments and self.checkpoint is None else self.config.name
        return f"{name}-seed-{self.seed}"

    @property
    def entry(self) -> Entry:
        """How the manifest names it."""
        return Entry(
            id=self.id,
            group=self.group,
            arm=self.arm,
            seed=self.seed,
            folder=relative(self.run_dir, self.folder),
            point=dict(self.point),
            checkpoint="" if self.checkpoint is None else self.checkpoint.label,
        )


def plan(spec: ExperimentSpec, overrides: Sequence[str] = ()) -> list[PlannedRun]:
    """Every run of an experiment, checked, its seeds together.

    A sweep goes group by group, point by point, checkpoint by checkpoint, arm by arm; a comparison arm by
    arm, checkpoint by checkpoint. Two settings of a sweep that come to the same config are one run with two
    entries.

    Args:
        spec: from `load_sweep` or `load_comparison`.
        overrides: ``section.key=value`` for all runs.

    Raises:
        ConfigError: with the faults of all runs, each told once.
    """
    starts: list[ListedCheckpoint | None] = [c for own in spec.checkpoints for c in own.checkpoints]
    starts = starts or [None]
    settings = max(1, len(spec.groups)) * math.prod(map(len, spec.axes.values())) * len(starts)
    if (count := settings * len(spec.arms) * len(spec.seeds)) > MOST_RUNS:
        raise ConfigError([f"grid, arms, seeds: make {count} runs; a {spec.kind} has at most {MOST_RUNS}"])
    faults = _Faults([*set_twice(spec), *fixed_faults(spec, overrides), *same_names(spec)])
    make = _sweep_runs if spec.kind == "sweep" else _comparison_runs
    runs = [*make(spec, starts, overrides, faults)]
    faults += _shared_places(spec, runs)
    if faults:
        raise ConfigError([printable(fault) for fault in dict.fromkeys(faults)])
    return [dataclasses.replace(run, folder=runs[0].folder) for run in runs]


class _Faults(list[str]):
    """What is wrong with an experiment's runs."""

    @contextmanager
    def of(self, arm: str, group: str = "", point: Mapping[str, str] | None = None) -> Iterator[None]:
        """Within the block a ConfigError is noted, with whose it is."""
        where = setting_words(group, arm, point or {})
        try:
            yield
        except ConfigError as error:
            self += [f"{where}: {fault}" if where else fault for fault in error.faults]


def _comparison_runs(
    spec: ExperimentSpec, starts: Sequence[ListedCheckpoint | None], overrides: Sequence[str], faults: _Faults
) -> Iterator[PlannedRun]:
    for arm in spec.arms:
        assert arm.file is not None, "each arm of a comparison has one"
        for start in starts:
            with faults.of(arm.name):
                settings = _arm_overrides(arm, arm.file, overrides, start)
                for seed in spec.seeds:
                    with faults.of(arm.name):
                        own = [*settings, *_seed_overrides(seed)]
                        config = load_config(arm.file, own)
                        folder = Path(config.output_dir) / spec.name
                        arguments = ("--config", str(arm.file), *(f"--{override}" for override in own))
                        yield _checked(PlannedRun("", arm.name, {}, seed, config, start, folder, arguments))


def _arm_overrides(
    arm: ArmSpec, file: Path, overrides: Sequence[str], start: ListedCheckpoint | None
) -> list[str]:
    """Overrides that make an arm of a comparison, from a checkpoint where it lists some, its name among them.

    Raises:
        ConfigError: there is no such ready arm, or the config cannot have it or that checkpoint.
    """
    given_here = [*overrides, *(start.overrides() if start else [])]
    config = load_config(file, given_here)
    name = config.name
    if arm.ready:
        settings = arm_settings(arm.ready, config)
        given_here += [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        name = f"{name}-{arm.ready.replace('_', '-')}"
    if start:
        name = start.run_name(name)
    return given_here if name == config.name else [*given_here, setting("name", name)]


def _seed_overrides(seed: int) -> list[str]:
    # both, so that what differs between seeds is all that is random, and arms of one seed can be paired
    return [f"seed.init={seed}", f"seed.data={seed}"]


def _checked(run: PlannedRun) -> PlannedRun:
    """The run, if its folder holds nothing else.

    Raises:
        ConfigError: it does.
    """
    if has_files(run.run_dir) and (told := refusals(run.config, finished_is_fine=True)):
        raise ConfigError(told)
    return run


def _sweep_runs(
    spec: ExperimentSpec, starts: Sequence[ListedCheckpoint | None], overrides: Sequence[str], faults: _Faults
) -> Iterator[PlannedRun]:
    folder = folder_name(spec.name, overrides)
    for (group, base), point, start in itertools.product(spec.groups.items(), _points(spec), starts):
        with faults.of("", group, point):
            data = _settled({"name": spec.name, **base}, overrides, point, spec, start)
            config = config_from_dict(data)
            first: dict[str, str] = {}  # arms that come to the same config have the first one's runs
            for arm in (arm for arm in spec.arms if not arm.groups or group in arm.groups):
                with faults.of(arm.name, group, point):
                    own = _of_arm(data, config, arm)
                    name = first.setdefault(config_digest(config_from_dict(own)), arm.name)
                    for seed in spec.seeds:
                        made = _named(own, name, seed, start)
                        place = Path(made.output_dir) / folder
                        yield _checked(PlannedRun(group, arm.name, point, seed, made, start, place))


def _named(settings: Mapping[str, Any], arm: str, seed: int, start: ListedCheckpoint | None) -> Config:
    """The config of a sweep's run.

    Raises:
        ConfigError: it has faults.
    """
    data = copy.deepcopy(dict(settings))
    for override in _seed_overrides(seed):
        set_key(data, override)
    config = config_from_dict(data)
    digest = config_digest(config)
    parts = [config.name, arm, *([] if start is None else [start.suffix])]
    kept = "-".join(parts)[: LONGEST_NAME - len(digest) - 1]
    name = f"{kept}-{digest}"
    assert NAME.fullmatch(name), "its parts are names"
    return dataclasses.replace(config, name=name)


def _shared_places(spec: ExperimentSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    """Arms of a comparison with one folder of runs; several output_dirs of a sweep."""
    if spec.kind == "sweep":
        if len(folders := {Path(run.config.output_dir): run for run in runs}) > 1:
            yield f"output_dir: is {', '.join(map(str, folders))}; all runs of a sweep have one"
        return
    owners: dict[Path, str] = {}
    for run in runs:
        if (owner := owners.setdefault(run.run_dir, run.arm)) != run.arm:
            yield f"{run.arm}: name: its runs would be those of {owner}"


def config_digest(config: Config) -> str:
    """Ten hexadecimal digits of what a run is, its name, place and seeds aside.

    Keys with their default value do not count, so that a key that is new in a later version changes nothing.
    """
    data = config.to_dict()
    kept: dict[str, Any] = {"mixture": [given(c) for c in config.mixture]}
    for section, cls in SECTIONS.items():
        if "." not in section:
            kept[section] = _unusual(data[section], plain_data(dataclasses.asdict(cls())))
    kept["seed"] = {"data": "init"}  # they are one number
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _unusual(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Those without their default value, also in a section within."""
    return {
        key: _unusual(value, usual[key]) if usual[key] and isinstance(value, dict) else value
        for key, value in settings.items()
        if value != usual[key]
    }


def folder_name(name: str, overrides: Sequence[str]) -> str:
    """Name of a sweep's folder: its own where all is as in its file, else with a hash of what is not.

    So a small trial by overrides leaves the tables of the whole sweep as they are.
    """
    changed = sorted(o.removeprefix("--") for o in overrides)
    changed = [override for override in changed if override.split("=")[0] != "output_dir"]
    if not changed:
        return name
    return f"{name}-{hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:8]}"


def _points(spec: ExperimentSpec) -> Iterator[dict[str, str]]:
    """Every combination of the axes' values, as text."""
    for values in itertools.product(*spec.axes.values()):
        yield dict(zip(spec.axes, values, strict=True))


def _settled(
    base: Mapping[str, Any],
    overrides: Sequence[str],
    point: Mapping[str, str],
    spec: ExperimentSpec,
    start: ListedCheckpoint | None,
) -> dict[str, Any]:
    """A group's config with overrides, a point of the grid and a checkpoint set."""
    data = copy.deepcopy(dict(base))
    faults = [fault for override in overrides if (fault := set_key(data, override))]
    for axis, text in point.items():
        for key, value in spec.axes[axis][text].items():
            if key in LENGTHS:
                faults += _set_lengths(data, LENGTHS[key], value, key)
            elif fault := set_value(data, key, copy.deepcopy(value)):
                faults.append(fault)
    if start is not None:
        faults += [fault for override in start.overrides() if (fault := set_key(data, override))]
    if faults:
        raise ConfigError(faults)
    return data


def _set_lengths(data: dict[str, Any], role: str, longest: int, key: str) -> list[str]:
    """Set the longest training length of all tasks of a role."""
    mixture = data.get("mixture")
    if not isinstance(mixture, list):
        return [f"mixture: {short(mixture)} must be a list of tasks"]
    parts = [c for c in mixture if isinstance(c, dict) and c.get("role") == role]
    if not parts:
        return [f"grid.{key}: the mixture has no task with role {role}"]
    for c in parts:
        lengths = c.get("lengths")
        if not isinstance(lengths, list) or len(lengths) != 2:
            return [f"mixture: lengths of {c.get('task')} must be [smallest, largest], two integers"]
        c["lengths"] = [lengths[0], longest]
    return []


def _of_arm(data: Mapping[str, Any], config: Config, arm: ArmSpec) -> dict[str, Any]:
    """The config of an arm, as plain data."""
    own = copy.deepcopy(dict(data))
    for key, value in arm_settings(arm.ready, config).items():
        fault = set_value(own, key, value)
        assert fault is None, "the config was checked with these sections"
    return merge(own, copy.deepcopy(dict(arm.config)))


def manifest_of(spec: ExperimentSpec, runs: Sequence[PlannedRun]) -> Manifest:
    """The index of an experiment's runs."""
    axes = {axis: tuple(values) for axis, values in spec.axes.items()}
    # a name of a file need not be text, which a manifest is
    file = printable(spec.file.as_posix()) if spec.kind == "sweep" else ""
    return Manifest(runs[0].folder.name, tuple(run.entry for run in runs), axes, file)


def distinct(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs without those that another entry stands for too."""
    return list({run.run_dir: run for run in reversed(runs)}.values())[::-1]


def todo(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs that are not finished, each once; a finished run is never run again."""
    return [run for run in distinct(runs) if not run.finished]


def record_plan(spec: ExperimentSpec, runs: Sequence[PlannedRun]) -> None:
    """Write the manifest of an experiment, and the configs that its runs are called with.

    What is there already and says the same is not touched.
    """
    for run in distinct(runs):
        if not run.own_arguments:
            # the name says what it holds, but for where the run lies: the folder may have been moved
            write_config(run.config_file, run.config)
    write_manifest(manifest_of(spec, runs), runs[0].folder)


def write_config(file: Path, config: Config) -> None:
    """Write a run's config, settled, unless the file says the same already."""
    text = yaml.dump(config.to_dict())
    if not holds_text(file, text):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
