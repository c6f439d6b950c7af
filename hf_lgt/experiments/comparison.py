"""Which runs a comparison is made of: its file read, every config checked before anything starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.registry import unknown
from hf_lgt.checkpointing.run_folder import has_files, is_finished, refusals
from hf_lgt.config.load import load_config
from hf_lgt.config.schema import NAME, Config
from hf_lgt.experiments.controls import arm_settings
from hf_lgt.experiments.manifest import Entry, Manifest, relative
from hf_lgt.experiments.revisions import Checkpoint, CheckpointList, read_checkpoints, setting
from hf_lgt.utils import yaml as yaml12
from hf_lgt.utils.atomic_io import expanded
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class Comparison:
    """What is compared."""

    name: str
    arms: tuple[tuple[str, Path], ...]
    """name and config file of each arm; a ready arm has that of the first one"""
    seeds: tuple[int, ...]
    """initialisation seeds; with checkpoints also the seeds of the data"""
    checkpoints: tuple[CheckpointList, ...] = ()
    """what every arm starts from; empty: what its config says"""
    ready: frozenset[str] = frozenset()
    """arms that are ready ones, see `hf_lgt.experiments.controls`"""


@dataclass(frozen=True)
class Planned:
    """One run of a comparison."""

    arm: str
    seed: int
    config: Config
    arguments: tuple[str, ...]
    """what `recipes/finetune.py` is called with"""
    checkpoint: Checkpoint | None = None
    """what it starts from, None where the comparison lists no checkpoints"""

    @property
    def label(self) -> str:
        """The run in words, its seed aside."""
        return self.arm if self.checkpoint is None else f"{self.arm} from {self.checkpoint.label}"

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
    def log(self) -> str:
        """File name of what it prints."""
        name = self.arm if self.checkpoint is None else self.config.name
        return f"{name}-seed-{self.seed}.log"


def load_comparison(path: str | Path) -> Comparison:
    """Read a comparison's file, or ``compare.yaml`` of a folder.

    Raises:
        ConfigError: with every fault.
    """
    path = Path(path)
    file = path / "compare.yaml" if path.is_dir() else path
    try:
        data: Any = yaml12.read(file)
    except (OSError, yaml12.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError([f"comparison {file}: {reason}"]) from None
    if not isinstance(data, dict):
        raise ConfigError([f"comparison {file}: must hold the keys name, arms and seeds"])
    keys = ("name", "arms", "seeds", "checkpoints")
    faults = [f"comparison {file}: {unknown('key', key, keys)}" for key in data if key not in keys]
    name: Any = data.get("name")
    arms: Any = data.get("arms")
    seeds: Any = data.get("seeds")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        faults.append(f"name: {name!r} must be letters, digits, '.', '_', '-'")
    if not isinstance(arms, list) or not arms or not all(isinstance(a, str) for a in arms):
        faults.append(f"arms: {arms!r} must be a list of config files beside {file}, or ready arms after one")
    else:
        try:
            arms = [expanded(arm) for arm in arms]
        except ValueError as error:
            faults.append(f"arms: {arms!r} {error}")
    faults += seed_faults(seeds)
    checkpoints: tuple[CheckpointList, ...] = ()
    if "checkpoints" in data:
        checkpoints, told = read_checkpoints(data["checkpoints"])
        faults += told
    if faults:
        raise ConfigError(faults)
    first = file.parent / arms[0]
    ready = frozenset(a for a in arms[1:] if not a.endswith((".yaml", ".yml")))
    files = tuple((a, first) if a in ready else (Path(a).stem, file.parent / a) for a in arms)
    return Comparison(name, files, tuple(seeds), checkpoints, ready)


def seed_faults(seeds: Any) -> list[str]:
    """What is wrong with a list of seeds."""
    fine = (
        isinstance(seeds, (list, tuple))
        and seeds
        and all(type(s) is int and s >= 0 for s in seeds)
        and len(set(seeds)) == len(seeds)
    )
    return [] if fine else [f"seeds: {seeds!r} must be a list of different whole numbers >= 0"]


def plan(comparison: Comparison, overrides: Sequence[str] = ()) -> list[Planned]:
    """Every run, checked: arm by arm, within it checkpoint by checkpoint, within that seed by seed.

    Raises:
        ConfigError: with the faults of all arms.
    """
    planned: list[Planned] = []
    faults = _fixed_faults(comparison, overrides)
    folders: dict[Path, str] = {}
    names = [arm for arm, _ in comparison.arms]
    for arm in dict.fromkeys(arm for arm in names if names.count(arm) > 1):
        faults.append(f"arms: {names.count(arm)} files are named {arm}; an arm is told by its file's name")
    starts: list[Checkpoint | None] = [c for own in comparison.checkpoints for c in own.checkpoints]
    for arm, path in comparison.arms:
        for checkpoint in starts or [None]:
            try:
                given = [*overrides, *_ready_settings(arm, path, overrides, arm in comparison.ready)]
                settings = [*given, *_start_settings(path, given, checkpoint)]
            except ConfigError as error:
                faults += [f"{arm}: {fault}" for fault in error.faults]
                break
            runs, told = _plan_seeds(arm, path, settings, checkpoint, comparison.seeds, folders)
            planned += runs
            faults += told
    if faults:
        raise ConfigError(faults)
    return planned


def manifest_of(comparison: Comparison, planned: Sequence[Planned], folder: Path) -> Manifest:
    """The index of a comparison's runs, for its own folder."""
    entries = [
        Entry(
            id=f"{item.config.name}/seed-{item.seed}",
            group="",
            arm=item.arm,
            seed=item.seed,
            folder=relative(item.config.run_dir, folder),
            checkpoint="" if item.checkpoint is None else item.checkpoint.label,
        )
        for item in planned
    ]
    return Manifest(comparison.name, tuple(entries))


