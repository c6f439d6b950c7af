"""The short forms of `tests/faults`; the whole is run by hand."""

import json
import sys

import pytest

from hf_lgt.utils.atomic_io import write_text
from tests.conftest import ROOT
from tests.faults.disk import namespace
from tests.integration.utils.test_atomic_io import left_by_killed
from tests.support import forked


def report_of(tmp_path, script, *options):
    """What a script of `tests/faults` reports, a process of its own, for it forks."""
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", f"tests.faults.{script}", *options, "--output", str(file)]
    done = forked.run(command, cwd=ROOT, timeout=300)
    assert file.is_file(), done.stderr
    report = json.loads(file.read_text())
    assert report["failures"] == [], done.stderr
    assert done.returncode == 0
    return report


def test_killed_runs_give_the_result_of_undisturbed_ones(tmp_path):
    report = report_of(tmp_path, "kill", "--trials", "3")
    assert report["identical"] == 3
    assert report["trials killed"] == 3
    assert report["trials killed inside a write"] >= 1


def test_killed_commands_leave_nothing_behind_once_they_are_given_again(tmp_path):
    recipes = ["report", "pretrain", "build_dataset"]
    report = report_of(tmp_path, "kill", "--recipe", *recipes, "--trials", "1", "--inside", "1")
    assert [report[recipe]["identical"] for recipe in recipes] == [1] * 3
    assert [report[recipe]["trials killed inside a write"] for recipe in recipes] == [1] * 3


@pytest.mark.parametrize(
    ("recipe", "option", "arguments"),
    [
        ("report.py", "--output", ["RUN"]),
        ("analyze.py heads", "--output", ["RUN"]),
        ("evaluate.py", "--output", ["RUN"]),
        ("build_dataset.py", "--output", []),
        ("build_dataset.py", "--lm_eval", []),
        ("language/build.py initials", "--output", []),
    ],
)
def test_what_a_killed_command_moved_aside_is_back_before_the_next_looks(
    call_recipe, tiny_run, tmp_path, monkeypatch, recipe, option, arguments
):
    monkeypatch.chdir(tmp_path)
    write_text(left_by_killed(tmp_path / "out", ".old") / "mine.txt", "precious")
    recipe, *what = recipe.split()
    arguments = [str(tiny_run) if word == "RUN" else word for word in arguments]
    done = call_recipe(recipe, *what, *arguments, option, "out")
    assert (done.returncode, f"{option}: " in done.stderr) == (2, True), done.stderr
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/mine.txt"]


def test_damage_of_each_file_of_a_checkpoint_is_reported_and_mended(tmp_path):
    report = report_of(tmp_path, "damage", "--once", "--positions", "20")
    assert {"model.safetensors", "optimizer.pt", "state.json", "manifest.json"} <= set(report["files"])
    assert report["recovered"] == report["damaged and resumed"] == len(report["files"])
    assert report["detected and named"] == report["looked at"] == 40 * len(report["files"])


def test_a_full_disk_is_reported_and_the_run_goes_on_once_there_is_room(tmp_path):
    if namespace() is None:
        pytest.skip("no tmpfs can be mounted here: neither root nor `unshare -mr` works")
    report = report_of(tmp_path, "disk", "--points", "3")
    assert report["told, unharmed and resumed"] == report["points"] == 3
