"""Work of several processes whose results come in order; none of them outlives the process that asked."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import multiprocess  # type: ignore[import-untyped]

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Sequence[T], processes: int) -> Iterator[R]:
    """What `work` gives for each item, in their order.

    A process that is ahead waits until its results are taken.

    Args:
        work: called in the processes; must be picklable where they are not forked.
        items: divided evenly.
        processes: at most; one is this process.

    Raises:
        ChildProcessError: a process was killed.
    """
    if min(processes, len(items)) < 2:
        yield from map(work, items)
        return
    workers, readers = [], []
    try:
        for first in range(min(processes, len(items))):
            ends = reader, writer = multiprocess.Pipe(duplex=False)
            readers.append(reader)
            own = items[first::processes]
            workers.append(multiprocess.Process(target=_send, args=(work, own, *ends), daemon=True))
            workers[-1].start()
            writer.close()  # so that the worker's end is seen
        for index in range(len(items)):
            yield _received(readers[index % len(readers)])
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _send(work: Callable[[T], Any], items: Sequence[T], reader: Any, writer: Any) -> None:
    reader.close()  # so that the end of the process that asked is seen
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked, which ends this one
    with suppress(BrokenPipeError):
        for item in items:
            result: tuple[Any, Exception | None]
            try:
                result = work(item), None
            except Exception as error:
                result = None, error
            writer.send(result)


def _received(reader: Any) -> Any:
    try:
        result, error = reader.recv()
    except EOFError:
        told = "one of the processes was killed, as where memory runs out; use fewer"
        raise ChildProcessError(errno.ECHILD, told, "num_proc") from None
    if error is not None:
        raise error
    return result
