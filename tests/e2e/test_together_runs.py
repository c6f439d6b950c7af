"""Several runs in one process, by finetune.py, sweep.py and compare.py."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hf_lgt import load_config
from hf_lgt.checkpointing.checkpoints import list_checkpoints
from tests.conftest import ROOT, TINY
from tests.e2e.test_sweep import sweep  # noqa: F401  # a fixture
from tests.integration.workflows.test_train import same_numbers, timeless

DEMO = ROOT / "recipes/demo/transfer.yaml"


def options(out, *more):
    return [f"--{setting}" for setting in [*TINY, f"output_dir={out}", *more]]


def test_seeds_are_trained_together(call_recipe, tmp_path):
    done = call_recipe("finetune.py", "--seeds", "0,1", *options(tmp_path))
    assert (done.returncode, done.stderr.count("error")) == (0, 0)
    for seed in (0, 1):
        run_dir = tmp_path / "tiny" / f"seed-{seed}"
        assert str(run_dir) in done.stdout
        assert load_config(run_dir / "config.yaml").seed.init == seed
        assert len(timeless(run_dir)) == 4
    again = call_recipe("finetune.py", "--seeds", "0,1", *options(tmp_path))
    results = done.stdout[done.stdout.index(f"\n{tmp_path}") :]  # without what is said before a training
    assert (again.returncode, again.stdout) == (0, results), "finished runs are kept and shown"


@pytest.mark.real_processes
def test_a_sweep_trains_runs_together(sweep, tmp_path):  # noqa: F811
    done = sweep("--jobs", 1, "--together", 2)
    assert (done.returncode, done.stderr.count("error:")) == (0, 0)
    folder = tmp_path / "runs" / "small"
    logs = sorted(path.name for path in (folder / "logs").iterdir())
    assert len(logs) == 2, "the two learning rates are two shapes, each of two arms"
    assert all(name.endswith("-and-1-more.log") for name in logs)
    cells = json.loads((folder / "sweep.json").read_text())["cells"]
    assert len(cells) == 4
    more = sweep("--jobs", 1, "--together", 8)
    assert "4 runs, 4 finished" in more.stdout


def test_a_comparison_trains_its_seeds_together(call_recipe, tmp_path):
    (tmp_path / "compare.yaml").write_text(
        f"name: both\narms: [{DEMO}, {DEMO.parent / 'target_alone.yaml'}]\nseeds: [0, 1]\n"
    )
    settings = [o for o in options(tmp_path / "runs") if not o.startswith("--name")]
    done = call_recipe("compare.py", tmp_path, *settings, "--together", 4, "--jobs", 1)
    assert (done.returncode, done.stderr.count("error:")) == (0, 0)
    assert [path.name for path in (tmp_path / "runs/both/logs").iterdir()] == [
        "transfer-seed-0-and-3-more.log"
    ]
    finished = sorted(path.parent.parent.name for path in (tmp_path / "runs").glob("*/seed-*/model"))
    assert finished == ["demo-target-alone"] * 2 + ["demo-transfer"] * 2


@pytest.mark.parametrize(
    ("recipe", "arguments", "told"),
    [
        ("finetune.py", ["--seeds", "0,1", "--push_to_hub", "a/b"], "--push_to_hub: is for one run"),
        ("finetune.py", ["--seeds", "0,1", "--resume", "x"], "--resume: x is for one run"),
        ("finetune.py", ["--seeds", "0,0"], "--seeds"),
        ("finetune.py", ["--seeds", "0,1", "--seed.init", "3"], "seed.init: is set by --seeds too"),
        ("finetune.py", ["--seeds", "0,1", "--train.compile", "true"], "train.compile: true is not for runs"),
        ("finetune.py", ["--config", DEMO, DEMO], "name: 2 runs have the folder"),
        ("finetune.py", ["--config", DEMO, "no.yaml"], "no.yaml"),
        ("finetune.py", ["--config", DEMO, "--config", DEMO], "name: 2 runs have the folder"),
        ("sweep.py", [ROOT / "recipes/controls/cpu.yaml", "--together", "2", "--executor", "slurm"],
         "--together: 2 is for --executor local"),
        ("sweep.py", [ROOT / "recipes/controls/cpu.yaml", "--together", "0"], "must be an integer >= 1"),
        ("compare.py", [ROOT / "recipes/demo", "--together", "2", "--train.precision", "fp16"],
         "--together: train.precision: 'fp16' is not for runs"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_reported_and_nothing_is_written(
    call_recipe, tmp_path, recipe, arguments, told
):
    done = call_recipe(recipe, *arguments, f"--output_dir={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_runs_that_are_stopped_go_on_to_the_same_bits(call_recipe, tmp_path):
    settings = ["train.steps=400", "train.save_every=null", "train.eval_every=null", "eval.examples=8"]
    whole, stopped = (options(tmp_path / name, *settings) for name in ("whole", "stopped"))
    assert call_recipe("finetune.py", "--seeds", "0,1", *whole).returncode == 0
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "recipes/finetune.py"), "--seeds", "0,1", *stopped],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    log = tmp_path / "stopped/tiny/seed-1/train.jsonl"
    for _ in range(600):
        if log.is_file() and log.stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert "with a checkpoint of each run; the same command resumes them" in told
    runs = [tmp_path / "stopped/tiny" / f"seed-{seed}" for seed in (0, 1)]
    steps = [[step for step, _ in list_checkpoints(run)] for run in runs]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 1
    again = call_recipe("finetune.py", "--seeds", "0,1", *stopped)
    assert again.returncode == 0
    assert f"resumes from step {steps[0][0]}" in again.stdout
    for run in runs:
        assert same_numbers(run, tmp_path / "whole/tiny" / run.name)
