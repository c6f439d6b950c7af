"""A user's own dataset, from its file to the curves: what a run trains on, and what it refuses."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from data_builders import Component, Mixture, build_corpus
from data_builders.sampling import draw_test_set
from hf_lgt import ConfigError, load_config, train
from hf_lgt.checkpointing.checkpoints import list_checkpoints
from hf_lgt.config.schema import short
from hf_lgt.data.build import open_data, prepare_data
from hf_lgt.data.codec import Codec
from hf_lgt.evaluation.records import read_records
from hf_lgt.models.build import build_model
from tests.conftest import ROOT
from tests.integration.workflows.test_train import interrupt, same_numbers

WORDS = ("ant", "bee", "cat", "dog")


def ask(kind, words):
    answer = words[::-1] if kind == "backwards" else words
    return {
        "question": f"Say {kind}: {' '.join(words)}.",
        "answer": " ".join(answer),
        "n": len(words),
        "kind": kind,
    }


def lists(count, longest, seed):
    rng = np.random.default_rng(seed)
    for i in range(count):
        words = [WORDS[k] for k in rng.integers(0, 4, size=1 + i // 2 % longest)]
        yield ask(("backwards", "again")[i % 2], words)


TRAIN, TEST = list(lists(80, 4, seed=0)), list(lists(48, 6, seed=1))
COLUMNS = "data.columns={prompt: question, target: answer, length: n, task: kind}"


def prepared(config):
    """The data of a config."""
    return prepare_data(config, open_data(config))


@pytest.fixture
def own(tmp_path):
    """Makes the config of a tiny run on a dataset."""

    def make(path, *overrides, tasks=(("backwards", [1, 3]), ("again", [1, 4]))):
        roles = ("target", *("auxiliary" for _ in tasks[1:]))
        mixture = [
            {"task": task, "role": role, "lengths": lengths}
            for (task, lengths), role in zip(tasks, roles, strict=True)
        ]
        every = [
            "name=own",
            f"output_dir={tmp_path / 'runs'}",
            "model={layers: 1, hidden_size: 16, heads: 2, intermediate_size: 16, max_positions: 64}",
            "model.tokenizer=words",
            f"mixture={json.dumps(mixture)}",
            "train={steps: 6, batch_size: 8, log_every: 2, eval_every: 3, save_every: 3}",
            "eval={lengths: [1, 6], examples: 5, mistakes: 4}",
            f"data={{source: dataset, path: {json.dumps(str(path))}}}",
            COLUMNS,
        ]
        return load_config(ROOT / "recipes/demo/transfer.yaml", [*every, *overrides])

    return make


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def saved(tmp_path):
    """The dataset as `save_to_disk` writes it."""
    path = tmp_path / "saved"
    DatasetDict(train=Dataset.from_list(TRAIN), test=Dataset.from_list(TEST)).save_to_disk(path)
    return path


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A finished run on the dataset in Parquet files; tests must leave it as it is."""
    tmp_path = tmp_path_factory.mktemp("own")
    for split, rows in (("train", TRAIN), ("test", TEST)):
        Dataset.from_list(rows).to_parquet(tmp_path / f"lists/data/{split}-00000-of-00001.parquet")
    config = own.__wrapped__(tmp_path)(tmp_path / "lists")
    return SimpleNamespace(dir=train(config, progress=False).run_dir, config=config, data=tmp_path / "lists")


@pytest.fixture
def run(call_recipe):
    """Calls a recipe's main in this process."""

    def call(recipe, *arguments):
        done = call_recipe(recipe, *arguments)
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return call


def refused(config):
    """Faults of a run that is not begun: nothing is written."""
    with pytest.raises(ConfigError) as caught:
        train(config, progress=False)
    assert not config.run_dir.parent.parent.exists()
    return caught.value.faults


