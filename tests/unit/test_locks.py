"""The writer lock, with real processes."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hf_lgt.utils import lock_files
from hf_lgt.utils import run_lock as locks
from hf_lgt.utils.errors import ConfigError, RunError
from hf_lgt.utils.lock_files import Holder
from hf_lgt.utils.run_lock import RunLock, Times, check_held, clear_lock, lock_path
from tests.conftest import ROOT

QUICK = Times(beat=0.05, dead_after=1.0, settle=0.2)
TRY = """
import sys
if sys.argv[2] == "without flock":
    sys.modules["fcntl"] = None
from pathlib import Path
from hf_lgt.errors import ConfigError
from hf_lgt.locks import RunLock, Times
print("ready", flush=True)
sys.stdin.readline()
try:
    with RunLock.acquire(Path(sys.argv[1]), times=Times(0.05, 1.0, 1.5)) as lock:
        print("won", *lock.news, flush=True)
        sys.stdin.readline()
except ConfigError as error:
    print("refused", error, flush=True)
"""
KERNEL = ["with flock", "without flock"]


@contextmanager
def contenders(run_dir, n, kernel="with flock"):
    """Processes that wait for a line, try to take the lock, and hold it until another line."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRY, str(run_dir), kernel],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for _ in range(n)
    ]  # fmt: skip
    try:
        for one in started:
            assert one.stdout.readline() == "ready\n"
        yield started
    finally:
        for one in started:
            one.kill()
            one.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def told(process):
    return process.stdout.readline().strip()


def leave(run_dir, **different):
    """Put the lock of a holder in place that is as this process but for some of its fields."""
    holder = replace(Holder.this(flock=False), **different)
    lock_path(run_dir).write_text(json.dumps(asdict(holder)))
    return holder


def wait_until(reached):
    end = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.001)


@contextmanager
def touched(path):
    """A lock's file that something on another machine keeps touching."""
    ended = threading.Event()

    def work():
        while not ended.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("kernel", KERNEL)
@pytest.mark.parametrize("stale", [False, True])
def test_of_eight_processes_at_once_one_wins(tmp_path, kernel, stale):
    if stale:
        leave(tmp_path / "run", mark="another", flock=kernel == "with flock")
    with contenders(tmp_path / "run", 8, kernel) as processes:
        for one in processes:
            go(one)
        answers = [told(one) for one in processes]
        won = [p for p, answer in zip(processes, answers, strict=True) if answer.startswith("won")]
        assert len(won) == 1, answers
        name = f"is being written by process {won[0].pid} on host {socket.gethostname()} since "
        refused = [answer for answer in answers if answer.startswith("refused")]
        assert len(refused) == 7
        # without a kernel's lock, one of those that lost may stand in the file for a moment
        assert all(name in answer or kernel == "without flock" for answer in refused)
        assert RunLock.holder(tmp_path / "run").pid == won[0].pid
        go(won[0])
        won[0].wait()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kernel", KERNEL)
def test_a_killed_holder_is_taken_over_with_a_line_of_news(tmp_path, kernel, monkeypatch):
    if kernel == "without flock":
        monkeypatch.setattr(lock_files, "fcntl", None)
    with contenders(tmp_path / "run", 1, kernel) as (process,):
        go(process)
        assert told(process) == "won"
        with pytest.raises(ConfigError, match=f"by process {process.pid} on host .* since ..:..:..; wait"):
            RunLock.acquire(tmp_path / "run", times=QUICK)
        process.kill()  # not waited for: it is a zombie, which writes nothing any more
        wait_until(lambda: lock_files.process_mark(process.pid) is None)
        assert RunLock.holder(tmp_path / "run") is None
        with RunLock.acquire(tmp_path / "run", times=QUICK) as lock:
            host = socket.gethostname()
            assert lock.news == [
                f"took over the lock of process {process.pid} on host {host}, which has ended"
            ]
            assert RunLock.holder(tmp_path / "run") == lock.mine
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_refused_within_one_process_too_and_the_fault_names_the_run(tmp_path):
    with RunLock.acquire(tmp_path / "run"):
        with pytest.raises(ConfigError) as refused:
            RunLock.acquire(tmp_path / "run")
        (fault,) = refused.value.faults
        start = f"name: {tmp_path / 'run'} is being written by process {os.getpid()} on host "
        assert fault.startswith(start)
        assert fault.endswith("; wait for it, stop it, or choose another name")
    RunLock.acquire(tmp_path / "run").release()


def test_a_pid_that_another_process_has_now_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_files, "fcntl", None)
    leave(tmp_path / "run")
    assert RunLock.holder(tmp_path / "run").pid == os.getpid()
    leave(tmp_path / "run", mark="1")
    assert RunLock.holder(tmp_path / "run") is None
    with RunLock.acquire(tmp_path / "run", times=QUICK) as lock:
        assert len(lock.news) == 1


