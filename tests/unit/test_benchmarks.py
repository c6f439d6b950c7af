"""The tables of speed are those of the committed numbers."""

import json

import pytest

from benchmarks.sides import OURS, alternate
from benchmarks.table import PAGES, between, render
from tests.conftest import ROOT

SPEED = ROOT / "benchmarks" / "speed.json"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_table_of_a_page_is_that_of_the_numbers(page):
    measured = json.loads(SPEED.read_text(encoding="utf-8"))
    assert between(page.read_text(encoding="utf-8")) == render(measured)
    for own in measured["comparisons"]:
        assert set(own["values"]) == {OURS, *own["ratios"]}
        assert {len(values) for values in own["values"].values()} == {5}


def test_sides_alternate_and_the_ratio_is_the_median_of_the_rounds():
    calls, times = [], {OURS: iter([1.0, 2.0, 4.0]), "peer": iter([3.0, 4.0, 20.0])}

    def measure(side):
        calls.append(side)
        return next(times[side])

    found = alternate("work", {side: lambda side=side: measure(side) for side in times}, 3)
    assert calls == [OURS, "peer"] * 3
    assert found.ratio("peer") == 3.0
    assert found.to_dict()["medians"] == {OURS: 2.0, "peer": 4.0}
