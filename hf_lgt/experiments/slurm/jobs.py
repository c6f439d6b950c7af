"""The jobs of a sweep: what was submitted, how it is submitted, and what of it is in the queue."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.reading import read_json
from data_builders.texts import line
from hf_lgt.experiments.slurm.settings import COMMAND_SECONDS, SlurmSettings, sbatch_refusal
from hf_lgt.experiments.slurm.worker import SlurmTask, Worker
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.errors import ConfigError, RunError

FOLDER = "slurm"
"""folder below a sweep's, with what was submitted, and submitit's files"""
FORMAT = 1
MOST_TASKS = 1000
"""tasks of an array; Slurm takes 1001 unless its MaxArraySize says otherwise"""
MOST_TIMEOUTS = 10_000
"""times that submitit queues a task again; `worker.MOST_FRUITLESS` ends what gets nowhere"""

Place = tuple[str, int]
"""a task: name of its array, and index"""


@dataclass(frozen=True)
class Submission:
    """An array of tasks."""

    name: str
    job: str
    """Slurm's number, empty where the process that submitted it ended before it knew"""
    tasks: tuple[tuple[str, ...], ...]
    """ids of each task's runs"""


class Jobs:
    """What was submitted for a sweep, in a file that is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FOLDER / "jobs.json"
        self.all: dict[str, Submission] = {}
        """name -> submission"""
        try:
            data: Any = read_json(self.path)
            if data["format"] != FORMAT:
                raise ValueError(data["format"])
            for item in data["submissions"]:
                tasks = tuple(tuple(map(str, runs)) for runs in item["tasks"])
                self.all[item["name"]] = Submission(str(item["name"]), str(item["job"]), tasks)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                [f"{self.path} is not what a sweep writes; remove it once none of its jobs is in the queue"]
            ) from None

    def note(self, submission: Submission) -> None:
        """Add a submission, or replace what is known of it."""
        self.all[submission.name] = submission
        items = [{"name": s.name, "job": s.job, "tasks": s.tasks} for s in self.all.values()]
        write_text(self.path, json.dumps({"format": FORMAT, "submissions": items}, indent=1) + "\n")

    def runs(self, place: Place) -> tuple[str, ...]:
        """Ids of a task's runs, none where this is no task of the sweep."""
        submission = self.all.get(place[0])
        return submission.tasks[place[1]] if submission and place[1] < len(submission.tasks) else ()


def submit(tasks: Sequence[SlurmTask], name: str, folder: Path, settings: SlurmSettings) -> str:
    """Submit tasks as one array.

    Args:
        tasks: at most `MOST_TASKS`.
        name: of the jobs.
        folder: for submitit's files.
        settings: what each task gets.

    Returns:
        Slurm's number.

    Raises:
        ConfigError: it takes no job with these settings.
        RunError: it takes none now.
    """
    import submitit

    folder.mkdir(parents=True, exist_ok=True)
    with _no_job_of_its_own():
        executor = submitit.SlurmExecutor(folder, max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(
            job_name=name,
            time=settings.minutes,
            array_parallelism=settings.parallel,
            signal_delay_s=settings.grace,
            setup=settings.setup or None,
            # a step does not get all cores of its job by itself
            srun_args=[f"--cpus-per-task={settings.cpus}"],
            additional_parameters={**settings.options, "requeue": True},
        )
        try:
            jobs = executor.submit_array([Worker(task) for task in tasks])
        except submitit.core.utils.FailedJobError as error:
            if told := sbatch_refusal(str(error)):
                raise ConfigError([told]) from None
            raise RunError(f"sbatch: {line(str(error))}; fix this, then rerun the same command") from None
    return jobs[0].job_id.split("_")[0]


@contextmanager
def _no_job_of_its_own() -> Iterator[None]:
    """Hide that this process may itself be part of a job, which what it submits would inherit."""
    hidden = re.compile("(SLURM|SLURMD|SRUN|SUBMITIT)_")
    taken = {key: value for key, value in os.environ.items() if hidden.match(key) and key != "SLURM_CONF"}
    if "SLURM_JOB_ID" not in taken:
        taken = {}
    for key in taken:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(taken)


def queued() -> dict[Place, tuple[str, str]] | None:
    """All of this user's tasks that wait or run: their states and jobs; None where Slurm gives no answer."""
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%F %K %T %j"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found = {}
    for row in done.stdout.splitlines():
        job, index, state, name = row.split(" ", 3)
        # a task alone is no array
        found[name, int(index) if index.isdecimal() else 0] = state, job
    return found
