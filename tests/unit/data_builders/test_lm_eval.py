"""Tasks of lm-evaluation-harness: which there are, and that each holds the rows and prompts it should."""

import datasets
import pytest
import yaml
from jinja2 import Template

from data_builders import Component, CorpusPlan, Mixture, TaskError
from data_builders.corpus.folder import write_plan
from data_builders.corpus.lm_eval import COMMON, check_plan, is_replaceable, write_tasks
from data_builders.sampling import draw_test_set
from hf_lgt.data.codec import Codec

PLAN = CorpusPlan(
    Mixture(
        [
            Component("capitalize_reverse", "target", (1, 3), options={"alphabet": "ab"}),
            Component("mqar", "auxiliary", (3, 5)),
            Component("shortest_path", "auxiliary", (2, 4), options={"side": 4}),
        ]
    ),
    train_examples=200,
    test_examples=6,
    test_lengths=[1, 2, 5],
)
CELLS = [("capitalize_reverse", 1), ("capitalize_reverse", 2), ("capitalize_reverse", 5)]
CELLS += [("shortest_path", 2), ("shortest_path", 5)]


def read(folder, name):
    """A file as the harness reads it: the keys of the included file, each replaced whole."""
    found = yaml.safe_load((folder / f"{name}.yaml").read_text())
    include = found.pop("include", None)
    return {**(yaml.safe_load((folder / include).read_text()) if include else {}), **found}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus")
    write_plan(out, PLAN)
    return out


@pytest.fixture
def write(corpus, tmp_path, news):
    folder = tmp_path / "tasks"
    folder.mkdir()

    def call(plan=PLAN, **settings):
        settings = {"corpus": corpus, "name": "my-corpus", "tags": True, **settings}
        return folder, write_tasks(folder, plan, str(corpus), **settings), news

    return call


def test_there_is_a_file_for_each_task_and_length_and_a_group_for_each_task_and_all(write):
    folder, cells, _ = write()
    assert cells == {f"my-corpus_{task}_length_{n}": (task, n) for task, n in CELLS}
    groups = {"my-corpus", "my-corpus_capitalize_reverse", "my-corpus_shortest_path"}
    assert {path.name for path in folder.iterdir()} == {COMMON, *(f"{n}.yaml" for n in {*cells, *groups})}
    for name in cells:
        assert read(folder, name)["task"] == name
    for name in groups:
        group = read(folder, name)
        assert group["group"] == name
        # any other key would be an override of the tasks
        assert set(group) == {"group", "task", "aggregate_metric_list", "metadata"}
        mean = {"metric": "exact_match", "aggregation": "mean", "weight_by_size": False}
        assert group["aggregate_metric_list"] == [mean]
    assert set(read(folder, "my-corpus")["task"]) == groups - {"my-corpus"}
    for task in ("capitalize_reverse", "shortest_path"):
        assert read(folder, f"my-corpus_{task}")["task"] == [
            n for n, cell in cells.items() if cell[0] == task
        ]
    # without a name the harness does not list it
    assert not {"task", "group"} & set(yaml.safe_load((folder / COMMON).read_text()))


def test_a_task_that_counts_a_part_of_its_answer_is_left_out_and_that_is_reported(write):
    folder, cells, told = write()
    assert told == ["mqar: left out, as it counts only a part of its answer, the harness all of it"]
    assert not any("mqar" in path.read_text() for path in folder.iterdir())
    assert not any("mqar" in name for name in cells)


def test_each_task_loads_its_own_rows_with_room_for_its_answers(write, tmp_path):
    folder, cells, _ = write()
    tried = 0
    for name, (task, length) in cells.items():
        found = read(folder, name)
        loaded = datasets.load_dataset(
            found["dataset_path"],
            found["dataset_name"],
            **found["dataset_kwargs"],
            cache_dir=str(tmp_path / "hf"),
        )
        assert list(loaded) == ["test"]
        assert found["test_split"] == "test"
        assert found["doc_to_target"] == "target"
        component = next(c for c in PLAN.mixture.components if c.task == task)
        test = draw_test_set(component, length, PLAN.test_examples, PLAN.test_seed)
        low, high = component.lengths
        drawn = test.examples.text()[: test.held_out if low <= length <= high else None]
        rows = loaded["test"]
        assert list(zip(rows["prompt"], rows["target"], strict=True)) == drawn
        assert set(rows["task"]) == {task}
        # as many tokens as the longest target has, and EOS
        codec = Codec.build(tasks=[task], nodes=16)
        longest = max(map(len, codec.tokenize(list(rows["target"]))))
        settings = {"until": [], "do_sample": False, "max_gen_toks": longest + 1}
        assert found["generation_kwargs"] == settings
        tried += 1
    assert tried == len(CELLS)