def test_a_run_on_own_data_leaves_what_others_read(own_run):
    records = read_records(own_run.dir / "eval.jsonl")
    assert {(r.step, r.task, r.role, r.length, r.n) for r in records} == {
        (step, task, role, length, 4)
        for step in (3, 6)
        for task, role in (("backwards", "target"), ("again", "auxiliary"))
        for length in range(1, 7)
    }
    trained = {row["question"] for row in TRAIN if row["n"] <= (3 if row["kind"] == "backwards" else 4)}
    for record in records:
        tested = [r for r in TEST if (r["kind"], r["n"]) == (record.task, record.length)]
        assert record.overlap == sum(row["question"] in trained for row in tested)
    about = json.loads((own_run.dir / "data.json").read_text())
    assert about["revision"] is None
    assert about["train_rows"] == sum(r["n"] <= (3 if r["kind"] == "backwards" else 4) for r in TRAIN)
    assert about["test_rows"] == 48
    card = (own_run.dir / "model/README.md").read_text()
    assert "`backwards` (target, trained on lengths 1 to 3, counted as its length column says)" in card
    assert "Example: `Say backwards: " in card


@pytest.mark.parametrize("form", ["jsonl", "csv", "saved"])
def test_every_form_of_a_dataset_gives_the_same_run(own, own_run, saved, tmp_path, form):
    path, overrides = saved, []
    if form != "saved":
        path = tmp_path / f"all.{form}"
        if form == "jsonl":
            jsonl(path, TRAIN + TEST)
        else:
            Dataset.from_list(TRAIN + TEST).to_csv(path)
        overrides = ["data.train_split='train[:80]'", "data.test_split='train[80:]'"]
    result = train(own(path, *overrides), progress=False)
    assert same_numbers(result.run_dir, own_run.dir)


def test_a_data_file_that_is_not_read_is_named_before_the_first_step(own, tmp_path, news):
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, rows in (("train", TRAIN), ("test", TEST), ("extra", TEST)):
        jsonl(folder / f"{name}.jsonl", rows)
    train(own(folder, "train.steps=1"), progress=False)
    (line,) = (line for line in news if "extra" in line)
    assert line.startswith(f"data.path: {short(str(folder))}: not read: extra.jsonl (read: ")


def test_an_interrupted_run_goes_on_to_the_same_bits(own, own_run, news):
    config = own(own_run.data)
    shutil.copytree(own_run.dir, config.run_dir)
    interrupt(config.run_dir, 3)
    train(config, progress=False)
    assert "resumes from step 3" in news[-1]
    assert same_numbers(config.run_dir, own_run.dir)


@pytest.mark.parametrize("what", ["answer", "words", "another column"])
def test_a_dataset_that_changed_since_the_run_began_is_refused(own, own_run, tmp_path, what):
    config = own(own_run.data)
    shutil.copytree(own_run.dir, config.run_dir)
    interrupt(config.run_dir, 3)
    before = {p: p.read_bytes() for p in config.run_dir.rglob("*") if p.is_file()}
    kept = (own_run.data / "data/train-00000-of-00001.parquet").read_bytes()
    changed = [dict(row) for row in TRAIN]
    if what == "answer":
        changed[0]["answer"] += " ant"
    elif what == "words":  # in a row that is not trained on, so only the vocabulary grows
        changed.append(ask("backwards", ["zebra"] * 9))
    else:
        changed = [{**row, "note": "not read"} for row in TRAIN]
    try:
        Dataset.from_list(changed).to_parquet(own_run.data / "data/train-00000-of-00001.parquet")
        if what == "another column":
            train(config, progress=False)
            assert same_numbers(config.run_dir, own_run.dir)
            return
        with pytest.raises(ConfigError) as caught:
            train(config, progress=False)
    finally:
        (own_run.data / "data/train-00000-of-00001.parquet").write_bytes(kept)
    (fault,) = caught.value.faults
    assert fault.startswith(f"data.path: {str(own_run.data)!r} is not what it was when the run in ")
    assert {p: p.read_bytes() for p in config.run_dir.rglob("*") if p.is_file()} == before


