"""A short form of `tests.faults.fuzz`: hostile input through the real recipes; and that it finds faults."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.fuzz.running import MARKER, WORK, Case, run_case


def test_hostile_input_ends_well(tmp_path):
    """In a process of its own, which must not reach out whatever the other tests set up."""
    words = f"--configs 40 --datasets 15 --recipes 40 --seed 1 --limit 300 --output {tmp_path}/fuzz.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", *words.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found.pop("faults") == []
    recipes = [found.pop(name) for name in [*found] if name.startswith("recipe ")]
    assert len(recipes) == 8
    for cases, parts in ((40, [found["configs"]]), (15, [found["datasets"]]), (40, recipes)):
        assert sum(part["cases"] for part in parts) == cases
        # both ways of ending well are tried
        assert min(sum(part[way] for part in parts) for way in ("accepted", "refused")) >= 3


def _raises(argv):
    raise KeyError("nobody caught this")


def _refuses_and_writes(argv):
    Path("left").mkdir()
    sys.stderr.write("error: 1 fault:\n")
    return 2


def _refuses_and_changes(argv):
    Path("there").write_text("another")
    sys.stderr.write("error: 1 fault:\n")
    return 2


def _writes_elsewhere(argv):
    Path("../stray").write_text("x")
    return 0


def _leaves_a_draft(argv):
    Path("home").mkdir()
    Path("home/.file.1-0123abcd").write_text("x")
    return 0


def _colours(argv):
    sys.stdout.write("a\x1b[31mb")
    return 0


def _turns(argv):
    sys.stderr.write("a\u202eb")
    return 0


def _sleeps(argv):
    time.sleep(60)


def _is_killed(argv):
    os.kill(os.getpid(), signal.SIGKILL)


def _says_nothing(argv):
    return 1


def _runs_foreign_code(argv):
    Path.cwd().parents[len(WORK.parts) - 1].joinpath(MARKER).write_text("x")
    return 0


@pytest.mark.parametrize(
    ("main", "why"),
    [
        (_raises, "KeyError: 'nobody caught this' at "),
        (_refuses_and_writes, "stray files ['/deep/down/place/left']"),
        (_refuses_and_changes, "stray files ['/deep/down/place/there']"),
        (_writes_elsewhere, "stray files ['/deep/down/stray']"),
        (_leaves_a_draft, "stray files ['/deep/down/place/home/.file.1-0123abcd']"),
        (_colours, "control characters"),
        (_turns, "control characters"),
        (_sleeps, "hangs: "),
        (_is_killed, "ended with -9"),
        (_says_nothing, "no error line"),
        (_runs_foreign_code, "a stranger's code was run"),
        (lambda argv: 3, "status 3"),
    ],
)
def test_what_is_wrong_is_found(main, why):
    """Each way of ending badly, by a recipe that does it on purpose."""
    case = Case(["x"], {"there": b"as it was"})
    # short for the one that sleeps; the others end at once, however busy the machine is
    limit_s = 1 if main is _sleeps else 120
    ended = run_case(main, lambda argv: ([Path("home")], []), case, limit_s=limit_s)
    assert ended.why.startswith(why)


def test_what_a_recipe_may_write_is_no_fault():
    def main(argv):
        Path("home/made").mkdir(parents=True)
        Path("home/made/file").write_text(" ".join(argv))
        sys.stdout.write("written\n")
        return 0

    ended = run_case(main, lambda argv: ([Path("home")], ["--more"]), Case(["x"]))
    assert (ended.status, ended.why, ended.argv, ended.said) == ("0", None, ["x", "--more"], "written\n")
