"""A short form of `tests.fuzz`: hostile configs and datasets through the real recipe."""

import json
import subprocess
import sys

from tests.conftest import ROOT


def test_hostile_configs_and_datasets_end_well(tmp_path):
    """In a process of its own, which must not reach out whatever the other tests set up."""
    words = ["--configs", "60", "--datasets", "25", "--seed", "1", "--output", tmp_path / "fuzz.json"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["faults"] == []
    for name, cases in (("configs", 60), ("datasets", 25)):
        counts = found[name]
        assert counts["cases"] == cases
        # both ways of ending well are tried
        assert min(counts["accepted"], counts["refused"]) >= 4
