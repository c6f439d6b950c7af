"""From a sweep's file to its runs: every config made, checked and named by a hash of what it holds."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.texts import printable
from hf_lgt.checkpointing.run_folder import has_files, is_finished, refusals
from hf_lgt.config.files import merge, set_key, set_value
from hf_lgt.config.load import config_from_dict
from hf_lgt.config.schema import NAME, SECTIONS, Config, plain, short
from hf_lgt.experiments.clashes import fixed_faults, set_twice
from hf_lgt.experiments.controls import arm_settings, given
from hf_lgt.experiments.manifest import CONFIGS, Entry, Manifest, relative
from hf_lgt.experiments.revisions import LONGEST_NAME, Checkpoint
from hf_lgt.experiments.spec import LENGTHS, ArmSpec, SweepSpec
from hf_lgt.utils.errors import ConfigError

MOST_RUNS = 10_000
"""of a sweep; each is checked before any is started, which takes some milliseconds"""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    group: str
    arm: str
    point: Mapping[str, str]
    seed: int
    config: Config
    checkpoint: Checkpoint | None
    folder: Path
    """the sweep's own"""

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
    def run_dirs(self) -> tuple[Path, ...]:
        """The run's folder, see `hf_lgt.experiments.launch.Job`."""
        return (self.run_dir,)

    @property
    def finished(self) -> bool:
        """Whether it is."""
        return is_finished(self.run_dir)

    @property
    def config_file(self) -> Path:
        """Where its config is written."""
        return self.folder / CONFIGS / f"{self.config.name}-seed-{self.seed}.yaml"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `recipes/finetune.py` is called with."""
        return "--config", str(self.config_file)

    @property
    def log(self) -> str:
        """File name of what it prints."""
        return f"{self.config.name}-seed-{self.seed}.log"

    @property
    def entry(self) -> Entry:
        """How the manifest names it."""
        return Entry(
            id=self.id,
            group=self.group,
            arm=self.arm,
            seed=self.seed,
            folder=relative(self.config.run_dir, self.folder),
            point=dict(self.point),
            checkpoint="" if self.checkpoint is None else self.checkpoint.label,
        )


def content_hash(config: Config, *, data_follows_init: bool = False) -> str:
    """Ten hexadecimal digits of what a run is, its name, place and initialisation seed aside.

    Keys with their default value do not count, so that a key that is new in a later version changes nothing.

    Args:
        config: the run's.
        data_follows_init: the data seed is the initialisation seed, whatever that is.
    """
    data = config.to_dict()
    kept: dict[str, Any] = {"mixture": [given(c) for c in config.mixture]}
    for section, cls in SECTIONS.items():
        usual = plain(dataclasses.asdict(cls()))
        kept[section] = {key: value for key, value in data[section].items() if value != usual[key]}
    kept["seed"].pop("init", None)
    if data_follows_init:
        kept["seed"]["data"] = "init"
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def expand(spec: SweepSpec, overrides: Sequence[str] = ()) -> list[SweepRun]:
    """Every run of a sweep, checked: group by group, point by point, arm by arm, seed by seed.

    Two settings that come to the same config are one run with two entries.

    Args:
        spec: from `load_sweep`.
        overrides: ``section.key=value`` for all runs.

    Raises:
        ConfigError: with the faults of all runs, each told once.
    """
    starts: list[Checkpoint | None] = [c for own in spec.checkpoints for c in own.checkpoints] or [None]
    points = math.prod(map(len, spec.axes.values()))
    if (count := len(spec.groups) * points * len(starts) * len(spec.arms) * len(spec.seeds)) > MOST_RUNS:
        raise ConfigError([f"grid, arms, seeds: make {count} runs; a sweep has at most {MOST_RUNS}"])
    faults = [*set_twice(spec), *fixed_faults(spec, overrides)]
    runs: list[SweepRun] = []
    folder = folder_name(spec.name, overrides)
    for (group, base), point, start in itertools.product(spec.groups.items(), _points(spec), starts):
        try:
            data = _settled({"name": spec.name, **base}, overrides, point, spec, start)
            config = config_from_dict(data)
        except ConfigError as error:
            faults += [_placed(fault, group, point) for fault in error.faults]
            continue
        first: dict[str, str] = {}  # arms that come to the same config have the first one's runs
        for arm in spec.arms:
            try:
                own = _of_arm(data, config, arm)
                name = first.setdefault(content_hash(config_from_dict(own)), arm.name)
                made = [_run(folder, own, group, name, point, seed, start) for seed in spec.seeds]
                runs += [dataclasses.replace(run, arm=arm.name) for run in made]
            except ConfigError as error:
                faults += [_placed(fault, group, point, arm.name) for fault in error.faults]
    if len(folders := {Path(run.config.output_dir): run for run in runs}) > 1:
        faults.append(f"output_dir: is {', '.join(map(str, folders))}; all runs of a sweep have one")
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return runs


def folder_name(name: str, overrides: Sequence[str]) -> str:
    """Name of a sweep's folder: its own where all is as in its file, else with a hash of what is not.

    So a small trial by overrides leaves the tables of the whole sweep as they are.
    """
    changed = sorted(o.removeprefix("--") for o in overrides)
    changed = [override for override in changed if override.split("=")[0] != "output_dir"]
    if not changed:
        return name
    return f"{name}-{hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:8]}"


def _points(spec: SweepSpec) -> Iterator[dict[str, str]]:
    """Every combination of the axes' values, as text."""
    for values in itertools.product(*spec.axes.values()):
        yield dict(zip(spec.axes, values, strict=True))