@pytest.mark.parametrize("kernel", KERNEL)
def test_a_lock_of_another_machine_is_held_while_it_is_touched(tmp_path, kernel, monkeypatch):
    if kernel == "without flock":
        monkeypatch.setattr(lock_files, "fcntl", None)
    there = leave(tmp_path / "run", host="elsewhere", place="another boot", flock=True)
    lines = []
    with touched(lock_path(tmp_path / "run")):
        with pytest.raises(ConfigError, match=f"process {there.pid} on host elsewhere since"):
            RunLock.acquire(tmp_path / "run", times=QUICK, say=lines.append)
        assert RunLock.holder(tmp_path / "run", times=QUICK) == there
    assert "whether that is still there" in lines[0]
    # its clock may be wrong by hours: only whether the time changes counts
    os.utime(lock_path(tmp_path / "run"), (time.time() + 9e4,) * 2)
    begun = time.monotonic()
    assert RunLock.holder(tmp_path / "run", times=QUICK) is None
    assert time.monotonic() - begun >= QUICK.dead_after
    slow = Times(dead_after=QUICK.dead_after, settle=QUICK.settle)
    lines.clear()
    with RunLock.acquire(tmp_path / "run", times=slow, say=lines.append) as lock:
        assert "on host elsewhere, which has ended" in lock.news[0]
    assert lines == [], "watched twice"


def test_a_held_lock_is_touched_and_tells_when_it_was_lost(tmp_path):
    with RunLock.acquire(tmp_path / "run", times=QUICK) as lock:
        before = lock.path.stat().st_mtime_ns
        wait_until(lambda: lock.path.stat().st_mtime_ns != before)
        assert not lock.lost
        check_held(tmp_path / "run")
        taken = leave(tmp_path / "run")
        lock._thread.join()
        assert lock.lost
        with pytest.raises(RunError, match="another process has taken over its lock"):
            check_held(tmp_path / "run")
    assert Holder.read(lock.path.read_bytes()) == taken, "the lock of another is not removed"


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe\x00", b"[1]", b'{"pid": 1}', b"null", b"[" * 4000, b"7" * 100_000],
    ids=["empty", "cut", "bytes", "list", "lacking", "null", "deep", "huge"],
)
def test_a_lock_that_cannot_be_read_is_watched_then_taken(tmp_path, text):
    lock_path(tmp_path / "run").write_bytes(text)
    lines = []
    with RunLock.acquire(tmp_path / "run", times=QUICK, say=lines.append) as lock:
        assert lock.news == ["took over the lock of a process that it does not name, which has ended"]
        assert len(lines) == 1
    lock_path(tmp_path / "run").write_bytes(text)
    with touched(lock.path), pytest.raises(ConfigError, match="a process that it does not name;"):
        RunLock.acquire(tmp_path / "run", times=QUICK)


def test_a_pipe_in_the_place_of_a_lock_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(lock_path(tmp_path / "run"))
    assert RunLock.holder(tmp_path / "run", times=QUICK) is None
    with pytest.raises(ConfigError, match="output_dir: "):
        RunLock.acquire(tmp_path / "run", times=QUICK)


def test_fields_of_other_types_are_no_holder():
    good = asdict(Holder.this(flock=True))
    assert Holder.read(json.dumps(good).encode()) == Holder(**good)
    for name in good:
        assert Holder.read(json.dumps({**good, name: None}).encode()) == Holder()
    assert str(Holder(host="a\nb\x1b", pid=3)) == "process 3 on host ab"
    assert Holder(started="yesterday").since() == ""
    assert Holder(started="2020-01-02T03:04:05+00:00").since().startswith(" since 2020-01-0")


def test_folders_that_it_made_go_while_they_are_empty(tmp_path):
    run_dir = tmp_path / "a/b/run"
    RunLock.acquire(run_dir).release()
    assert list(tmp_path.iterdir()) == []
    with RunLock.acquire(run_dir):
        run_dir.mkdir()
    assert list(run_dir.parent.iterdir()) == [run_dir]
    run_dir.rmdir()
    RunLock.acquire(run_dir).release()
    assert run_dir.parent.is_dir(), "was there before"


def test_looking_writes_nothing(tmp_path):
    assert RunLock.holder(tmp_path / "a/b/run") is None
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_killed_processes_go_and_other_files_stay(tmp_path):
    path = lock_path(tmp_path / "run")
    path.with_name(path.name + ".12-0123abcd").write_text("")
    others = [path.with_name(path.name + ".mine"), tmp_path / ".runs.lock"]
    for other in others:
        other.write_text("")
    with RunLock.acquire(tmp_path / "run"):
        assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_only_the_lock_of_a_killed_process_is_cleared(tmp_path):
    path = lock_path(tmp_path / "run")
    clear_lock(tmp_path / "run")
    for different, stays in (
        ({}, True),
        ({"place": "elsewhere"}, True),
        ({"mark": "0", "flock": True}, False),
    ):
        leave(tmp_path / "run", **different)
        clear_lock(tmp_path / "run")
        assert path.exists() == stays
    path.write_text("no lock")
    clear_lock(tmp_path / "run")
    assert path.exists()
    with RunLock.acquire(tmp_path / "other"):
        clear_lock(tmp_path / "other")
        assert lock_path(tmp_path / "other").exists()


