"""What comes of claims."""

from statistics import fmean

import pytest

from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.claims import Claim
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.stored import Results
from hf_lgt.experiments.report.verdict_tables import result_tables, verdict_table
from hf_lgt.experiments.results import seed_groups
from hf_lgt.experiments.verdicts import (
    FEWEST_SEEDS,
    MARGIN,
    NOT,
    PARTLY,
    REPRODUCES,
    RULED_OUT,
    UNDERPOWERED,
    Finding,
    judge_claims,
    overall,
    verdict_of,
)
from hf_lgt.report.blocks import Number
from tests.support.made_results import made

ABOVE = Claim({"arm": "transfer"}, {"arm": "target_alone"})
NOT_ABOVE = Claim({"arm": "transfer"}, {"arm": "target_alone"}, expected=False)
GAP = Claim({"arm": "transfer"}, {"arm": "target_alone"}, "gap")
N = FEWEST_SEEDS


@pytest.mark.parametrize(
    ("claim", "seeds", "higher", "difference", "interval", "verdict"),
    [
        # a pilot shows nothing, however clear
        (ABOVE, N - 1, 1.0, 1.0, (0.9, 1.0), UNDERPOWERED),
        (NOT_ABOVE, N - 1, 0.0, 0.0, (-0.1, 0.1), UNDERPOWERED),
        (ABOVE, N, 0.5, 0.4, (0.001, 0.8), REPRODUCES),
        (ABOVE, N, 0.499, 0.4, (0.001, 0.8), PARTLY),
        (GAP, N, 0.1, 0.1, (0.001, 0.2), REPRODUCES),  # a small gap may be clear
        (ABOVE, N, 0.9, 0.4, (0.0, 0.8), UNDERPOWERED),
        (ABOVE, N, 0.9, 0.0, (-0.2, MARGIN), UNDERPOWERED),
        (ABOVE, N, 0.9, 0.0, (-0.2, MARGIN - 0.001), NOT),
        (ABOVE, N, 0.9, -0.5, (-0.8, -0.2), NOT),
        # what is ruled out is a difference that matters
        (NOT_ABOVE, N, 0.9, 0.0, (-0.2, RULED_OUT - 0.001), REPRODUCES),
        (NOT_ABOVE, N, 0.9, 0.0, (-0.2, RULED_OUT), UNDERPOWERED),
        (NOT_ABOVE, N, 0.9, -0.5, (-0.8, -0.2), REPRODUCES),
        (NOT_ABOVE, N, 0.9, 0.0, (-0.1, 0.0), REPRODUCES),
        (NOT_ABOVE, N, 0.9, MARGIN, (0.001, 0.2), NOT),
        (NOT_ABOVE, N, 0.9, 0.5, (0.2, 0.8), NOT),
        (NOT_ABOVE, N, 0.9, MARGIN - 0.001, (0.001, 0.2), PARTLY),
    ],
)
def test_every_branch_of_the_rule(claim, seeds, higher, difference, interval, verdict):
    assert verdict_of(claim, seeds, higher, difference, interval) == verdict


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([REPRODUCES], REPRODUCES),
        ([REPRODUCES, REPRODUCES], REPRODUCES),
        ([NOT, NOT], NOT),
        ([PARTLY], PARTLY),
        ([UNDERPOWERED, UNDERPOWERED], UNDERPOWERED),
        ([REPRODUCES, NOT], PARTLY),
        ([REPRODUCES, UNDERPOWERED], PARTLY),
        ([PARTLY, NOT], PARTLY),
        ([PARTLY, UNDERPOWERED], PARTLY),
        ([NOT, UNDERPOWERED], UNDERPOWERED),
    ],
)
def test_the_verdict_of_several(verdicts, expected):
    findings = [Finding(ABOVE, "s", 1.0, 0.0, 1.0, (0.9, 1.0), 5, verdict, ()) for verdict in verdicts]
    assert overall(findings) == expected
    assert overall(findings[::-1]) == expected


