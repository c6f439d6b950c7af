import errno
import os

import pytest

from hf_lgt.files import atomic_directory, atomic_file, scratch_folder, write_text


def names(folder):
    return sorted(p.name for p in folder.iterdir())


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
def test_a_folder_that_appears_meanwhile_stays_and_the_new_one_is_told_of(
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
    assert f"the new folder was left at {draft}" in error.value.strerror
    assert (draft / "mine").read_text() == "hours of work"
    assert names(tmp_path) == sorted([draft.name, "it"])


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
    assert names(one) == ["one"]


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
