"""The runs of a sweep as Slurm arrays, submitted by submitit.

The queue says what still runs, the runs' folders what is done; no accounting database is asked.
Every array has a name of its own, which stands in ``slurm/jobs.json`` of the sweep's folder before it is
submitted: whatever happens to this process, the next call finds its jobs again and waits for them.
"""

from __future__ import annotations

import logging
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from data_builders.reading import read_json
from hf_lgt.checkpointing.run_folder import is_finished
from hf_lgt.experiments.folder_lock import LOGS
from hf_lgt.experiments.plan import PlannedRun
from hf_lgt.experiments.slurm.jobs import FOLDER, MOST_TASKS, Jobs, Place, Submission, queued, submit
from hf_lgt.experiments.slurm.settings import SlurmSettings, read_settings
from hf_lgt.experiments.slurm.worker import SlurmTask, TaskRun
from hf_lgt.experiments.spec import ExperimentSpec
from hf_lgt.utils.atomic_io import append_text
from hf_lgt.utils.errors import RunError
from hf_lgt.utils.run_lock import RunLock
from hf_lgt.utils.signals import Interrupted

_log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0
"""after a task has left the queue, until what it wrote on another machine must be seen here"""
POLL_SECONDS = (1.0, 20.0)
"""between two looks at the queue: after something has changed, and after long"""
AWAY_SECONDS = 1800.0
"""without an answer of Slurm, until this process gives up waiting"""


@dataclass
class _Waiting:
    """What is known of the runs that are not finished."""

    left: dict[str, PlannedRun]
    """id -> run, of those that are neither finished nor given up"""
    attempts: dict[str, int] = field(default_factory=dict)
    """id -> times that it was in the queue since this process waits"""
    last: dict[str, Place] = field(default_factory=dict)
    """id -> the task that it was seen in last"""
    gone: dict[Place, float] = field(default_factory=dict)
    """task -> when it was found to have left the queue"""


def run_on_slurm(
    spec: ExperimentSpec,
    missing: Sequence[PlannedRun],
    folder: Path,
    retries: int,
    tell: Callable[[PlannedRun, bool], None],
) -> list[tuple[PlannedRun, Path]]:
    """Do the runs that are not finished in tasks of Slurm arrays, and wait for them.

    Runs that are in the queue already, of an earlier call, are waited for. A task that leaves the queue
    before its runs are finished, as after ``scancel``, is submitted again.

    Args:
        spec: the sweep; its ``slurm`` is read by `hf_lgt.experiments.slurm.settings.read_settings`.
        missing: runs to do, each once.
        folder: the sweep's own.
        retries: how often a run is started again, and how often it is submitted again.
        tell: called after each run with whether it went well.

    Returns:
        The runs that failed, with their logs.

    Raises:
        ConfigError: the settings have faults, or another process waits for this sweep.
        RunError: Slurm takes no jobs, or gives no answer any more.
        Interrupted: this process was asked to stop; the jobs stay in the queue.
    """
    settings = read_settings(spec.slurm)
    if not missing:
        _log.info("0 runs to do")
        return []
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with RunLock.acquire(folder / FOLDER):
        driver = _Driver(spec, missing, folder, retries, settings, tell)
        with driver.told_of_jobs():
            return driver.run()


