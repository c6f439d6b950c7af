"""SIGTERM and SIGINT: a run that is asked to stop writes a checkpoint first.

Schedulers send SIGTERM some time before they kill; the time is theirs to set (Slurm: ``--signal=TERM@120``).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PARENT = "HF_LGT_PARENT"
"""environment variable: pid of the command that started this one, which ends when that does"""
LOOK_SECONDS = 0.5
"""between two looks whether that command still runs"""
ANOTHER_SECONDS = 2.0
"""Ctrl-C reaches a process twice where its launcher hands it on; one that comes later is another"""


class Interrupted(BaseException):
    """The program was asked to stop. No `Exception`, so that nothing on the way takes it for a fault.

    Args:
        number: of the signal.
        told: what was kept, for the user.
    """

    def __init__(self, number: int, told: str = "") -> None:
        super().__init__()
        self.number = number
        self.told = told

    def __str__(self) -> str:
        return self.told

    @property
    def status(self) -> int:
        """What the program ends with, as shells tell of signals: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.number


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises `Interrupted`, so that drafts are removed and locks given back."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(number, "stopped by SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with _ended_with_parent():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _ended_with_parent() -> Iterator[None]:
    """Within the block SIGTERM comes when the command ends, in whatever way, that `PARENT` names."""
    parent, ended = os.environ.get(PARENT), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            if str(os.getppid()) != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    if parent and os.name == "posix":  # elsewhere a program may start Python by way of another
        threading.Thread(target=look, daemon=True, name="parent").start()
    try:
        yield
    finally:
        ended.set()


def _default_signals() -> None:
    for number, default in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if getattr(signal.getsignal(number), "__module__", None) == __name__:
            signal.signal(number, default)


if hasattr(os, "register_at_fork"):
    # a pool ends its processes by SIGTERM: they must not take it for their own
    os.register_at_fork(after_in_child=_default_signals)


class Signals:
    """Within the block, signals are noted, to be looked at where the work can be put down.

    A second SIGINT, some seconds later, stops at once. Outside the main thread, where Python gives no
    signals, it notes none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.received: int = 0
        """number of the first signal, 0: none"""
        self._when = 0.0
        self._at_once = False
        self._before: dict[int, Any] = {}
        self._group: Any = None
        # `accelerate launch` of one process hands no signal on, and leaves an orphan behind
        self._parent = os.getppid() if "ACCELERATE_MIXED_PRECISION" in os.environ else None

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            # what a shell lets its background jobs ignore stays ignored
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        again = self.received and self._clock() - self._when > ANOTHER_SECONDS
        if not self.received:
            self.received, self._when = number, self._clock()
        if self._at_once or (again and number == signal.SIGINT):
            raise Interrupted(number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise `Interrupted` where the work stands: for what takes long and changes nothing."""
        self._at_once = True
        try:
            if self.received:
                raise Interrupted(self.received)
            yield
        finally:
            self._at_once = False

    def agreed(self, accelerator: Accelerator) -> int:
        """The signal that some process received, the same on all of them; 0: none.

        Called on all processes at the same step, since they must stop there together.
        """
        if self._parent not in (None, os.getppid()) and not self.received:
            self.received = signal.SIGTERM
        if accelerator.num_processes == 1:
            return self.received
        import torch

        if self._group is None:
            # on the CPU whatever the devices are, so that it waits for no computation on them
            self._group = torch.distributed.new_group(backend="gloo")
        highest = torch.tensor([self.received])
        torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(highest)
