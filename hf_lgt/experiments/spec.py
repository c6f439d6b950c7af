"""What an experiment is made of, read from the file of a sweep or of a comparison.

A sweep::

    name: positions                      # folder of tables and figures below output_dir
    config: {base: ../strings.yaml}      # what all runs share: the keys of a run's config, or the path of one
    groups:                              # optional: targets with their auxiliaries, by name; an arm's key
                                         # groups: [sums] says which of them have it
      strings: {mixture: [...]}
      sums: {base: ../sums.yaml}
    arms: [transfer, target_alone, {name: longer, arm: transfer, config: {train: {steps: 8000}}}]
    grid:                                # optional: every combination of all values
      model.rope_theta: [1.0e+3, 1.0e+5]
      target_length: [4, 8]              # longest training length of the targets; also auxiliary_length
      positions: {rope: {}, nope: {model: {positions: nope}}}  # values with names, each of several keys
    seeds: [0, 1, 2]
    checkpoints: {...}                   # optional, see `hf_lgt.experiments.revisions`
    slurm: {partition: gpu, gpus: 1}     # optional, see `hf_lgt.experiments.slurm.submit`
    claims: [...]                        # optional, see `hf_lgt.experiments.claims`

A comparison has no grid, and each of its arms a config file of its own::

    name: demo
    arms: [transfer.yaml, control.yaml, target_alone]  # files, or ready arms made of the first of them
    seeds: [0, 1, 2]
    checkpoints: {...}                   # optional
    claims: [...]                        # optional

Paths are relative to the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_builders.registry import unknown
from data_builders.texts import CONTROLS, printable
from hf_lgt.config.files import merge, read_file, read_mapping, secret_faults
from hf_lgt.config.schema import NAME, SECTIONS, short
from hf_lgt.experiments.claims import Claim, read_claims, unknown_values
from hf_lgt.experiments.controls import TRANSFER, is_ready
from hf_lgt.experiments.revisions import CheckpointList, read_checkpoints
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import expanded
from hf_lgt.utils.errors import ConfigError

SWEEP_KEYS = ("name", "config", "groups", "arms", "grid", "seeds", "checkpoints", "slurm", "claims")
COMPARISON_KEYS = ("name", "arms", "seeds", "checkpoints", "claims")
LENGTHS = {"target_length": "target", "auxiliary_length": "auxiliary"}
"""axes that set the longest training length of all tasks of a role"""


@dataclass(frozen=True)
class ArmSpec:
    """One arm of an experiment."""

    name: str
    ready: str = ""
    """the ready arm that it is made from, see `hf_lgt.experiments.controls`; empty: its file as it is"""
    config: Mapping[str, Any] = field(default_factory=dict)
    """what differs from that"""
    file: Path | None = None
    """config file of a comparison's arm; a ready one has that of the first. None in a sweep"""
    groups: tuple[str, ...] = ()
    """of a sweep that have it; empty: all"""


@dataclass(frozen=True)
class ExperimentSpec:
    """What the file of an experiment says, its configs not yet checked."""

    name: str
    file: Path
    arms: tuple[ArmSpec, ...]
    seeds: tuple[int, ...]
    """of initialisation and data both"""
    checkpoints: tuple[CheckpointList, ...] = ()
    """what every arm starts from; empty: what its config says"""
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """name -> config; one without a name where a sweep has no groups, none in a comparison"""
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """axis -> value as text -> what it sets: keys with dots, as ``train.steps``, or those of `LENGTHS`"""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    """what it is to show"""

    @property
    def kind(self) -> str:
        """``sweep`` or ``comparison``."""
        return "sweep" if self.groups else "comparison"


