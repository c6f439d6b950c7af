"""recipes/build_dataset.py: what it writes, what it refuses, and how a rerun completes a push."""

import hashlib
import json
import resource
import shlex
from contextlib import contextmanager

import datasets
import pytest

from data_builders import code_fingerprint as code
from data_builders.hub import push as hub
from hf_lgt.commands import options
from tests.conftest import ROOT

DEMO = ROOT / "recipes/demo/transfer.yaml"
SMALL = ["--train_examples", "300", "--eval.lengths", "[1,10]", "--eval.every", "3", "--eval.examples", "8"]


@pytest.fixture
def same_code(monkeypatch):
    """Somebody may edit the package while the tests run; a test of that says so itself."""
    monkeypatch.setattr(code, "package", lambda names=None: {name: code.LOADED[name] for name in code.LOADED})


@pytest.fixture
def run(call_recipe, same_code):
    """Calls the recipe's main in this process."""

    def call(*arguments):
        done = call_recipe("build_dataset.py", *arguments)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    yield call
    datasets.enable_progress_bars()


@pytest.fixture
def pushes(monkeypatch):
    """What is pushed, instead of pushing it."""
    made = []

    def push(folder, repo_id, **settings):
        made.append(("push", folder, repo_id, settings))
        return f"https://hub/{repo_id}/commit/1"

    def check(repo_id, revision, repo_type):
        assert repo_type == "dataset"
        made.append(("check", repo_id, revision))

    monkeypatch.setattr(hub, "push_folder", push)
    monkeypatch.setattr(options, "check_destination", check)
    return made


