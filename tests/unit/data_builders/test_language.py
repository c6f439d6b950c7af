import importlib.util
import itertools
import re
from collections import Counter

import pytest
from datasets import load_dataset

from data_builders import TaskError, language
from data_builders import code_fingerprint as code
from data_builders.corpus.language import LanguageCorpus, build_language
from data_builders.hub import push as hub
from data_builders.language import FAMILIES
from data_builders.nouns import NOUNS
from hf_lgt.commands import options
from tests.conftest import ROOT


def plan(family, **settings):
    given = {"train_examples": 400, "test_examples": 20, "target_length": 3, "auxiliary_length": 5}
    return LanguageCorpus(family, **{**given, "test_length": 7, **settings})


@pytest.fixture(scope="module")
def corpora():
    return {family: build_language(plan(family)) for family in FAMILIES}


def solve_words(prompt):
    """Task, length and answer, from the prompt alone; written apart from the code under test."""
    asked, listed = re.fullmatch(r"([A-Z][a-z ]+): (.*) ->", prompt).groups()
    words = listed.split(", ")
    backwards = words[::-1]
    answers = {
        "Reverse initials": ("reversed_initials", " ".join(word[:1] for word in backwards).upper()),
        "Initials": ("initials", " ".join(word[:1] for word in words).upper()),
        "Reverse": ("reversed_words", ", ".join(backwards)),
        "Copy": ("copied_words", listed),
    }
    return answers[asked][0], words, answers[asked][1]


def solve_numbers(prompt):
    asked, listed = re.fullmatch(r"(.*?)(?: in)?: ([0-9 ]+) =", prompt).groups()
    numbers = listed.split(" ")
    key = asked.split(" ")[-1]
    if asked == "Sort":
        return "sorted_numbers", numbers, " ".join(sorted(numbers, key=int))
    if asked.startswith("Next larger than"):
        ranked = sorted(numbers, key=int)
        return "next_larger", numbers, (*ranked, "none")[ranked.index(key) + 1]
    assert asked.startswith("Item after")
    return "item_after", numbers, (*numbers, "none")[numbers.index(key) + 1]


def solve_table(prompt):
    asked, listed = re.fullmatch(r"(.*) in: name,team; (.*) ->", prompt).groups()
    rows = listed.split("; ")
    _, _, team = asked.partition("=")
    kept = [row for row in rows if row.endswith("," + team)] if team else rows
    task = {"names where team": "names_where", "rows where team": "rows_where"}.get(
        asked.split("=")[0], {"names": "names", "copy": "copied_rows"}.get(asked)
    )
    if task.startswith("names"):
        kept = [row.split(",")[0] for row in kept]
    return task, [row.split(",")[0] for row in rows], "; ".join(kept) or "none"


SOLVE = {"initials": solve_words, "sorting": solve_numbers, "table": solve_table}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_right_and_no_item_comes_twice(corpora, family):
    for split in corpora[family].values():
        for row in split:
            task, items, answer = SOLVE[family](row["prompt"])
            assert (row["task"], row["length"], row["target"]) == (task, len(items), f" {answer}")
            assert len(set(items)) == len(items)
            assert family != "initials" or len({item[0] for item in items}) == len(items)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_prompt_that_is_tested_is_trained_on(corpora, family):
    prompts = {split: set(rows["prompt"]) for split, rows in corpora[family].items()}
    assert prompts["train"].isdisjoint(prompts["test"])
    assert len(prompts["test"]) == len(corpora[family]["test"])  # and none is asked twice


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_lengths_and_roles(corpora, family):
    train, test = corpora[family]["train"], corpora[family]["test"]
    tasks = FAMILIES[family].tasks
    shares = Counter(train["task"])
    assert set(shares) == set(tasks)
    assert max(shares.values()) - min(shares.values()) <= 1
    for name, task in tasks.items():
        longest = 3 if task.role == "target" else 5
        assert {r["length"] for r in train if r["task"] == name} == {*range(1, longest + 1)}
    assert Counter(zip(test["task"], test["length"], strict=True)) == {
        (name, n): 20 for name in tasks for n in range(1, 8)
    }
    targets = {r["task"] for r in train if r["role"] == "target"}
    assert targets == {name for name, task in tasks.items() if task.role == "target"}
    assert len(targets) == 1