@pytest.mark.parametrize("tags", [True, False])
def test_the_prompt_has_the_tokens_that_the_codec_gives_it(write, tags):
    folder, cells, _ = write(tags=tags)
    codec = Codec.build(tasks=["shortest_path"], nodes=16, tags=tags)
    for name, (task, length) in cells.items():
        found = read(folder, name)
        component = next(c for c in PLAN.mixture.components if c.task == task)
        sample = draw_test_set(component, length, 4, 0).examples
        ids = codec.encode(sample, task).ids
        for row, (prompt, target) in enumerate(sample.text()):
            # a column by its name, or a template
            doc = {"task": task, "prompt": prompt, "target": target, "length": length}
            text = doc.get(found["doc_to_text"]) or Template(found["doc_to_text"]).render(**doc)
            tokens = codec.tokenizer(text)["input_ids"]
            assert tokens == ids[row, : len(tokens)].tolist()
            answer = codec.tokenize([target])[0]
            rest = ids[row, len(tokens) : len(tokens) + len(answer) + 1].tolist()
            assert rest == [*answer, codec.eos_id]


def test_names_are_safe_whatever_the_corpus_is_called(write):
    folder, cells, _ = write(name="-a b/c,*.1[x]")
    assert next(iter(cells)) == "a_b_c_1_x__capitalize_reverse_length_1"
    assert read(folder, "a_b_c_1_x_")["group"] == "a_b_c_1_x_"


def test_a_name_that_is_a_number_or_a_word_of_yaml_stays_text(write):
    folder, _, _ = write(name="no")
    assert read(folder, "no")["group"] == "no"


def test_the_corpus_is_where_it_is_reported_on_its_branch(corpus, tmp_path):
    cells = write_tasks(tmp_path, PLAN, "org/name", corpus=corpus, name="x", tags=True, revision="draft")
    for name in cells:
        found = read(tmp_path, name)
        assert found["dataset_path"] == "org/name"
        assert found["dataset_kwargs"]["revision"] == "draft"


def test_equal_arguments_give_equal_bytes(corpus, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_tasks(tmp_path / name, PLAN, "org/name", corpus=corpus, name="x", tags=True)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_a_folder_is_replaceable_until_something_else_is_in_it(write, tmp_path):
    folder, _, _ = write()
    assert is_replaceable(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert is_replaceable(empty)
    assert not is_replaceable(tmp_path / "nothing")
    common = (folder / COMMON).read_text()
    (folder / COMMON).write_text(common.replace("mean", "median"))
    assert not is_replaceable(folder)
    (folder / COMMON).write_text(common)
    assert is_replaceable(folder)
    for content in (b"task: mine\n", b"", b"\xff"):
        (folder / "mine.yaml").write_bytes(content)
        assert not is_replaceable(folder)
    (folder / "mine.yaml").unlink()
    (folder / "more").mkdir()
    assert not is_replaceable(folder)


def test_user_errors_name_what_is_wrong(write, tmp_path):
    with pytest.raises(TaskError, match="has neither letter nor digit"):
        write(name="_._")
    with pytest.raises(TaskError, match="has no test rows of capitalize_reverse"):
        write(corpus=tmp_path / "elsewhere")
    masked = Mixture([Component("mqar", "target", (3, 5))])
    masked_plan = CorpusPlan(masked, 10, 2, [5])
    with pytest.raises(TaskError, match="no task of the corpus has test rows whose whole answer counts"):
        write(plan=masked_plan)
    with pytest.raises(TaskError, match="no task of the corpus"):
        check_plan(masked_plan)
    check_plan(PLAN)
    write()
    with pytest.raises(TaskError, match="must be an empty folder"):
        write()


def test_two_tasks_of_one_name_are_refused(corpus, tmp_path, monkeypatch):
    # a task of a user's may be called so, and its group like another's length
    component = Component("capitalize_reverse", "target", (1, 3), options={"alphabet": "ab"})
    other = Component("capitalize", "auxiliary", (1, 3))
    object.__setattr__(other, "task", "Capitalize_Reverse_length_2")
    (tmp_path / "corpus").mkdir()
    for task in (component.task, other.task):
        (tmp_path / "corpus" / task).symlink_to(corpus / "capitalize_reverse")
    mixture = Mixture([component])
    object.__setattr__(mixture, "components", (component, other))
    plan = CorpusPlan(Mixture([component]), 10, 2, [1, 2])
    object.__setattr__(plan, "mixture", mixture)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(TaskError, match="would be called 'x_Capitalize_Reverse_length_2'"):
        write_tasks(out, plan, "org/name", corpus=tmp_path / "corpus", name="x", tags=True)
    assert list(out.iterdir()) == []
