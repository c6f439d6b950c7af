"""Runs in processes of their own: which are started, how often, and what is reported of them."""

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from hf_lgt.checkpointing.run_folder import is_finished
from hf_lgt.experiments import launch as running
from hf_lgt.experiments.launch import run_all
from hf_lgt.utils.run_lock import RunLock


@dataclass(frozen=True)
class Job:
    run_dir: Path
    arguments: tuple[str, ...]

    @property
    def run_dirs(self):
        return [self.run_dir]

    @property
    def log(self):
        return f"{self.run_dir.name}.log"

    @property
    def finished(self):
        return is_finished(self.run_dir)


# Takes a run's folder and the statuses of its attempts; counts them in a file, and finishes on a 0.
RECIPE = """
import os, sys
from pathlib import Path
run_dir, statuses = Path(sys.argv[1]), sys.argv[2].split(",")
run_dir.mkdir(exist_ok=True)
attempts = run_dir / "attempts"
done = int(attempts.read_text()) if attempts.exists() else 0
attempts.write_text(str(done + 1))
print("attempt", done + 1, "with", os.environ["OMP_NUM_THREADS"], "threads")
print("parent", os.environ["HF_LGT_PARENT"])
if "CUDA_VISIBLE_DEVICES" in os.environ:
    print("GPU", os.environ["CUDA_VISIBLE_DEVICES"])
status = int(statuses[done])
if status == 0:
    (run_dir / "model").mkdir()
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@pytest.fixture
def runs(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)

    def call(retries=0, jobs=2, **statuses):
        planned = [Job(tmp_path / name, (str(tmp_path / name), text)) for name, text in statuses.items()]
        told = {}
        failed = run_all(
            planned, (sys.executable, str(recipe)), tmp_path / "logs", jobs,
            lambda job, well: told.__setitem__(job.run_dir.name, well), retries=retries,
        )  # fmt: skip
        counted = {
            job.run_dir.name: int((job.run_dir / "attempts").read_text())
            for job in planned
            if (job.run_dir / "attempts").exists()
        }
        return counted, told, {job.run_dir.name: log for job, log in failed}

    return call


def test_a_finished_run_is_not_started(runs, tmp_path):
    (tmp_path / "a" / "model").mkdir(parents=True)
    counted, told, failed = runs(a="0", b="0")
    assert counted == {"b": 1}
    assert told == {"b": True}
    assert failed == {}


@pytest.mark.parametrize(
    ("statuses", "retries", "attempts", "well"),
    [
        ("1,0", 1, 2, True),
        ("-9,0", 1, 2, True),  # as the kernel does where memory runs out
        ("1,1,0", 1, 2, False),
        ("1,1,0", 2, 3, True),
        ("1,0", 0, 1, False),
        ("2,0", 5, 1, False),  # a user's mistake stays one
    ],
)
def test_a_failed_run_is_tried_again_as_often_as_was_asked(runs, statuses, retries, attempts, well):
    counted, told, failed = runs(retries, a=statuses)
    assert counted == {"a": attempts}
    assert told == {"a": well}
    assert set(failed) == (set() if well else {"a"})


@pytest.mark.parametrize("given", ["many", "0", "-1", "", "9" * 5000])
def test_cores_of_a_cluster_that_are_no_number_do_not_count(runs, monkeypatch, given):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    assert runs(a="0")[1] == {"a": True}


def test_a_run_that_another_sweep_finished_meanwhile_is_no_failure(runs, tmp_path):
    """The second run finishes the first one's while that waits for its turn; then it is refused."""
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "import sys\nfrom pathlib import Path\nif sys.argv[2] == 'b':\n    sys.exit(2)\n"
        "for name in 'ab':\n    (Path(sys.argv[1]).parent / name / 'model').mkdir(parents=True)\n"
    )
    told = {}
    planned = [Job(tmp_path / name, (str(tmp_path / name), name)) for name in "ab"]
    failed = run_all(
        planned,
        (sys.executable, str(recipe)),
        tmp_path / "logs",
        1,
        lambda job, well: told.update({job.log: well}),
    )
    assert failed == []
    assert told == {"a.log": True, "b.log": True}


def test_one_failure_does_not_keep_the_others(runs):
    counted, told, failed = runs(a="1", b="0", c="2", d="0")
    assert counted == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert told == {"a": False, "b": True, "c": False, "d": True}
    assert {name: log.name for name, log in failed.items()} == {"a": "a.log", "c": "c.log"}


def test_a_log_keeps_every_attempt(runs, tmp_path):
    runs(1, a="1,0")
    lines = (tmp_path / "logs" / "a.log").read_text().splitlines()
    assert [line.split(" with ")[0] for line in lines[::2]] == ["attempt 1", "attempt 2"]
    assert set(lines[1::2]) == {f"parent {os.getpid()}"}, "without which they end"


def test_a_run_that_an_earlier_command_is_still_stopping_is_waited_for(tmp_path, monkeypatch, news):
    (tmp_path / "recipe.py").write_text(RECIPE)
    command = (sys.executable, str(tmp_path / "recipe.py"))
    job, told = Job(tmp_path / "a", (str(tmp_path / "a"), "2,0")), {}
    with RunLock.acquire(job.run_dir):
        monkeypatch.setattr(running, "PATIENCE", 0.1)
        assert run_all(
            [job], (sys.executable, str(tmp_path / "recipe.py")), tmp_path / "logs", 1, told.__setitem__
        )
    monkeypatch.setattr(running, "PATIENCE", 60.0)
    lock = RunLock.acquire(job.run_dir)
    given_back = threading.Timer(0.8, lock.release)
    given_back.start()
    run_all([job], command, tmp_path / "logs", 1, told.__setitem__)
    assert not given_back.is_alive()
    assert told == {job: True}
    assert news == 2 * [f"waiting for {lock.mine}, which is writing {job.run_dir}"]


def test_the_users_number_of_threads_is_kept(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    runs(a="0")
    assert "with 7 threads" in (tmp_path / "logs" / "a.log").read_text()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    runs(jobs=1000, b="0", c="0", d="0", e="0")
    assert "with 1 threads" in (tmp_path / "logs" / "b.log").read_text(), "never less than one"


def test_runs_are_those_of_this_interpreter_and_of_the_installed_package():
    assert (sys.executable, "-m", "hf_lgt", "finetune") == running.FINETUNE


def test_no_more_threads_than_slurm_gave_the_task(runs, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    runs(jobs=2, a="0", b="0", c="0")
    assert "with 3 threads" in (tmp_path / "logs" / "a.log").read_text()


def test_the_cores_are_shared_among_the_runs_that_there_are(runs, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)))
    runs(jobs=12, a="0", b="0")
    assert "with 6 threads" in (tmp_path / "logs" / "a.log").read_text()


@pytest.mark.parametrize(
    ("visible", "names"), [(None, {"0", "1", "2"}), ("1, GPU-7", {"1", "GPU-7"})], ids=["all", "some"]
)
def test_each_run_has_a_gpu_of_its_own_where_there_are_several(runs, tmp_path, monkeypatch, visible, names):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(names))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert running.usual_jobs() == len(names)
    runs(jobs=len(names), **{f"run{i}": "0" for i in range(len(names))})
    used = [log.read_text().split("GPU ")[1].strip() for log in (tmp_path / "logs").iterdir()]
    assert sorted(used) == sorted(names)


def test_a_failed_run_gives_its_gpu_back(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    _, told, _ = runs(retries=1, jobs=1, a="1,0", b="1,1", c="0")
    assert told == {"a": True, "b": False, "c": True}
    assert "GPU 0" in (tmp_path / "logs/c.log").read_text()
