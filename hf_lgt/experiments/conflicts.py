"""Settings that two places of an experiment, or an experiment and the command line, both make."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from hf_lgt.experiments.spec import LENGTHS, ExperimentSpec, flat


def _own_keys(spec: ExperimentSpec) -> dict[str, str]:
    """Keys that the experiment itself sets -> what is wrong where something else sets them."""
    fixed = {
        key: f"{key}: is set by the {spec.kind}'s seeds; --seeds 0,1,2 chooses them"
        for key in ("seed", "seed.init", "seed.data")
    }
    if spec.checkpoints:
        more = "; --checkpoints chooses among them" if spec.kind == "comparison" else ""
        for key in ("model", "model.init", "model.name_or_path", "model.revision"):
            fixed[key] = f"{key}: is set by the {spec.kind}'s checkpoints{more}"
    return fixed


def same_names(spec: ExperimentSpec) -> Iterator[str]:
    """Names that several arms of a comparison have; those of a sweep are checked as it is read."""
    for name, count in Counter(arm.name for arm in spec.arms).items():
        if count > 1:
            yield f"arms: {count} files are named {name}; an arm has the name of its file"


def set_twice(spec: ExperimentSpec) -> Iterator[str]:
    """Settings of the grid and of arms that something else replaces, so that a run would not be what it is
    called.
    """
    own = _own_keys(spec)
    earlier: list[tuple[str, str]] = []
    axes = [(f"grid.{axis}", [key for item in values.values() for key in item])
            for axis, values in spec.axes.items()]  # fmt: skip
    arms = [(f"arms.{i}.config", list(flat(arm.config))) for i, arm in enumerate(spec.arms)]
    for place, keys in [*axes, *arms]:
        yield from (f"{place}: {own[key]}" for key in dict.fromkeys(keys) if key in own)
        for key, (other, setter) in itertools.product(dict.fromkeys(keys), earlier):
            if _replaces(key, other):
                yield f"{place}: {key} replaces what {setter} sets; a setting has one place in a sweep"
        if place.startswith("grid."):  # of arms, a run has one
            earlier += [(key, place) for key in dict.fromkeys(keys)]


def _replaces(key: str, earlier: str) -> bool:
    """Whether nothing is left of one setting after another one."""
    if earlier in LENGTHS:
        return key in ("mixture", earlier)
    return earlier == key or earlier.startswith(f"{key}.")


def fixed_faults(spec: ExperimentSpec, overrides: Sequence[str]) -> list[str]:
    """Overrides of what the experiment itself sets."""
    fixed = _own_keys(spec)
    if spec.kind == "sweep":
        fixed["name"] = "name: a run is named by its config's name, its arm and a hash; change it in the file"
    for axis, values in spec.axes.items():
        for settings in values.values():
            fixed |= {key: f"{key}: is set by the sweep's grid, axis {axis}" for key in settings}
    for arm in spec.arms:
        fixed |= {key: f"{key}: is set by the sweep's arm {arm.name}" for key in flat(arm.config)}
    given = [override.removeprefix("--").split("=")[0] for override in overrides]
    return [fixed[key] for key in given if key in fixed]