def _placed(fault: str, group: str, point: Mapping[str, str], arm: str = "") -> str:
    where = ", ".join(word for word in (group, arm, *(f"{k} {v}" for k, v in point.items())) if word)
    return f"{where}: {fault}" if where else fault


def _settled(
    base: Mapping[str, Any],
    overrides: Sequence[str],
    point: Mapping[str, str],
    spec: SweepSpec,
    start: Checkpoint | None,
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
        faults += [fault for setting in start.overrides() if (fault := set_key(data, setting))]
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
            return [f"mixture: lengths of {c.get('task')} must be [smallest, largest], two whole numbers"]
        c["lengths"] = [lengths[0], longest]
    return []


def _of_arm(data: Mapping[str, Any], config: Config, arm: ArmSpec) -> dict[str, Any]:
    """The config of an arm, as plain data."""
    own = copy.deepcopy(dict(data))
    for key, value in arm_settings(arm.ready, config).items():
        fault = set_value(own, key, value)
        assert fault is None, "the config was checked with these sections"
    return merge(own, copy.deepcopy(dict(arm.config)))


def _run(
    folder: str,
    settings: Mapping[str, Any],
    group: str,
    arm: str,
    point: Mapping[str, str],
    seed: int,
    start: Checkpoint | None,
) -> SweepRun:
    """One run, named and checked.

    Raises:
        ConfigError: its config has faults, or its folder holds something else.
    """
    data = copy.deepcopy(dict(settings))
    set_value(data, "seed.init", seed)
    if start is not None:
        # the seed draws only the rows of added tokens there, so the batches differ between seeds too
        set_value(data, "seed.data", seed)
    config = config_from_dict(data)
    digest = content_hash(config, data_follows_init=start is not None)
    parts = [config.name, arm, *([] if start is None else [start.suffix])]
    kept = "-".join(parts)[: LONGEST_NAME - len(digest) - 1]
    config = dataclasses.replace(config, name=f"{kept}-{digest}")
    assert NAME.fullmatch(config.name), "its parts are names"
    if has_files(config.run_dir) and (told := refusals(config, finished_is_fine=True)):
        raise ConfigError(told)
    return SweepRun(group, arm, point, seed, config, start, Path(config.output_dir) / folder)


def manifest_of(spec: SweepSpec, runs: Sequence[SweepRun]) -> Manifest:
    """The index of a sweep's runs."""
    axes = {axis: tuple(values) for axis, values in spec.axes.items()}
    # a name of a file need not be text, which a manifest is
    file = printable(spec.file.as_posix())
    return Manifest(runs[0].folder.name, tuple(run.entry for run in runs), axes, file)


def distinct(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """The runs without those that another entry stands for too."""
    return list({run.id: run for run in reversed(runs)}.values())[::-1]
