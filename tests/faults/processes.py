"""Recipes as processes of their own: started, killed, and what of them still runs."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from tqdm import tqdm

ROOT = Path(__file__).parent.parent.parent
FINETUNE = "finetune.py"
PATIENCE = 180.0
"""seconds in which a run ends, or reaches what is waited for"""


class Running:
    """A run that was started, the leader of a process group and of a session."""

    def __init__(self, pid: int, log: Path, begin: int, poll: Callable[[], int | None]) -> None:
        self.pid = pid
        self.log = log
        self._begin = begin
        self.poll = poll
        """its status when it has ended, negative: the signal that killed it"""

    def kill(self, alone: bool = False) -> int:
        """SIGKILL for all of it, or for it without the processes that it started; gives the status."""
        if not alone:
            self._signal()
        elif self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def left(self, patience: float = 20.0) -> list[str]:
        """What still runs of it after some seconds, once it has ended."""
        end = time.monotonic() + patience
        while (found := self._session()) and time.monotonic() < end:
            time.sleep(0.1)
        return list(found.values())

    def kill_session(self) -> None:
        """SIGKILL for what it started and what still runs."""
        for pid in self._session():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _session(self) -> dict[int, str]:
        """Its processes that run: pid -> command."""
        import psutil

        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())[:200]
        return found

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
        """What it printed, and not what earlier ones added to the same file."""
        return self.log.read_bytes()[self._begin :].decode(errors="replace")


@dataclass(frozen=True)
class Trap:
    """SIGKILL before a process does something to a file."""

    at: int
    """before which of these operations, 0: none, they are only counted"""
    part: str = ""
    """only operations on paths that have this in them count"""
    alone: bool = False
    """spare the processes that it started"""
    count: Path | None = None
    """file that takes the number of operations when the process ends well"""


class Starter(Protocol):
    """Starts a recipe."""

    def __call__(
        self,
        options: Sequence[str],
        log: Path,
        *,
        recipe: str = FINETUNE,
        place: Path | None = None,
        trap: Trap | None = None,
    ) -> Running:
        """Start it.

        Args:
            options: of the recipe.
            log: file that what it prints is added to.
            recipe: its file.
            place: working folder, with a folder ``tmp`` for temporary files; None: that of this process.
            trap: where it is killed; for forks alone.
        """
        ...


def _settle_environment() -> None:
    # one thread each: a parent that forks must not have started any pool of threads, and the runs are tiny
    os.environ.update(
        OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", MPLBACKEND="Agg"
    )
    os.environ["PYTHONPATH"] = str(ROOT)


def forks() -> Starter:
    """Starts recipes as forks of this process, which has imported everything: in a fraction of a second."""
    _settle_environment()
    import torch

    torch.set_num_threads(1)
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    loaded: dict[str, ModuleType] = {}

    def start(
        options: Sequence[str],
        log: Path,
        *,
        recipe: str = FINETUNE,
        place: Path | None = None,
        trap: Trap | None = None,
    ) -> Running:
        if recipe not in loaded:
            loaded[recipe] = _load(recipe)
        sys.stdout.flush()
        sys.stderr.flush()
        begin = _size(log)
        pid = os.fork()
        if pid == 0:
            _be(loaded[recipe], options, log, place, trap)
        status: list[int] = []

        def poll() -> int | None:
            if not status and (found := os.waitpid(pid, os.WNOHANG))[0]:
                status.append(os.waitstatus_to_exitcode(found[1]))
            return status[0] if status else None

        return Running(pid, log, begin, poll)

    return start


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _load(recipe: str) -> ModuleType:
    path = ROOT / "recipes" / recipe
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _be(recipe: ModuleType, options: Sequence[str], log: Path, place: Path | None, trap: Trap | None) -> None:
    """Become a run, in a process that was forked for it."""
    status = 70
    try:
        os.setsid()
        # tqdm's own lock is shared among forks: a run killed while it held it would stop all that come after
        tqdm.set_lock(threading.RLock())
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if place:
            os.chdir(place)
            os.environ["TMPDIR"] = str(place / "tmp")
            tempfile.tempdir = None
        sys.argv = [str(recipe.__file__), *options]
        seen = _watch(trap) if trap else []
        status = recipe.main(list(options))
        if trap and trap.count:
            trap.count.write_text(str(len(seen)))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree")


def _watch(trap: Trap) -> list[None]:
    """Note what this process does to files below its working folder, and be killed where the trap is."""
    here, seen = f"{Path.cwd()}{os.sep}", list[None]()
    pid = os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event != "open" and event not in _CHANGES:
            return
        if os.getpid() != pid or not isinstance(args[0], (str, bytes, os.PathLike)):
            return
        path = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100  # links are not followed
        # what is flushed before it gets its name is opened for reading alone
        writes = event != "open" or args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or "/." in path
        if not writes or not path.startswith(here) or trap.part not in path:
            return
        seen.append(None)
        if len(seen) == trap.at:
            os.kill(pid, signal.SIGKILL) if trap.alone else os.killpg(pid, signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def spawns(processes: int = 1) -> Starter:
    """Starts recipes as a user does, with `accelerate launch` where there are several processes."""
    _settle_environment()
    command = [sys.executable]
    if processes > 1:
        launch = "--num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0 --multi_gpu"
        command += ["-m", "accelerate.commands.launch", *launch.split(), "--num_processes", str(processes)]
        os.environ["ACCELERATE_USE_CPU"] = "1"

    def start(
        options: Sequence[str],
        log: Path,
        *,
        recipe: str = FINETUNE,
        place: Path | None = None,
        trap: Trap | None = None,
    ) -> Running:
        assert trap is None, "a program of its own is not watched from within"
        own = {"TMPDIR": str(place / "tmp")} if place else {}
        begin = _size(log)
        with open(log, "a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*command, str(ROOT / "recipes" / recipe), *options],
                stdout=file, stderr=file, start_new_session=True, cwd=place, env={**os.environ, **own},
            )  # fmt: skip
        return Running(process.pid, log, begin, process.poll)

    return start
