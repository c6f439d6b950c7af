"""Hostile names, broken records and secrets, through the recipes as a user calls them."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from data_builders.hub.push import DestinationError, push_folder
from hf_lgt.utils import yaml as yaml12
from hf_lgt.utils.run_lock import RunLock
from tests.conftest import ROOT
from tests.unit.data_builders.test_secrets import HF, WANDB
from tests.unit.data_builders.test_texts import rendered

TASKS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "](javascript:alert(1))", r"$\frac$ $x$",
    "`a` ```", "a | b", "--- a: b", "_x", "# h", "漢字 \U0001f600", "../../up", "{x} {{y}} %s",
    "a: b", "no", "w" * 200,
]  # fmt: skip
TINY = {
    "name": "hostile",
    "model": {
        "layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 16, "max_positions": 256,
        "tokenizer": "words",
    },
    "train": {"steps": 1, "batch_size": 4, "eval_every": None, "save_every": None},
    "eval": {"lengths": [1, 2], "examples": 2},
    "data": {"source": "dataset", "path": "rows.jsonl", "test_split": "train", "tags": False},
}  # fmt: skip
SECRETS = {
    "HF_TOKEN": HF,
    "HUGGING_FACE_HUB_TOKEN": HF[::-1],
    "WANDB_API_KEY": WANDB,
    "MY_PASSWORD": "hunter22hunter22",
    "OTHER_API_KEY": "0a1b2c3d4e5f",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, in which the recipes are called."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(folder, tasks, columns=None, **changes):
    """A dataset whose tasks have these names, and the config of a tiny run on it."""
    columns = columns or {}
    rows = [
        {"task": task, "length": n, "prompt": f"{task} {n}", "target": f"{task} " * n}
        for task in tasks
        for n in (1, 2)
    ]
    named = [{columns.get(key, key): value for key, value in row.items()} for row in rows]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    roles = ["target", *("auxiliary" for _ in tasks[1:])]
    mixture = [
        {"task": task, "role": role, "lengths": [1, 2]} for task, role in zip(tasks, roles, strict=True)
    ]
    data = {**TINY["data"], "columns": columns}
    (folder / "c.yaml").write_text(yaml12.dump({**TINY, "mixture": mixture, "data": data, **changes}))
    return ["finetune.py", "--config", "c.yaml"]


def cells(line):
    return re.split(r"(?<!\\)\|", line)


def test_hostile_tasks_are_inert_in_all_that_a_run_writes(call_recipe, here):
    done = call_recipe(*write(here, TASKS))
    assert done.returncode == 0, done.stderr
    run = here / "runs" / "hostile" / "seed-0"
    assert {p.name for p in here.iterdir()} == {"c.yaml", "rows.jsonl", "runs"}
    assert {p.name for p in here.parent.iterdir()} == {"here"}
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"

    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    _, metadata, body = card.split("---\n", 2)
    (index,) = yaml.safe_load(metadata)["model-index"]
    assert {r["dataset"]["name"] for r in index["results"]} == set(TASKS)
    page = rendered(body)
    assert set(page.tags) == {
        "h1", "h2", "p", "a", "code", "ul", "li", "pre", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert page.tags.count("a") == 1  # the paper
    for task in TASKS:
        assert page.text.count(task) >= 3, task  # its example, its column, the config
    (table,) = ([line for line in text.splitlines() if line[:1] == "|"] for text in [body])
    assert {len(cells(line)) for line in table} == {len(TASKS) + 5}
    assert table == [line for line in done.stdout.splitlines() if line[:1] == "|"]


def test_columns_may_have_any_name(call_recipe, here):
    columns = {"task": "<b>|`", "length": "../n", "prompt": "a\nb\x1b[31m", "target": "$x$: {y}"}
    done = call_recipe(*write(here, ["a", "b"], columns))
    assert done.returncode == 0, done.stderr
    assert "\x1b[31m" not in done.stdout + done.stderr
    card = (here / "runs/hostile/seed-0/model/README.md").read_text(encoding="utf-8")
    assert "b" not in rendered(card.split("---\n", 2)[2]).tags
    assert "\x1b" not in card


@pytest.mark.parametrize("name", ["../up", "/tmp/x", "a/b", "a\nb", "<b>", "..", "a\x1b[31m", "a\0b", ""])
def test_names_that_are_no_folder_are_refused(call_recipe, here, name):
    words = write(here, ["a", "b"], name=name)
    done = call_recipe(*words)
    assert done.returncode == 2
    assert "name: " in done.stderr
    assert not set("\x1b\0") & set(done.stderr)
    assert {p.name for p in here.iterdir()} == {"c.yaml", "rows.jsonl"}
    assert {p.name for p in here.parent.iterdir()} == {"here"}


def test_a_missing_column_is_reported_without_the_controls_of_others(call_recipe, here):
    words = write(here, ["a", "b"], {"target": "\x1b]0;title\x07", "prompt": "\u202eabc"})
    done = call_recipe(*words, "--data.columns", "{}")
    assert done.returncode == 2
    assert "'\\u202eabc', '\\x1b]0;title\\x07'" in done.stderr


@pytest.fixture
def compared(call_recipe, here):
    """A comparison of one finished run; gives the run's records."""
    assert call_recipe(*write(here, ["a", "b"])).returncode == 0
    (here / "compare.yaml").write_text("name: c\narms: [c.yaml]\nseeds: [0]\n")
    return here / "runs/hostile/seed-0/eval.jsonl"


