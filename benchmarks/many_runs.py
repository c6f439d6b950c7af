"""Many small runs: trained together, their weights stacked, and each in a process of its own.

Whole sweeps by `recipes/sweep.py`, from the command to the last table, on all cores: once with ``--together``
and once without. And steps alone, in one process and on one thread, at several batch sizes and layouts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from benchmarks.sides import OURS, Comparison, alternate
from benchmarks.training import RECIPES
from hf_lgt import load_config
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.codec import Codec
from hf_lgt.models.build import build_model
from hf_lgt.training.loop import Loop
from hf_lgt.training.stacked_trainer import StackedStep
from hf_lgt.training.step import TrainingRun
from hf_lgt.training.trainer import SingleStep

RUNS, STEPS, BATCH = 8, 200, 32
ALONE = "one process a run"
SWEEP = """
name: many
config: {{base: {base}, name: many, train: {{steps: {steps}, batch_size: {batch}, eval_every: null,
         save_every: null, layout: packed}}, eval: {{examples: 32}}}}
arms: [transfer]
seeds: [{seeds}]
"""


def count(quick: bool) -> int:
    """Runs of a sweep."""
    return 4 if quick else RUNS


def compare(quick: bool) -> Comparison:
    """Whole sweeps."""
    runs, steps, rounds = count(quick), 20 if quick else STEPS, 1 if quick else 5
    sides = {
        OURS: lambda: sweep(runs, steps, "--together", str(runs // 2)),
        ALONE: lambda: sweep(runs, steps),
    }
    name = f"a sweep of {runs} runs of {steps} steps, batch {BATCH}"
    return alternate(name, sides, rounds, note=f"{runs // 2} runs a process, a process a core")


def sweep(runs: int, steps: int, *options: str) -> float:
    """Seconds of a whole sweep."""
    seeds = ", ".join(map(str, range(runs)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.yaml"
        base = RECIPES / "demo" / "transfer.yaml"
        file.write_text(SWEEP.format(base=base, steps=steps, batch=BATCH, seeds=seeds), encoding="utf-8")
        command = [sys.executable, str(RECIPES / "sweep.py"), str(file), f"--output_dir={folder}/runs"]
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, *options], capture_output=True, encoding="utf-8", env=environment, check=False
        )
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
    return seconds


@contextmanager
def one_thread() -> Iterator[None]:
    """As each of several processes has, of which every core has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def steps(quick: bool) -> list[Comparison]:
    """A step of each of some runs."""
    found = []
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        for layout in ("padded", "packed"):
            for batch in (32,) if quick else (16, 32, 128):
                found.append(_steps(Path(folder), batch, layout, 1 if quick else 5))
    return found


def _steps(folder: Path, batch: int, layout: str, rounds: int) -> Comparison:
    codec = Codec.build()
    settings = [f"output_dir={folder}", f"train.batch_size={batch}", f"train.layout={layout}"]
    configs = [
        load_config(RECIPES / "demo" / "transfer.yaml", [*settings, f"seed.init={seed}"])
        for seed in range(RUNS)
    ]
    source = GeneratedSource(configs[0].build_mixture(), codec, batch_size=batch, seed=0)
    models = [build_model(config.model, codec, config.seed.init) for config in configs]

    def nothing(model: object, step: int) -> None:
        pass

    def alone() -> float:
        run = TrainingRun(configs[0], models[0], codec, source, nothing)
        return _seconds(Loop([run], Accelerator(), SingleStep), 16)

    def together() -> float:
        both = zip(configs, models, strict=True)
        runs = [TrainingRun(config, model, codec, source, nothing) for config, model in both]
        return _seconds(Loop(runs, Accelerator(), StackedStep), 8) / RUNS

    for config in configs:
        config.run_dir.mkdir(parents=True, exist_ok=True)
    name = f"a step of one of {RUNS} runs, batch {batch}, {layout}"
    return alternate(name, {OURS: together, ALONE: alone}, rounds, note="one thread")


def _seconds(loop: Loop, count: int) -> float:
    """Mean seconds of some steps, after two that are not counted."""
    for _ in range(2):
        loop.take_step()
    begun = time.perf_counter()
    for _ in range(count):
        loop.take_step()
    return (time.perf_counter() - begun) / count