def load_comparison(path: str | Path) -> ExperimentSpec:
    """Read a comparison's file, or ``compare.yaml`` of a folder.

    Raises:
        ConfigError: with every fault of the file; those of the runs' configs are found by `plan`.
    """
    path = Path(path)
    file = path / "compare.yaml" if path.is_dir() else path
    try:
        data: Any = yaml.read(file)
    except (OSError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError([f"comparison {file}: {reason}"]) from None
    if not isinstance(data, dict):
        raise ConfigError([f"comparison {file}: must hold the keys name, arms and seeds"])
    faults = _common_faults(data, f"comparison {file}", COMPARISON_KEYS, repr)
    arms = _file_arms(data.get("arms"), file, faults)
    faults += seed_faults(data.get("seeds"))
    checkpoints = _checkpoints(data, faults)
    claims = read_claims(data.get("claims", []), (), faults)
    faults += unknown_values(claims, _places(arms, checkpoints))
    if faults:
        raise ConfigError(faults)
    return ExperimentSpec(data["name"], file, arms, tuple(data["seeds"]), checkpoints, claims=claims)


def _places(arms: Sequence[ArmSpec], checkpoints: Sequence[CheckpointList]) -> dict[str, list[str]]:
    """Values of the places that a claim can name in any experiment."""
    labels = [checkpoint.label for own in checkpoints for checkpoint in own.checkpoints]
    return {"arm": [arm.name for arm in arms], "checkpoint": labels}


def _common_faults(
    data: Mapping[str, Any], place: str, keys: Sequence[str], shown: Callable[[object], str]
) -> list[str]:
    """Unknown keys, and what is wrong with the name; `shown` quotes a value."""
    faults = [f"{place}: {unknown('key', key, keys)}" for key in data if key not in keys]
    name = data.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        faults.append(f"name: {shown(name)} must be letters, digits, '.', '_', '-'")
    return faults


def seed_faults(seeds: Any) -> list[str]:
    """What is wrong with a list of seeds."""
    fine = (
        isinstance(seeds, (list, tuple))
        and seeds
        and all(type(s) is int and s >= 0 for s in seeds)
        and len(set(seeds)) == len(seeds)
    )
    return [] if fine else [f"seeds: {seeds!r} must be a list of different integers >= 0"]


def _checkpoints(data: Mapping[str, Any], faults: list[str]) -> tuple[CheckpointList, ...]:
    if "checkpoints" not in data:
        return ()
    checkpoints, told = read_checkpoints(data["checkpoints"])
    faults += told
    return checkpoints


def _file_arms(arms: Any, file: Path, faults: list[str]) -> tuple[ArmSpec, ...]:
    """A comparison's arms."""
    if not isinstance(arms, list) or not arms or not all(isinstance(a, str) for a in arms):
        faults.append(f"arms: {arms!r} must be a list of config files beside {file}, or ready arms after one")
        return ()
    try:
        arms = [expanded(arm) for arm in arms]
    except ValueError as error:
        faults.append(f"arms: {arms!r} {error}")
    first = file.parent / arms[0]
    return tuple(
        ArmSpec(arm, ready=arm, file=first)
        if index and not arm.endswith((".yaml", ".yml"))
        else ArmSpec(Path(arm).stem, file=file.parent / arm)
        for index, arm in enumerate(arms)
    )


def load_sweep(path: str | Path) -> ExperimentSpec:
    """Read a sweep's file.

    Raises:
        ConfigError: with every fault of the file; those of the runs' configs are found by `plan`.
    """
    file = Path(path)
    if file.is_dir():
        raise ConfigError([f"sweep {file} is a folder; name a YAML file in it, as {file / 'cpu.yaml'}"])
    try:
        data = read_file(file)
    except ConfigError as error:
        raise ConfigError([f.replace("config file", "sweep", 1) for f in error.faults]) from None
    if secret := [*secret_faults(data)]:
        raise ConfigError(secret)  # and no other fault, which might quote it
    faults = _common_faults(data, f"sweep {file}", SWEEP_KEYS, short)
    faults += seed_faults(data.get("seeds"))
    groups = _groups(data, file, faults)
    arms = tuple(_arms(data.get("arms", [TRANSFER]), file, groups, faults))
    axes = _axes(data.get("grid", {}), faults)
    checkpoints = _checkpoints(data, faults)
    claims = read_claims(data.get("claims", []), list(axes), faults)
    places = {**_places(arms, checkpoints), "group": list(groups)}
    faults += unknown_values(claims, places | {axis: list(values) for axis, values in axes.items()})
    slurm = data.get("slurm", {})
    if not isinstance(slurm, dict):
        faults.append(f"slurm: {short(slurm)} must be a mapping of keys, as in {{partition: gpu}}")
    if faults:
        raise ConfigError([printable(fault) for fault in faults])
    seeds = tuple(data["seeds"])
    return ExperimentSpec(data["name"], file, arms, seeds, checkpoints, groups, axes, slurm, claims)


def _groups(data: dict[str, Any], file: Path, faults: list[str]) -> dict[str, dict[str, Any]]:
    """The config of every group, as plain data."""
    try:
        common = read_mapping(data.get("config", {}), file.parent, "config")
    except ConfigError as error:
        faults += error.faults
        return {}
    given = data.get("groups")
    if given is None:
        if "config" not in data:
            faults.append("config: is missing; it holds the keys of a run's config, or the path of one")
        return {"": common}
    if not isinstance(given, dict) or not given:
        faults.append(f"groups: {short(given)} must map names to what differs from the config")
        return {}
    groups = {}
    for name, item in given.items():
        if fault := _name_fault(name):
            faults.append(f"groups: {fault}")
            continue
        try:
            groups[name] = merge(common, read_mapping(item, file.parent, f"groups.{name}"))
        except ConfigError as error:
            faults += error.faults
    return groups


def _name_fault(name: Any) -> str | None:
    if not isinstance(name, str) or not name.strip() or len(name) > 60 or CONTROLS.search(name):
        return f"the name {short(name)} must be printable text of at most 60 characters"
    return None


def _arms(given: Any, file: Path, groups: Mapping[str, Any], faults: list[str]) -> list[ArmSpec]:
    if not isinstance(given, list) or not given:
        faults.append(f"arms: {short(given)} must be a list of ready arms, as [transfer, target_alone]")
        return []
    arms: list[ArmSpec] = []
    for i, entry in enumerate(given):
        item: Any = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(item, dict) or "name" not in item:
            faults.append(f"arms.{i}: {short(item)} must be a ready arm's name, or a mapping with a name")
            continue
        keys = ("name", "arm", "config", "groups")
        told = [f"arms.{i}: {unknown('key', key, keys)}" for key in item if key not in keys]
        if not isinstance(item["name"], str) or not NAME.fullmatch(item["name"]):
            told.append(f"arms.{i}.name: {short(item['name'])} must be letters, digits, '.', '_', '-'")
        # a name alone is a ready arm; another one with a config of its own starts from the transfer arm
        own_name = "config" in item and not is_ready(str(item["name"]))
        ready: Any = item.get("arm", TRANSFER if own_name else item["name"])
        if not isinstance(ready, str):
            told.append(f"arms.{i}.arm: {short(ready)} must be the name of a ready arm")
        own: Any = item.get("groups", [])
        if not isinstance(own, list) or ("groups" in item and not own):
            told.append(f"arms.{i}.groups: {short(own)} must be a list of groups")
        else:
            known = [*groups]  # none where they could not be read, which is reported by itself
            strange = [name for name in own if name not in known] if known else []
            told += [f"arms.{i}.groups: {unknown('group', name, known)}" for name in strange]
        config: dict[str, Any] = {}
        try:
            config = read_mapping(item.get("config", {}), file.parent, f"arms.{i}.config")
        except ConfigError as error:
            told += error.faults
        faults += told
        if told:
            continue
        if item["name"] in [arm.name for arm in arms]:
            faults.append(f"arms.{i}: {short(item['name'])} is a duplicate")
        arms.append(ArmSpec(item["name"], ready, config, groups=tuple(own)))
    return arms


def _axes(given: Any, faults: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    if not isinstance(given, dict):
        faults.append(f"grid: {short(given)} must map keys to lists of values")
        return {}
    axes: dict[str, dict[str, dict[str, Any]]] = {}
    for axis, values in given.items():
        if fault := _name_fault(axis):
            faults.append(f"grid: {fault}")
        elif not isinstance(values, (list, dict)) or not values:
            faults.append(
                f"grid.{axis}: {short(values)} must be a list of values, or map names of values to the keys "
                "that they set"
            )
        elif isinstance(values, dict):
            told = [f"grid.{axis}: {fault}" for name in values if (fault := _name_fault(name))]
            told += [
                f"grid.{axis}.{name}: {short(item)} must be a mapping of keys of the config"
                for name, item in values.items()
                if not isinstance(item, dict)
            ]
            faults += told
            if not told:
                axes[axis] = {name: flat(item) for name, item in values.items()}
        else:
            texts = [value_text(value) for value in values]
            faults += [f"grid.{axis}: {fault}" for fault in _value_faults(axis, values, texts)]
            # of a section, as elsewhere, only the keys that stand there
            axes[axis] = {
                text: flat({axis: value}) if axis in SECTIONS else {axis: value}
                for text, value in zip(texts, values, strict=True)
            }
    return axes


def _value_faults(axis: str, values: list[Any], texts: list[str]) -> Iterator[str]:
    """What is wrong with the values of an axis; `texts` is how they are shown."""
    for text in dict.fromkeys(texts):
        own = [value for value, other in zip(values, texts, strict=True) if other == text]
        if len(own) == 1:
            continue
        if all((type(value), value) == (type(own[0]), own[0]) for value in own):
            yield f"{text} is a duplicate"
        else:
            yield f"{len(own)} values read {text}; give them names, as in {{name: {{key: value}}}}"
    yield from (f"{short(text)} must be printable text" for text in texts if CONTROLS.search(text))
    if axis in LENGTHS:
        wrong = [value for value in values if type(value) is not int or value < 1]
        yield from (f"{short(value)} must be an integer from 1" for value in wrong)


def value_text(value: Any) -> str:
    """A value of the grid as manifests and tables show it."""
    if not isinstance(value, float):
        return value if isinstance(value, str) else short(value)
    text = f"{value:g}"
    return text if float(text) == value else repr(value)


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``section.key``; a mixture's options and other lists stay whole.

    A section without keys sets nothing.
    """
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and (value or f"{prefix}{key}" in SECTIONS):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
