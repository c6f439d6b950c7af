"""Recipes as a user calls them: a mistake brings a message and status 2, and leaves no trace."""

import subprocess
import sys

import pytest

from hf_lgt.config.schema import describe_keys
from tests.conftest import ROOT
from tests.support import forked

RECIPES = ROOT / "recipes"
HEAVY = {"torch", "transformers", "datasets", "accelerate", "evaluate", "matplotlib"}


@pytest.fixture
def given_files(tmp_path):
    """Where a test puts what it gives to a recipe."""
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


@pytest.fixture
def refused(request, tmp_path):
    """Calls a recipe from an empty folder, which must stay empty; gives what was reported."""
    here = tmp_path / "here"
    here.mkdir()
    run = forked.real if request.node.get_closest_marker("real_processes") else forked.run

    def call(recipe, *words):
        before = sorted(tmp_path.rglob("*"))
        done = run([sys.executable, str(RECIPES / recipe), *map(str, words)], cwd=here)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        assert done.stdout == ""
        assert sorted(tmp_path.rglob("*")) == before
        return done.stderr

    return call


@pytest.mark.real_processes
def test_many_wrong_overrides_are_reported_at_once(refused):
    words = [
        "--train.stesp", "5",
        "--trian.steps", "5",
        "--train.steps", "-5",
        "--train.learning_rate=fast",
        "--train.batch_size", "0",
        "--train.trackers", "[tensorbored]",
        "--model.heads", "5",
        "--model.positions", "absolute",
        "--mixture.0.task", "capitalise_reverse",
        "--mixture.1.lengths", "[0,16]",
        "--mixture.2.lengths", "[1,400]",
        "--mixture.9.task", "reverse",
        "--eval.lengths", "[9,1]",
        "--seed.init=",
        "--output_dir", "below/here",
        "--name", "a/b",
    ]  # fmt: skip
    told = refused("finetune.py", *words)
    lines = told.splitlines()
    assert lines[0] == "error: 15 faults:"
    keys = [word.split("=")[0].removeprefix("--") for word in words if word.startswith("--")]
    renamed = {"trian.steps": "trian", "train.trackers": "train.trackers.0"}
    expected = [renamed.get(key, key) for key in keys if key != "output_dir"]
    assert sorted(line.split(":")[0].strip() for line in lines[1:]) == sorted(expected)
    for remedy in ("'steps'", "'train'", "'capitalize_reverse'", "model.max_positions is 512", "at least 1"):
        assert remedy in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file or directory"),
        ("name: [", "is not YAML: line 1"),
        ("", "is empty; it must hold keys"),
        ("base: nowhere.yaml\n", "nowhere.yaml: No such file or directory"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_reported_by_its_name(refused, given_files, text, told):
    path = given_files / "my.yaml"
    if text is not None:
        path.write_text(text)
    message = refused("finetune.py", "--config", path, "--output_dir", "out", "--overwrite")
    assert str(given_files) in message
    assert told in message
    assert len(message.splitlines()) == 2


def test_the_faults_of_a_file_are_reported_at_once(refused, given_files):
    path = given_files / "my.yaml"
    path.write_text(
        "name: 5\n"
        "sede: {init: 1}\n"
        "mixture:\n"
        "  - {task: revers, role: auxiliary, lengths: [1, 8]}\n"
        "train: {learning_rate: -1}\n"
    )
    told = refused("finetune.py", "--config", path)
    assert [line.split(":")[0].strip() for line in told.splitlines()] == [
        "error",
        "name",
        "train.learning_rate",
        "sede",
        "mixture",
        "mixture.0.task",
    ]


@pytest.mark.parametrize(
    ("recipe", "words", "told"),
    [
        ("finetune.py", ["--overwritee"], "did you mean --overwrite?"),
        ("finetune.py", ["--train.steps", "5", "stray"], "unexpected 'stray'"),
        ("finetune.py", ["--train.steps"], "--train.steps needs a value"),
        ("evaluate.py", ["model", "--confg", "x"], "did you mean --config?"),
        ("evaluate.py", ["--eval.lengths", "[1,4]"], "required: model"),
        ("compare.py", [], "required: comparison"),
        ("compare.py", ["demo", "--jobs", "0"], "'0' must be an integer >= 1"),
    ],
)
def test_words_that_are_no_command_line_are_reported_with_the_usage(refused, recipe, words, told):
    message = refused(recipe, *words)
    assert message.startswith(f"usage: {recipe}")
    assert told in message.splitlines()[-1]


def test_a_comparison_that_is_not_there_is_reported(refused):
    assert "comparison nowhere: No such file or directory" in refused("compare.py", "nowhere")


def test_the_faults_of_all_arms_are_reported_at_once(refused, given_files):
    arms = ("one", "two")
    (given_files / "compare.yaml").write_text("name: c\narms: [one.yaml, two.yaml]\nseeds: [0]\n")
    for arm in arms:
        (given_files / f"{arm}.yaml").write_text(f"base: {RECIPES / 'demo/transfer.yaml'}\nname: {arm}/\n")
    told = refused("compare.py", "--train.steps", "-5", given_files, "--output_dir", "out")
    assert [line.split(": ")[:2] for line in told.splitlines()[1:]] == [
        [f"  {arm}", key] for arm in arms for key in ("train.steps", "name")
    ]


def test_seeds_that_are_none_are_reported(refused):
    told = refused("compare.py", RECIPES / "demo", "--seeds", "0,x", "--output_dir", "out")
    assert "--seeds: [0, 'x'] must be a list of different integers >= 0" in told


def test_evaluate_tells_the_faults_of_its_config(refused, given_files):
    run = given_files / "run"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}")
    (run / "config.yaml").write_text((RECIPES / "demo/transfer.yaml").read_text())
    told = refused("evaluate.py", run, "--eval.lengths", "[1,900]", "--eval.exmaples", "5")
    assert "eval.exmaples: unknown key 'exmaples'; did you mean 'examples'?" in told
    assert "eval.lengths: length 900 of capitalize_reverse" in told
    assert "model.max_positions is 512" in told


@pytest.mark.parametrize("recipe", ["finetune.py", "compare.py", "evaluate.py"])
def test_help_lists_the_keys_and_loads_nothing_heavy(recipe, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{recipe!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(RECIPES / recipe)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('modules:', *sys.modules, sep='\\n')\n"
        "    sys.exit(end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told, modules = done.stdout.split("modules:\n")
    assert told.startswith(f"usage: {recipe}")
    for key, meaning in describe_keys():
        assert f"  {key} " in told
        assert meaning.replace(" [required]", "") in told
    assert {name.split(".")[0] for name in modules.split()} & HEAVY == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_processes  # torch compiles by processes of its own
def test_a_compiler_that_does_not_work_is_reported_before_anything_is_written(
    refused, monkeypatch, tmp_path_factory
):
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
    monkeypatch.setenv("TORCH_LOGS", "-all")
    error = refused("finetune.py", "--train.compile", "true")
    assert "train.compile: torch.compile failed (InvalidCxxCompiler: No working C++ compiler found" in error
    assert "or set train.compile to false" in error
