"""Tiny runs of recipes/finetune.py as processes of their own, and whether two gave the same."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

ROOT = Path(__file__).parent.parent.parent
RECIPE = ROOT / "recipes" / "finetune.py"
STEPS, SAVE_EVERY, EVAL_EVERY = 60, 5, 10
SETTINGS = {
    "name": "tiny",
    "model.layers": 1,
    "model.hidden_size": 32,
    "model.heads": 2,
    "model.intermediate_size": 64,
    "train.steps": STEPS,
    "train.batch_size": 16,
    "train.log_every": 1,
    "train.eval_every": EVAL_EVERY,
    "train.save_every": SAVE_EVERY,
    "eval.lengths": "[1,10]",
    "eval.examples": 32,
}
PATIENCE = 180.0
"""seconds in which a run ends, or reaches what is waited for"""


def arguments(output: Path, **settings: object) -> list[str]:
    """Options of the recipe; `train__steps=3` stands for ``train.steps``."""
    given = {**SETTINGS, **{key.replace("__", "."): value for key, value in settings.items()}}
    return [f"--{key}={value}" for key, value in given.items()] + [f"--output_dir={output}"]


def folder(output: Path) -> Path:
    """Where the run of these settings lies."""
    return output / "tiny" / "seed-0"


class Running:
    """A run that was started, the leader of a process group."""

    def __init__(self, pid: int, log: Path, poll: Callable[[], int | None]) -> None:
        self.pid = pid
        self.log = log
        self.poll = poll
        """its status when it has ended, negative: the signal that killed it"""

    def kill(self) -> int:
        """SIGKILL for all of it; gives the status."""
        self._signal()
        return self.wait()

    def _signal(self) -> None:
        import psutil

        below = []
        with suppress(psutil.Error):
            # the processes of a launch lead groups of their own, and wait for a launcher that is gone
            below = psutil.Process(self.pid).children(recursive=True)
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(self.pid, signal.SIGKILL)
        for process in below:
            with suppress(psutil.Error):
                process.kill()

    def wait(self) -> int:
        """Its status, once it has ended."""
        end = time.monotonic() + PATIENCE
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                self._signal()
                raise TimeoutError(f"the run did not end in {PATIENCE:g} s:\n{self.text()}")
            time.sleep(0.005)
        return status

    def until(self, reached: Callable[[], bool]) -> bool:
        """Wait until something holds; False if the run ended before."""
        end = time.monotonic() + PATIENCE
        while not reached():
            if self.poll() is not None:
                return False
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"not reached in {PATIENCE:g} s:\n{self.text()}")
            time.sleep(0.0005)
        return True

    def text(self) -> str:
        """What it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")


Start = Callable[[Sequence[str], Path], Running]
"""starts a run: (options of the recipe, file for what it prints)"""


def _settle_environment() -> None:
    # one thread each: a parent that forks must not have started any pool of threads, and the runs are tiny
    os.environ.update(
        OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", MPLBACKEND="Agg"
    )


def forks() -> Start:
    """Starts runs as forks of this process, which has imported everything: in a fraction of a second."""
    _settle_environment()
    import torch

    torch.set_num_threads(1)
    import accelerate  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import hf_lgt.publish
    import hf_lgt.report.results
    import hf_lgt.run  # noqa: F401

    spec = importlib.util.spec_from_file_location("finetune", RECIPE)
    assert spec
    assert spec.loader
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    def start(options: Sequence[str], log: Path) -> Running:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _be(recipe, options, log)
        status: list[int] = []

        def poll() -> int | None:
            if not status and (found := os.waitpid(pid, os.WNOHANG))[0]:
                status.append(os.waitstatus_to_exitcode(found[1]))
            return status[0] if status else None

        return Running(pid, log, poll)

    return start


def _be(recipe: ModuleType, options: Sequence[str], log: Path) -> None:
    """Become a run, in a process that was forked for it."""
    status = 70
    try:
        os.setsid()
        # tqdm's own lock is shared among forks: a run killed while it held it would stop all that come after
        tqdm.set_lock(threading.RLock())
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.argv = [str(RECIPE), *options]
        status = recipe.main(list(options))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def spawns(processes: int = 1) -> Start:
    """Starts runs as a user does, with `accelerate launch` where there are several processes."""
    _settle_environment()
    command = [sys.executable, str(RECIPE)]
    if processes > 1:
        launch = "--num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0 --multi_gpu"
        command[1:1] = ["-m", "accelerate.commands.launch", *launch.split()]
        command[-1:-1] = ["--num_processes", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if processes > 1:
        environment["ACCELERATE_USE_CPU"] = "1"

    def start(options: Sequence[str], log: Path) -> Running:
        with open(log, "a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*command, *options], stdout=file, stderr=file, start_new_session=True, env=environment
            )
        return Running(process.pid, log, process.poll)

    return start


def reference(start: Start, work: Path, **settings: object) -> tuple[Path, float]:
    """An undisturbed run: its folder and the seconds that it took."""
    work.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    running = start(arguments(work / "reference", **settings), work / "reference.log")
    if running.wait() != 0:
        raise RuntimeError(f"the undisturbed run failed:\n{running.text()}")
    return folder(work / "reference"), time.monotonic() - begun


def drafts(output: Path) -> list[str]:
    """What atomic writes and locks left, below a folder."""
    return sorted(str(p.relative_to(output)) for p in output.rglob(".*"))


def lines(path: Path, *, killed: bool = False) -> list[dict]:
    """The lines of a log; those that are whole where its run was killed.

    Raises:
        ValueError: one is no JSON, or not ended.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text and not killed:
        raise ValueError(f"the last line of {path.name} is cut")
    return [json.loads(line) for line in whole.splitlines()]


def differences(expected: Path, output: Path) -> list[str]:
    """In what the result of a run differs from that of the undisturbed one; empty: in nothing."""
    found, wrong = folder(output), []
    logs = []
    for run in (expected, found):
        try:
            logs.append(lines(run / "train.jsonl"))
        except ValueError as error:
            return [f"train.jsonl: {error}"]
    for log in logs:
        for line in log:
            line.pop("examples_per_second")
    if logs[0] != logs[1]:
        first = next((a["step"] for a, b in zip(*logs, strict=False) if a != b), min(map(len, logs)) + 1)
        wrong.append(f"train.jsonl differs from step {first}")
    for name in ("eval.jsonl", "model/model.safetensors"):
        same = (found / name).is_file() and (found / name).read_bytes() == (expected / name).read_bytes()
        wrong += [] if same else [f"{name} {'differs' if (found / name).is_file() else 'is missing'}"]
    return wrong + [f"left behind: {name}" for name in drafts(output)]


def told_error(text: str) -> str:
    """The first `error:` line of what a run printed, with the faults below it; empty if there is none."""
    match = re.search(r"^error: .*(\n  .*)*", text, re.MULTILINE)
    return match[0] if match else ""


def write_report(path: Path | None, report: dict) -> None:
    """Write the report as JSON, and on standard output its numbers."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
    short = {key: value for key, value in report.items() if not isinstance(value, list)}
    sys.stdout.write(json.dumps(short, indent=1) + "\n")
