"""Several processes at work, and what happens when one of them, or the one that asked, is killed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from data_builders.corpus.parallel import each
from tests.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


def work(item):
    if item < 0:
        raise ValueError(f"{item} is negative")
    if item == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return item, os.getpid()


@pytest.mark.parametrize(("processes", "used"), [(1, 1), (3, 3), (9, 5)])
def test_results_come_in_order_from_no_more_processes_than_there_are_items(processes, used):
    found = list(each(work, range(5), processes))
    assert [item for item, _ in found] == [0, 1, 2, 3, 4]
    assert len({pid for _, pid in found}) == used
    assert (os.getpid() in {pid for _, pid in found}) == (used == 1)


def test_nothing_is_nothing():
    assert list(each(work, [], 3)) == []


def test_an_error_reaches_the_process_that_asked_and_the_others_end():
    asked = each(work, [1, 2, -3, 4], 2)
    pids = [next(asked)[1], next(asked)[1]]
    with pytest.raises(ValueError, match="-3 is negative"):
        next(asked)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_killed_process_is_reported():
    with pytest.raises(ChildProcessError, match="one of the processes was killed") as caught:
        list(each(work, [1, 99, 3], 2))
    assert caught.value.filename == "num_proc"


def test_processes_end_with_the_one_that_asked_though_it_is_killed(tmp_path):
    code = (
        "import os, signal\n"
        "from data_builders.corpus.parallel import each\n"
        "asked = each(lambda item: (os.getpid(), bytes(item)), [2_000_000] * 30, 3)\n"
        "print(*(next(asked)[0] for _ in range(3)), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    out = tmp_path / "out"
    with open(out, "w") as file:
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=file).returncode == -9
    pids = [int(pid) for pid in out.read_text().split()]
    assert len(pids) == 3
    end = time.monotonic() + 20
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(psutil.pid_exists, pids))
