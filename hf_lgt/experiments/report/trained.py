"""What was trained, in words: models, tasks, training, software, of one run or of many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_builders.reading import open_regular
from hf_lgt.checkpointing.run_folder import recorded, recorded_checkpoint, recorded_data
from hf_lgt.config.schema import ComponentConfig, Config
from hf_lgt.evaluation.curves import curve
from hf_lgt.evaluation.records import LARGEST
from hf_lgt.experiments.manifest import grouped
from hf_lgt.experiments.report.experiments import Experiment, Run
from hf_lgt.report.blocks import Row, Table, Value
from hf_lgt.report.model_card import on_hub

MOST_KINDS = 5
"""of values that differ between the runs of an experiment, listed one by one"""
LONGEST_HEAD = 100_000_000
"""bytes, as safetensors itself has it"""
SOFTWARE = ("hf-lgt", "torch", "transformers", "accelerate", "datasets", "peft", "numpy")


def facts(experiment: Experiment) -> list[tuple[str, list[str]]]:
    """(what, its values) of an experiment, several where its runs differ."""
    begun = [(run, run.config) for run in experiment.runs if run.config is not None]
    runs = [run for run, _ in begun]
    configs = [config for _, config in begun]
    environments = [recorded(run.run_dir, "environment.json") for run in runs]
    models = []
    sizes: dict[str, int | None] = {}
    for run, config in begun:
        words = model_words(config, recorded_checkpoint(run.run_dir))
        if sizes.get(words) is None:
            sizes[words] = parameters(run.run_dir)
        models.append(words)
    told = [f"{words}, {_count(size)} parameters" if (size := sizes[words]) else words for words in models]
    seeds = sorted({entry.seed for run in experiment.runs for entry in run.entries})
    data_seeds = sorted({config.seed.data for config in configs})
    made = [
        ("Model", told),
        ("Training", [training_words(config) for config in configs]),
        ("Seeds", [f"initialisation {number_ranges(seeds)}; data {number_ranges(data_seeds)}"]),
        ("Data", [_data_words(config, recorded_data(run.run_dir)) for run, config in begun]),
        ("Evaluation", [evaluation_words(config) for config in configs]),
        ("Device", [_device_words(environment) for environment in environments]),
        ("Software", [_software_words(environment) for environment in environments]),
        ("Code", [_code_words(environment) for environment in environments]),
    ]
    return [(what, values) for what, each in made if (values := _kinds(each))]


def _kinds(values: Iterable[str]) -> list[str]:
    """Each value once with how many runs have it, the most frequent first; no count where all agree."""
    counts = Counter(value for value in values if value)
    if len(counts) == 1:
        return list(counts)
    listed = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{value} ({_runs(count)})" for value, count in listed[:MOST_KINDS]]
    rest = listed[MOST_KINDS:]
    return shown + ([f"… and {len(rest)} more kinds, see the runs' configs"] if rest else [])


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def settings_table(experiment: Experiment) -> Table:
    """A row a setting: its tasks with their training lengths, steps, and how many seeds are finished."""
    manifest = experiment.manifest
    places = [(entry.cell, run) for run in experiment.runs for entry in run.entries]
    rows = []
    for (group, arm, point, checkpoint), own in grouped(places, lambda place: place[0]).items():
        runs = [run for _, run in own]
        config = next((run.config for run in runs if run.config), None)
        values: list[Value] = [group, arm, *(dict(point).get(axis, "") for axis in manifest.axes), checkpoint]
        for role in ("target", "auxiliary"):
            words = [task_words(c) for c in config.mixture if c.role == role] if config else []
            values.append("; ".join(words) or None)
        values += [config.train.steps if config else None, sum(run.result is not None for run in runs)]
        values.append(len(runs))
        rows.append(Row(tuple(values), tuple(run.id for run in runs if run.config)))
    headers = ("group", "arm", *manifest.axes, "checkpoint", "target", "auxiliaries", "steps")
    headers += ("finished", "planned")
    return Table("settings", "Settings, each trained once for every seed", headers, tuple(rows))


def task_words(component: ComponentConfig) -> str:
    """A task with its training lengths and options."""
    low, high = component.lengths
    more = [f"{key} {_option(value)}" for key, value in component.options.items()]
    if component.weight != 1:
        more.append(f"weight {component.weight:g}")
    return f"{component.task} {low}–{high}" + (f" ({', '.join(more)})" if more else "")


def _option(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def model_words(config: Config, base: Mapping[str, Any]) -> str:
    """What kind of model it is, without its number of parameters.

    Args:
        config: of the run.
        base: what it recorded of the checkpoint that it began with, empty for a model trained from scratch.
    """
    model = config.model
    if model.name_or_path is None:
        words = f"{model.architecture}, {model.layers} layer{'s' if model.layers != 1 else ''}"
        words += f", hidden size {model.hidden_size}, {model.heads} head{'s' if model.heads != 1 else ''}"
        return f"{words}, positions {model.positions}"
    # a folder of somebody's disk is named by its own name alone
    name = model.name_or_path if base.get("on_hub") else Path(model.name_or_path).name
    words = name + (f" at {model.revision}" if model.revision else "")
    words += ", random weights" if model.init == "random" else ""
    return words + (", low-rank adapters" if config.peft.method == "lora" else "")


def parameters(run_dir: Path) -> int | None:
    """How many numbers a run's model has, from the heads of its files; None where it has none (yet)."""
    total = 0
    for path in sorted((run_dir / "model").glob("*.safetensors")):
        try:
            with open_regular(path) as file:
                head: Any = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), LONGEST_HEAD)))
            total += sum(_size(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None  # it is the model's loader that tells of damaged weights
    return total or None


def _size(shape: Any) -> int:
    """Numbers of a tensor, as the head of its file says.

    Raises:
        ValueError: it says nothing that can be.
    """
    size = 1
    for width in shape:
        if type(width) is not int or not 0 <= width <= LARGEST:
            raise ValueError("no width of a tensor")
        size *= width
        if size > LARGEST:
            raise ValueError("larger than any file")
    return size


def _count(number: int) -> str:
    """All digits of a small number, three of a large one."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:,}"


def training_words(config: Config) -> str:
    """Steps, batch, learning rate, precision."""
    t = config.train
    words = f"{t.steps:,} steps of {t.batch_size} examples, learning rate {t.learning_rate:g}"
    return words + ("" if t.precision == "no" else f", {t.precision}")


def _data_words(config: Config, data: Mapping[str, Any]) -> str:
    if config.data.source == "generated":
        return "generated on the fly"
    path = str(config.data.path)
    if on_hub(data):
        return f"{path} at revision {_text(data['revision'])}"
    return f"local dataset {Path(path).name}"


def evaluation_words(config: Config) -> str:
    """Which lengths are tested, on how many examples, how often."""
    low, high = config.eval.lengths
    often = f"every {config.train.eval_every:,} steps" if config.train.eval_every else "at the end"
    return f"lengths {low}–{high}, {config.eval.examples} examples a length, {often}"


def _device_words(environment: Mapping[str, Any]) -> str:
    device, name = _text(environment.get("device")), _text(environment.get("device_name"))
    words = " ".join(word for word in (device, f"({name})" if name else "") if word)
    for key, told in (("processes", "{} processes"), ("runs_together", "{} runs in one process")):
        count = environment.get(key)
        words += ", " + told.format(count) if type(count) is int and count > 1 else ""
    return words


def _software_words(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages")
    words = [f"Python {environment['python']}"] if isinstance(environment.get("python"), str) else []
    if isinstance(packages, dict):
        words += [f"{name} {packages[name]}" for name in SOFTWARE if isinstance(packages.get(name), str)]
    return ", ".join(words)


def _code_words(environment: Mapping[str, Any]) -> str:
    commit, _, changes = _text(environment.get("git_commit")).partition("+")
    return f"commit {commit[:12]}" + (" with changes" if changes else "") if commit else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number_ranges(numbers: Sequence[int]) -> str:
    """``0–4, 7`` of sorted integers."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in parts)


def result_lines(run: Run) -> list[tuple[str, str]]:
    """(task, exact match by length) of a run's last evaluation: neighbours with one value together."""
    assert run.config is not None
    lines = []
    for component in run.config.mixture:
        points = curve(run.records, component.task)
        if points:
            name = f"{component.task} ({component.role}, ≤ {component.lengths[1]})"
            lines.append((name, _steps(points)))
    return lines


def _steps(points: Mapping[int, float]) -> str:
    parts: list[tuple[int, int, str]] = []
    for length, value in points.items():
        text = f"{value:.3f}"
        if parts and parts[-1][2] == text:
            parts[-1] = (parts[-1][0], length, text)
        else:
            parts.append((length, length, text))
    return "; ".join(f"{a if a == b else f'{a}–{b}'}: {text}" for a, b, text in parts)