@pytest.mark.parametrize("name", ["", "logs", "configs", "slurm"])
def test_a_file_in_the_place_of_a_folder_is_reported_before_anything_is_written(
    call_recipe, compared, here, name
):
    place = here / "runs" / "c" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    refuses_and_writes_nothing(
        call_recipe, here, f"output_dir: runs/c{'/' + name if name else ''} is no folder"
    )


@pytest.mark.parametrize("name", ["manifest.json", "comparison.md", "comparison.json", "comparison.png"])
def test_a_folder_in_the_place_of_a_file_is_reported_before_anything_is_written(
    call_recipe, compared, here, name
):
    (here / "runs" / "c" / name).mkdir(parents=True)
    refuses_and_writes_nothing(
        call_recipe, here, f"output_dir: runs/c/{name} is a folder, where a file should be"
    )


def test_of_two_comparisons_at_once_in_one_folder_the_second_is_refused(call_recipe, compared, here):
    (here / "runs" / "c" / "logs").mkdir(parents=True)
    with RunLock.acquire(here / "runs" / "c"):
        refuses_and_writes_nothing(call_recipe, here, "name: runs/c is being written by process")
    assert call_recipe("compare.py", "compare.yaml").returncode == 0


def test_of_two_sweeps_at_once_in_one_folder_the_second_is_refused(call_recipe, compared, here):
    (here / "s.yaml").write_text("name: c\nconfig: c.yaml\nseeds: [0]\n")
    with RunLock.acquire(here / "runs" / "c"):
        refuses_and_writes_nothing(
            call_recipe, here, "name: runs/c is being written by process", "sweep.py", "s.yaml"
        )


def refuses_and_writes_nothing(call_recipe, here, told, recipe="compare.py", file="compare.yaml"):
    before = sorted(path for path in here.rglob("*"))
    done = call_recipe(recipe, file)
    assert done.returncode == 2
    assert f"error: 1 fault:\n  {told}" in done.stderr
    assert sorted(path for path in here.rglob("*")) == before


def test_what_a_comparison_or_sweep_kept_is_written_anew_where_it_cannot_be_read(call_recipe, compared, here):
    (here / "s.yaml").write_text("name: s\nconfig: c.yaml\nseeds: [0]\n")
    recipes = (("compare.py", "compare.yaml"), ("sweep.py", "s.yaml", "--jobs", "1"))
    for call in recipes:
        assert call_recipe(*call).returncode == 0
    (config,) = (here / "runs" / "s" / "configs").iterdir()
    kept = {path: path.read_bytes() for path in (*(here / "runs").glob("*/manifest.json"), config)}
    assert len(kept) == 3
    for content in (b"\xff\xfe", b'{"name": "\\ud800"}', os.mkfifo):
        for path in kept:
            path.unlink()
            content(path) if callable(content) else path.write_bytes(content)
        done = call_recipe("report.py", "runs")
        assert done.returncode == 2
        assert "runs/c/manifest.json " in done.stderr
        for call in recipes:
            done = call_recipe(*call)
            assert done.returncode == 0, done.stderr
        assert {path: path.read_bytes() for path in kept} == kept