def experiment(reaches, **more):
    """Settings with these reaches of every seed: arm -> reaches."""
    return seed_groups(
        [made(arm, seed, reach, **more) for arm, own in reaches.items() for seed, reach in enumerate(own)]
    )


def test_a_difference_is_paired_by_seed():
    first, second = [0.9, 0.8, 0.95, 0.7, 0.85], [0.1, 0.0, 0.2, 0.05, 0.1]
    (found,) = judge_claims([ABOVE], experiment({"transfer": first, "target_alone": second}))
    difference, interval = paired_difference(first, second)
    assert (found.difference, found.interval) == (difference, interval)
    assert (found.higher, found.lower) == (fmean(first), fmean(second))
    assert (found.seeds, found.verdict, found.setting) == (5, REPRODUCES, "transfer")
    assert found.runs == tuple(f"{arm}/seed-{s}" for arm in ("transfer", "target_alone") for s in range(5))


def test_only_seeds_of_both_count():
    cells = experiment({"transfer": [1.0] * 6, "target_alone": [0.0] * 4})
    (found,) = judge_claims([ABOVE], cells)
    assert (found.seeds, found.verdict) == (4, UNDERPOWERED)
    apart = seed_groups([made("transfer", 0, 1.0), made("target_alone", 1, 0.0)])
    assert judge_claims([ABOVE], apart) == []


def test_eight_seeds_of_which_none_transfers_rule_a_gain_out():
    cells = experiment({"transfer": [0.0] * 8, "target_alone": [0.0] * 8})
    assert judge_claims([NOT_ABOVE], cells)[0].verdict == REPRODUCES
    assert judge_claims([ABOVE], cells)[0].verdict == UNDERPOWERED
    cells = experiment({"transfer": [0.0] * 7, "target_alone": [0.0] * 7})
    assert judge_claims([NOT_ABOVE], cells)[0].verdict == UNDERPOWERED


def test_a_claim_selects_by_arm_group_axis_and_checkpoint():
    runs = [
        made(arm, seed, 0.9 if arm == "transfer" else 0.0, group=group, point={"p": p}, checkpoint=start)
        for group in ("g", "h")
        for p in ("a", "b")
        for start in ("", "random")
        for arm in ("transfer", "target_alone")
        for seed in range(5)
    ]
    cells = seed_groups(runs)
    found = judge_claims([ABOVE], cells)
    assert len(found) == 8
    assert {finding.verdict for finding in found} == {REPRODUCES}
    assert [f.setting for f in judge_claims([Claim({"group": "h", **ABOVE.more}, ABOVE.than)], cells)] == [
        f.setting for f in found[4:]
    ]
    one = Claim({"group": "h", "arm": "transfer", "p": "b", "checkpoint": "random"}, {"arm": "target_alone"})
    (last,) = judge_claims([one], cells)
    assert (last.setting, last.lower) == (found[-1].setting, 0.0)
    # the other setting differs as `than` says, and in nothing else
    across = Claim({"group": "h", "arm": "transfer"}, {"group": "g", "arm": "target_alone"})
    assert [f.lower for f in judge_claims([across], cells)] == [0.0] * 4
    axis = Claim({"p": "b"}, {"p": "a"}, expected=False)
    assert [f.difference for f in judge_claims([axis], cells)] == [0.0] * 8
    start = Claim({"checkpoint": "random", "arm": "transfer"}, {"checkpoint": ""}, expected=False)
    assert len(judge_claims([start], cells)) == 4


