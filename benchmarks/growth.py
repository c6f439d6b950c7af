"""How time and memory grow: with length, batch, parameters, tasks, rows of a corpus, and processes.

    python benchmarks/run.py --growth           # writes growth.json and growth.png

Each point is measured in a process of its own on one thread: the median of some training steps, the time
to draw a batch and to evaluate, and how far the resident memory rose above what the imports take.
"""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"
TASKS = ("capitalize_reverse", "capitalize", "reverse", "string_copy", "reverse_add", "no_carry",
         "carry_only", "reverse_subtract")  # fmt: skip


def mixture(tasks: Sequence[str], low: int, high: int) -> str:
    """An override of the mixture, the first task its target."""
    roles = ["target", *["auxiliary"] * (len(tasks) - 1)]
    parts = [{"task": t, "role": r, "lengths": [low, high]} for t, r in zip(tasks, roles, strict=True)]
    return f"mixture={json.dumps(parts)}"


@dataclass(frozen=True)
class Axis:
    """What is varied, and what is measured at each value."""

    label: str
    kind: str
    points: Mapping[int, Sequence[str]]
    """value -> overrides of the demo's config"""
    parts: tuple[str, ...]
    """what of it is drawn"""


def axes(quick: bool) -> dict[str, Axis]:
    """Every axis, by name."""
    few = slice(0, 2) if quick else slice(None)
    sizes = {64: 2, 128: 4, 256: 4, 512: 4}  # hidden size -> heads a layer are of 32
    timed = ("step", "drawing", "evaluation")
    return {
        "length": Axis("digits of reverse_add, batch 32", "train", {
            n: [mixture(["reverse_add"], n, n), "train.batch_size=32", "model.max_positions=2048",
                f"eval.lengths=[{n},{n}]", "eval.examples=64"]
            for n in (8, 16, 32, 64, 128, 256)[few]
        }, timed),
        "batch": Axis("examples of a step, the demo", "train", {
            b: [f"train.batch_size={b}"] for b in (16, 64, 256, 1024)[few]
        }, ("step", "drawing")),
        "width": Axis("hidden size (4 layers, heads of 32), batch 32", "train", {
            h: [f"model.hidden_size={h}", f"model.intermediate_size={4 * h}", f"model.heads={h // 32}",
                "model.layers=4", "train.batch_size=32", "eval.examples=32"]
            for h in [*sizes][few]
        }, ("step", "evaluation")),
        "tasks": Axis("tasks of the mixture, batch 128", "train", {
            k: [mixture(TASKS[:k], 1, 16), "eval.examples=32"] for k in (1, 2, 4, 8)[few]
        }, timed),
        "rows": Axis("rows of a corpus", "corpus", {
            n: [] for n in (2**13, 2**15, 2**17, 2**19, 2**20)[few]
        }, ("building",)),
        "processes": Axis("processes, a thread each, batch 128", "launch", {1: [], 2: []}, ("step",)),
    }  # fmt: skip


def train_point(overrides: Sequence[str], parts: Sequence[str]) -> dict[str, float]:
    """A training's times and memory."""
    from accelerate import Accelerator

    from hf_lgt import load_config
    from hf_lgt.data.build import prepare_data
    from hf_lgt.evaluation.harness import evaluate_tests
    from hf_lgt.training.loop import Loop
    from hf_lgt.training.step import TrainingRun
    from hf_lgt.training.trainer import SingleStep
    from hf_lgt.workflows.setup import make_model

    with tempfile.TemporaryDirectory() as folder:
        config = load_config(RECIPES / "demo/transfer.yaml", [f"output_dir={folder}", *overrides])
        config.run_dir.mkdir(parents=True)
        data = prepare_data(config, None)
        model = make_model(config, None, data.codec)
        before = peak()
        run = TrainingRun(config, model, data.codec, data.source, lambda model, step: None)
        loop = Loop([run], Accelerator(), SingleStep)
        found = {"step": seconds(loop.take_step, 2, 7), "memory": peak() - before}
        if "drawing" in parts:
            found["drawing"] = seconds(lambda: data.source.batch(0), 1, 5)
        if "evaluation" in parts:
            found["evaluation"] = seconds(lambda: evaluate_tests(model, data.tests), 1, 3)
    return found


def corpus_point(rows: int) -> dict[str, float]:
    """A corpus's building."""
    import datasets

    from benchmarks.corpus import strings, with_builder

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        before = peak()
        begun = time.perf_counter()
        with_builder(strings(rows), cache)
        return {"building": time.perf_counter() - begun, "memory": peak() - before}


