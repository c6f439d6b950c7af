"""Which files of a folder or repository are read: all of them inside it, whatever it says itself."""

import json
import os

import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import constants

from tests.unit.data.test_loading import opened, refused
from tests.unit.data.test_text_tables import HEAD, ONE, lines, push, rows, table, write

SECRET = {**ONE, "prompt": "secret"}
BOTH = {"train.jsonl": lines([ONE]), "test.jsonl": lines([ONE])}


def card(*configs):
    return "---\n" + json.dumps({"configs": configs}) + "\n---\n# A dataset\n"


def named(data_files, **more):
    return card({"config_name": "default", "data_files": data_files, **more})


@pytest.fixture
def outside(tmp_path):
    """A folder beside the dataset's."""
    return write(tmp_path / "outside", {"other.jsonl": lines([SECRET]), "train.jsonl": lines([SECRET])})


ELSEWHERE = [
    "../outside/other.jsonl", "sub/../../outside/other.jsonl", "..", "{outside}/other.jsonl",
    "{outside}/*.jsonl", "file://{outside}/other.jsonl", "hf://datasets/org/secret/train.jsonl", "http://127.0.0.1:9/other.jsonl",
    "zip://a.jsonl::http://127.0.0.1:9/a.zip", "~/other.jsonl", "..\\\\outside\\\\other.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("where", ["folder", "hub"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_card_that_names_files_elsewhere_is_refused(tmp_path, outside, request, where, name):
    name = name.format(outside=outside)
    files = {"README.md": named([{"split": "train", "path": [name]}]).encode(), "train.jsonl": lines([ONE])}
    if where == "hub":
        hub = request.getfixturevalue("hub")
        push("org/secret", {"train.jsonl": lines([SECRET])})
        path = push("org/nosy", files)
        hub.requests.clear()
    else:
        path = write(tmp_path / "data", files)
    (fault,) = refused(path)
    assert fault.startswith("data.path: the card of ")
    assert f"names {name!r}; only files inside it are read" in fault
    if where == "hub":
        assert not [path for _, path, _ in hub.requests if "secret" in path]


@pytest.mark.parametrize("key", ["data_files", "data_dir"])
def test_the_other_places_of_a_card_are_as_strict(tmp_path, outside, key):
    text = json.dumps({"configs": [{"config_name": "default", key: "../outside"}]})
    path = write(tmp_path / "data", {**BOTH, ".huggingface.yaml": text})
    assert "names '../outside'; only files inside it are read" in refused(path)[0]


def test_a_link_that_leads_outside_is_refused_and_one_within_is_not(tmp_path, outside):
    path = write(tmp_path / "data", {"real": lines([ONE])})
    (path / "train.jsonl").symlink_to("real")
    assert rows(path) == [ONE]
    (path / "train.jsonl").unlink()
    (path / "train.jsonl").symlink_to(outside / "other.jsonl")
    (fault,) = refused(path)
    assert fault.startswith(f"data.path: {path / 'train.jsonl'} leads outside the folder, to ")
    assert fault.endswith("put a copy in its place, or name that file itself as data.path")
    # what the user names may be a link
    assert rows(path / "train.jsonl") == [SECRET]
    (tmp_path / "link").symlink_to(outside)
    assert SECRET in rows(tmp_path / "link")


def test_a_folder_that_is_a_link_outside_is_not_followed(tmp_path, outside):
    path = write(tmp_path / "data", {"one.jsonl": lines([ONE])})
    (path / "more").symlink_to(outside)
    (path / "again").symlink_to(".")
    assert rows(path) == [ONE]
    write(path, {"README.md": named("more/train.jsonl")})
    assert "names 'more/train.jsonl', which is not inside it" in refused(path)[0]
    (path / "README.md").unlink()
    (path / "README.md").symlink_to(outside / "other.jsonl")
    assert "README.md leads outside the folder" in refused(path)[0]


def test_a_snapshot_in_the_hubs_cache_may_link_to_its_blobs(tmp_path, outside):
    repository = write(tmp_path / "datasets--a--b", {"blobs/ab12": lines([ONE]), "snapshots/0123/x.txt": ""})
    snapshot = repository / "snapshots/0123"
    (snapshot / "train.jsonl").symlink_to("../../blobs/ab12")
    assert rows(snapshot) == [ONE]
    (repository / "blobs").rename(repository / "before")
    (repository / "blobs").symlink_to(outside)
    (repository / "blobs/ab12").write_bytes(lines([SECRET]))
    assert "leads outside the folder" in refused(snapshot)[0]


@pytest.mark.parametrize("kind", ["single", "splits"])
def test_what_save_to_disk_wrote_stays_inside_too(tmp_path, kind):
    secret = tmp_path / "secret"
    Dataset.from_list([SECRET]).save_to_disk(secret)
    path = tmp_path / "data"
    dataset = Dataset.from_list([ONE])
    (dataset if kind == "single" else DatasetDict(train=dataset)).save_to_disk(path)
    if kind == "single":
        state = json.loads((path / "state.json").read_text())
        for name in ("../secret/data-00000-of-00001.arrow", str(secret / "data-00000-of-00001.arrow")):
            (path / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": name}]}))
            assert "leads outside the folder" in refused(path)[0]
    else:
        (path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "../secret"]}))
        assert "leads outside the folder" in refused(path)[0]


