"""The models that are probed, each with its random twin, and the runs that this takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_builders.texts import CONTROLS
from hf_lgt.config.schema import short
from hf_lgt.experiments.controls import TRANSFER
from hf_lgt.experiments.plan import PlannedRun, plan
from hf_lgt.experiments.probe.battery import Battery, BatteryFamily
from hf_lgt.experiments.spec import ArmSpec, ExperimentSpec
from hf_lgt.utils.errors import ConfigError

ALONE, JOINT = "target_alone", TRANSFER
"""the two trainings of a family: the target alone, and jointly with its auxiliaries"""
TWIN = " (random twin)"
MODEL = "model"
"""the axis on which models lie in the experiment"""
LONGEST_LABEL = 40


@dataclass(frozen=True)
class Subject:
    """A model, or its random twin."""

    label: str
    name: str
    """what the user called it; of a twin, what it is the twin of"""
    settings: Mapping[str, Any]
    """``section.key`` -> value: where its runs start, and what a model of its size is trained with"""
    twin: bool = False
    parameters: int = field(default=0, compare=False)
    """0 where they are not known yet"""


def subjects_of(names: Sequence[str]) -> list[Subject]:
    """The models that a user named, as ``NAME`` or ``NAME@REVISION``.

    Raises:
        ConfigError: a name is none, or stands there twice.
    """
    faults = [f"MODEL: {short(name)} is no name of a model" for name in names if not _is_name(name)]
    known: dict[tuple[str, str], str] = {}
    for name in names:
        before = known.setdefault(_place(name), name)
        if before == name and names.count(name) > 1:
            faults.append(f"MODEL: {short(name)} is there twice")
        elif before != name:
            faults.append(f"MODEL: {short(name)} is the same model as {short(before)}; name it once")
    if faults:
        raise ConfigError([*dict.fromkeys(faults)])
    first = [_label(name) for name in names]
    # two of one name: as they were typed
    labels = [
        name[-LONGEST_LABEL:] if first.count(own) > 1 else own for name, own in zip(names, first, strict=True)
    ]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            labels[i] = f"{label} (model {i + 1})"
    return [Subject(label, name, start_of(name)) for label, name in zip(labels, names, strict=True)]


def _is_name(name: str) -> bool:
    return bool(name.strip()) and not CONTROLS.search(name) and not name.startswith("@")


def start_of(name: str) -> dict[str, Any]:
    """Where the runs of a model start."""
    path, revision = _parts(name)
    own = {"model.init": "pretrained", "model.name_or_path": path}
    return own | ({"model.revision": revision} if revision else {})


def _parts(name: str) -> tuple[str, str]:
    """Name and revision; a path that exists as it stands has none."""
    path, _, revision = name.rpartition("@")
    return (name, "") if not path or Path(name).exists() else (path, revision)


def _place(name: str) -> tuple[str, str]:
    """What two names of one model have in common."""
    path, revision = _parts(name)
    return (str(Path(path).resolve()) if Path(path).exists() else path), revision


def _label(name: str) -> str:
    """The last part of a name that says something: that of a run's folder where ``model`` is the last."""
    path, revision = _parts(name)
    parts = [part for part in re.split(r"[/\\]", path.removeprefix("package:")) if part not in ("", ".")]
    kept = parts[-1:] or [path]
    if kept == ["model"] and len(parts) > 2:
        kept = parts[-3:-1]
    own = "/".join(kept) + (f"@{revision}" if revision else "")
    return own[-LONGEST_LABEL:]


def twins_of(models: Sequence[Subject]) -> list[Subject]:
    """A random twin for each model; one for all revisions of a model, which have one architecture."""
    twins: dict[str, Subject] = {}
    for model in models:
        path, _ = _parts(model.name)
        settings = {key: value for key, value in model.settings.items() if key != "peft.method"}
        settings["model.init"] = "random"
        if path not in twins:
            name, number = _label(path), 2
            while f"{name}{TWIN}" in [twin.label for twin in twins.values()]:
                name, number = f"{_label(path)}-{number}", number + 1
            twins[path] = Subject(f"{name}{TWIN}", model.name, settings, True, model.parameters)
    return list(twins.values())


def planned_runs(
    battery: Battery, subjects: Sequence[Subject], corpora: Path, overrides: Sequence[str]
) -> tuple[ExperimentSpec, list[PlannedRun]]:
    """The experiment that asks every family of every model, and its runs.

    Args:
        battery: the families.
        subjects: models and twins.
        corpora: folder below which the families' corpora are.
        overrides: ``section.key=value`` for all runs.

    Raises:
        ConfigError: see `hf_lgt.experiments.plan.plan`.
    """
    spec = ExperimentSpec(
        name=battery.name,
        file=battery.file,
        # before the first step both are the same model
        arms=(
            ArmSpec(JOINT, ready=JOINT, config={"eval": {"zero_shot": False}}),
            ArmSpec(ALONE, ready=ALONE),
        ),
        seeds=battery.seeds,
        groups={family.name: config_of(family, corpora) for family in battery.families},
        axes={MODEL: {subject.label: subject.settings for subject in subjects}},
    )
    return spec, plan(spec, overrides)


def config_of(family: BatteryFamily, corpora: Path) -> dict[str, Any]:
    """A family's config as plain data, with its corpus where it has one."""
    config = dict(family.config)
    if family.corpus is not None:
        place = {"source": "dataset", "path": str(corpora / family.name), "tags": False}
        config["data"] = {**config.get("data", {}), **place}
        config["model"] = {**config.get("model", {}), "tokenizer": "text"}
    return config
