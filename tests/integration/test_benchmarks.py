"""The tables of speed are those of the committed numbers."""

import json

import pytest

from benchmarks.growth import exponent
from benchmarks.sides import OURS, alternate
from benchmarks.table import GROWTH, PAGES, between, render, render_growth
from tests.conftest import ROOT

SPEED = ROOT / "benchmarks" / "speed.json"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_table_of_a_page_is_that_of_the_numbers(page):
    measured = json.loads(SPEED.read_text(encoding="utf-8"))
    assert between(page.read_text(encoding="utf-8")) == render(measured)
    for own in measured["comparisons"]:
        assert set(own["values"]) == {OURS, *own["ratios"]}
        assert {len(values) for values in own["values"].values()} == {5}


def test_the_table_of_growth_is_that_of_the_numbers():
    measured = json.loads(SPEED.with_name("growth.json").read_text(encoding="utf-8"))
    assert between(PAGES[1].read_text(encoding="utf-8"), *GROWTH) == render_growth(measured)
    assert max(row["value"] for row in measured["axes"]["length"]["rows"]) == 256


def test_the_gpu_benchmark_runs_on_what_there_is(tmp_path):
    from benchmarks import gpu

    measured = gpu.measure(True, tmp_path)
    training, together = measured["comparisons"]
    assert set(training["medians"]) == {OURS, "Trainer"}
    assert training["useful_flop"] > 0
    assert training["share_of_peak"] > 0
    assert set(together["medians"]) == {OURS, "one run after the other"}
    assert measured["evaluation"]["seconds"] > 0


def test_a_growing_number_has_a_power():
    rows = [{"value": 10, "step": 1.0}, {"value": 100, "step": 100.0}]
    assert exponent(rows, "step") == pytest.approx(2.0)
    assert exponent([{"value": 1, "step": 0.0}, rows[1]], "step") is None


def test_sides_alternate_and_the_ratio_is_the_median_of_the_rounds():
    calls, times = [], {OURS: iter([1.0, 2.0, 4.0]), "peer": iter([3.0, 4.0, 20.0])}

    def measure(side):
        calls.append(side)
        return next(times[side])

    found = alternate("work", {side: lambda side=side: measure(side) for side in times}, 3)
    assert calls == [OURS, "peer"] * 3
    assert found.ratio("peer") == 3.0
    assert found.to_dict()["medians"] == {OURS: 2.0, "peer": 4.0}
