"""One case of a recipe in a process of its own, and what is wrong with how it ended."""

from __future__ import annotations

import faulthandler
import hashlib
import io
import os
import pickle
import resource
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_S = 30.0
"""seconds after which a case counts as one that hangs"""
MEMORY = 6 * 2**30
"""bytes that a case may use beyond those of the process that starts it"""
LARGEST = 2**28
"""bytes of a file that a case may write"""
WORK = Path("deep/down/place")
"""where a case runs, below its own folder: what climbs out of it is still seen"""
MARKER = "a-stranger-was-here"
"""the file in a case's own folder that code and pickles of damaged folders write"""
TURNS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
"""kinds of characters that change the direction of what follows"""

Main = Callable[[Sequence[str]], int]
Plan = Callable[[Sequence[str]], "tuple[list[Path], list[str]]"]
"""arguments -> folders that the recipe may write, and options that make its work small"""


@dataclass(frozen=True)
class Case:
    """One call of a recipe."""

    argv: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    """path below the working folder -> content"""
    prepare: Callable[[], None] = lambda: None
    """makes what is no plain file, in the working folder"""
    what: str = ""
    """what it makes"""

    @property
    def key(self) -> str:
        """The same for the same case."""
        return repr((self.argv, sorted(self.files.items()), self.what))


@dataclass(frozen=True)
class Ended:
    """How a case ended."""

    status: str
    why: str | None
    """what is wrong with it, None if nothing is"""
    argv: list[str]
    seconds: float
    said: str
    """the end of what it printed"""


def run_case(main: Main, plan: Plan, case: Case, limit_s: float = LIMIT_S, keep: Path | None = None) -> Ended:
    """Take one case through a recipe.

    Args:
        main: of the recipe.
        plan: what it may write, and how its work is made small.
        case: what it is called with.
        limit_s: seconds that it may take.
        keep: where the folder of a faulty case is moved; None: it is removed.
    """
    root = Path(tempfile.mkdtemp(prefix="hf_lgt-fuzz-")).resolve()
    side = Path(tempfile.mkdtemp(prefix="hf_lgt-fuzz-side-"))
    (root / WORK).mkdir(parents=True)
    (root / "tmp").mkdir()
    began = time.perf_counter()
    try:
        pid = fork(lambda: _be(main, plan, case, root, side), root / WORK, side / "out", side / "err")
        code = _wait(pid, began + limit_s)
        seconds = time.perf_counter() - began
        status, why, argv = _judge(code, root, side)
        said = "".join(_text(side / name)[-3000:] for name in ("out", "err"))
        if why and keep:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.move(str(root), str(keep / root.name))
            why += f" [{root.name}]"
        return Ended(status, why, argv or case.argv, seconds, said)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(side, ignore_errors=True)


def fork(work: Callable[[], int], folder: Path, out: Path | int, error: Path | int) -> int:
    """Do some work in a fork of this process, the leader of a group; gives its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a process with threads is forked; these are idle
        pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number, place in ((0, Path(os.devnull)), (1, out), (2, error)):
            how = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            os.dup2(place if isinstance(place, int) else os.open(place, how, 0o644), number)
        # as a terminal's: stdout takes no lone surrogate
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", errors, line_buffering=True)
            for number, errors in ((1, "strict"), (2, "backslashreplace"))
        )
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]
        _fresh_bars()
        faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
        status = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def _fresh_bars() -> None:
    from tqdm import tqdm

    # its own lock is shared among forks: one killed while it held it would stop all that come after
    tqdm.set_lock(threading.RLock())


def end(main: Main, argv: Sequence[str]) -> Any:
    """The status that a recipe ends with, also where the parser of its arguments ends it."""
    try:
        return main(argv)
    except SystemExit as ended:
        return ended.code or 0


def _be(main: Main, plan: Plan, case: Case, root: Path, side: Path) -> int:
    """The case itself; says before what it will do, and afterwards how it went."""
    _limit(resource.RLIMIT_AS, _memory() + MEMORY)
    _limit(resource.RLIMIT_FSIZE, LARGEST)
    _limit(resource.RLIMIT_CORE, 0)
    os.environ["TMPDIR"] = str(root / "tmp")
    tempfile.tempdir = None
    for path, content in case.files.items():
        Path(path).write_bytes(content)
    case.prepare()
    before = everything(root)
    homes, options = plan(case.argv)
    argv = [*case.argv, *options]
    homes = [place for home in homes for place in _places(home)]
    (side / "plan").write_bytes(pickle.dumps((before, homes, argv)))
    raised = None
    try:
        status = end(main, argv)
    except BaseException as error:
        status, at = "raised", error.__traceback__
        while at and at.tb_next:
            at = at.tb_next
        where = f" at {at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
        raised = f"{type(error).__name__}: {str(error)[:500]}{where}"
        import traceback

        traceback.print_exc()
    (side / "end").write_bytes(pickle.dumps((status, raised)))
    return 0


def _places(home: Path) -> list[Path]:
    """A folder as it is named, and where links lead it; none where it can be no path."""
    try:
        return [home.absolute(), Path(os.path.realpath(home))]
    except (ValueError, OSError):
        return []


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _memory() -> int:
    """Bytes of address space that this process has."""
    import psutil

    return int(psutil.Process().memory_info().vms)


def _wait(pid: int, deadline: float) -> int | None:
    """The status of a case's process; None where it had to be killed. Nothing of its group is left."""
    code = None
    while code is None and time.perf_counter() < deadline:
        found, raw = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(raw)
        else:
            time.sleep(0.003)
    if code is None:
        os.kill(pid, signal.SIGUSR1)  # it says where it is
        time.sleep(0.3)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if code is None:
        os.waitpid(pid, 0)
    return code