def test_evaluate_reads_the_dataset_of_the_run(run, own_run, tmp_path):
    same = run("evaluate.py", own_run.dir, "--output", tmp_path / "same", "--check_generation")
    assert same.code == 0, same.err
    assert "backwards at length 6: teacher-forced" in same.out
    assert "0 of 4 disagree" in same.out
    last = [r for r in read_records(own_run.dir / "eval.jsonl") if r.step == 6]
    assert read_records(tmp_path / "same/eval.jsonl") == last
    part = run("evaluate.py", own_run.dir, "--output", tmp_path / "part", "--eval.lengths", "[2,3]")
    assert part.code == 0, part.err
    assert {r.length for r in read_records(tmp_path / "part/eval.jsonl")} == {2, 3}


def test_evaluate_refuses_what_the_model_cannot_read(run, own_run, tmp_path):
    path = jsonl(tmp_path / "new.jsonl", [ask("again", ["emu"]), ask("sideways", ["ant"])])
    before = sorted(tmp_path.rglob("*"))
    options = ["--output", tmp_path / "out", "--data.path", path, "--data.test_split", "train"]
    words = run(
        "evaluate.py", own_run.dir, *options, "--mixture", "[{task: again, role: target, lengths: [1, 4]}]"
    )
    assert words.code == 2
    assert "row 0 of train, column 'question': the tokenizer cannot represent ' emu'" in words.err
    tag = run(
        "evaluate.py", own_run.dir, *options, "--mixture", "[{task: sideways, role: target, lengths: [1, 4]}]"
    )
    assert tag.code == 2
    assert "the tokenizer has no tag <sideways>; the model was not trained on this task" in tag.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("how", "lengths"), [("characters", [19, 31]), ("words", [3, 6]), ("tokens", [5, 8])]
)
def test_lengths_may_be_counted(own, tmp_path, how, lengths):
    # "Say backwards: cat dog." has two words of its own and two marks
    path = jsonl(tmp_path / "all.jsonl", [{k: v for k, v in row.items() if k != "n"} for row in TRAIN])
    columns = "data.columns={prompt: question, target: answer, task: kind}"
    config = own(
        path, columns, "data.test_split=train", f"data.length={how}", f"eval.lengths={lengths}",
        "train.steps=1", tasks=[("backwards", lengths)],
    )  # fmt: skip
    result = train(config, progress=False)
    counted = {"characters": lambda n: 15 + 4 * n, "words": lambda n: 2 + n, "tokens": lambda n: 4 + n}[how]
    assert {r.length for r in result.records} == {counted(n) for n in range(1, 5)}
    assert f"counted in {how}" in (result.run_dir / "model/README.md").read_text()


def test_rows_that_the_mixture_does_not_use_are_neither_trained_nor_checked(own, tmp_path):
    broken = [{"question": None, "answer": "", "n": None, "kind": "broken"}]
    broken += [{"question": "zebra " * 999, "answer": "x", "n": 50, "kind": "again"}]
    path = tmp_path / "saved"
    DatasetDict(train=Dataset.from_list(TRAIN + broken), test=Dataset.from_list(TEST + broken)).save_to_disk(
        path
    )
    data = prepared(own(path, "train.batch_size=50", tasks=[("again", [2, 3])]))
    wanted = {(r["question"], r["answer"]) for r in TRAIN if r["kind"] == "again" and 2 <= r["n"] <= 3}
    seen = set()
    for step in range(3):
        batch = data.source.batch(step)
        for ids, scored, length in zip(batch.ids, batch.scored, batch.lengths, strict=True):
            start = int(scored.argmax())
            seen.add(tuple(data.codec.decode([ids[2:start].tolist(), ids[start : length - 1].tolist()])))
    assert seen == wanted
    faults = refused(own(path, tasks=[("broken", [1, 3])]))
    assert "data.path: row 80 of train, column 'n': is null" in faults
    assert "data.path: row 48 of test, column 'n': is null" in faults


