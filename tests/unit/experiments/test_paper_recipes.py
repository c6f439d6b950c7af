"""The pages of the paper's figures: each has its sweeps, and its text is that of the numbers beside it."""

import json
import re

import pytest

from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.report.pages import MARK, page_text
from hf_lgt.experiments.report.stored import read_results
from hf_lgt.experiments.spec import load_comparison, load_sweep
from tests.conftest import ROOT

FIGURES = ("03", "04", "06", "07", "08", "09", "10", "11", "12", "14", "15")
RECIPES = ROOT / "recipes"
FOLDERS = [path for path in sorted((RECIPES / "paper").glob("fig*")) if path.is_dir()]
FOLDERS += [RECIPES / "controls", RECIPES / "positions"]
PAGES = [page for page in sorted(RECIPES.rglob("README.md")) if MARK.search(page.read_text(encoding="utf-8"))]
RESULTS = sorted(
    path for path in RECIPES.rglob("*.json") if '"format": 2' in path.read_text(encoding="utf-8")[:100]
)


def name(path):
    return path.relative_to(RECIPES).as_posix()


def test_every_figure_has_a_folder():
    assert tuple(path.name[3:5] for path in FOLDERS if path.name.startswith("fig")) == FIGURES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_page_has_both_scales_and_what_came_out(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    for file in ("cpu.yaml", "paper.yaml"):
        assert plan(load_sweep(folder / file))
        assert f"python recipes/sweep.py {(folder / file).relative_to(ROOT).as_posix()}" in text
    marked = {(kind, file) for _, kind, file, _, _ in MARK.findall(text)}
    for file in folder.glob("*cpu.json"):
        assert {("verdict", file.name), ("results", file.name)} <= marked
    if not (folder / "paper.json").is_file():
        assert "was not run: no GPU was at hand" in text
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text):
        assert (folder / picture).is_file()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_that_of_its_numbers(page):
    """Verdicts by the rule, tables, what sets kept runs apart: `recipes/report.py --pages` writes them."""
    assert page.read_text(encoding="utf-8") == page_text(page)


@pytest.mark.parametrize("file", RESULTS, ids=name)
def test_results_are_those_of_the_sweep_beside_them(file):
    load = load_comparison if file.stem == "compare" else load_sweep
    results, spec = read_results(file), load(file.with_suffix(".yaml"))
    assert results.claims == list(spec.claims)
    made = {r.entry.id for cell in results.cells for r in cell.results}
    if not results.kept:
        assert made == {run.id for run in plan(spec)}


@pytest.mark.parametrize("file", sorted(RECIPES.rglob("*.json")), ids=name)
def test_an_arm_that_fails_everywhere_shows_no_transfer(file):
    """Whatever the file, also one of an analysis: no gain, recovered fraction or transfer above .1."""

    def check(data):
        if isinstance(data, list):
            for item in data:
                check(item)
        elif isinstance(data, dict):
            reach = (data.get("regimes") or {}).get("transfer")
            if reach is not None and reach < 0.01:
                found = {key: data.get(key) for key in ("gain", "recovered", "transfer")}
                assert all((value or 0) <= 0.1 for value in found.values()), found
            for item in data.values():
                check(item)

    check(json.loads(file.read_text(encoding="utf-8")))