def test_items_are_drawn_from_many_and_in_any_order(corpora):
    words = [solve_words(row["prompt"])[1] for row in corpora["initials"]["train"]]
    assert len({word for listed in words for word in listed}) > 500
    assert len(set(NOUNS)) == len(NOUNS) >= 500
    longer = [listed for listed in words if len(listed) > 1]
    assert 0.05 < sum(listed == sorted(listed) for listed in longer) / len(longer) < 0.4


def test_the_same_plan_gives_the_same_rows_and_another_seed_others(corpora):
    again, other = build_language(plan("sorting")), build_language(plan("sorting", seed=1))
    for split, rows in corpora["sorting"].items():
        assert again[split].to_list() == rows.to_list()
        assert other[split]["prompt"] != rows["prompt"]


def test_half_of_the_shortest_lists_are_left_to_train_on():
    made = build_language(
        plan(
            "initials",
            train_examples=40,
            test_examples=1000,
            target_length=1,
            auxiliary_length=1,
            test_length=1,
        )
    )
    assert Counter(made["test"]["task"]) == dict.fromkeys(FAMILIES["initials"].tasks, 350)
    assert len(made["train"]) == 40


def test_lists_of_which_there_are_more_than_a_float_holds_are_drawn():
    made = build_language(plan("sorting", train_examples=4, test_examples=1, test_length=150))
    assert max(made["test"]["length"]) == 150


def test_every_wrong_number_is_reported():
    with pytest.raises(TaskError) as caught:
        LanguageCorpus("table", train_examples=0, target_length=701, seed=-1, test_examples=True)
    assert str(caught.value).split("\n") == [
        "train_examples is 0; it must be an integer from 1 to 10000000",
        "test_examples is True; it must be an integer from 1 to 100000",
        "target_length is 701; it must be an integer from 1 to 700",
        "seed is -1; it must be an integer from 0 to 9223372036854775807",
    ]
    with pytest.raises(TaskError, match="unknown family 'tables'; did you mean 'table'"):
        LanguageCorpus("tables")


@pytest.fixture
def build(capsys):
    spec = importlib.util.spec_from_file_location("build", ROOT / "recipes/language/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*words):
        code = module.main(["initials", "--train_examples", "60", "--test_examples", "4", *map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_the_recipe_writes_a_folder_that_datasets_reads(build, tmp_path):
    code, out, err = build("--output", tmp_path / "lists", "--seed", "3")
    assert code == 0, err
    assert out.startswith("train: 60 rows\ntest: ")
    read = load_dataset(str(tmp_path / "lists"))
    made = build_language(LanguageCorpus("initials", train_examples=60, test_examples=4, seed=3))
    assert all(read[split].to_list() == made[split].to_list() for split in ("train", "test"))
    card = (tmp_path / "lists/README.md").read_text()
    assert "build.py initials --train_examples 60 --test_examples 4 --target_length 5" in card
    assert re.search(
        r"`reversed_initials` \(target, 1 to 5 words in the train split\):\n\n```text\nRev", card
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


@pytest.mark.parametrize(
    "change", [["--seed", "7"], ["--target_length", "8"], ["--test_examples", "5"], "code"]
)
def test_only_the_corpus_that_was_asked_for_is_pushed(build, tmp_path, pushes, monkeypatch, change):
    there = ("--output", tmp_path / "lists")
    assert build(*there)[0] == 0
    code_, out, err = build(*there, "--push_to_hub", "a/b")
    assert (code_, "holds this corpus already" in out) == (0, True), err
    assert len(pushes) == 1
    written = ["README.md", "corpus.json", *(f"data/{s}-00000-of-00001.parquet" for s in ("test", "train"))]
    assert pushes[0][1]["names"] == written
    if change == "code":
        monkeypatch.setitem(code.LOADED, "nouns.py", "of another version")
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
        (("--test_length", "26"), "--test_length is 26; it must be an integer from 1 to 25"),
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


def test_the_number_of_lists_is_that_of_all_that_can_be_drawn():
    few = {"a": 2, "b": 3, "c": 1}  # words an initial
    lists = sum(few[x] * few[y] for x, y in itertools.permutations(few, 2))
    nouns = [f"{letter}{k}" for letter, n in few.items() for k in range(n)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("data_builders.language.NOUNS", nouns)
        assert language._lists_with_own_initials(2) == lists == 22
        assert language._lists_with_own_initials(4) == 0
    assert FAMILIES["initials"].count(1) == FAMILIES["table"].count(1) == len(NOUNS)
    assert FAMILIES["sorting"].count(2) == 999 * 998