class _Driver:
    """Submits and waits until every run is finished or given up."""

    def __init__(
        self,
        spec: ExperimentSpec,
        missing: Sequence[PlannedRun],
        folder: Path,
        retries: int,
        settings: SlurmSettings,
        tell: Callable[[PlannedRun, bool], None],
    ) -> None:
        self.spec, self.folder = spec, folder
        self.retries, self.settings, self.tell = retries, settings, tell
        self.jobs = Jobs(folder)
        self.waiting = _Waiting({run.id: run for run in missing})
        self.failed: list[tuple[PlannedRun, Path]] = []

    def run(self) -> list[tuple[PlannedRun, Path]]:
        queue = self._queue()
        if waited := {name for name, _ in queue}:
            count = sum(len(self._left(place)) for place in queue)
            _log.info(f"waiting for {count} runs that are in the queue already ({self._numbers(waited)})")
        pause, shown = POLL_SECONDS[0], queue
        while True:
            self._look(queue)
            if self.waiting.left and (again := self._to_submit(queue)):
                self._submit(again)
            if not self.waiting.left:
                return self.failed
            time.sleep(pause)
            queue = self._queue()
            pause = (
                POLL_SECONDS[0] if queue != shown or self.waiting.gone else min(pause * 1.3, POLL_SECONDS[1])
            )
            shown = queue

    def _look(self, queue: Mapping[Place, str]) -> None:
        """Tell of what is finished, and note what has left the queue."""
        waiting = self.waiting
        for run in [run for run in waiting.left.values() if is_finished(run.run_dir)]:
            del waiting.left[run.id]
            self.tell(run, True)
        for place in queue:
            waiting.gone.pop(place, None)
            for name in self._left(place):
                if waiting.last.get(name) != place:
                    self._seen(name, place)
        for place in {waiting.last[name] for name in waiting.left if name in waiting.last} - set(queue):
            waiting.gone.setdefault(place, time.monotonic())

    def _seen(self, name: str, place: Place) -> None:
        """A run is in the queue, in another task than before."""
        self.waiting.last[name] = place
        self.waiting.attempts[name] = self.waiting.attempts.get(name, 0) + 1

    def _to_submit(self, queue: Mapping[Place, str]) -> list[PlannedRun]:
        """The runs that are in no task; those that need no further attempt are given up."""
        waiting = self.waiting
        fresh = [run for run in waiting.left.values() if run.id not in waiting.last]
        lost: list[PlannedRun] = []
        for place, since in list(waiting.gone.items()):
            if time.monotonic() - since < SETTLE_SECONDS:
                continue
            del waiting.gone[place]
            own = [waiting.left[run] for run in self._left(place) if waiting.last.get(run) == place]
            refused = self._reported(place)
            number = self._number(place)
            for run in own:
                if run.id in refused:
                    self._give_up(run, None)
                elif waiting.attempts[run.id] > self.retries:
                    self._give_up(run, number)
                else:
                    lost.append(run)
            if again := [run for run in lost if run in own]:
                _log.info(f"job {number} left the queue before {len(again)} of its runs were finished")
        return [*fresh, *lost]

    def _left(self, place: Place) -> list[str]:
        return [run for run in self.jobs.runs(place) if run in self.waiting.left]

    def _give_up(self, run: PlannedRun, number: str | None) -> None:
        """Count a run as failed; `number` is that of the task where it did not fail by itself."""
        log = self.folder / LOGS / run.log
        if number is not None or not log.is_file():
            log.parent.mkdir(parents=True, exist_ok=True)
            files = self.folder / FOLDER / "jobs" / f"{number}_0_log.err"
            append_text(
                log,
                f"error: the Slurm job {number} left the queue before this run was finished: cancelled, out "
                f"of memory, or its node failed; {files} may tell\n",
            )
        del self.waiting.left[run.id]
        self.failed.append((run, log))
        self.tell(run, False)

    def _report(self, place: Place) -> Path:
        return self.folder / FOLDER / "reports" / f"{place[0]}-{place[1]}.json"

    def _reported(self, place: Place) -> list[str]:
        """Runs of a task that failed by themselves, whatever was tried."""
        try:
            failed = read_json(self._report(place)).get("failed")
        except OSError:
            return []
        return [str(run) for run in failed] if isinstance(failed, list) else []

    def _submit(self, runs: Sequence[PlannedRun]) -> None:
        size = self.settings.runs_per_job
        groups = [runs[i : i + size] for i in range(0, len(runs), size)]
        for i in range(0, len(groups), MOST_TASKS):
            part = groups[i : i + MOST_TASKS]
            name = f"{self.spec.name[:40]}-{secrets.token_hex(4)}"
            submission = Submission(name, "", tuple(tuple(run.id for run in group) for group in part))
            self.jobs.note(submission)
            tasks = [self._task((name, index), group) for index, group in enumerate(part)]
            job = submit(tasks, name, self.folder / FOLDER / "jobs", self.settings)
            self.jobs.note(Submission(name, job, submission.tasks))
            for index, group in enumerate(part):
                for run in group:
                    self._seen(run.id, (name, index))
            _log.info(f"submitted {sum(map(len, part))} runs in {len(part)} tasks as job {job}")

    def _task(self, place: Place, runs: Sequence[PlannedRun]) -> SlurmTask:
        report = self._report(place)
        report.parent.mkdir(parents=True, exist_ok=True)
        return SlurmTask(
            runs=tuple(TaskRun(run.id, run.run_dir, run.arguments, run.log) for run in runs),
            place=Path.cwd(),
            logs=self.folder / LOGS,
            report=report,
            at_a_time=self.settings.jobs_at_a_time,
            retries=self.retries,
        )

    def _queue(self) -> dict[Place, str]:
        """The sweep's tasks that wait or run, and their states; waits while Slurm does not answer."""
        since, told = time.monotonic(), ""
        while (found := queued()) is None:
            if not told:
                told = "Slurm does not answer; trying on"
                _log.info(told)
            if time.monotonic() - since > AWAY_SECONDS:
                raise RunError(
                    f"squeue has not answered for {AWAY_SECONDS / 60:.0f} minutes; {self._advice()}"
                )
            time.sleep(POLL_SECONDS[1] / 2)
        return {place: state for place, (state, _) in found.items() if self.jobs.runs(place)}

    def _number(self, place: Place) -> str:
        """A task as Slurm names it."""
        submission = self.jobs.all[place[0]]
        return f"{submission.job}_{place[1]}" if len(submission.tasks) > 1 else submission.job

    def _numbers(self, names: set[str]) -> str:
        own = [s.job or s.name for s in self.jobs.all.values() if s.name in names]
        return f"job{'s' * (len(own) > 1)} {' '.join(own)}"

    def _advice(self) -> str:
        names = {self.waiting.last[run][0] for run in self.waiting.left if run in self.waiting.last}
        if not names:
            return "nothing is in the queue"
        own = [s.job for s in self.jobs.all.values() if s.name in names and s.job]
        return (
            f"left in the queue: {self._numbers(names)}; the same command waits for what is there, "
            f"'scancel {' '.join(own)}' removes it"
        )

    @contextmanager
    def told_of_jobs(self) -> Iterator[None]:
        """Within the block, being asked to stop says what becomes of the jobs."""
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(signal.SIGINT, f"stopped waiting: {self._advice()}") from None
        except Interrupted as error:
            raise Interrupted(error.number, f"stopped waiting: {self._advice()}") from None
