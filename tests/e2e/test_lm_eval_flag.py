"""recipes/build_dataset.py --lm_eval: what it writes where, and what it leaves alone."""

import re

import datasets
import pytest
import yaml

from data_builders.hub import push as hub
from hf_lgt.commands import options

SMALL = ["--train_examples", "300", "--eval.lengths", "[1,10]", "--eval.every", "3", "--eval.examples", "8"]


@pytest.fixture
def run(call_recipe, tmp_path):
    """Calls the recipe's main in this process."""

    def call(*arguments):
        done = call_recipe("build_dataset.py", *SMALL, "--output", tmp_path / "corpus", *arguments)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    yield call
    datasets.enable_progress_bars()


def test_it_writes_tasks_for_the_corpus_it_builds(run, tmp_path):
    tasks = tmp_path / "some" / "tasks"
    done = run("--lm_eval", tasks)
    assert done.returncode == 0, done.stderr
    assert f"12 tasks of lm-evaluation-harness in {tasks}" in done.stdout
    assert f"lm_eval run --include_path {tasks} --tasks demo-transfer " in done.stdout
    assert len(list(tasks.iterdir())) == 3 * 4 + 3 + 1 + 1
    common = yaml.safe_load((tasks / "_common.yaml").read_text())
    assert common["dataset_path"] == str(tmp_path / "corpus")
    assert common["doc_to_text"] == "<{{task}}>{{prompt}}"
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "some"}


def test_a_corpus_that_is_there_only_gets_its_tasks(run, tmp_path):
    assert run().returncode == 0
    written = (tmp_path / "corpus" / "corpus.json").stat().st_mtime_ns
    tasks = tmp_path / "tasks"
    for name in ("one", "other"):  # whose tasks take the place of the first one's
        done = run("--lm_eval", tasks, "--name", name)
        assert done.returncode == 0, done.stderr
        assert "holds this corpus already" in done.stdout
        assert {re.split("[_.]", path.name)[0] for path in tasks.iterdir()} == {"", name}
    assert (tmp_path / "corpus" / "corpus.json").stat().st_mtime_ns == written
    other = run("--lm_eval", tasks, "--seed.data", "9")
    assert other.returncode == 2
    assert "holds no corpus of these settings and this code" in other.stderr


def test_a_corpus_without_tags_is_asked_without_them(run, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "name: alone\nmodel: {init: random, architecture: llama}\n"
        "mixture: [{task: reverse, role: target, lengths: [1, 5]}]\n"
        "data: {source: generated, tags: false}\n"
    )
    done = run("--config", config, "--lm_eval", tmp_path / "tasks")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "tasks" / "_common.yaml").read_text())["doc_to_text"] == "prompt"


def test_a_pushed_corpus_is_named_by_its_repository(run, tmp_path, monkeypatch):
    monkeypatch.setattr(options, "check_destination", lambda *_: None)
    monkeypatch.setattr(hub, "push_folder", lambda *_, **__: "https://hub/org/name/commit/1")
    tasks = tmp_path / "tasks"
    done = run("--lm_eval", tasks, "--push_to_hub", "org/name", "--revision", "draft")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tasks / "_common.yaml").read_text())["dataset_path"] == "org/name"
    task = yaml.safe_load((tasks / "demo-transfer_reverse_length_7.yaml").read_text())
    assert task["dataset_kwargs"]["revision"] == "draft"


def test_tasks_do_not_name_a_corpus_whose_push_failed(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise hub.PushError("the line was cut")

    monkeypatch.setattr(options, "check_destination", lambda *_: None)
    monkeypatch.setattr(hub, "push_folder", fail)
    assert run("--lm_eval", tmp_path / "tasks", "--push_to_hub", "org/name").returncode == 1
    assert not (tmp_path / "tasks").exists()


def test_what_else_a_folder_holds_is_kept_and_refused_before_any_work(run, tmp_path):
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "mine.yaml").write_text("task: mine\n")
    done = run("--lm_eval", tasks)
    assert done.returncode == 2
    assert f"--lm_eval: {tasks} holds other files than this wrote" in done.stderr
    assert (tasks / "mine.yaml").read_text() == "task: mine\n"
    assert {path.name for path in tmp_path.iterdir()} == {"tasks"}


def test_an_empty_folder_and_a_link_to_one_are_filled(run, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "link").symlink_to("tasks")
    assert run("--lm_eval", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "tasks" / "demo-transfer.yaml").is_file()


@pytest.mark.parametrize("place", [".", "corpus", "corpus/tasks"])
def test_the_tasks_are_apart_from_the_corpus(run, tmp_path, place):
    done = run("--lm_eval", tmp_path / place)
    assert done.returncode == 2
    assert f"--lm_eval: {tmp_path / place} must be apart from the folder of the corpus" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_kept(run, tmp_path):
    (tmp_path / "tasks").write_text("x")
    assert run("--lm_eval", tmp_path / "tasks").returncode == 2
    assert (tmp_path / "tasks").read_text() == "x"


def test_a_mixture_without_any_such_task_is_refused_before_any_work(run, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "name: recall\nmodel: {init: random, architecture: llama}\n"
        "mixture: [{task: mqar, role: target, lengths: [3, 5]}]\n"
        "data: {source: generated}\n"
    )
    done = run("--config", config, "--lm_eval", tmp_path / "tasks")
    assert done.returncode == 2
    assert "--lm_eval: no task of the corpus has test rows whose whole answer counts" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
