"""A sweep on a real Slurm of one node, disturbed in every way that a cluster has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hf_lgt.utils.run_lock import RunLock
from tests.conftest import ROOT
from tests.support import slurm_cluster

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(slurm_cluster.lacking()), reason=f"no Slurm: {slurm_cluster.lacking()}"),
]

PATIENCE = 400.0
"""seconds in which anything that is waited for happens, on a machine that does much else"""
SWEEP = """
name: small
config:
  base: {root}/recipes/demo/transfer.yaml
  name: tiny
  model: {{layers: 1, hidden_size: 32, heads: 2, intermediate_size: 64}}
  train: {{steps: 10, batch_size: 16, log_every: 5, eval_every: null, save_every: 5}}
  eval: {{lengths: [1, 9], every: 4, examples: 8}}
arms: [{arms}]
seeds: [0]
slurm: {{runs_per_job: 3, cpus: 1, minutes: 30, setup: [export OMP_WAIT_POLICY=PASSIVE]}}
"""
# long enough to be disturbed three times
LONG = "{name: long, arm: transfer, config: {train: {steps: 400, save_every: 20, keep_last: 3}}}"
SHORT = ", ".join(
    f"{{name: short-{i}, arm: transfer, config: {{train: {{learning_rate: {i}.0e-3}}}}}}"
    for i in range(1, 12)
)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster that the commands of this process find; it is called in the test's own folder."""
    with slurm_cluster.Cluster() as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        # threads of a task, and of the local run that it is compared with
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
        monkeypatch.chdir(tmp_path)
        yield started


def until(reached, what, ended=None):
    """Wait until something holds; in vain once `ended`, an event, is set."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert ended is None or not ended.is_set(), f"the call ended before: {what}"
        assert time.monotonic() < end, f"not reached: {what}"
        time.sleep(0.02)


def steps(run):
    """Steps of a run's checkpoints."""
    return [
        int(path.name.split("-")[1]) for path in run.glob("checkpoints/step-*") if path.name[5:].isdigit()
    ]


def jobs(folder):
    return json.loads((folder / "runs/small/slurm/jobs.json").read_text())["submissions"]


def next_job(cluster):
    """The number that Slurm will give to the next job."""
    return cluster.call("scontrol", "show", "config").split("NEXT_JOB_ID")[1].split()[1]


def disturb(folder, cluster, job, ended):
    """What happens to the first run's jobs while a call waits for them; gives the run and its log."""
    (config,) = folder.glob("runs/small/configs/tiny-long-*.yaml")
    run = folder / "runs" / config.name.removesuffix("-seed-0.yaml") / "seed-0"
    log = folder / "runs/small/logs" / f"{config.stem}.log"
    # it is removed while it trains
    until(lambda: steps(run), "the run has a checkpoint", ended)
    cluster.call("scancel", f"{job}_0")
    until(lambda: len(jobs(folder)) == 2 and jobs(folder)[1]["job"], "the task is submitted again", ended)
    # the node fails, with all that runs on it
    before = max(steps(run))
    until(lambda: max(steps(run)) > before, "it resumes", ended)
    cluster.fail_node()
    cluster.start_node()
    # it gets the signal of its end, as do all of its processes
    before = max(steps(run))
    until(lambda: max(steps(run)) > before, "it resumes again", ended)
    cluster.call("scancel", "--signal=USR2", jobs(folder)[1]["job"])
    until(lambda: log.read_text().count("stopped after step") == 2, "it stops with a checkpoint", ended)
    return run, log


