"""The tables of speed and of coverage are those of the committed numbers."""

import json

import numpy as np
import pytest

from benchmarks import coverage
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


def test_the_chosen_interval_held_over_the_whole_family_and_the_page_says_what_was_measured():
    data = json.loads((ROOT / "benchmarks" / "coverage.json").read_text(encoding="utf-8"))
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert data["chosen"] == coverage.CHOSEN
    for kind, used in (("outcomes", coverage.CHOSEN), ("differences", coverage.PAIRED)):
        chosen = data[kind]["methods"][used]
        assert min(min(chosen[n]["coverage"]) for n in ("5", "8")) >= 0.92
        for name, by_seeds in data[kind]["methods"].items():
            cells = []
            for own in by_seeds.values():
                widths = zip(data[kind]["distributions"], own["width"], strict=True)
                practical = [width for distribution, width in widths if coverage.is_practical(distribution)]
                cells.append(f"{min(own['coverage']):.3f} / {np.median(practical):.2f}")
            (row,) = [line for line in text.splitlines() if line.strip("| *").startswith(f"{name}** |")
                      or line.startswith(f"| {name} |")]  # fmt: skip
            assert " | ".join(cells) in row


def test_few_trials_of_every_interval_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(coverage, "SEEDS", (3,))
    monkeypatch.setattr(coverage, "permutation_rates", lambda trials: {"uniform": {"size": 0.0}})
    monkeypatch.setattr("sys.argv", ["coverage.py", "--trials", "20", "--output", str(tmp_path / "c.json")])
    coverage.main()
    told = capsys.readouterr().out
    assert all(name in told for name in coverage.METHODS)
    written = json.loads((tmp_path / "c.json").read_text())
    assert set(written["differences"]["methods"]) == {*coverage.METHODS, coverage.PAIRED}