def _judge(code: int | None, root: Path, side: Path) -> tuple[str, str | None, list[str] | None]:
    """Status, what is wrong if anything, and the arguments, as far as a case came."""
    before, homes, argv = pickle.loads(found) if (found := _bytes(side / "plan")) else ({}, [], None)
    status, raised = pickle.loads(found) if (found := _bytes(side / "end")) else (None, None)
    if code is None:
        return "hangs", f"hangs: {_stack(_text(side / 'err'))}", argv
    if status is None:
        return "crashed", f"ended with {code}: {_text(side / 'err')[-1500:]}", argv
    if raised:
        return "raised", raised, argv
    try:
        out = _bytes(side / "out").decode()
    except UnicodeDecodeError as error:
        return str(status), f"output is not UTF-8: {error}", argv
    touched = changes(before, everything(root))
    return str(status), verdict(status, out, _text(side / "err"), touched, homes, root), argv


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "backslashreplace")


def _stack(text: str) -> str:
    """Where a process that hangs is, the innermost frames of its main thread."""
    frames = [line.strip() for line in text.rpartition("most recent call first")[2].splitlines()]
    return " < ".join(frames[1:12])


def everything(folder: Path) -> dict[str, Any]:
    """Every path below a folder, hidden ones too -> what tells whether it changed."""
    found: dict[str, Any] = {}
    for at, *both in os.walk(folder):
        for name in (name for names in both for name in names):
            path = f"{at}/{name}"
            seen = os.lstat(path)
            if stat.S_ISLNK(seen.st_mode):
                found[path] = Path(path).readlink()
            elif not stat.S_ISREG(seen.st_mode):
                found[path] = stat.S_IFMT(seen.st_mode)
            elif seen.st_size > 2**20:
                found[path] = (seen.st_size, seen.st_mtime_ns)
            else:
                found[path] = (seen.st_size, hashlib.sha1(Path(path).read_bytes()).digest())
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Paths that came, went or changed."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def is_control(character: str) -> bool:
    """Whether a terminal may act on it, or cannot take it."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def verdict(
    status: object, out: str, error: str, touched: set[str], homes: Sequence[Path], root: Path
) -> str | None:
    """What is wrong with how a case ended, if anything."""
    from hf_lgt.utils.atomic_io import is_draft

    # what a bar moves about with
    told = (out + error).replace("\r", "").replace("\x1b[A", "")
    if str(root / MARKER) in touched:
        return "a stranger's code was run"
    if status not in (0, 1, 2):
        return f"status {status!r}"
    if "Traceback" in told:
        return "a traceback"
    if status and "error:" not in error:
        return "no error line"
    odd = sorted(c for c in set(told) - set("\n\t") if unicodedata.bidirectional(c) in TURNS or is_control(c))
    if odd:
        return f"control characters {odd!r}"
    own: set[str] = set()
    if status != 2:
        # of `x/../y` the folder x is made too, as the path says
        own = {os.path.normpath(part) for home in homes for part in (home, *home.parents)}
        whole = [os.path.normpath(home) for home in homes]
        own |= {p for p in touched if any(Path(p).is_relative_to(home) for home in whole)}
        locks = (".lock", ".lock.holder")
        own -= {p for p in touched if os.path.lexists(p) and (is_draft(Path(p)) or p.endswith(locks))}
    stray = touched - own
    shown = sorted(path.removeprefix(str(root)) for path in stray)
    return f"stray files {shown[:5]}" if stray else None
