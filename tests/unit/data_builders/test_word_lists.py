import importlib.util
import re
from collections import Counter

import pytest
from datasets import load_dataset

from data_builders import TaskError
from data_builders import code_fingerprint as code
from data_builders.corpus.word_lists import WordLists, build_word_lists
from data_builders.hub import push as hub
from hf_lgt.commands import options
from tests.conftest import ROOT

PLAN = WordLists(
    train_examples=900, test_examples=20, target_length=3, auxiliary_length=5, test_length=7, pairs=2
)
# written down apart from the code under test
OPPOSITE = {"hot": "cold", "cold": "hot", "up": "down", "down": "up"}


@pytest.fixture(scope="module")
def corpus():
    return build_word_lists(PLAN)


def solve(question):
    """Kind, list and answer, from what the question asks in English."""
    text, listed = re.fullmatch(r"(.*): ([a-z ]+)\.", question).groups()
    words = listed.split(" ")
    opposite = "opposite" in text.lower()
    backwards = any(hint in text for hint in ("begin with the last", "reverse order", "from the last word"))
    answer = [OPPOSITE[word] for word in words] if opposite else list(words)
    kind = {(True, True): "reversed_opposites", (True, False): "opposites", (False, True): "reversed"}
    return kind[opposite, backwards], words, " ".join(reversed(answer) if backwards else answer)


def test_every_answer_is_right(corpus):
    for split in corpus.values():
        for row in split:
            kind, words, answer = solve(row["question"])
            assert (row["kind"], row["items"], row["answer"]) == (kind, len(words), answer)


def test_no_list_that_a_kind_is_tested_with_is_trained_on_however_it_is_asked(corpus):
    lists = {
        split: {(row["kind"], row["question"].split(": ")[1]) for row in rows}
        for split, rows in corpus.items()
    }
    assert lists["train"].isdisjoint(lists["test"])
    assert len(lists["test"]) == len(corpus["test"])  # and none is asked twice


def test_counts_and_lengths(corpus):
    train, test = corpus["train"], corpus["test"]
    assert Counter(train["kind"]) == dict.fromkeys(("reversed_opposites", "opposites", "reversed"), 300)
    longest = {kind: max(r["items"] for r in train if r["kind"] == kind) for kind in set(train["kind"])}
    assert longest == {"reversed_opposites": 3, "opposites": 5, "reversed": 5}
    # four words: half of the 4 lists of one word and of the 16 of two, then 20
    wanted = {1: 2, 2: 8} | dict.fromkeys(range(3, 8), 20)
    assert Counter(zip(test["kind"], test["items"], strict=True)) == {
        (kind, n): count for kind in longest for n, count in wanted.items()
    }


def test_each_kind_is_asked_in_three_ways(corpus):
    for split in corpus.values():
        ways = {(row["kind"], row["question"].split(": ")[0]) for row in split}
        assert Counter(kind for kind, _ in ways) == dict.fromkeys(set(split["kind"]), 3)


def test_the_same_plan_gives_the_same_rows_and_another_seed_others(corpus):
    again = build_word_lists(PLAN)
    assert all(again[split].to_list() == corpus[split].to_list() for split in corpus)
    other = build_word_lists(WordLists(**{**vars(PLAN), "seed": 1}))
    assert other["train"]["question"] != corpus["train"]["question"]
    assert other["test"]["question"] != corpus["test"]["question"]


def test_the_smallest_corpus_leaves_something_to_train_on():
    made = build_word_lists(
        WordLists(
            train_examples=6, test_examples=9, target_length=1, auxiliary_length=1, test_length=1, pairs=1
        )
    )
    assert len(made["test"]) == 3
    assert len(made["train"]) == 6


def test_every_wrong_number_is_reported():
    with pytest.raises(TaskError) as caught:
        WordLists(train_examples=0, pairs=13, seed=-1, test_examples=True)
    assert str(caught.value).split("\n") == [
        "train_examples is 0; it must be an integer from 1 to 100000000",
        "test_examples is True; it must be an integer from 1 to 1000000",
        "pairs is 13; it must be an integer from 1 to 12",
        "seed is -1; it must be an integer from 0 to 9223372036854775807",
    ]


