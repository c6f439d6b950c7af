import shutil

import pytest

from hf_lgt.models.local_hub import folder_hash, is_repository, list_revisions, snapshot, write_revision
from hf_lgt.utils.errors import ConfigError


def writes(text, name="model.bin"):
    return lambda folder: (folder / name).write_text(text) and None


@pytest.fixture
def repository(tmp_path):
    """Three revisions, two of them with the same files."""
    path = tmp_path / "repo"
    write_revision(path, "step-100", writes("a hundred"))
    write_revision(path, "step-20", writes("twenty"))
    write_revision(path, "main", writes("a hundred"))
    return path


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_revisions_are_listed_by_number_and_read_by_branch_or_commit(repository):
    found = list_revisions(repository)
    assert list(found) == ["main", "step-20", "step-100"]
    assert found["main"] == found["step-100"] != found["step-20"]
    assert all(len(commit) == 40 and int(commit, 16) >= 0 for commit in found.values())
    assert (snapshot(repository, None) / "model.bin").read_text() == "a hundred"
    assert (snapshot(repository, "step-20") / "model.bin").read_text() == "twenty"
    assert snapshot(repository, found["step-20"]) == snapshot(repository, "step-20")
    # nothing but these is left
    assert sorted(p.name for p in repository.iterdir()) == ["refs", "snapshots"]
    assert sorted(p.name for p in (repository / "snapshots").iterdir()) == sorted(set(found.values()))


def test_a_commit_depends_on_names_and_contents_alone(repository, tmp_path):
    found = list_revisions(repository)
    other = tmp_path / "other"
    assert write_revision(other, "x", writes("twenty")) == found["step-20"]
    assert write_revision(other, "y", writes("twenty", "weights.bin")) != found["step-20"]
    assert write_revision(other, "deep/z", writes("twenty!")) not in found.values()
    assert list(list_revisions(other)) == ["deep/z", "x", "y"]


def test_an_unknown_revision_is_reported_with_those_that_are_there(repository):
    with pytest.raises(
        ConfigError, match=r"model\.revision: .*'step-10'; did you mean .*known: main, step-20"
    ):
        snapshot(repository, "step-10")
    with pytest.raises(ConfigError, match=r"^--revision: .*unknown revision '0000"):
        snapshot(repository, "0" * 40, key="--revision")
    (repository / "refs/main").unlink()
    with pytest.raises(ConfigError, match=r"no 'main' \(known: step-20, step-100\); is it unfinished"):
        snapshot(repository)


def test_writing_again_changes_nothing_and_other_files_need_leave(repository):
    before = files(repository)
    times = {p: p.stat().st_mtime_ns for p in repository.rglob("*") if p.is_file()}
    write_revision(repository, "step-20", writes("twenty"))
    with pytest.raises(FileExistsError, match="step-20"):
        write_revision(repository, "step-20", writes("others"))
    assert files(repository) == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
    write_revision(repository, "step-20", writes("others"), move=True)
    assert (snapshot(repository, "step-20") / "model.bin").read_text() == "others"


def test_a_damaged_snapshot_is_written_anew(repository):
    place = snapshot(repository, "step-20")
    (place / "model.bin").write_text("damage")
    write_revision(repository, "step-20", writes("twenty"))
    assert (place / "model.bin").read_text() == "twenty"
    assert folder_hash(place) == place.name


def test_a_write_that_fails_leaves_nothing(repository):
    before = files(repository)

    def fail(folder):
        (folder / "model.bin").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_revision(repository, "step-200", fail)
    assert files(repository) == before
    assert sorted(p.name for p in repository.iterdir()) == ["refs", "snapshots"]


@pytest.mark.parametrize("name", ["", "../up", "a//b", ".hidden", "0" * 40, "a b", "/etc"])
def test_a_name_that_is_no_branch_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="can be no name of a branch"):
        write_revision(tmp_path / "repo", name, writes("x"))
    assert not (tmp_path / "repo").exists()


def test_a_folder_of_the_hubs_cache_reads_the_same(tmp_path):
    """There, snapshots hold links to blobs, refs may be nested, and one may lack its files."""
    cache, commit = tmp_path / "models--org--name", "ab" * 20
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs/123").write_text("weights")
    (cache / "snapshots" / commit).mkdir(parents=True)
    (cache / "snapshots" / commit / "model.safetensors").symlink_to("../../blobs/123")
    (cache / "refs/pr").mkdir(parents=True)
    (cache / "refs/pr/1").write_text(commit)
    (cache / "refs/main").write_text("cd" * 20)
    (cache / "refs/.main.123").write_text(commit)
    assert is_repository(cache)
    assert list_revisions(cache) == {"pr/1": commit}
    assert (snapshot(cache, "pr/1") / "model.safetensors").read_text() == "weights"


def test_other_folders_are_no_repository(tmp_path, repository):
    assert is_repository(repository)
    assert not is_repository(tmp_path)
    assert not is_repository(tmp_path / "nowhere")
    shutil.rmtree(repository / "refs")
    assert not is_repository(repository)