def test_it_writes_a_corpus_that_loads(run, tmp_path):
    out = tmp_path / "corpus"
    done = run("--config", DEMO, *SMALL, "--seed.data", "5", "--output", out)
    assert done.returncode == 0, done.stderr
    corpus = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "hf"))
    assert len(corpus["train"]) == 300
    assert set(corpus["test"]["length"]) == {1, 4, 7, 10}
    table = [line.split("|")[1:4] for line in done.stdout.splitlines() if line.startswith("| ")]
    listed = {name.strip(): [int(a), int(b)] for name, a, b in table[1:]}
    assert listed["mixture"] == [300, len(corpus["test"])]
    for task in ("capitalize_reverse", "capitalize", "reverse"):
        assert listed[task] == [corpus[split]["task"][:].count(task) for split in ("train", "test")]
    assert f"MB in {out}" in done.stdout
    assert "built in" in done.stdout
    marker = json.loads((out / "corpus.json").read_text())
    assert (marker["seed"], marker["test_seed"], marker["test_examples"]) == (5, 1234, 8)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_command_in_the_card_writes_the_same_bytes(run, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    one, other = tmp_path / "one", tmp_path / "other"
    extra = ["--mixture.0.lengths=[1,5]", "--seed.data", "2", "--output_dir", "/elsewhere", "--name", "a-b"]
    assert run("--config", DEMO, *SMALL, *extra, "--output", one).returncode == 0
    card = (one / "README.md").read_text()
    command = shlex.split(card.split("```bash\n")[1].split("\n```")[0])
    assert command[:4] == ["hf-lgt", "build-dataset", "--config", "recipes/demo/transfer.yaml"]
    assert not {"--output", "--output_dir", "--name"} & set(command)
    assert run(*command[2:], "--output", other, "--num_proc", "2").returncode == 0
    for file in one.rglob("*.*"):
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes()


def test_the_folder_is_named_after_the_config(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--config", DEMO, *SMALL, "--name", "mine").returncode == 0
    assert (tmp_path / "corpora/mine/README.md").is_file()


def test_what_exists_is_replaced_only_when_told_and_only_if_it_is_a_corpus(run, tmp_path):
    out = tmp_path / "corpus"
    assert run("--config", DEMO, *SMALL, "--output", out).returncode == 0
    before = (out / "corpus.json").read_text()
    again = run("--config", DEMO, *SMALL, "--seed.data", "1", "--output", out)
    assert again.returncode == 2
    assert f"--output: {out} exists; choose another folder, or add --overwrite" in again.stderr
    assert (out / "corpus.json").read_text() == before
    assert run("--config", DEMO, *SMALL, "--seed.data", "1", "--output", out, "--overwrite").returncode == 0
    assert json.loads((out / "corpus.json").read_text())["seed"] == 1
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    refused = run("--config", DEMO, *SMALL, "--output", mine, "--overwrite")
    assert refused.returncode == 2
    assert f"--output: {mine} holds no corpus; --overwrite replaces nothing else" in refused.stderr
    assert (mine / "thesis.tex").read_text() == "x"


def test_a_rerun_completes_a_push_without_building_again(run, tmp_path, pushes, monkeypatch):
    out = tmp_path / "corpus"
    arguments = ["--config", DEMO, *SMALL, "--output", out, "--push_to_hub", "org/name"]

    def fail(*_, **__):
        raise hub.PushError("the line was cut")

    with monkeypatch.context() as cut:
        cut.setattr(hub, "push_folder", fail)
        failed = run(*arguments)
    assert failed.returncode == 1
    assert "the line was cut" in failed.stderr
    written = (out / "corpus.json").stat().st_mtime_ns
    done = run(*arguments, "--private", "--revision", "draft")
    assert done.returncode == 0, done.stderr
    assert "holds this corpus already" in done.stdout
    assert "pushed: https://hub/org/name/commit/1" in done.stdout
    assert (out / "corpus.json").stat().st_mtime_ns == written
    assert pushes[:2] == [("check", "org/name", None), ("check", "org/name", "draft")]
    _, folder, repo_id, settings = pushes[2]
    assert (folder, repo_id, settings["repo_type"]) == (out, "org/name", "dataset")
    assert (settings["private"], settings["revision"]) == (True, "draft")


@pytest.mark.parametrize("change", [["--seed.data", "9"], ["--train_examples", "301"], "code"])
def test_another_corpus_is_not_pushed_in_its_place(run, tmp_path, pushes, monkeypatch, change):
    out = tmp_path / "corpus"
    arguments = ["--config", DEMO, *SMALL, "--output", out]
    assert run(*arguments).returncode == 0
    if change == "code":
        package = code.package()
        monkeypatch.setattr(code, "package", lambda: {**package, "tasks/strings.py": "another version"})
        change = []
    done = run(*arguments, *change, "--push_to_hub", "org/name")
    assert done.returncode == 2
    assert "holds no corpus of these settings and this code" in done.stderr
    assert pushes == []


@pytest.mark.parametrize("name", ["notes.txt", ".git/HEAD", "mixture/train-00001-of-00002.parquet", ".env"])
def test_what_is_no_part_of_a_corpus_is_neither_deleted_nor_pushed(run, tmp_path, pushes, name):
    out = tmp_path / "corpus"
    arguments = ["--config", DEMO, *SMALL, "--output", out]
    assert run(*arguments).returncode == 0
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    done = run(*arguments, "--overwrite")
    assert done.returncode == 2
    assert f"--output: {out} holds {name}, which is no part of the corpus and --overwrite" in done.stderr
    assert (out / name).read_text() == "mine"
    done = run(*arguments, "--push_to_hub", "org/name")
    if name.startswith(".git/"):  # a clone's own files are not in the way
        assert done.returncode == 0, done.stderr
        assert not [n for n in pushes[-1][3]["names"] if n.startswith(".git")]
    else:
        assert done.returncode == 2
        assert f"--output: {out} holds {name}, which is no part of the corpus" in done.stderr
        assert pushes == []


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "card", "marker"])
def test_a_damaged_corpus_is_not_pushed(run, tmp_path, pushes, damage):
    out = tmp_path / "corpus"
    arguments = ["--config", DEMO, *SMALL, "--output", out]
    assert run(*arguments).returncode == 0
    name = {"card": "README.md", "marker": "corpus.json"}.get(damage, "reverse/test-00000-of-00001.parquet")
    file, told = out / name, f"{name} is not as it was written; build the corpus again with --overwrite"
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
        told = f"{name} is missing; build the corpus again with --overwrite"
    elif damage == "flipped":
        file.write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
    elif damage == "marker":
        marker = json.loads(data)
        file.write_text(json.dumps({**marker, "files": dict.fromkeys(marker["files"], 3)}))
        told = "holds no corpus of these settings"
    else:
        file.write_bytes(data[:-9])
    done = run(*arguments, "--push_to_hub", "org/name")
    assert done.returncode == 2
    assert f"--output: {out}" in done.stderr
    assert told in done.stderr
    assert pushes == []
    if damage != "marker":
        assert run(*arguments, "--overwrite", "--push_to_hub", "org/name").returncode == 0
        assert file.read_bytes() == data


