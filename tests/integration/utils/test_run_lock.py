"""The writer lock, with real processes."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from hf_lgt.utils import process_id
from hf_lgt.utils import run_lock as locks
from hf_lgt.utils.errors import ConfigError, RunError
from hf_lgt.utils.run_lock import RunLock, check_held, clear_lock, lock_path
from tests.conftest import ROOT

TRY = """
import logging, sys
from pathlib import Path
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.run_lock import RunLock
print("ready", flush=True)
sys.stdin.readline()
news = []
logging.basicConfig(level=logging.INFO)
logging.getLogger().handlers[0].emit = lambda record: news.append(record.getMessage())
try:
    with RunLock.acquire(Path(sys.argv[1])):
        print("won", *news, flush=True)
        sys.stdin.readline()
except ConfigError as error:
    print("refused", error, flush=True)
"""
HERE = f"process {os.getpid()} on host {socket.gethostname()}"


@contextmanager
def contenders(run_dir, n):
    """Processes that wait for a line, try to take the lock, and hold it until another line."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRY, str(run_dir)],
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


def holder_file(run_dir):
    path = lock_path(run_dir)
    return path.with_name(f"{path.name}.holder")


def leave(run_dir, text):
    """Put in place what a killed holder leaves."""
    lock_path(run_dir).touch()
    holder_file(run_dir).write_bytes(text)


def wait_until(reached):
    end = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("stale", [False, True])
def test_of_eight_processes_at_once_one_wins(tmp_path, stale):
    if stale:
        leave(tmp_path / "run", b"process 1 on host elsewhere")
    with contenders(tmp_path / "run", 8) as processes:
        for one in processes:
            go(one)
        answers = [told(one) for one in processes]
        won = [p for p, answer in zip(processes, answers, strict=True) if answer.startswith("won")]
        assert len(won) == 1, answers
        holder = f"process {won[0].pid} on host {socket.gethostname()}"
        refused = [answer for answer in answers if answer.startswith("refused")]
        assert len(refused) == 7
        assert all(f"is being written by {holder} since " in answer for answer in refused)
        assert RunLock.holder(tmp_path / "run") == holder
        go(won[0])
        won[0].wait()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_is_taken_over_with_a_line_of_news(tmp_path, news):
    with contenders(tmp_path / "run", 1) as (process,):
        go(process)
        assert told(process) == "won"
        with pytest.raises(ConfigError, match=f"by process {process.pid} on host .* since ..:..:..; wait"):
            RunLock.acquire(tmp_path / "run")
        process.kill()  # not waited for: it is a zombie, which writes nothing any more
        wait_until(lambda: process_id.process_mark(process.pid) is None)
        assert RunLock.holder(tmp_path / "run") is None
        with RunLock.acquire(tmp_path / "run") as lock:
            host = socket.gethostname()
            assert news == [f"took over the lock of process {process.pid} on host {host}, which has ended"]
            assert RunLock.holder(tmp_path / "run") == lock.mine == HERE
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_holder_of_another_host_left_is_taken_at_once(tmp_path, news):
    leave(tmp_path / "run", b"process 1 on host elsewhere")
    assert RunLock.holder(tmp_path / "run") is None
    with RunLock.acquire(tmp_path / "run"):
        assert news == ["took over the lock of process 1 on host elsewhere, which has ended"]


def test_the_second_is_refused_within_one_process_too_and_the_fault_names_the_run(tmp_path):
    with RunLock.acquire(tmp_path / "run"):
        with pytest.raises(ConfigError) as refused:
            RunLock.acquire(tmp_path / "run")
        (fault,) = refused.value.faults
        assert fault.startswith(f"name: {tmp_path / 'run'} is being written by {HERE} since ")
        assert fault.endswith("; wait for it, stop it, or choose another name")
        os.utime(holder_file(tmp_path / "run"), (1e9, 1e9))
        with pytest.raises(ConfigError, match=r" since 2001-09-0. ..:..:..; wait"):
            RunLock.acquire(tmp_path / "run")
    RunLock.acquire(tmp_path / "run").release()


def test_who_comes_while_another_one_leaves_gets_the_lock(tmp_path):
    lock = RunLock.acquire(tmp_path / "run")
    leaving = threading.Timer(0.1, lock.release)
    leaving.start()
    with RunLock.acquire(tmp_path / "run"):
        assert not leaving.is_alive()
        assert RunLock.holder(tmp_path / "run") == HERE, "not the file that the other one removed"


def test_a_writer_whose_lock_another_one_has_stops(tmp_path):
    lock = RunLock.acquire(tmp_path / "run")
    check_held(tmp_path / "run")
    lock_path(tmp_path / "run").unlink()
    check_held(tmp_path / "run")
    with contenders(tmp_path / "run", 1) as (process,):
        go(process)
        assert told(process).startswith("won")
        with pytest.raises(RunError, match="another process has taken over its lock"):
            check_held(tmp_path / "run")
        lock.release()
        assert RunLock.holder(tmp_path / "run").startswith(f"process {process.pid} on")
    check_held(tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"", "a process that it does not name"),
        (b"\xff\xfe\x00", "a process that it does not name"),
        (b"7" * 100_000, "a process that it does not name"),
        (b"\x1b[31m\n\r", "[31m"),
    ],
    ids=["empty", "bytes", "huge", "unprintable"],
)
def test_a_holder_that_cannot_be_read_is_refused_without_its_name_or_taken(tmp_path, text, name):
    with RunLock.acquire(tmp_path / "run"):
        holder_file(tmp_path / "run").write_bytes(text)
        assert RunLock.holder(tmp_path / "run") == name
    leave(tmp_path / "run", text)
    RunLock.acquire(tmp_path / "run").release()
    assert list(tmp_path.iterdir()) == []