@pytest.mark.parametrize("state", ["", "3", "{}", '{"_data_files": [3]}', '{"_data_files": []}'])
def test_a_broken_state_is_refused(tmp_path, state):
    Dataset.from_list([ONE]).save_to_disk(tmp_path / "data")
    (tmp_path / "data/state.json").write_text(state)
    assert refused(tmp_path / "data")[0].startswith(
        f"data.path: {tmp_path / 'data'} is not what save_to_disk"
    )


def test_configurations_options_and_folders_of_a_card_are_kept_to(tmp_path):
    other = {**ONE, "prompt": "007"}
    files = {
        "a/one.csv": table([ONE], ";"),
        "a/two.csv": table([other], ";"),
        "b/test/x.csv": table([ONE]),
        "b/train/x.csv": table([other]),
        "c.csv": table([ONE]).split(b"\n", 1)[1],
        "README.md": card(
            {
                "config_name": "a",
                "data_files": [{"split": "train", "path": ["a/one.csv", "./a/t*.csv"]}],
                "sep": ";",
            },
            {"config_name": "b", "data_dir": "b"},
            {"config_name": "c", "data_files": "c.csv", "names": HEAD.strip().split(","), "default": True},
        ),
    }
    path = write(tmp_path / "data", files)
    assert rows(path, name="a") == [ONE, other]
    b = opened(path, name="b", test_split="test")
    assert (b.train["prompt"], b.test["prompt"]) == (["007"], ["a"])
    assert rows(path) == [ONE]
    assert refused(path, name="d") == ["data.name: unknown configuration 'd' (known: a, b, c)"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (card({"config_name": "a"}, {"config_name": "b"}), "has several configurations, name one: 'a', 'b'"),
        (named("none.jsonl"), "names 'none.jsonl', which is not inside it"),
        (named("none-*.jsonl"), "has no .csv, .tsv, "),
        (named("train.jsonl", field="rows"), "sets field, which is not supported for json files"),
        (named([{"split": "train", "path": [3]}]), "names int as a file; only files inside it are read"),
        (named([{"split": "train"}]), "must be names, or mappings of split and path"),
        (named("**a/x"), "the card's pattern '**a/x': "),
        (card("a"), "'configs' in the card of "),
        ("---\nconfigs: [\n---\n", "README.md cannot be read: "),
        ("---\n- a\n---\n", "README.md cannot be read: "),
    ],
)
def test_a_wrong_card_is_refused(tmp_path, text, told):
    (fault,) = refused(write(tmp_path / "data", {**BOTH, "README.md": text}))
    assert fault.startswith(("data.path: ", "data.name: "))
    assert told in fault


def test_types_in_a_card_change_no_text(tmp_path):
    text = "---\ndataset_info:\n  features:\n  - {name: prompt, dtype: int64}\n---\n"
    row = {**ONE, "prompt": "007"}
    assert rows(write(tmp_path / "data", {"README.md": text, "train.csv": table([row])})) == [row]


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_data_files_that_are_of_no_split_are_named(tmp_path, request, where):
    files = {
        **BOTH,
        "extra.jsonl": lines([ONE]),
        "train.csv": table([ONE]),
        "config.json": b"{}",
        ".x.jsonl": b"{}",
    }
    if where == "hub":
        request.getfixturevalue("hub")
    path = push("org/extra", files) if where == "hub" else write(tmp_path / "data", files)
    (warning,) = opened(path, test_split="test").warnings
    assert (
        "not read: extra.jsonl, train.csv (read: train.jsonl, test.jsonl). The names of files say" in warning
    )


def test_no_file_is_missed_where_the_card_or_the_names_say_it_all(tmp_path):
    path = write(tmp_path / "data", {**BOTH, "validation.jsonl": lines([ONE])})
    assert opened(path).warnings == []
    write(path, {"extra.jsonl": lines([ONE]), "README.md": named("train.jsonl")})
    assert opened(path).warnings == []


def test_splits_of_different_formats_are_refused(tmp_path):
    path = write(tmp_path / "data", {"train.csv": table([ONE]), "test.jsonl": lines([ONE])})
    assert refused(path, test_split="test") == [
        f"data.path: the splits of {str(path)!r} are of several formats; train has no .jsonl file"
    ]


def test_what_is_no_file_is_never_opened(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    os.mkfifo(path / "train.jsonl")
    assert refused(path)[0].endswith("train.jsonl is no regular file, or a link to nothing")
    assert refused(path / "train.jsonl")[0].endswith("is neither a folder nor a regular file")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    assert refused(tmp_path / "zero.jsonl")[0].endswith("is neither a folder nor a regular file")


def test_offline_the_cache_is_read_at_the_commit_that_is_asked_for(hub, monkeypatch):
    push("org/cached", {"train.csv": table([ONE])})
    first = opened("org/cached").revision
    push("org/cached", {"train.csv": table([SECRET])})
    assert opened("org/cached").train["prompt"] == ["secret"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    newest = opened("org/cached")
    assert newest.train["prompt"] == ["secret"]
    assert newest.revision != first
    assert opened("org/cached", revision=first).train["prompt"] == ["a"]
    assert refused("org/none")[0].startswith(
        "data.path: 'org/none', which is no file or folder here and so a"
    )