def test_two_arms_start_from_the_same_vocabulary_and_weights(own, saved):
    arms = [own(saved), own(saved, tasks=[("backwards", [1, 3])]), own(saved, tasks=[("again", [1, 2])])]
    codecs = [prepared(arm).codec for arm in arms]
    assert len({json.dumps(codec.tokenizer.get_vocab(), sort_keys=True) for codec in codecs}) == 1
    first, *others = [
        build_model(arm.model, codec, arm.seed.init).state_dict()
        for arm, codec in zip(arms, codecs, strict=True)
    ]
    for other in others:
        assert all((first[key] == other[key]).all() for key in first)


@pytest.mark.parametrize("tags", [True, False])
def test_tags_begin_the_prompt_where_they_are_wanted(own, saved, tags):
    data = prepared(own(saved, f"data.tags={str(tags).lower()}"))
    batch = data.source.batch(0)
    second = {data.codec.tokenizer.convert_ids_to_tokens(int(i)) for i in batch.ids[:, 1]}
    assert second == ({"<backwards>", "<again>"} if tags else {" Say"})
    assert ("<again>" in data.codec.tokenizer.get_vocab()) is tags
    assert set(batch.ids[:, 0].tolist()) == {data.codec.bos_id}


def test_only_what_the_loss_mask_marks_is_scored(own, tmp_path):
    rows = [{**row, "loss_mask": [i % 2 == 0 for i in range(row["n"])]} for row in TRAIN]
    data = prepared(own(jsonl(tmp_path / "all.jsonl", rows), "data.test_split=train"))
    for batch in (data.source.batch(0), data.tests.examples(data.tests.cells[2]).batch):
        for scored, length in zip(batch.scored, batch.lengths, strict=True):
            first = int(scored.argmax())
            wanted = [i % 2 == 0 for i in range(length - 1 - first)] + [False]
            assert scored[first:length].tolist() == wanted
    rows[3]["loss_mask"] = [True] * 9
    (fault,) = refused(
        own(
            jsonl(tmp_path / "wrong.jsonl", rows),
            "data.test_split='train[:1]'",
            "eval.lengths=[1,6]",
            tasks=[("again", [1, 4])],
        )
    )[:1]
    assert "row 3 of train, column 'loss_mask': has 9 entries, 9 of them true" in fault


HOSTILE = ["../../up", "a|b", "<script>alert(1)</script>", "x y", "`code`", "eos", "{name}"]


def test_hostile_names_stay_names(own, run, tmp_path):
    again = [row for row in TRAIN if row["kind"] == "again"]
    rows = [{**row, "kind": name} for name in HOSTILE for row in again]
    config = own(
        jsonl(tmp_path / "all.jsonl", rows), "data.tags=false", "data.test_split=train", "train.steps=1",
        tasks=[(name, [1, 4]) for name in HOSTILE],
    )  # fmt: skip
    result = train(config, progress=False)
    assert {r.task for r in result.records} == {*HOSTILE}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.jsonl", "runs"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["own"]
    shown = run("evaluate.py", result.run_dir, "--eval.examples", "2", "--eval.lengths", "[1,2]")
    assert shown.code == 0, shown.err


def test_own_prompts_under_the_name_of_a_registered_task_are_evaluated(own, tmp_path):
    rows = [{**row, "kind": "shortest_path"} for row in TRAIN if row["kind"] == "again"]
    config = own(
        jsonl(tmp_path / "all.jsonl", rows), "data.test_split=train", tasks=[("shortest_path", [1, 4])]
    )
    assert {r.task for r in train(config, progress=False).records} == {"shortest_path"}


