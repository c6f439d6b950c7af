"""What a Slurm task does: its runs, each in its own process, until they are finished or it must stop.

The task's own process is submitit's, which gets the signal some time before the task's end. It hands the runs
to a process below it, in which that signal is blocked: Slurm sends it to every process of the task, and a run
would die of it rather than write its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_lgt.checkpointing.run_folder import is_finished
from hf_lgt.experiments.launch import FINETUNE, run_all
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.signals import Interrupted
from hf_lgt.utils.streams import make_tolerant

MOST_FRUITLESS = 3
"""times in a row that a task is queued again although no run got to another checkpoint"""


@dataclass(frozen=True)
class TaskRun:
    """A run of a task, see `hf_lgt.experiments.launch.Job`."""

    id: str
    run_dir: Path
    arguments: tuple[str, ...]
    log: str

    @property
    def run_dirs(self) -> tuple[Path, ...]:
        """The run's folder."""
        return (self.run_dir,)

    @property
    def finished(self) -> bool:
        """Whether it is."""
        return is_finished(self.run_dir)


@dataclass(frozen=True)
class SlurmTask:
    """What a task does; paths are relative to `place`."""

    runs: tuple[TaskRun, ...]
    place: Path
    """the directory in which the sweep was called"""
    logs: Path
    report: Path
    """file that is written when no run is left to do: the ids of those that failed"""
    at_a_time: int
    retries: int

    def to_json(self) -> str:
        """As text, for `main`."""
        return json.dumps(dataclasses.asdict(self), default=str)


class Worker:
    """Callable that submitit runs as a task, and on the signal queues again.

    Args:
        task: what it does; runs that are finished are skipped.
        fruitless: how often in a row it was queued again without any progress.
    """

    def __init__(self, task: SlurmTask, fruitless: int = 0) -> None:
        self.task = task
        self.fruitless = fruitless
        self._before: list[Any] = []
        self._child: subprocess.Popen[str] | None = None

    def __call__(self) -> None:
        os.chdir(self.task.place)
        self._before = self._progress()
        number = _signal_of_the_end()
        # blocked while the child starts, which inherits that; none is lost: it comes right after
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        try:
            command = [sys.executable, "-m", __name__]
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, encoding="utf-8")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        assert self._child.stdin
        with suppress(BrokenPipeError), self._child.stdin as pipe:
            pipe.write(self.task.to_json())
        self._wait()
        code = self._child.wait()
        if code == 0:
            return
        if code != 128 + signal.SIGTERM:
            raise RuntimeError(f"the runs of this task ended with status {code}")
        if _still_runs():
            # stopped, but not by the end of the job: a scheduler that preempts, or a hand
            os.kill(os.getpid(), number)
        sys.exit(code)

    def checkpoint(self) -> Any:
        """Stop the runs, each with a checkpoint.

        Returns:
            What submitit queues in the place of this task, None where that would lead nowhere.
        """
        import submitit

        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.terminate()
            self._wait()
        fruitless = 0 if self._progress() != self._before else self.fruitless + 1
        if fruitless > MOST_FRUITLESS:
            sys.stderr.write(f"ended {fruitless} times in a row before any run wrote another checkpoint\n")
            return None
        return submitit.helpers.DelayedSubmission(Worker(self.task, fruitless))

    def _wait(self) -> None:
        """Wait for the child; also within a signal's handler that came while waiting."""
        assert self._child
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)

    def _progress(self) -> list[Any]:
        """Differs once a run has got further."""
        checkpoints = [run.run_dir / "checkpoints" for run in self.task.runs]
        return [
            (is_finished(run.run_dir), sorted(p.name for p in folder.iterdir()) if folder.is_dir() else [])
            for run, folder in zip(self.task.runs, checkpoints, strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"task": self.task, "fruitless": self.fruitless, "_before": [], "_child": None}


def _signal_of_the_end() -> signal.Signals:
    import submitit

    return signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]


def _still_runs() -> bool:
    """Whether Slurm means this job to continue; one that is cancelled or queued again already is not."""
    job = os.environ.get("SLURM_JOB_ID", "")
    asked = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(asked, capture_output=True, timeout=20).stdout.strip() == b"RUNNING"
    return False


def main() -> int:
    """Do the runs of the task that stands on standard input."""
    make_tolerant()
    told = json.load(sys.stdin.buffer)  # UTF-8, whatever the locale is
    runs = [
        TaskRun(run["id"], Path(run["run_dir"]), tuple(run["arguments"]), run["log"]) for run in told["runs"]
    ]
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        # Slurm's signal reaches this process, and then comes from the one above it too
        if not stopped:
            stopped.append(number)
            raise Interrupted(number)

    signal.signal(signal.SIGTERM, stop)
    try:
        failed = run_all(
            runs, FINETUNE, Path(told["logs"]), told["at_a_time"], _tell, retries=told["retries"]
        )
    except Interrupted as error:
        return error.status
    write_text(Path(told["report"]), json.dumps({"failed": [run.id for run, _ in failed]}) + "\n")
    return 0


def _tell(run: TaskRun, well: bool) -> None:
    sys.stdout.write(f"{run.id} {'finished' if well else 'failed'}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
