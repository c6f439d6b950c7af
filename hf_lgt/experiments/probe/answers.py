"""What a probe found, as `probe.json` has it: of every model and family two trainings, over some seeds.

Read again, it is the reference that other models are shown beside.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from data_builders.reading import UnreadableFileError, read_json
from data_builders.texts import line
from hf_lgt.config.schema import short
from hf_lgt.evaluation.curves import curve
from hf_lgt.evaluation.measures import effective_length
from hf_lgt.evaluation.records import grouped_by_step
from hf_lgt.experiments.probe.battery import Battery
from hf_lgt.experiments.probe.subjects import ALONE, JOINT, MODEL, Subject
from hf_lgt.experiments.report.stored_values import count_value, curve_value, text_value
from hf_lgt.experiments.results import SeedGroup, SeedResult
from hf_lgt.utils.errors import ConfigError

FORMAT = 1


@dataclass(frozen=True)
class Training:
    """One training of a family, to its criterion or to the last step."""

    seed: int
    reached: int | None
    """step at which the criterion held; None: not within `steps`"""
    steps: int
    """most that it could take"""
    curve: Mapping[int, float]
    """length -> exact match of the target"""
    zero_shot: Mapping[int, float]
    """the same before the first step; empty for a random twin"""

    def beyond(self, trained: int, far: float = float("inf")) -> float | None:
        """Mean exact match beyond the trained length, up to `far`."""
        values = [value for length, value in self.curve.items() if trained < length <= far]
        return fmean(values) if values else None

    def effective(self, level: float) -> int:
        """See `hf_lgt.evaluation.measures.effective_length`."""
        return effective_length(self.curve, level)


@dataclass(frozen=True)
class ProbedFamily:
    """A family of the battery, as its trainings had it."""

    name: str
    target: str
    trained: int
    """longest trained length of the target"""
    auxiliaries: Mapping[str, int]
    """task -> its longest trained length"""
    longest: int
    """that was evaluated"""

    @property
    def far(self) -> int:
        """End of the transfer region."""
        return max(self.auxiliaries.values(), default=self.longest)


@dataclass(frozen=True)
class ProbedModel:
    """A model that was probed, or a random twin."""

    label: str
    name: str
    twin: bool
    parameters: int
    reference: bool = False
    """whether it comes with the project"""


@dataclass(frozen=True)
class Missing:
    """What a probe does not answer."""

    not_run: tuple[str, ...] = ()
    """what the time was too short for"""
    refused: Mapping[str, str] = field(default_factory=dict)
    """model, or model and family -> why it could not be trained"""
    failed: tuple[str, ...] = ()
    """trainings that went wrong"""


@dataclass(frozen=True)
class Probe:
    """All that was found."""

    battery: tuple[str, int, str]
    """name, version, digest"""
    families: tuple[ProbedFamily, ...]
    models: tuple[ProbedModel, ...]
    trainings: Mapping[tuple[str, str, str], tuple[Training, ...]]
    """(family, model, arm) -> one of each seed"""
    missing: Missing = field(default_factory=Missing)
    made_with: Mapping[str, Any] | None = None
    changes: tuple[str, ...] = ()
    """settings of the command line that replace the battery's"""

    def pair(self, family: str, model: str) -> list[tuple[Training, Training]]:
        """(alone, jointly) of each seed that has both."""
        joint = {t.seed: t for t in self.trainings.get((family, model, JOINT), ())}
        alone = self.trainings.get((family, model, ALONE), ())
        return [(t, joint[t.seed]) for t in alone if t.seed in joint]


def probe_of(
    battery: Battery,
    subjects: Sequence[Subject],
    cells: Sequence[SeedGroup],
    missing: Missing,
    made_with: Mapping[str, Any],
    changes: Sequence[str] = (),
) -> Probe:
    """What the finished runs of a probe say.

    Args:
        battery: what was asked.
        subjects: of whom.
        cells: the experiment's settings, see `hf_lgt.experiments.results.collect`.
        missing: what it does not answer.
        made_with: versions.
        changes: settings of the command line that replace the battery's.
    """
    families = []
    for family in battery.families:
        own = [c for cell in cells if cell.group == family.name for c in cell.results]
        if own:
            families.append(_family(family.name, own))
    known = {cell.point[MODEL] for cell in cells}
    models = [ProbedModel(s.label, s.name, s.twin, s.parameters) for s in subjects if s.label in known]
    trainings = {
        (cell.group, cell.point[MODEL], cell.arm): tuple(
            _training(r) for r in sorted(cell.results, key=lambda r: r.seed)
        )
        for cell in cells
    }
    about = (battery.name, battery.version, battery.digest)
    found = tuple(families), tuple(models), trainings
    return Probe(about, *found, missing, dict(made_with), tuple(changes))


def _family(name: str, results: Sequence[SeedResult]) -> ProbedFamily:
    joint = next((r for r in results if r.arm == JOINT), results[0])
    mixture = joint.config.mixture
    auxiliaries = {c.task: c.lengths[1] for c in mixture if c.role == "auxiliary"}
    summary = joint.summary
    return ProbedFamily(name, summary.target, summary.target_length, auxiliaries, max(summary.curve))


def _training(result: SeedResult) -> Training:
    before = grouped_by_step(result.records).get(0, [])
    return Training(
        result.seed,
        result.reached,
        result.config.train.steps,
        dict(result.summary.curve),
        curve(before, result.summary.target),
    )


