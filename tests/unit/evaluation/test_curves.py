import dataclasses

import pytest

from hf_lgt import EvalRecord, generalization_gap, normalized_gap, transfer
from hf_lgt.evaluation.curves import curve, mean_curve, regimes, summarize
from hf_lgt.evaluation.records import RecordError, last_step, read_records


def step_curve(length, to):
    """Right up to a length, wrong beyond: no extrapolation at all."""
    return {n: float(n <= length) for n in range(1, to + 1)}


def record(task, length, share, step=10, role="target"):
    return EvalRecord(step, task, role, length, 100, share, share, share, share)


@pytest.mark.parametrize(("short", "long", "printed"), [(32, 256, 0.87), (8, 32, 0.74), (16, 64, 0.67)])
def test_without_transfer_the_gap_is_near_what_the_paper_prints(short, long, printed):
    gap = generalization_gap(step_curve(short, long), step_curve(long, long), up_to=long)
    assert gap == pytest.approx(1 - short / long)
    assert gap == pytest.approx(printed, abs=0.09)
    assert normalized_gap(gap, short, long) == pytest.approx(1)
    assert transfer(gap, short, long) == pytest.approx(0)


def test_full_transfer_has_no_gap():
    gap = generalization_gap(step_curve(16, 20), step_curve(16, 20), up_to=16)
    assert gap == 0
    assert transfer(gap, 8, 16) == 1


def test_the_gap_is_symmetric_and_ends_at_up_to():
    a, b = {1: 1.0, 2: 0.5, 3: 0.0}, {1: 0.5, 2: 1.0, 3: 1.0}
    assert generalization_gap(a, b, up_to=2) == generalization_gap(b, a, up_to=2) == 0.5


def test_a_curve_that_ends_early_is_refused():
    with pytest.raises(ValueError, match="up to length 16; they reach 12"):
        generalization_gap(step_curve(8, 12), step_curve(16, 20), up_to=16)
    with pytest.raises(ValueError, match="reach 0"):
        generalization_gap({}, step_curve(16, 20), up_to=16)


def test_a_curve_that_starts_late_is_refused_and_an_even_grid_is_not():
    short, long = step_curve(8, 16), step_curve(16, 16)
    late = [{n: c[n] for n in range(9, 17)} for c in (short, long)]
    with pytest.raises(ValueError, match="from length 1; they start at 9"):
        generalization_gap(*late, up_to=16)
    assert generalization_gap(*late, up_to=16, smallest=9) == 1
    grid = [{n: c[n] for n in (1, 6, 11, 16)} for c in (short, long)]
    assert generalization_gap(*grid, up_to=16) == 0.5


def test_each_auxiliary_is_judged_on_its_own_training_lengths():
    records = [record("t", n, 1.0) for n in (1, 2, 3, 4)]
    records += [record("a", n, float(n <= 2)) for n in (1, 2, 3, 4)]
    records += [record("b", n, 0.8) for n in (1, 2, 3, 4)]
    assert summarize(records, ("t", 1), [("a", 2), ("b", 4)]).auxiliary_mean == pytest.approx(0.9)


def test_equal_training_lengths_have_no_normalised_gap():
    with pytest.raises(ValueError, match="up to length 8"):
        normalized_gap(0.1, 8, 8)


def test_mean_curve_uses_shared_lengths():
    assert mean_curve([{1: 1.0, 2: 0.0, 3: 1.0}, {2: 1.0, 3: 0.0}]) == {2: 0.5, 3: 0.5}
    assert mean_curve([]) == {}


def test_the_three_regimes():
    found = regimes({4: 1.0, 8: 0.8, 9: 0.4, 16: 0.2, 17: 0.1, 20: 0.0}, 8, 16)
    assert dataclasses.astuple(found) == pytest.approx((0.9, 0.3, 0.05))
    assert regimes({4: 1.0}, 8, 16) == type(found)(1.0, None, None)
    assert regimes({4: 1.0, 9: 0.5}, 8, 8) == type(found)(1.0, None, 0.5)


def test_a_summary_measures_against_the_mean_of_the_auxiliaries():
    records = [record("t", n, float(n <= 2)) for n in (1, 2, 3, 4)]
    records += [record("a", n, 1.0, role="auxiliary") for n in (1, 2, 3, 4)]
    records += [record("b", n, float(n <= 3), role="auxiliary") for n in (1, 2, 3, 4)]
    found = summarize(records, ("t", 2), [("a", 4), ("b", 4)])
    assert found.gap == pytest.approx((0 + 0 + 1 + 0.5) / 4)
    assert found.normalized_gap == pytest.approx(0.375 / 0.5)
    assert found.transfer == pytest.approx(0.25)
    assert found.auxiliary_mean == pytest.approx(3.5 / 4)


def test_a_summary_without_auxiliary_or_with_too_short_an_evaluation_has_no_gap():
    records = [record("t", n, 1.0) for n in (1, 2, 3)]
    assert summarize(records, ("t", 2), []).gap is None
    records += [record("a", n, 1.0) for n in (1, 2, 3)]
    assert summarize(records, ("t", 2), [("a", 4)]).transfer is None
    same = summarize(records, ("t", 3), [("a", 3)])
    assert (same.gap, same.transfer) == (0.0, None)


def test_curves_are_read_in_order_of_length():
    assert list(curve([record("t", 3, 0.1), record("u", 2, 0.3), record("t", 1, 0.9)], "t")) == [1, 3]


def test_records_come_back_and_the_last_evaluation_is_found(tmp_path):
    records = [record("t", 1, 0.5, step=5), record("t", 1, 0.7, step=10)]
    path = tmp_path / "eval.jsonl"
    path.write_text("".join(r.to_json() + "\n" for r in records))
    assert read_records(path) == records
    assert last_step(read_records(path)) == records[1:]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        '{"step": 1}',
        record("t", 1, 0.5).to_json().replace("0.5", '"x"'),
        record("t", 1, 1.5).to_json(),
        record("t", -1, 0.5).to_json(),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "eval.jsonl"
    path.write_text(record("t", 1, 0.5).to_json() + "\n" + line + "\n")
    with pytest.raises(RecordError, match=r"eval\.jsonl, line 2"):
        read_records(path)


def test_missing_records_are_named(tmp_path):
    with pytest.raises(RecordError, match="No such file"):
        read_records(tmp_path / "eval.jsonl")


@pytest.mark.parametrize("scores", [(0.0, 0.0), (0.01, 0.49)])
def test_two_curves_near_zero_are_no_transfer(scores):
    """An untrained run would have transfer .99."""
    records = [record(task, n, score) for task, score in zip("ta", scores, strict=True) for n in range(1, 5)]
    found = summarize(records, ("t", 2), [("a", 4)])
    assert found.learned is False
    assert (found.gap, found.normalized_gap, found.transfer) == (None, None, None)
