import errno
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest

from hf_lgt.utils import atomic_io as files
from hf_lgt.utils.atomic_io import (
    atomic_directory,
    atomic_file,
    clear_drafts,
    is_draft,
    scratch_folder,
    write_text,
)
from tests.conftest import ROOT

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from hf_lgt.utils import atomic_io as files

path, event, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seen = []

def hook(name, args):
    if name == event:
        seen.append(args)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
with files.atomic_directory(path, replace=True) as draft:
    (draft / "new").write_text("half")
    os.symlink("new", draft / "b")
"""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def left_by_killed(path, suffix=""):
    """The name of a draft as a process that was killed leaves it."""
    with mock.patch("hf_lgt.utils.process_id.process_mark", return_value="of one that has ended"):
        return files._beside(path.name, path, suffix)


def test_a_folder_appears_whole(tmp_path):
    with atomic_directory(tmp_path / "below" / "it") as draft:
        (draft / "a").write_text("1")
        assert not (tmp_path / "below" / "it").exists()
    assert (tmp_path / "below" / "it" / "a").read_text() == "1"
    assert names(tmp_path / "below") == ["it"]


def test_a_folder_does_not_appear_when_writing_fails(tmp_path):
    with pytest.raises(OSError, match="disk full"), atomic_directory(tmp_path / "it") as draft:
        (draft / "a").write_text("1")
        raise OSError("disk full")
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [atomic_directory, atomic_file])
def test_folders_above_do_not_stay_when_writing_fails(tmp_path, write):
    write_text(tmp_path / "there" / "other", "precious")
    for path in (tmp_path / "a" / "b" / "it", tmp_path / "there" / "c" / "it"):
        with pytest.raises(OSError, match="disk full"), write(path):
            raise OSError("disk full")
    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == ["other"]


def test_a_folder_is_replaced_only_when_asked_and_only_when_the_new_one_is_there(tmp_path):
    path = tmp_path / "it"
    write_text(path / "old", "precious")
    with pytest.raises(FileExistsError, match="it'"), atomic_directory(path):
        pass
    with pytest.raises(KeyboardInterrupt), atomic_directory(path, replace=True):
        raise KeyboardInterrupt
    assert names(path) == ["old"]
    with atomic_directory(path, replace=True) as draft:
        (draft / "new").write_text("")
    assert names(path) == ["new"]
    assert names(tmp_path) == ["it"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "it"
    write_text(path / "old", "precious")
    rename = type(path).rename

    def failing(self, target):
        if target == path and not self.name.endswith(".old"):
            raise OSError("cannot rename")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", failing)
    with pytest.raises(OSError, match="cannot rename"), atomic_directory(path, replace=True):
        pass
    assert names(path) == ["old"]
    assert names(tmp_path) == ["it"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("early", [False, True])
def test_a_folder_that_appears_meanwhile_stays_and_the_new_one_is_reported_of(
    tmp_path, monkeypatch, replace, early
):
    path = tmp_path / "it"
    # the second one comes after the last look
    rename = type(path).rename

    def late(self, target):
        if target == path and not early:
            write_text(path / "theirs", "precious")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(type(path), "rename", late)
        with pytest.raises(FileExistsError) as error, atomic_directory(path, replace=replace) as draft:
            write_text(draft / "mine", "hours of work")
            if early:
                write_text(path / "theirs", "precious")
    assert names(path) == ["theirs"]
    assert error.value.filename == str(path)
    kept, it = names(tmp_path)
    assert it == "it"
    assert error.value.strerror.endswith(f"the new folder was left at {tmp_path / kept}")
    assert not is_draft(tmp_path / kept), "a draft would be removed"
    assert (tmp_path / kept / "mine").read_text() == "hours of work"


def test_a_folder_that_changed_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "it"
    write_text(path / "old", "old")
    with pytest.raises(FileExistsError), atomic_directory(path, replace=True):
        write_text(path / "notes.txt", "precious")
    assert names(path) == ["notes.txt", "old"]


def test_of_two_that_write_at_once_neither_destroys_the_other(tmp_path):
    path = tmp_path / "it"
    with pytest.raises(FileExistsError), atomic_directory(path, replace=True) as one:
        write_text(one / "one", "1")
        with atomic_directory(path, replace=True) as other:
            assert (one / "one").read_text() == "1"
            write_text(other / "other", "2")
    assert names(path) == ["other"]
    (kept,) = tmp_path.glob(".it.kept-*")
    assert names(kept) == ["one"]


def test_a_file_keeps_its_old_text_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ValueError, match="no"), atomic_file(path) as draft:
        draft.write_text("half of the n")
        raise ValueError("no")
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def full(how):
    """What a full disk does to those who write."""
    if how == "python":
        with open("/dev/full", "w") as file:
            file.write("x")
    elif how == "arrow":  # which would remove the device
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: No space left on device")
    else:
        try:
            full("python")
        except OSError as error:
            raise RuntimeError("the rows cannot be generated") from error


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("how", ["python", "arrow", "wrapped"])
@pytest.mark.parametrize("writer", [atomic_directory, atomic_file, scratch_folder])
def test_a_full_disk_is_met_with_the_name_of_what_could_not_be_written(tmp_path, writer, how):
    path = tmp_path if writer is scratch_folder else tmp_path / "it"
    with pytest.raises(OSError, match="] No space left on device: ") as caught, writer(path):
        full(how)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("event", "number", "stays"),
    [
        ("os.symlink", 1, "old"),  # within the new folder
        ("os.rename", 1, "old"),  # before the old one is moved aside
        ("os.rename", 2, "old"),  # after that
        ("shutil.rmtree", 1, "new"),  # before the old one is removed
    ],
)
def test_what_a_killed_writer_left_goes_and_a_folder_that_it_moved_aside_comes_back(
    tmp_path, event, number, stays
):
    path = tmp_path / "it"
    write_text(path / "old", "precious")
    done = subprocess.run([sys.executable, "-c", KILLED, path, event, str(number)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert [name for name in names(tmp_path) if name != "it"] != []
    clear_drafts(tmp_path, "another")
    assert [name for name in names(tmp_path) if name != "it"] != []
    clear_drafts(tmp_path, "it")
    assert names(tmp_path) == ["it"]
    assert stays in names(path)


def test_the_next_writer_of_a_folder_removes_what_a_killed_one_left(tmp_path):
    left = left_by_killed(tmp_path / "it")
    write_text(left / "half", "a fold")
    others = [".it", ".it.bak", ".it.1-0123abc", "it.1-0123abcd", ".other.1-0123abcd", ".it.kept-0123abcd"]
    for name in others:
        (tmp_path / name).mkdir()
    with atomic_directory(tmp_path / "it") as draft:
        assert not left.exists()
        clear_drafts(tmp_path, "it")
        assert draft.is_dir(), "that of a process that runs stays"
    assert names(tmp_path) == sorted([*others, "it"])


def test_a_draft_of_another_machine_is_kept_for_a_day_where_that_may_still_write_it(tmp_path, monkeypatch):
    path = tmp_path / "it"
    with mock.patch("hf_lgt.utils.process_id.place", return_value="another machine"):
        drafts = [files._beside("it", path), files._beside("it", path, ".png")]
    drafts.append(tmp_path / ".it.12-0123abcd")  # of an earlier version, or of the user
    for draft in drafts:
        write_text(draft / "below/half", "a fi")
    clear_drafts(tmp_path, "it")
    assert all(draft.is_dir() for draft in drafts)
    clear_drafts(tmp_path, "it", alone=True)
    assert names(tmp_path) == []
    for draft in drafts:
        write_text(draft / "below/half", "a fi")
    now = time.time()
    monkeypatch.setattr(files.time, "time", lambda: now + files.ABANDONED_SECONDS + 60)
    clear_drafts(tmp_path, "it")
    assert names(tmp_path) == [".it.12-0123abcd"]


def test_what_another_process_clears_at_the_same_time_is_no_error(tmp_path, monkeypatch):
    old = left_by_killed(tmp_path / "it", ".old")
    old.mkdir()
    rename = type(old).rename

    def late(self, target):
        rename(self, target)
        return rename(self, target)

    monkeypatch.setattr(type(old), "rename", late)
    clear_drafts(tmp_path)
    assert names(tmp_path) == ["it"]
