def test_the_metric_scores_by_length_offline():
    from hf_lgt.evaluation.hf_metric import LengthExactMatch
    from hf_lgt.evaluation.metrics import wilson_interval

    metric = LengthExactMatch()
    found = metric.compute(
        predictions=["ab", "ba", "abc", "abd"], references=["ab", "ab", "abc", "abc"], lengths=[2, 2, 3, 3]
    )
    low, high = wilson_interval(1, 2)
    half = {"n": 2, "exact_match": 0.5, "ci_low": low, "ci_high": high}
    assert found == {"exact_match": 0.5, "by_length": {2: half, 3: half}}


def test_the_metric_can_be_filled_batch_by_batch():
    from hf_lgt.evaluation.hf_metric import LengthExactMatch

    metric = LengthExactMatch()
    metric.add_batch(predictions=["a"], references=["a"], lengths=[1])
    metric.add_batch(predictions=["bb"], references=["bx"], lengths=[2])
    found = metric.compute()
    assert found["exact_match"] == 0.5
    assert {length: cell["exact_match"] for length, cell in found["by_length"].items()} == {1: 1.0, 2: 0.0}
