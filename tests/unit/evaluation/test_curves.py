import dataclasses

import pytest

from hf_lgt import EvalRecord
from hf_lgt.evaluation.curves import curve, mean_curve, regimes
from hf_lgt.evaluation.records import LARGEST, RecordError, last_step, read_records


def record(task, length, share, step=10, role="target"):
    return EvalRecord(step, task, role, length, 100, share, share, share, share)


def test_mean_curve_uses_shared_lengths():
    assert mean_curve([{1: 1.0, 2: 0.0, 3: 1.0}, {2: 1.0, 3: 0.0}]) == {2: 0.5, 3: 0.5}
    assert mean_curve([]) == {}


def test_the_three_regimes():
    found = regimes({4: 1.0, 8: 0.8, 9: 0.4, 16: 0.2, 17: 0.1, 20: 0.0}, 8, 16)
    assert dataclasses.astuple(found) == pytest.approx((0.9, 0.3, 0.05))
    assert regimes({4: 1.0}, 8, 16) == type(found)(1.0, None, None)
    assert regimes({4: 1.0, 9: 0.5}, 8, 8) == type(found)(1.0, None, 0.5)


def test_curves_are_read_in_order_of_length():
    assert list(curve([record("t", 3, 0.1), record("u", 2, 0.3), record("t", 1, 0.9)], "t")) == [1, 3]


def test_records_come_back_and_the_last_evaluation_is_found(tmp_path):
    records = [record("t", 1, 0.5, step=5), record("t", 1, 0.7, step=10)]
    records[1] = dataclasses.replace(records[1], stopped_early=3, ran_on=0)
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
        dataclasses.replace(record("t", 1, 0.5), stopped_early=-1).to_json(),
        dataclasses.replace(record("t", 1, 0.5), ran_on=0.5).to_json(),
        dataclasses.replace(record("t", 1, 0.5), ran_on=LARGEST + 1).to_json(),
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