def launch_point(processes: int) -> dict[str, float]:
    """A training in so many processes, as `accelerate launch` begins it."""
    with tempfile.TemporaryDirectory() as folder:
        config = RECIPES / "accelerate" / ("many_cpus.yaml" if processes > 1 else "one_cpu.yaml")
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
        command += ["--num_processes", str(processes), "--num_cpu_threads_per_process", "1"]
        command += [str(RECIPES / "finetune.py"), f"--output_dir={folder}", "--train.steps=60"]
        command += ["--train.log_every=5", "--train.eval_every=null", "--train.save_every=null"]
        command += ["--eval.examples=4"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        log = Path(folder) / "demo-transfer" / "seed-0" / "train.jsonl"
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    # the first ones include what a process does once
    rates = [line["examples_per_second"] for line in lines[3:]]
    return {"step": 128 / statistics.median(rates)}


def seconds(work: Callable[[], object], warm: int, timed: int) -> float:
    """Median seconds of a call."""
    found = []
    for _ in range(warm + timed):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return statistics.median(found[warm:])


def peak() -> float:
    """MiB of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(quick: bool) -> dict[str, Any]:
    """What growth.json holds."""
    from hf_lgt.utils.environment import describe_environment

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found: dict[str, Any] = {}
    for name, axis in axes(quick).items():
        rows = []
        for value, overrides in axis.points.items():
            call = {"kind": axis.kind, "value": value, "overrides": list(overrides), "parts": axis.parts}
            command = [sys.executable, "-m", "benchmarks.growth", json.dumps(call)]
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", env=environment, cwd=ROOT, check=False
            )
            if done.returncode:
                raise RuntimeError(done.stderr[-4000:])
            rows.append({"value": value, **json.loads(done.stdout.splitlines()[-1])})
            print(name, rows[-1], flush=True)
        keys = [*axis.parts, *(["memory"] if "memory" in rows[0] else [])]
        exponents = {key: exponent(rows[-2:], key) for key in keys}
        found[name] = {"label": axis.label, "rows": rows, "last_exponents": exponents}
    return {"environment": describe_environment("cpu", 1), "axes": found}


def exponent(rows: Sequence[Mapping[str, float]], key: str) -> float | None:
    """By which power a number grows between two values; None where it does not grow from anything."""
    first, last = rows
    if min(first[key], last[key]) <= 0:
        return None
    return math.log(last[key] / first[key]) / math.log(last["value"] / first["value"])


COLORS = {"step": "C0", "drawing": "C2", "evaluation": "C4", "building": "C0", "memory": "C1"}


def draw(measured: Mapping[str, Any], path: Path) -> None:
    """A panel for each axis, logarithmic: seconds on the left, memory on the right."""
    from hf_lgt.report.canvas import empty_figure

    figure = empty_figure(14, 7.5)
    panels = figure.subplots(2, 3)
    for (name, own), panel in zip(measured["axes"].items(), panels.flat, strict=True):
        panel.set_title(name)
        _panel(panel, own)
    figure.savefig(path, dpi=110)


def _panel(panel: Any, own: Mapping[str, Any]) -> None:
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, place: f"{value:g}")
    values = [row["value"] for row in own["rows"]]
    for key in (key for key in own["last_exponents"] if key != "memory"):
        panel.plot(values, [row[key] for row in own["rows"]], "o-", color=COLORS[key], label=key)
    panel.set(xscale="log", yscale="log", xlabel=own["label"], ylabel="seconds")
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, high / 30), high * 3)  # room for the legend, and noise stays small
    panel.set_xticks(values, [f"{value / 1024:g}k" if value > 2000 else str(value) for value in values])
    panel.set_xticks([], minor=True)
    panel.yaxis.set_major_formatter(plain)
    lines, labels = panel.get_legend_handles_labels()
    if "memory" in own["last_exponents"]:
        other = panel.twinx()
        mib = [row["memory"] for row in own["rows"]]
        lines += other.plot(values, mib, "s--", color=COLORS["memory"], label="memory")
        labels.append("memory (right)")
        other.set(yscale="log", ylabel="MiB above the imports", ylim=(10, 3000))
        other.yaxis.set_major_formatter(plain)
    panel.legend(lines, labels, fontsize=8, loc="upper left", ncols=2)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    kinds = {
        "train": lambda: train_point(asked["overrides"], asked["parts"]),
        "corpus": lambda: corpus_point(asked["value"]),
        "launch": lambda: launch_point(asked["value"]),
    }
    print(json.dumps(kinds[asked["kind"]]()))