def test_a_sweep_ends_complete_whatever_happens_to_its_jobs(tmp_path, cluster, call_recipe):
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(root=ROOT, arms=f"{LONG}, {SHORT}"))
    arguments = "sweep.yaml", "--executor", "slurm"
    # a call that is stopped leaves its jobs in the queue
    with open(tmp_path / "first.txt", "wb") as file:
        command = [sys.executable, str(ROOT / "recipes" / "sweep.py"), *arguments]
        first = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        until(lambda: "submitted 12 runs in 4 tasks" in (tmp_path / "first.txt").read_text(), "it waits")
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=PATIENCE) == 143
    finally:
        first.kill()
        first.wait()
    job = jobs(tmp_path)[0]["job"]
    assert f"left in the queue: job {job};" in (tmp_path / "first.txt").read_text()
    assert f"'scancel {job}' removes it" in (tmp_path / "first.txt").read_text()
    assert [line.split()[:2] for line in sorted(cluster.queue())] == [[job, str(i)] for i in range(4)]
    # the next one waits for them, whatever happens
    ended = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        disturbed = beside.submit(disturb, tmp_path, cluster, job, ended)
        try:
            done = call_recipe("sweep.py", *arguments)
        finally:
            ended.set()
    run, log = disturbed.result()
    assert done.returncode == 0, done.stderr
    assert f"waiting for 12 runs that are in the queue already (job {job})" in done.stdout
    assert f"job {job}_0 left the queue before 3 of its runs were finished" in done.stdout
    assert log.read_text().count("was interrupted; it resumes from step") == 3
    # all are complete, and only what was removed has been submitted twice
    manifest = json.loads((tmp_path / "runs/small/manifest.json").read_text())
    folders = {entry["folder"] for entry in manifest["runs"]}
    assert len(folders) == 12
    assert all((tmp_path / "runs/small" / folder / "model").is_dir() for folder in folders)
    both = [submission["tasks"] for submission in jobs(tmp_path)]
    assert [len(tasks) for tasks in both] == [4, 1]
    assert both[1] == both[0][:1]
    # a second call starts nothing
    before = next_job(cluster), jobs(tmp_path)
    second = call_recipe("sweep.py", *arguments)
    assert second.returncode == 0
    assert "12 runs, 12 finished" in second.stdout
    assert "0 runs to do" in second.stdout
    assert (next_job(cluster), jobs(tmp_path)) == before
    until(lambda: cluster.queue() == [], "the last job has left the queue")  # it ends a moment after its runs
    # the disturbed run is that of an undisturbed sweep, bit for bit
    (tmp_path / "local.yaml").write_text(SWEEP.format(root=ROOT, arms=LONG))
    local = call_recipe("sweep.py", "local.yaml", "--jobs", 1, f"--output_dir={tmp_path / 'local'}")
    assert local.returncode == 0, local.stderr
    undisturbed = tmp_path / "local" / run.relative_to(tmp_path / "runs")
    for file in ("model/model.safetensors", "eval.jsonl"):
        assert (run / file).read_bytes() == (undisturbed / file).read_bytes(), file


def test_what_cannot_be_done_is_reported_and_not_tried_for_ever(tmp_path, cluster, call_recipe):
    text = SWEEP.format(root=ROOT, arms="transfer")
    # refused by sbatch: nothing is written
    (tmp_path / "sweep.yaml").write_text(text.replace("cpus: 1", "cpus: 1, partition: nowhere"))
    refused = call_recipe("sweep.py", "sweep.yaml", "--executor", "slurm")
    assert refused.returncode == 2
    assert "slurm.partition: sbatch refuses the settings:" in refused.stderr
    assert not (tmp_path / "runs").exists()
    # tasks that end before they do anything: submitted as often as was asked, then told
    (tmp_path / "sweep.yaml").write_text(text.replace("export OMP_WAIT_POLICY=PASSIVE", "exit 3"))
    lost = call_recipe("sweep.py", "sweep.yaml", "--executor", "slurm", "--retries", 1)
    assert lost.returncode == 1
    assert len(jobs(tmp_path)) == 2
    number = jobs(tmp_path)[1]["job"]
    assert f"error: the Slurm job {number} left the queue before this run was finished" in lost.stderr
    # a run that is refused, as one that another process does, is not tried again
    (tmp_path / "sweep.yaml").write_text(text)
    manifest = json.loads((tmp_path / "runs/small/manifest.json").read_text())
    with RunLock.acquire(tmp_path / "runs" / manifest["runs"][0]["id"]):
        mistaken = call_recipe("sweep.py", "sweep.yaml", "--executor", "slurm", "--retries", 3)
    assert mistaken.returncode == 1
    assert len(jobs(tmp_path)) == 3
    assert "is being written by process" in mistaken.stderr
    (log,) = tmp_path.glob("runs/small/logs/*.log")
    assert log.read_text().count("is being written by process") == 1