@pytest.mark.parametrize(
    "claim",
    [
        Claim({"arm": "control"}, {"arm": "target_alone"}),
        Claim({"arm": "transfer"}, {"arm": "control"}),
        Claim({"arm": "transfer"}, {"arm": "transfer"}),
        Claim({"group": "g"}, {"arm": "target_alone"}),
        Claim({"arm": "transfer", "p": "a"}, {"arm": "target_alone"}),
        Claim({"arm": "transfer"}, {"arm": "target_alone"}, "gap"),
    ],
)
def test_what_is_not_there_is_not_judged(claim):
    assert judge_claims([claim], experiment({"transfer": [1.0] * 5, "target_alone": [0.0] * 5})) == []


def test_without_another_setting_a_claim_is_about_zero():
    reaches = [0.3, 0.4, 0.5, 0.6, 0.7]
    (found,) = judge_claims([Claim({"arm": "transfer"}, {})], experiment({"transfer": reaches}))
    assert (found.lower, found.difference) == (0.0, pytest.approx(0.5))
    assert found.interval == mean_interval(reaches, bounds=(-1, 1))
    assert found.runs == tuple(f"transfer/seed-{s}" for s in range(5))


def test_gaps_are_compared_on_the_seeds_that_have_one():
    runs = [made("transfer", s, gap=0.5 if s else None) for s in range(6)]
    runs += [made("target_alone", s, gap=0.1) for s in range(6)]
    (found,) = judge_claims([GAP], seed_groups(runs))
    assert (found.seeds, found.higher, found.lower) == (5, 0.5, 0.1)
    assert found.interval == paired_difference([0.5] * 5, [0.1] * 5)[1]


UNSTABLE = Claim({"arm": "transfer"}, {}, "instability")


def test_instability_is_the_change_in_the_transfer_region_beyond_that_on_trained_lengths():
    runs = [made("transfer", s, changes=(0.2, 0.6, 0.2, 0.6)) for s in range(5)]
    (found,) = judge_claims([UNSTABLE], seed_groups(runs))
    assert found.higher == pytest.approx(0.4)
    assert found.interval == pytest.approx(mean_interval([0.4] * 5, bounds=(-1, 1)))
    # one evaluation has no change
    assert judge_claims([UNSTABLE], experiment({"transfer": [0.5] * 5})) == []


def test_instabilities_of_two_settings_are_compared_also_where_one_is_negative():
    """What is steadier in the transfer region than on trained lengths is below 0."""
    runs = [made("transfer", s, changes=(0.2, 0.6, 0.2, 0.6)) for s in range(5)]
    for seed in range(5):
        r = made("target_alone", seed, changes=(0.0,) * 4)
        for i, own in enumerate(r.by_step.values()):
            object.__setattr__(own, "within", 0.5 + 0.1 * (i % 2))
        runs.append(r)
    claim = Claim({"arm": "transfer"}, {"arm": "target_alone"}, "instability")
    (found,) = judge_claims([claim], seed_groups(runs))
    assert (found.higher, found.lower) == pytest.approx((0.4, -0.1))
    assert found.difference == pytest.approx(0.5)
    assert found.interval == pytest.approx(mean_interval([0.5] * 5, bounds=(-2, 2)))


def test_the_table_has_a_row_a_finding_after_the_summary():
    cells = experiment({"transfer": [0.9] * 5, "target_alone": [0.0] * 5})
    manifest = Manifest("m", tuple(r.entry for cell in cells for r in cell.results))
    results = Results(manifest, cells, [ABOVE, Claim({"arm": "target_alone"}, {})])
    table = verdict_table(results)
    assert table.title == "What came of the claims: partly"
    difference, interval = paired_difference([0.9] * 5, [0.0] * 5)
    assert table.rows[0].values == (
        "transfer", "arm transfer above arm target_alone", 5, Number(0.9), Number(0.0),
        Number(difference, *interval), REPRODUCES,
    )  # fmt: skip
    assert [row.values[-1] for row in table.rows] == [REPRODUCES, UNDERPOWERED]
    assert [t.name for t in result_tables(results)][:2] == ["summary", "verdicts"]
    without = Results(manifest, cells)
    assert "verdicts" not in [t.name for t in result_tables(without)]
