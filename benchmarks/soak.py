"""A long run of the demo's model: does memory stay flat, and does every line of the logs parse?

`python benchmarks/soak.py`: 20,000 steps, about half an hour on one core. Writes soak.json and soak.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from hf_lgt.evaluation.records import read_records
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.progress import bar

HERE = Path(__file__).parent
MIB = 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=20_000)
    arguments.add_argument("--every", type=float, default=2.0, help="seconds between two looks at the memory")
    arguments.add_argument("--output", type=Path, default=HERE / "soak.json")
    known = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples, seconds = run(Path(folder), known.steps, known.every)
        run_dir = Path(folder) / "soak/seed-0"
        logs = {name: count(run_dir / name) for name in ("train.jsonl", "eval.jsonl")}
    result = summary(samples, known.steps) | {
        "seconds": round(seconds),
        "log_lines": logs,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
    }
    draw(samples, known.output.with_suffix(".png"))
    write_text(known.output, json.dumps(result | {"samples": samples}) + "\n")
    print(json.dumps(result, indent=1))


def run(folder: Path, steps: int, every: float) -> tuple[list[tuple[int, float]], float]:
    """Train; gives (step, resident MiB) of each look, and the seconds that it took."""
    options = {"name": "soak", "output_dir": folder, "train.steps": steps, "train.save_every": 1000}
    options |= {"train.keep_last": 2, "train.eval_every": 1000, "eval.examples": 128}
    recipe = HERE.parent / "recipes/finetune.py"
    words = [f"--{key}={value}" for key, value in options.items()]
    log, samples = folder / "soak/seed-0/train.jsonl", []
    began = time.perf_counter()
    with (
        open(folder / "out.txt", "w", encoding="utf-8") as out,
        bar(total=steps, unit="step", desc="soak") as shown,
    ):
        child = subprocess.Popen(
            [sys.executable, str(recipe), *words],
            stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        memory = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                samples.append((step_of(log), round(memory.memory_info().rss / MIB, 2)))
            except psutil.Error:
                break  # it has just ended
            shown.update(samples[-1][0] - shown.n)
            time.sleep(every)
    if child.wait():
        raise SystemExit((folder / "out.txt").read_text(encoding="utf-8")[-2000:])
    return samples, time.perf_counter() - began


def step_of(log: Path) -> int:
    """The last step that is logged."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def count(log: Path) -> int:
    """Lines of a log, each of which must parse."""
    if log.name == "eval.jsonl":
        return len(read_records(log))
    return len([json.loads(line)["loss"] for line in log.read_text(encoding="utf-8").splitlines()])


def summary(samples: list[tuple[int, float]], steps: int) -> dict[str, object]:
    """Resident memory after the first 1,000 steps, in MiB."""
    step, memory = np.array([s for s in samples if 1000 <= s[0] < steps]).T
    tenth = max(1, len(memory) // 10)
    return {
        "steps": steps,
        "looks": len(memory),
        "first_tenth_median_mib": round(float(np.median(memory[:tenth])), 1),
        "last_tenth_median_mib": round(float(np.median(memory[-tenth:])), 1),
        "least_mib": float(memory.min()),
        "most_mib": float(memory.max()),
        "slope_mib_per_1000_steps": round(float(np.polyfit(step, memory, 1)[0] * 1000), 3),
    }


def draw(samples: list[tuple[int, float]], path: Path) -> None:
    from hf_lgt.report.canvas import empty_figure

    figure = empty_figure(7, 3)
    axes = figure.subplots()
    axes.plot(*np.array(samples).T, linewidth=1)
    axes.set(xlabel="step", ylabel="resident memory, MiB", ylim=(0, None), title="Memory of a long run")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