def test_links_to_a_run_lead_to_one_lock(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with RunLock.acquire(tmp_path / "link"), pytest.raises(ConfigError, match="being written"):
        RunLock.acquire(tmp_path.relative_to(tmp_path) / "run")


def test_a_place_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for run_dir in (tmp_path / "file/run", tmp_path / ("n" * 250), tmp_path / "file/a/b"):
        with pytest.raises(ConfigError, match=r"^output_dir: "):
            RunLock.acquire(run_dir)
    lock_path(tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"^output_dir: .*Is a directory"):
        RunLock.acquire(tmp_path / "run")
    assert (tmp_path / "file").read_text() == ""


def test_a_forked_child_that_outlives_its_parent_keeps_no_lock(tmp_path):
    code = f"""
import os, sys, time
from pathlib import Path
from hf_lgt.locks import RunLock
lock = RunLock.acquire(Path({str(tmp_path / "run")!r}))
if os.fork() == 0:
    lock.release()  # not the child's to give back
    os.close(1)
    time.sleep(60)
    os._exit(0)
held = RunLock.holder(Path({str(tmp_path / "run")!r}))
print(held == lock.mine, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        assert parent.stdout.readline() == "True\n"
        parent.kill()
        parent.wait()
        os.killpg(parent.pid, 0)  # the child is there
        with RunLock.acquire(tmp_path / "run") as lock:
            assert len(lock.news) == 1
    finally:
        os.killpg(parent.pid, 9)
        parent.communicate()


def test_a_program_that_is_started_keeps_no_lock(tmp_path):
    lock = RunLock.acquire(tmp_path / "run")
    assert not os.get_inheritable(lock._handle)
    lock.release()
    lock.release()


def test_a_filesystem_without_hard_links_gives_names_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(lock_files.os, "link", refuse)
    with RunLock.acquire(tmp_path / "run") as lock:
        assert RunLock.holder(tmp_path / "run") == lock.mine
        with pytest.raises(ConfigError, match="being written"):
            RunLock.acquire(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_filesystem_without_flock_is_held_by_pid(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock_files.fcntl, "flock", refuse)
    with RunLock.acquire(tmp_path / "run") as lock:
        assert not lock.mine.flock
        assert lock._handle is None
        with pytest.raises(ConfigError, match="being written"):
            RunLock.acquire(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_process_is_told_from_another_of_its_pid(monkeypatch, tmp_path):
    with contenders(tmp_path / "run", 1) as (other,):
        for proc in (lock_files._PROC, tmp_path):  # and a system without one
            monkeypatch.setattr(lock_files, "_PROC", proc)
            mine, its = lock_files.process_mark(os.getpid()), lock_files.process_mark(other.pid)
            assert mine
            assert lock_files.process_mark(os.getpid()) == mine != its
            assert its
            assert lock_files.process_mark(-1) is lock_files.process_mark(10**12) is None
            assert lock_files.place().startswith(lock_files.boot())
    assert lock_files.process_mark(other.pid) is None
    assert lock_files.place() == lock_files.boot() == socket.gethostname()


def test_it_gives_up_on_a_name_that_never_settles(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "ATTEMPTS", 3)
    lock_path(tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="other processes take and leave it"):
        RunLock.acquire(tmp_path / "run")


def in_thread(run_dir):
    """Take the lock in a thread; gives the thread and where its result or error comes."""
    results = []

    def work():
        try:
            results.append(RunLock.acquire(run_dir, times=QUICK))
        except ConfigError as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, results


def test_who_waited_for_a_file_that_was_replaced_looks_at_the_new_one(tmp_path):
    run_dir, path = tmp_path / "run", lock_path(tmp_path / "run")
    leave(run_dir, mark="another", flock=True)
    with ExitStack() as held:
        with lock_files.opened(path, os.O_RDWR) as old:
            assert lock_files.flock(old)
            thread, results = in_thread(run_dir)
            time.sleep(0.1)  # it has opened the old file by now, and tries again and again
            path.rename(tmp_path / "old")
            new = leave(run_dir, pid=1, flock=True)
            assert lock_files.flock(held.enter_context(lock_files.opened(path, os.O_RDWR)))
        thread.join()
    assert "being written by process 1 on" in str(results[0])
    assert Holder.read(path.read_bytes()) == new


def test_of_two_that_no_kernel_orders_the_last_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_files, "fcntl", None)
    run_dir, path = tmp_path / "run", lock_path(tmp_path / "run")
    stale = leave(run_dir, mark="another")
    thread, results = in_thread(run_dir)
    wait_until(lambda: Holder.read(path.read_bytes()) != stale)
    other = leave(run_dir)
    thread.join()
    assert "being written by" in str(results[0])
    assert Holder.read(path.read_bytes()) == other


def test_a_place_where_no_folder_can_be_made_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"output_dir: /proc/nothing: no folder can be made there"):
        RunLock.acquire(Path("/proc/nothing/run"), times=QUICK)