MIXTURE = [
    Component("reverse_add", role="target", lengths=(1, 3)),
    Component("mqar", role="auxiliary", lengths=(3, 5)),
    Component("shortest_path", role="auxiliary", lengths=(4, 6), options={"side": 4}),
]


def test_a_corpus_of_ours_trains_on_the_ids_that_its_symbols_have(tmp_path, own):
    mixture = MIXTURE
    corpus = build_corpus(Mixture(mixture), 60, 4, range(1, 7), cache_dir=tmp_path / "cache")
    corpus.save_to_disk(tmp_path / "corpus")
    config = own(
        tmp_path / "corpus", "data.columns={}", "model.tokenizer=symbols", "model.max_positions=512",
        tasks=[(c.task, [*c.lengths]) for c in mixture],
    )  # fmt: skip
    data = prepared(config)
    assert isinstance(data.codec, Codec)
    compared = 0
    for component in mixture:
        for length in range(component.lengths[0] + 1, component.lengths[1] + 1):
            drawn = draw_test_set(component, length, 4, 1234)
            encoded = data.codec.encode(drawn.examples.take(np.arange(drawn.held_out)), component.task)
            expected = {
                (tuple(ids[:n].tolist()), tuple(scored[:n].tolist()))
                for ids, scored, n in zip(encoded.ids, encoded.scored, encoded.lengths, strict=True)
            }
            cell = next(c for c in data.tests.cells if (c.task, c.length) == (component.task, length))
            batch = data.tests.examples(cell).batch
            read = {
                (tuple(ids[:n].tolist()), tuple(scored[:n].tolist()))
                for ids, scored, n in zip(batch.ids, batch.scored, batch.lengths, strict=True)
            }
            assert read == expected
            compared += len(read)
    assert compared > 15


def test_every_fault_of_both_splits_is_reported_before_anything_is_written(own, tmp_path):
    path = tmp_path / "saved"
    bad = [ask("again", ["ant"]) | {"answer": None}]
    DatasetDict(train=Dataset.from_list(TRAIN + bad), test=Dataset.from_list(bad + TEST)).save_to_disk(path)
    assert refused(own(path)) == [
        "data.path: row 80 of train, column 'answer': is null",
        "data.path: row 0 of test, column 'answer': is null",
    ]
    # the words of the test split must be known too
    new = [ask("again", ["emu"])]
    DatasetDict(train=Dataset.from_list(TRAIN), test=Dataset.from_list(TEST + new)).save_to_disk(
        tmp_path / "b"
    )
    faults = refused(own(tmp_path / "b"))
    assert [fault.split(": ")[1] for fault in faults] == [
        "row 48 of test, column 'question'",
        "row 48 of test, column 'answer'",
    ]


def test_a_task_or_length_without_rows_is_reported_with_what_there_is(own, saved):
    faults = refused(own(saved, "eval.lengths=[50,60]", tasks=[("backwards", [1, 3]), ("agian", [1, 3])]))
    assert faults == [
        "mixture.1.task: train has no row of it: unknown task 'agian'; did you mean 'again'? (known: again, "
        "backwards)",
        "eval.lengths: test has no row of task 'backwards' with a length in [50, 60]",
        "mixture.1.task: test has no row of it: unknown task 'agian'; did you mean 'again'? (known: again, "
        "backwards)",
    ]


def test_finetune_tells_a_mistake_without_a_traceback(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = jsonl(tmp_path / "all.jsonl", [{"prompt": "a", "target": "", "length": 1}])
    done = run(
        "finetune.py", "--data.source", "dataset", "--data.path", path, "--data.test_split", "train",
        "--mixture", "[{task: a, role: target, lengths: [1, 4]}]",
    )  # fmt: skip
    assert done.code == 2
    assert done.out == ""
    assert "data.path: row 0 of train, column 'target': is empty: ''" in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.jsonl"]


def test_checkpoints_of_a_dataset_run_are_whole(own_run):
    assert [step for step, _ in list_checkpoints(own_run.dir)] == [3, 6]