@pytest.fixture
def build(capsys):
    spec = importlib.util.spec_from_file_location("build", ROOT / "recipes/word_lists/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*words):
        code = module.main(["--train_examples", "60", "--test_examples", "4", *map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_the_recipe_writes_a_folder_that_datasets_reads(build, tmp_path):
    code, out, err = build("--output", tmp_path / "lists", "--seed", "3")
    assert code == 0, err
    assert out.startswith("train: 60 rows\ntest: ")
    read = load_dataset(str(tmp_path / "lists"))
    made = build_word_lists(WordLists(train_examples=60, test_examples=4, seed=3))
    assert all(read[split].to_list() == made[split].to_list() for split in ("train", "test"))
    card = (tmp_path / "lists/README.md").read_text()
    assert "--train_examples 60 --test_examples 4 --pairs 4 --seed 3" in card
    assert (
        "Replace each word by its opposite and begin with the last one: hot up wet. → dry down cold" in card
    )


def test_what_is_there_is_replaced_only_when_asked_and_only_a_corpus(build, tmp_path):
    folder = tmp_path / "lists"
    build("--output", folder)
    before = (folder / "data/train-00000-of-00001.parquet").read_bytes()
    code, _, err = build("--output", folder, "--seed", "1")
    assert (code, "exists; choose another folder, or add --overwrite" in err) == (2, True)
    assert (folder / "data/train-00000-of-00001.parquet").read_bytes() == before
    assert build("--output", folder, "--seed", "1", "--overwrite")[0] == 0
    assert (folder / "data/train-00000-of-00001.parquet").read_bytes() != before
    (folder / "thesis.tex").write_text("years of work")
    code, _, err = build("--output", folder, "--overwrite")
    assert (code, "holds thesis.tex, which is no part of the corpus" in err) == (2, True)
    assert (folder / "thesis.tex").read_text() == "years of work"


@pytest.fixture
def pushes(monkeypatch):
    """What is pushed, instead of pushing it."""
    made = []
    monkeypatch.setattr(hub, "push_folder", lambda *given, **settings: made.append((given, settings)))
    monkeypatch.setattr(options, "check_destination", lambda *_, **__: None)
    return made


@pytest.mark.parametrize("change", [["--seed", "7"], ["--pairs", "8"], ["--test_examples", "5"], "code"])
def test_only_the_corpus_that_was_asked_for_is_pushed(build, tmp_path, pushes, monkeypatch, change):
    there = ("--output", tmp_path / "lists")
    assert build(*there)[0] == 0
    code_, out, err = build(*there, "--push_to_hub", "a/b")
    assert (code_, "holds this corpus already" in out) == (0, True), err
    assert len(pushes) == 1
    written = ["README.md", "corpus.json", *(f"data/{s}-00000-of-00001.parquet" for s in ("test", "train"))]
    assert pushes[0][1]["names"] == written
    if change == "code":
        monkeypatch.setitem(code.LOADED, "corpus/word_lists.py", "of another version")
        change = []
    status, _, err = build(*there, *change, "--push_to_hub", "a/b")
    assert status == 2
    assert f"--output: {tmp_path / 'lists'} exists and holds no corpus of these settings" in err
    assert len(pushes) == 1


def test_a_damaged_corpus_is_not_pushed(build, tmp_path, pushes):
    folder = tmp_path / "lists"
    build("--output", folder)
    (folder / "data/test-00000-of-00001.parquet").write_bytes(b"PAR1")
    status, _, err = build("--output", folder, "--push_to_hub", "a/b")
    assert (status, pushes) == (2, [])
    assert "data/test-00000-of-00001.parquet is not as it was written; build the corpus again" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--pairs", "13"), "--pairs is 13; it must be an integer from 1 to 12"),
        (("--seed", "-1"), "--seed is -1"),
        (("--train_examples", "1000000000"), "--train_examples is 1000000000"),
        (("--colour", "red"), "unknown option --colour"),
        (("--private",), "--private: is for --push_to_hub"),
    ],
)
def test_a_mistake_is_reported_and_nothing_written(build, tmp_path, words, told):
    code, out, err = build("--output", tmp_path / "lists", *words)
    assert (code, out) == (2, "")
    assert told in err
    assert not (tmp_path / "lists").exists()