def broken(content):
    """Contents that are no records, with what must be reported of each."""
    first, *rest = content.splitlines(keepends=True)
    record = json.loads(first)

    def line(**changes):
        return (json.dumps({**record, **changes}) + "\n").encode()

    return {
        "cut": (content[:-20], f"line {len(rest) + 1} is not"),
        "bytes": (first + b"\xff\xfe\x00\n", "line 2 is not"),
        "text": (first + b"<html>\x1b[31m\n", "line 2 is not"),
        "list": (b"[]\n", "line 1 is not"),
        "deep": (b"[" * 100_000, "line 1 is not"),
        "more": (line(extra=1), "line 1 is not"),
        "nan": (line(exact_match=float("nan")), "line 1 has a value"),
        "huge": (first + line(length=10**400), "line 2 has a value"),
        "number": (b'{"step": ' + b"1" * 5000 + b"}\n", "line 1 is not"),
        "null": (line(task=None), "line 1 has a value"),
        "control": (line(task="a\x1b[31m"), "line 1 has a value"),
        "kinds": (line(mistakes={"a": -1}), "line 1 has a value"),
        "empty": (b"", "is empty"),
        "blank": (first + b"\n" + first, "line 2 is not"),
        "lacking": (first, "its last evaluation lacks b"),
    }


def test_records_that_cannot_be_read_are_reported_by_file_and_line(call_recipe, here, compared):
    content = compared.read_bytes()
    for case, (damaged, told) in broken(content).items():
        compared.write_bytes(damaged)
        done = call_recipe("compare.py", "compare.yaml")
        assert done.returncode in (1, 2), case
        assert f"seed-0{os.sep}eval.jsonl" in done.stderr, case
        assert told in done.stderr, (case, done.stderr)
        assert "Traceback" not in done.stderr
        assert "\x1b[31m" not in done.stderr
        assert not (here / "runs" / "c" / "comparison.md").exists()
    compared.write_bytes(content)
    assert call_recipe("compare.py", "compare.yaml").returncode == 0


def test_a_run_with_broken_records_is_evaluated_again(call_recipe, compared):
    compared.write_bytes(b"\xff\n")
    done = call_recipe("evaluate.py", compared.parent)
    assert done.returncode == 0, done.stderr


def test_no_secret_of_the_environment_is_left_anywhere(here):
    words = write(here, ["a", "b"])[1:]
    command = [sys.executable, str(ROOT / "recipes" / "finetune.py"), *words]
    for extra, status in (([], 0), (["--data.path", HF], 2), (["--nane", WANDB], 2)):
        done = subprocess.run(
            [*command, *extra],
            env={**os.environ, **SECRETS, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        told = done.stdout + done.stderr
        assert not [name for name, secret in SECRETS.items() if secret in told]
    written = [p for p in (here / "runs").rglob("*") if p.is_file()]
    assert {"config.yaml", "environment.json", "train.jsonl", "README.md"} <= {p.name for p in written}
    for path in written:
        content = path.read_bytes()
        assert not [name for name, secret in SECRETS.items() if secret.encode() in content], path
    # nor where the sources came from, which may hold a token
    about = json.loads((here / "runs/hostile/seed-0/environment.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", about["git_commit"] or "0" * 40)
    assert not [value for value in about.values() if "://" in str(value)]


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_PASSWORD"])
def test_a_secret_in_the_rows_is_not_published(call_recipe, here, hub, monkeypatch, name):
    from hf_lgt.workflows.publish import push_run

    secret = SECRETS[name]
    call = write(here, ["a", "b"])
    rows = here / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"prompt": "a ', f'"prompt": "a {secret} '))
    if name != "HF_TOKEN":  # which the push needs
        monkeypatch.setenv(name, secret)
    assert call_recipe(*call).returncode == 0
    run = here / "runs/hostile/seed-0"
    card = (run / "model/README.md").read_text()
    assert secret not in card
    assert "a *** 2" in card
    with pytest.raises(DestinationError, match=r"tokenizer\.json holds a token, or the value of a secret"):
        push_run(run, "org/leaky")
    assert hub.count("POST", "") == 0


def test_a_linked_file_is_not_published(hub, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/notes.bin").symlink_to(ROOT / "README.md")
    with pytest.raises(DestinationError, match=r"notes\.bin is a link"):
        push_folder(tmp_path / "model", "org/links", repo_type="model", message="x")