def test_the_marker_lists_every_file_and_exactly_those_are_pushed(run, tmp_path, pushes):
    out = tmp_path / "corpus"
    done = run("--config", DEMO, *SMALL, "--output", out, "--push_to_hub", "org/name")
    assert done.returncode == 0, done.stderr
    listed = json.loads((out / "corpus.json").read_text())["files"]
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    del found["corpus.json"]
    assert listed == {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in found.items()
    }
    assert pushes[-1][3]["names"] == sorted([*found, "corpus.json"])


def test_a_destination_is_refused_before_any_work(run, tmp_path, monkeypatch):
    def refuse(repo_id, revision, repo_type):
        raise hub.DestinationError(f"--push_to_hub: {repo_id!r} is not yours")

    monkeypatch.setattr(options, "check_destination", refuse)
    done = run("--config", DEMO, *SMALL, "--output", tmp_path / "out", "--push_to_hub", "org/name")
    assert done.returncode == 2
    assert "'org/name' is not yours" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--train_examples", "0"], "'0' must be an integer >= 1"),
        (["--num_proc", "x"], "'x' must be an integer >= 1"),
        (["--private"], "--private: is for --push_to_hub"),
        (["--revision", "x"], "--revision: is for --push_to_hub"),
        (["--eval.lengths", "[5,2]"], "eval.lengths: [5, 2]"),
        (["--mixture.0.task", "revers"], "mixture.0.task: unknown task 'revers'"),
        (["--trian_examples", "5"], "unknown option --trian_examples; did you mean --train_examples?"),
        (
            [
                *("--data.source", "dataset", "--data.path", "x"),
                *(word for k in range(3) for word in (f"--mixture.{k}.options", "{}")),
            ],
            "data.source: 'dataset' has its rows already",
        ),
    ],
)
def test_mistakes_are_reported_before_any_work(run, tmp_path, arguments, told):
    done = run("--config", DEMO, "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_up_to(size):
    """No file of this process or its children may get larger, as on a disk that has so much left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("options", [[], ["--num_proc", "2"]])
@pytest.mark.parametrize("size", [0, 1000, 60_000])
def test_a_full_disk_is_reported_with_the_folder_and_what_to_do(run, tmp_path, size, options):
    arguments = [
        "--config",
        DEMO,
        *SMALL,
        "--train_examples",
        "9000",
        *options,
        "--output",
        tmp_path / "corpus",
    ]
    with files_up_to(size):
        done = run(*arguments)
    assert done.returncode == 1
    told = f"error: {tmp_path / 'corpus'}: File too large; put this right, then rerun the same command\n"
    assert done.stderr.endswith(told)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_of_tasks_for_the_harness_too(run, tmp_path):
    arguments = ["--config", DEMO, *SMALL, "--output", tmp_path / "corpus", "--lm_eval", tmp_path / "tasks"]
    assert run(*arguments[:-2]).returncode == 0
    with files_up_to(100):
        done = run(*arguments)
    assert done.returncode == 1
    assert f"error: {tmp_path / 'tasks'}: File too large; put this right, then rerun" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert run(*arguments).returncode == 0