def test_pipes_and_links_in_the_place_of_a_lock_are_not_waited_for_or_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    os.mkfifo(lock_path(tmp_path / "run"))
    os.mkfifo(holder_file(tmp_path / "run"))
    assert RunLock.holder(tmp_path / "run") is None
    RunLock.acquire(tmp_path / "run").release()
    holder_file(tmp_path / "run").symlink_to(tmp_path / "mine")
    RunLock.acquire(tmp_path / "run").release()
    lock_path(tmp_path / "run").symlink_to(tmp_path / "mine")
    for use in (RunLock.acquire, RunLock.holder):
        with pytest.raises(ConfigError, match=r"output_dir: .*\.run\.lock: "):
            use(tmp_path / "run")
    assert (tmp_path / "mine").read_text() == "precious"


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


def test_only_the_lock_of_a_process_that_has_ended_is_cleared(tmp_path):
    clear_lock(tmp_path / "run")
    leave(tmp_path / "run", b"process 1 on host elsewhere")
    clear_lock(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    with RunLock.acquire(tmp_path / "run"):
        clear_lock(tmp_path / "run")
        assert RunLock.holder(tmp_path / "run") == HERE


def test_links_to_a_run_lead_to_one_lock(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with RunLock.acquire(tmp_path / "link"), pytest.raises(ConfigError, match="being written"):
        RunLock.acquire(tmp_path.relative_to(tmp_path) / "run")


def test_a_place_where_nothing_can_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    for run_dir in (tmp_path / "file/run", tmp_path / ("n" * 250), tmp_path / "file/a/b"):
        with pytest.raises(ConfigError, match=r"^output_dir: "):
            RunLock.acquire(run_dir)
    for path in (lock_path(tmp_path / "run"), holder_file(tmp_path / "run")):
        path.mkdir()
        with pytest.raises(ConfigError, match=r"^output_dir: .*(Is a directory|not permitted)"):
            RunLock.acquire(tmp_path / "run")
        path.rmdir()
        assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == ""
    with pytest.raises(ConfigError, match=r"output_dir: /proc/nothing: "):
        RunLock.acquire(Path("/proc/nothing/run"))


def test_a_folder_that_vanishes_meanwhile_is_made_again(tmp_path, monkeypatch):
    make, times = locks.make_folders, []

    def made_then_gone(folder, made):
        make(folder, made)
        times.append(folder)
        if len(times) < 3:
            folder.rmdir()
            monkeypatch.setattr(filelock._api, "ensure_directory_exists", lambda path: None)

    monkeypatch.setattr(locks, "make_folders", made_then_gone)
    with RunLock.acquire(tmp_path / "a/run"):
        assert len(times) == 3


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_an_error_that_says_what_to_do(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(ConfigError, match=r"output_dir: .* no locks \(flock\).*; put output_dir on one"):
        RunLock.acquire(tmp_path / "a/run")
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_no_mistake_of_the_user(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(locks, "open", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        RunLock.acquire(tmp_path / "a/run")
    assert list(tmp_path.iterdir()) == []


def test_all_who_may_write_a_folder_may_take_its_lock(tmp_path):
    with RunLock.acquire(tmp_path / "run") as lock:
        assert lock.path.stat().st_mode & 0o777 == 0o666


def test_a_forked_child_that_outlives_its_parent_keeps_no_lock(tmp_path, news):
    code = f"""
import os, sys, time
from pathlib import Path
from hf_lgt.utils.run_lock import RunLock
lock = RunLock.acquire(Path({str(tmp_path / "run")!r}))
if os.fork() == 0:
    lock.release()  # not the child's to give back
    os.close(1)
    time.sleep(60)
    os._exit(0)
time.sleep(0.2)
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
        with RunLock.acquire(tmp_path / "run"):
            assert len(news) == 1
    finally:
        os.killpg(parent.pid, 9)
        parent.communicate()


def test_a_program_that_is_started_keeps_no_lock(tmp_path):
    lock = RunLock.acquire(tmp_path / "run")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    lock.release()
    lock.release()
    leave(tmp_path / "run", b"")
    RunLock.acquire(tmp_path / "run").release()
    child.communicate(b"\n")


def test_a_process_is_reported_from_another_of_its_pid(monkeypatch, tmp_path):
    with contenders(tmp_path / "run", 1) as (other,):
        for proc in (process_id._PROC, tmp_path):  # and a system without one
            monkeypatch.setattr(process_id, "_PROC", proc)
            mine, its = process_id.process_mark(os.getpid()), process_id.process_mark(other.pid)
            assert mine
            assert process_id.process_mark(os.getpid()) == mine != its
            assert its
            assert process_id.process_mark(-1) is process_id.process_mark(10**12) is None
            assert process_id.place().startswith(process_id.boot())
    assert process_id.process_mark(other.pid) is None
    assert process_id.place() == process_id.boot() == socket.gethostname()
