"""Recipes as processes that are forked from one that has imported everything: in a fraction of a second.

They are processes of their own, with their own arguments, environment, folder and streams; only the imports
are spared. What an import does, or a process that was not forked, is tested with `subprocess` itself.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

LOADED = [
    "accelerate",
    "datasets",
    "matplotlib.backends.backend_agg",
    "peft",
    "transformers.models.llama.modeling_llama",
    "hf_lgt.experiments.launch",
    "hf_lgt.workflows.train",
    "hf_lgt.workflows.train_stacked",
]


class Forked:
    """As `subprocess.Popen` of a script or ``-m module``, as far as `hf_lgt` uses it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int | str | None = None,
        stdout: IO[Any],
        stderr: int | IO[Any] = subprocess.STDOUT,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        assert command[0] == sys.executable
        assert stdin in (None, subprocess.DEVNULL) or isinstance(stdin, str), "a file's name"
        self.args = command
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        streams = [
            os.devnull if not isinstance(stdin, str) else stdin,
            stdout.name,
            stdout.name if isinstance(stderr, int) else stderr.name,
        ]
        place = os.path.abspath(cwd or os.curdir)  # noqa: PTH100
        given = [[*map(str, command[1:])], [*map(os.path.abspath, streams)], dict(env or os.environ), place]
        self._process = context.Process(target=_be, args=given)
        self._process.start()

    def wait(self, timeout: float | None = None) -> int:
        """Its status, once it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self._process.exitcode

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def run(command: Sequence[str], *, input: str = "", timeout: float = 120, **more: Any) -> Any:  # noqa: A002
    """As `subprocess.run` with text and what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        given, out, err = (Path(folder, name) for name in ("in", "out", "err"))
        given.write_text(input)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = Forked(command, stdin=str(given), stdout=stdout, stderr=stderr, **more)
            try:
                status = process.wait(timeout)
            finally:
                process.kill()
        return subprocess.CompletedProcess(command, status, out.read_text(), err.read_text())


def real(command: Sequence[str], **more: Any) -> Any:
    """The same by `subprocess`."""
    return subprocess.run(command, capture_output=True, text=True, **{"timeout": 120, **more})


def _be(words: list[str], streams: list[str], environment: dict[str, str], place: str) -> None:
    """Become the program, in a process that was forked for it."""
    status: Any = 1
    try:
        ways = (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND)
        for number, (path, flags) in enumerate(zip(streams, ways, strict=True)):
            handle = os.open(path, flags)
            os.dup2(handle, number)
            os.close(handle)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        _settle(environment, place)
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path.insert(0, str(Path(words[0]).parent))
            runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            sys.stderr.write(f"{status}\n")
            status = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


def _settle(environment: dict[str, str], place: str) -> None:
    import torch

    from hf_lgt.utils.signals import PARENT

    os.environ.clear()
    os.environ.update(environment)
    if PARENT in environment:  # which is the process that forks
        os.environ[PARENT] = str(os.getppid())
    os.chdir(place)
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