def _fixed_faults(comparison: Comparison, overrides: Sequence[str]) -> list[str]:
    """Overrides of what the comparison itself sets."""
    told = "seed.init: is set by the comparison; --seeds 0,1,2 chooses the seeds"
    fixed = {"seed": told, "seed.init": told}
    if comparison.checkpoints:
        fixed["seed.data"] = "seed.data: is the run's seed where checkpoints are compared; see --seeds"
        for key in ("model", "model.init", "model.name_or_path", "model.revision"):
            fixed[key] = f"{key}: is set by the comparison; --checkpoints chooses among its revisions"
    given = [override.removeprefix("--").split("=")[0] for override in overrides]
    return [fixed[key] for key in given if key in fixed]


def _ready_settings(arm: str, path: Path, overrides: Sequence[str], ready: bool) -> list[str]:
    """Overrides that make a ready arm of a config, its name among them.

    Raises:
        ConfigError: there is no such arm, or the config cannot have it.
    """
    if not ready:
        return []
    config = load_config(path, overrides)
    settings = [f"{key}={json.dumps(value)}" for key, value in arm_settings(arm, config).items()]
    return [*settings, setting("name", f"{config.name}-{arm.replace('_', '-')}")]


def _start_settings(path: Path, overrides: Sequence[str], checkpoint: Checkpoint | None) -> list[str]:
    """Overrides that make an arm begin from a checkpoint, its name among them.

    Raises:
        ConfigError: the arm's config cannot begin from it.
    """
    if checkpoint is None:
        return []
    settings = checkpoint.overrides()
    arm_name = load_config(path, [*overrides, *settings]).name
    return [*settings, setting("name", checkpoint.run_name(arm_name))]


def _plan_seeds(
    arm: str,
    path: Path,
    settings: Sequence[str],
    checkpoint: Checkpoint | None,
    seeds: Sequence[int],
    folders: dict[Path, str],
) -> tuple[list[Planned], list[str]]:
    """The runs of one arm from one start, and their faults.

    Args:
        arm: its name.
        path: its config file.
        settings: overrides that all seeds share.
        checkpoint: what the runs start from.
        seeds: of the comparison.
        folders: folder -> the arm that has it; those of this arm are added.
    """
    planned: list[Planned] = []
    faults: list[str] = []
    for seed in seeds:
        every = [*settings, f"seed.init={seed}"]
        if checkpoint is not None:
            # The seed of a checkpoint's init draws only the rows of added tokens: the batches differ
            # between seeds too, and are the same for all checkpoints, so that these can be paired.
            every.append(f"seed.data={seed}")
        try:
            config = load_config(path, every)
            if has_files(config.run_dir):
                faults += [f"{arm}: {fault}" for fault in refusals(config, finished_is_fine=True)]
        except ConfigError as error:
            faults += [f"{arm}: {fault}" for fault in error.faults]
            break
        if config.run_dir in folders:
            if folders[config.run_dir] != arm:  # else it stands there twice, which is told already
                faults.append(f"{arm}: name: its runs would be those of {folders[config.run_dir]}")
            break
        folders[config.run_dir] = arm
        arguments = ("--config", str(path), *(f"--{override}" for override in every))
        planned.append(Planned(arm, seed, config, arguments, checkpoint))
    return planned, faults