def probe_data(probe: Probe) -> dict[str, Any]:
    """As `probe.json` holds it."""
    name, version, digest = probe.battery
    return {
        "format": FORMAT,
        "battery": {"name": name, "version": version, "digest": digest},
        "made_with": probe.made_with,
        "models": [
            {"label": m.label, "name": m.name, "random_twin": m.twin, "parameters": m.parameters}
            for m in probe.models
        ],
        "families": [
            {
                "name": f.name,
                "target": f.target,
                "trained": f.trained,
                "auxiliaries": dict(f.auxiliaries),
                "longest": f.longest,
                "trainings": [
                    {
                        "model": model,
                        "arm": arm,
                        "seed": t.seed,
                        "reached": t.reached,
                        "steps": t.steps,
                        "curve": t.curve,
                        "zero_shot": t.zero_shot,
                    }
                    for (family, model, arm), own in probe.trainings.items()
                    if family == f.name
                    for t in own
                ],
            }
            for f in probe.families
        ],
        "changes": list(probe.changes),
        "not_run": list(probe.missing.not_run),
        "refused": dict(probe.missing.refused),
        "failed": list(probe.missing.failed),
    }


def write_data(probe: Probe) -> str:
    """The text of `probe.json`."""
    return json.dumps(probe_data(probe), indent=1) + "\n"


def read_probe(path: Path) -> Probe:
    """What `write_data` gave.

    Raises:
        ConfigError: the file cannot be read, or is none.
    """
    try:
        data = read_json(path)
    except (UnreadableFileError, OSError) as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError([f"{path} is no file of a probe of format {FORMAT}; run the probe again"])
    try:
        return _probe(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        told = line(str(error)) if not isinstance(error, KeyError) else f"it lacks {error}"
        raise ConfigError([f"{path} is damaged ({told}); run the probe again"]) from None


def read_references(path: Path) -> list[tuple[Path, Probe]]:
    """The answers in a file, or in the files of a folder that are some.

    Raises:
        ConfigError: there is nothing at the path, or a file of answers is damaged.
    """
    if not path.exists():
        raise ConfigError([f"--references: {path} does not exist; name a probe.json, or a folder of some"])
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [(file, read_probe(file)) for file in files if not path.is_dir() or _has_answers(file)]


def _has_answers(file: Path) -> bool:
    try:
        data = read_json(file)
    except (UnreadableFileError, OSError):
        return False
    return isinstance(data, dict) and {"battery", "families"} <= data.keys()


def _probe(data: Mapping[str, Any]) -> Probe:
    models = tuple(
        ProbedModel(
            text_value(m["label"]),
            text_value(m["name"]),
            bool(m["random_twin"]),
            count_value(m["parameters"]),
        )
        for m in data["models"]
    )
    labels = {model.label for model in models}
    families: list[ProbedFamily] = []
    trainings: dict[tuple[str, str, str], list[Training]] = {}
    for f in data["families"]:
        auxiliaries = {text_value(task): count_value(longest) for task, longest in f["auxiliaries"].items()}
        families.append(
            ProbedFamily(
                text_value(f["name"]),
                text_value(f["target"]),
                count_value(f["trained"]),
                auxiliaries,
                count_value(f["longest"]),
            )
        )
        for key, training in _trainings(f["trainings"], labels):
            trainings.setdefault((families[-1].name, *key), []).append(training)
    own = data["battery"]
    return Probe(
        (text_value(own["name"]), count_value(own["version"]), text_value(own["digest"])),
        tuple(families),
        models,
        {key: tuple(found) for key, found in trainings.items()},
        Missing(
            tuple(map(text_value, data["not_run"])),
            {text_value(label): text_value(reason) for label, reason in data["refused"].items()},
            tuple(map(text_value, data["failed"])),
        ),
        data["made_with"],
        tuple(map(text_value, data["changes"])),
    )


def _trainings(
    given: Sequence[Mapping[str, Any]], labels: set[str]
) -> Iterator[tuple[tuple[str, str], Training]]:
    for t in given:
        if t["model"] not in labels or t["arm"] not in (ALONE, JOINT):
            raise ValueError(f"a training of model {short(t['model'])}, arm {short(t['arm'])}")
        if not t["curve"]:
            raise ValueError("a training without a curve")
        reached = None if t["reached"] is None else count_value(t["reached"])
        training = Training(
            count_value(t["seed"]),
            reached,
            count_value(t["steps"]),
            curve_value(t["curve"]),
            curve_value(t["zero_shot"]),
        )
        yield (t["model"], t["arm"]), training


def with_references(probe: Probe, references: Sequence[tuple[Path, Probe]]) -> tuple[Probe, list[str]]:
    """The probe with the references of the same battery, and why others are left out.

    A reference whose name is that of a model that was probed here is left out too.
    """
    models, trainings, notes = list(probe.models), dict(probe.trainings), []
    families = [f.name for f in probe.families]
    for path, other in references:
        if other.battery != probe.battery:
            name, version, digest = other.battery
            notes.append(
                f"{path.name} is of battery {name} version {version} ({digest}), not of this one; its "
                "numbers are not comparable and are left out"
            )
            continue
        for model in other.models:
            if model.label in [m.label for m in models]:
                continue
            models.append(ProbedModel(model.label, model.name, model.twin, model.parameters, reference=True))
            trainings |= {
                key: found
                for key, found in other.trainings.items()
                if key[1] == model.label and key[0] in families
            }
    return dataclasses.replace(probe, models=tuple(models), trainings=trainings), notes
