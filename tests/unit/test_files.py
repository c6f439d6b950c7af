import pytest

from hf_lgt.files import atomic_directory, atomic_file, write_text


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


def test_a_folder_is_replaced_only_when_asked_and_only_when_the_new_one_is_there(tmp_path):
    path = tmp_path / "it"
    write_text(path / "old", "precious")
    with pytest.raises(FileExistsError), atomic_directory(path):
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
        if target == path and self.name.endswith(tuple("0123456789")):
            raise OSError("cannot rename")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", failing)
    with pytest.raises(OSError, match="cannot rename"), atomic_directory(path, replace=True):
        pass
    assert names(path) == ["old"]
    assert names(tmp_path) == ["it"]


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
