"""The pages of the paper's figures: each has its sweeps, and its numbers are those that were measured."""

import json
import re

import pytest

from hf_lgt.evaluation.statistics import bootstrap_interval
from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.spec import load_sweep
from hf_lgt.report.blocks import Number
from tests.conftest import ROOT

FIGURES = ("03", "04", "06", "07", "08", "09", "10", "11", "12", "14", "15")
FOLDERS = [path for path in sorted((ROOT / "recipes" / "paper").glob("fig*")) if path.is_dir()]
FOLDERS += [ROOT / "recipes" / "controls", ROOT / "recipes" / "positions"]
VERDICT = re.compile(r"^\*\*Verdict: (reproduces|partly|does not reproduce|answered)\b", re.MULTILINE)


def test_every_figure_has_a_folder():
    assert tuple(path.name[3:5] for path in FOLDERS if path.name.startswith("fig")) == FIGURES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_page_has_both_scales_and_says_what_came_out(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("cpu.yaml", "paper.yaml"):
        assert plan(load_sweep(folder / name))
        assert f"python recipes/sweep.py {(folder / name).relative_to(ROOT).as_posix()}" in text
    if (folder / "cpu.json").is_file():
        assert VERDICT.search(text)
    else:
        assert "has not been run" in text
    if not (folder / "paper.json").is_file():
        assert "was not run: no GPU was at hand" in text
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text):
        assert (folder / picture).is_file()


MEASURED = sorted(path for folder in FOLDERS for path in folder.glob("*cpu.json"))


@pytest.mark.parametrize("file", MEASURED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_numbers_of_a_page_are_those_of_its_file(file):
    """The transfer region of every setting, or its gap where the page is about that."""
    text = (file.parent / "README.md").read_text(encoding="utf-8")
    data = json.loads(file.read_text(encoding="utf-8"))
    planned = {run.id for run in plan(load_sweep(file.with_suffix(".yaml")))}
    assert {run["id"] for cell in data["cells"] for run in cell["runs"]} == planned
    about_gap = "target_length" in data["axes"]
    for cell in data["cells"]:
        runs = [run for run in cell["runs"] if run["comparable"] or not about_gap]
        values = [run["gap"] if about_gap else run["regimes"]["transfer"] for run in runs]
        known = [value for value in values if value is not None]
        if known:
            mean = Number(sum(known) / len(known), *bootstrap_interval(known))
            assert str(mean) in text, cell["arm"]
