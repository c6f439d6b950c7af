"""The short forms of `tests/faults`; the whole is run by hand."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.faults.disk import namespace


def report_of(tmp_path, script, *options):
    """What a script of `tests/faults` reports, a process of its own: it forks, which a test should not."""
    file = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{script}", *options, "--output", str(file)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
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


def test_damage_of_each_file_of_a_checkpoint_is_told_and_mended(tmp_path):
    report = report_of(tmp_path, "damage", "--once", "--positions", "20")
    assert {"model.safetensors", "optimizer.pt", "state.json", "manifest.json"} <= set(report["files"])
    assert report["recovered"] == report["damaged and resumed"] == len(report["files"])
    assert report["detected and named"] == report["looked at"] == 40 * len(report["files"])


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(tmp_path):
    if namespace() is None:
        pytest.skip("no tmpfs can be mounted here: neither root nor `unshare -mr` works")
    report = report_of(tmp_path, "disk", "--points", "3")
    assert report["told, unharmed and resumed"] == report["points"] == 3
