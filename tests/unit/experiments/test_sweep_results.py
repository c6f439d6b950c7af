"""What is read from the runs of an experiment, and its tables and figures."""

import dataclasses
import json
import math
from statistics import fmean

import pytest

from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.manifest import read_manifest
from hf_lgt.experiments.plan import plan, record_plan
from hf_lgt.experiments.report.cells import GAIN, REACH, RECOVERED, Measure, mean_of
from hf_lgt.experiments.report.outputs import write_results
from hf_lgt.experiments.report.stability import fall, stability_table, swing
from hf_lgt.experiments.report.stored import Results, read_results, results_data
from hf_lgt.experiments.report.sweep_figures import ARM_COLORS, curves_pictures, sweep_pictures
from hf_lgt.experiments.report.sweep_tables import (
    chosen_lengths,
    cost_table,
    curve_table,
    difference_table,
    gap_tables,
    pairs,
    seed_table,
    summary_table,
    sweep_tables,
)
from hf_lgt.experiments.results import collect
from hf_lgt.experiments.spec import load_sweep
from hf_lgt.report.blocks import Number, Row, Table
from hf_lgt.utils import yaml
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT

STRINGS = ROOT / "recipes" / "paper" / "strings_cpu.yaml"
ARMS = f"name: s\nconfig: {STRINGS}\narms: [transfer, target_alone, target_long]\nseeds: [0, 1, 2]\n"


def record(task, role, length, exact, step):
    return EvalRecord(step, task, role, length, 100, exact, 0.0, 1.0, exact)


def finish(run, exact, steps=(100, 200)):
    """Lay out a finished run whose exact match is ``exact(task, length, step)``."""
    run.run_dir.mkdir(parents=True)
    (run.run_dir / "config.yaml").write_text(yaml.dump(run.config.to_dict()))
    lines = [
        record(c.task, c.role, length, exact(c.task, length, step), step).to_json()
        for step in steps
        for c in run.config.mixture
        for length in run.config.eval.grid
    ]
    (run.run_dir / "eval.jsonl").write_text("\n".join(lines) + "\n")
    (run.run_dir / "model").mkdir()


@pytest.fixture
def experiment(tmp_path):
    """Plans a sweep, lays out its runs: ``exact(run)`` gives a run's exact match, None leaves it undone."""

    def make(text, exact, steps=(100, 200)):
        file = tmp_path / "sweep.yaml"
        file.write_text(text)
        spec = load_sweep(file)
        runs = plan(spec, [f"output_dir={tmp_path / 'runs'}"])
        record_plan(spec, runs)
        for run in runs:
            if (found := exact(run)) is not None and not run.run_dir.exists():
                finish(run, found, steps)
        folder = tmp_path / "runs" / spec.name
        return read_manifest(folder), collect(read_manifest(folder), folder), folder

    return make


def step_at(longest, after=0.0):
    return lambda length: 1.0 if length <= longest else after


def by_arm(run):
    """Exact match: alone right up to 8, with auxiliaries up to 8, 10 or 12 by the seed, long up to 16."""
    ends = {"transfer": 8 + 2 * run.seed, "target_alone": 8, "target_long": 16}

    def exact(task, length, step):
        if task != "capitalize_reverse":
            return step_at(16)(length)
        return step_at(ends[run.arm])(length)

    return exact


@pytest.fixture
def arms(experiment):
    return experiment(ARMS, by_arm)


def test_arms_are_measured_in_the_region_of_the_first_with_auxiliaries(arms):
    _, (transfer, alone, long), _ = arms
    assert [cell.arm for cell in (transfer, alone, long)] == ["transfer", "target_alone", "target_long"]
    # of lengths 9 to 16 the seeds reach 0, 2 and 4
    assert [r.reach for r in transfer.results] == [0.0, 0.25, 0.5]
    assert [r.reach for r in alone.results] == [0.0] * 3
    assert [r.reach for r in long.results] == [1.0] * 3
    assert [r.summary.normalized_gap for r in transfer.results] == pytest.approx([1.0, 0.75, 0.5])
    assert [r.summary.normalized_gap for r in alone.results] == pytest.approx([1.0] * 3)
    assert [r.summary.regimes.within for r in long.results] == [1.0] * 3
    assert [r.summary.regimes.beyond for r in long.results] == [0.0] * 3
    assert transfer.results[0].auxiliary_curve
    assert not alone.results[0].auxiliary_curve


def test_gains_and_recovered_fractions_are_over_the_target_alone_with_the_same_seed(experiment):
    def exact(run):
        ends = {"transfer": (12, 8), "target_alone": (10, 10), "target_long": (14, 12)}[run.arm]
        return lambda task, length, step: step_at(ends[run.seed] if task == "capitalize_reverse" else 16)(
            length
        )

    _, (transfer, alone, long), _ = experiment(ARMS.replace("[0, 1, 2]", "[0, 1]"), exact)
    assert [r.alone for r in transfer.results] == [0.25, 0.25]
    assert [r.gain for r in transfer.results] == [0.25, -0.25]
    # on seed 0 from .25 to .5 where long training comes to .75; on seed 1 from .25 to 0, of .5
    assert [r.recovered for r in transfer.results] == [0.5, -1.0]
    assert [(r.alone, r.gain, r.recovered) for r in alone.results] == [(None, None, None)] * 2
    # long training gains, and is itself what recovered fractions are shares of
    assert [r.gain for r in long.results] == [0.5, 0.25]
    assert [r.recovered for r in long.results] == [None, None]
    pairs_of_seeds = [0.5, 0.0], [0.25, 0.25]
    mean, interval = paired_difference(*pairs_of_seeds)
    assert mean_of(transfer, GAIN) == Number(mean, *interval)


def test_a_seed_without_its_twin_trained_alone_has_no_gain(experiment):
    text = ARMS.replace("[0, 1, 2]", "[0, 1]")
    undone = {("target_alone", 1), ("target_long", 0)}
    _, (transfer, *_), _ = experiment(
        text, lambda run: None if (run.arm, run.seed) in undone else by_arm(run)
    )
    assert [r.gain for r in transfer.results] == [0.0, None]
    assert [r.recovered for r in transfer.results] == [None, None]
    # of one seed there is a mean without an interval
    assert mean_of(transfer, GAIN) == Number(0.0)
    assert mean_of(transfer, RECOVERED) is None


def test_without_any_arm_that_trains_the_target_alone_there_is_no_gain(experiment):
    manifest, cells, _ = experiment(ARMS.replace("target_alone, target_long", "unrelated"), by_unrelated)
    assert [r.gain for cell in cells for r in cell.results] == [None] * 6
    assert not {"gain", "recovered"} & set(summary_table(manifest, cells).headers)


def by_unrelated(run):
    return lambda task, length, step: step_at(8)(length)


def test_an_arm_without_auxiliaries_is_measured_against_those_of_its_own_seed(experiment):
    def exact(run):
        # the auxiliaries reach 16 on seed 0, and all but that on seed 1
        good = 16 if run.seed == 0 else 15.5
        return lambda task, length, step: step_at(8 if task == "capitalize_reverse" else good)(length)

    text = f"name: s\nconfig: {STRINGS}\narms: [transfer, target_alone]\nseeds: [0, 1]\n"
    _, (_, alone), _ = experiment(text, exact)
    assert [r.summary.gap for r in alone.results] == [0.5, None]
    assert alone.results[1].summary.gap_reason == (
        "exact match on own lengths is below 0.95: capitalize 0.938, reverse 0.938"
    )
    assert alone.results[0].summary.auxiliaries == {"capitalize": 1.0, "reverse": 1.0}
    assert alone.results[0].auxiliary_curve == {}


def test_points_have_references_of_their_own(experiment):
    text = f"name: s\nconfig: {STRINGS}\narms: [transfer, target_alone]\nseeds: [0]\n"
    text += "grid: {target_length: [4, 8]}\n"

    def exact(run):
        longest = 12 if run.arm == "transfer" else int(run.point["target_length"])
        return lambda task, length, step: step_at(longest if task == "capitalize_reverse" else 16)(length)

    _, cells, _ = experiment(text, exact)
    first = [(c.arm, c.point["target_length"], c.results[0]) for c in cells]
    assert [(arm, length, r.summary.target_length, r.reach) for arm, length, r in first] == [
        ("transfer", "4", 4, pytest.approx(8 / 12)),
        ("target_alone", "4", 4, 0.0),
        ("transfer", "8", 8, 0.5),
        ("target_alone", "8", 8, 0.0),
    ]


def test_unfinished_runs_are_left_out_and_told(experiment):
    manifest, cells, _ = experiment(ARMS, lambda run: None if run.seed == 2 else by_arm(run))
    assert [[r.seed for r in cell.results] for cell in cells] == [[0, 1]] * 3
    assert any("3 of 9 runs are not finished" in note for note in summary_table(manifest, cells).notes)


def test_nothing_finished_is_no_table(experiment):
    manifest, cells, _ = experiment(ARMS, lambda run: None)
    assert cells == []
    assert sweep_tables(manifest, cells) == []
    assert sweep_pictures(manifest, cells) == []


def test_an_arm_that_still_runs_stays_what_the_others_are_measured_against(experiment):
    text = f"name: s\nconfig: {STRINGS}\narms: [transfer, {{name: far, config: {{mixture: ["
    text += "{task: capitalize_reverse, role: target, lengths: [1, 8]}, "
    text += "{task: string_copy, role: auxiliary, lengths: [1, 12]}]}}, target_alone]\nseeds: [0]\n"

    def exact(run):
        if run.arm == "transfer":  # begun
            run.run_dir.mkdir(parents=True)
            (run.run_dir / "config.yaml").write_text(yaml.dump(run.config.to_dict()))
            return None
        return lambda task, length, step: step_at(12)(length)

    _, (far, alone), _ = experiment(text, exact)
    # of lengths 9 to 16, not of 9 to 12; there is no curve yet to measure a gap against
    assert [cell.results[0].reach for cell in (far, alone)] == [0.5, 0.5]
    assert alone.results[0].summary.gap is None
    assert alone.results[0].summary.gap_reason == "the run with the auxiliaries is not finished"
    # with auxiliaries of its own, an arm has a gap to these
    assert far.results[0].summary.gap == 0
    assert far.results[0].summary.auxiliary_length == 12


def test_without_auxiliaries_every_longer_length_counts(experiment):
    text = f"name: s\nconfig: {STRINGS}\narms: [target_alone]\nseeds: [0, 1]\n"
    text += "grid: {train.steps: [100, 200]}\n"

    def exact(run):
        return step_at(8 if run.point["train.steps"] == "100" else 14)

    manifest, cells, _ = experiment(text, lambda run: lambda task, length, step: exact(run)(length))
    assert [r.reach for cell in cells for r in cell.results] == [0.0, 0.0, 0.5, 0.5]
    assert [r.summary.regimes.beyond for r in cells[0].results] == [None, None]
    (row,) = difference_table(manifest, cells).rows
    assert row.values[3].value == 0.5


def test_each_auxiliary_is_learned_on_its_own_lengths(experiment):
    text = f"name: s\nconfig: {{base: {STRINGS}, mixture: ["
    text += "{task: capitalize_reverse, role: target, lengths: [1, 4]}, "
    text += "{task: capitalize, role: auxiliary, lengths: [1, 4]}, "
    text += (
        "{task: reverse, role: auxiliary, lengths: [1, 16]}]}\narms: [transfer, target_alone]\nseeds: [0]\n"
    )
    _, (own, alone), _ = experiment(text, lambda run: lambda task, length, step: step_at(4)(length))
    means = {"capitalize": 1.0, "reverse": 0.25}
    assert own.results[0].summary.auxiliaries == alone.results[0].summary.auxiliaries == means
    for result in (own.results[0], alone.results[0]):
        assert result.summary.gap is None
        assert result.summary.gap_reason == "exact match on own lengths is below 0.95: reverse 0.250"


def test_a_target_that_was_trained_longer_must_be_learned_itself(experiment):
    text = f"name: s\nconfig: {STRINGS}\nseeds: [0]\ngrid: {{target_length: [16], auxiliary_length: [2]}}\n"
    manifest, (cell,), _ = experiment(text, lambda run: lambda task, length, step: step_at(2)(length))
    # both reach 2: the same curve, and nothing was learned
    assert cell.results[0].summary.gap is None
    (note,) = summary_table(manifest, [cell]).notes[2:]
    assert note.endswith(
        "no gap on 1 of 1 seeds (exact match on own lengths is below 0.95: "
        "the target, trained longer, 0.125)."
    )


def test_one_poor_auxiliary_is_enough_for_no_gap(experiment):
    """Also where the mean of all is high."""
    ends = {"capitalize_reverse": 8, "capitalize": 16, "reverse": 14}
    _, (cell, *_), _ = experiment(ARMS, lambda run: lambda task, length, step: step_at(ends[task])(length))
    assert cell.results[0].summary.gap_reason == "exact match on own lengths is below 0.95: reverse 0.875"


def test_several_targets_are_reported(experiment):
    text = f"name: s\nconfig: {{base: {STRINGS}, mixture: ["
    text += "{task: capitalize, role: target, lengths: [1, 4]}, "
    text += "{task: reverse, role: target, lengths: [1, 4]}]}\nseeds: [0]\n"
    manifest, cells, _ = experiment(text, lambda run: lambda task, length, step: 1.0)
    notes = summary_table(manifest, cells).notes
    assert "transfer: the target is capitalize; reverse is in the runs' eval.jsonl alone." in notes


def test_all_damaged_files_are_reported_at_once(experiment, tmp_path):
    manifest, cells, folder = experiment(ARMS, by_arm)
    first, second, third = (manifest.run_dir(cells[i].results[i].entry, folder) for i in range(3))
    for run_dir in (first, second):
        (run_dir / "eval.jsonl").write_text("nonsense\n")
    (third / "config.yaml").unlink()
    with pytest.raises(ConfigError) as caught:
        collect(manifest, folder)
    assert len(caught.value.faults) == 3


# ---------------------------------------------------------------------------------- tables


def cells_of(table):
    return [row.values for row in table.rows]


def test_the_summary_has_means_intervals_and_success(arms):
    manifest, cells, _ = arms
    table = summary_table(manifest, cells)
    assert table.headers[:3] == ("arm", "seeds", "within")
    first = dict(zip(table.headers, table.rows[0].values, strict=True))
    assert first["seeds"] == 3
    # of 0, 0.25 and 0.5: with the pseudo-observations 6 of mean 0.375 and sum of squares 0.96875
    half = 1.959964 * math.sqrt(0.96875 / 5 / 6)
    region = first["transfer region"]
    assert (region.value, region.low, region.high) == pytest.approx((0.25, 0.375 - half, 0.375 + half))
    assert first["seeds with ≥ 0.5 there"] == "1/3"
    rate = first["success rate"]
    assert (rate.low, rate.high) == pytest.approx((0.0615, 0.7923), abs=1e-3)
    assert table.rows[0].runs == tuple(f"{cells[0].results[0].config.name}/seed-{s}" for s in range(3))
    assert str(first["transfer region"]) == "0.250 (0.023–0.727)"


def test_auxiliaries_that_were_not_learned_are_reported(experiment):
    manifest, cells, _ = experiment(ARMS, lambda run: lambda task, length, step: step_at(3)(length))
    table = summary_table(manifest, cells)
    # a gap of two tasks that both fail is small, and is no transfer: no setting has one, so no column
    assert "gap" not in table.headers
    reason = "exact match on own lengths is below 0.95: capitalize 0.188, reverse 0.188"
    for arm in ("transfer", "target_alone", "target_long"):
        assert f"{arm}: no gap on 3 of 3 seeds ({reason})." in table.notes
    gap = seed_table(manifest, cells).headers.index("gap")
    assert [row.values[gap] for row in seed_table(manifest, cells).rows] == [None] * 9


def test_a_gap_of_some_seeds_is_their_mean_and_the_others_are_reported(experiment):
    def exact(run):
        good = 16 if run.seed else 12
        return lambda task, length, step: step_at(8 if task == "capitalize_reverse" else good)(length)

    manifest, cells, _ = experiment(ARMS, exact)
    table = summary_table(manifest, cells)
    first = dict(zip(table.headers, table.rows[0].values, strict=True))
    assert str(first["gap"]) == str(Number(0.5, *mean_interval([0.5, 0.5])))
    assert sum("no gap on 1 of 3 seeds" in note for note in table.notes) == 3


def test_differences_are_paired_by_seed_with_an_exact_test(arms):
    manifest, cells, _ = arms
    table = difference_table(manifest, cells)
    alone, long = (dict(zip(table.headers, row.values, strict=True)) for row in table.rows)
    assert (alone["setting"], alone["minus"], alone["seeds"]) == ("target_alone", "transfer", 3)
    assert alone["difference"].value == pytest.approx(-0.25)
    # differences 0, -.25, -.5: of 8 changes of sign, 4 leave the mean as far out (the 0 counts twice)
    assert alone["p"].value == 0.5
    assert long["p"].value == 0.25
    # standard deviation .25, width .2: (2 * 1.96 * .25 / .2) ** 2 = 24.01
    assert alone["seeds for width 0.2"] == 25


def test_every_axis_is_compared_to_its_first_value_by_seed(experiment):
    text = (
        f"name: s\nconfig: {STRINGS}\narms: [transfer, target_alone]\nseeds: [0]\n"
        "grid: {p: {a: {}, b: {train: {steps: 5}}}, q: {c: {}, d: {train: {batch_size: 4}}}}\n"
    )
    manifest, cells, _ = experiment(text, lambda run: lambda task, length, step: 0.5)
    found = [(cell.label, other.label) for cell, other in pairs(manifest, cells)]
    assert ("transfer, p b, q d", "transfer, p a, q d") in found
    assert ("transfer, p b, q d", "transfer, p b, q c") in found
    assert ("target_alone, p b, q d", "transfer, p b, q d") in found
    assert ("target_alone, p b, q d", "target_alone, p a, q d") in found
    assert ("transfer, p a, q c", "transfer, p a, q c") not in found
    # 2 axes x 2 arms x 2 places each of which is not the first, and 4 arms against the first
    assert len(found) == 4 + 2 * 2 * 2


def test_lengths_are_those_from_the_trained_one_on(arms):
    manifest, cells, _ = arms
    # of 8 to 20 twelve, the ends among them
    assert chosen_lengths(cells) == [8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20]
    table = curve_table(manifest, cells)
    row = dict(zip(table.headers, table.rows[0].values, strict=True))
    assert row["8"].value == 1.0
    assert row["9"].value == pytest.approx(2 / 3)


def test_every_run_has_a_row(arms):
    manifest, cells, _ = arms
    rows = cells_of(seed_table(manifest, cells))
    assert [row[:2] for row in rows] == [
        (arm, seed) for arm in ("transfer", "target_alone", "target_long") for seed in range(3)
    ]
    assert rows[1][3] == Number(0.25)


GRID = f"name: s\nconfig: {STRINGS}\nseeds: [0, 1]\n"
GRID += "grid: {target_length: [4, 8], auxiliary_length: [4, 8, 16]}\n"


def as_far_as_trained(run):
    ends = {c.task: c.lengths[1] for c in run.config.mixture}
    return lambda task, length, step: step_at(ends[task])(length)


def test_the_gap_is_a_grid_of_the_two_training_lengths(experiment):
    manifest, cells, _ = experiment(GRID, as_far_as_trained)
    (table,) = gap_tables(manifest, cells)
    assert table.headers == ("target ≤", "≤ 4", "≤ 8", "≤ 16")
    gaps = [[value if isinstance(value, str) else value.value for value in row] for row in cells_of(table)]
    # without any transfer: 1 - min / max of the two lengths
    assert gaps == [["4", 0.0, 0.5, 0.75], ["8", 0.5, 0.0, 0.5]]
    assert len(table.rows[0].runs) == 6


def test_tables_are_markdown_in_which_names_mean_nothing():
    rows = (Row(("<b>x</b>", Number(0.5, 0.25, 0.75)), ("id",)), Row(("-", None)))
    table = Table("t", "A *title*", ("a|b", "n"), rows)
    text = table.markdown()
    assert "<b>" not in text
    assert "0.500 (0.250–0.750)" in text
    assert "–" in text.splitlines()[-1]


# ---------------------------------------------------------------------------------- figures and files


def picture_names(found):
    return [picture.name for picture in found]


def test_the_pictures_fit_the_experiment(arms):
    manifest, cells, _ = arms
    assert picture_names(sweep_pictures(manifest, cells)) == ["curves", "reach"]


def test_checkpoints_of_a_single_arm_are_lines_of_one_panel(arms):
    manifest, cells, _ = arms
    starts = [dataclasses.replace(cells[0], checkpoint=name) for name in ("random", "step-1")]
    picture = next(curves_pictures(manifest, starts))
    (axes,) = picture.figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "random (n=3)", "step-1 (n=3)", "auxiliaries"
    ]  # fmt: skip
    assert axes.get_title() == ""
    assert "interval" in picture.alt
    assert "random 0." in picture.alt
    both = [*starts, *(dataclasses.replace(cells[1], checkpoint=name) for name in ("random", "step-1"))]
    assert len(next(curves_pictures(manifest, both)).figure.axes) == 2


def test_a_grid_of_lengths_is_a_heat_map(experiment):
    manifest, cells, _ = experiment(GRID, as_far_as_trained)
    found = {picture.name: picture for picture in sweep_pictures(manifest, cells)}
    assert "gap" in found
    assert "curves" not in found
    assert "target 4, auxiliaries 16: 0.75" in found["gap"].alt
    (axes, _) = found["gap"].figure.axes
    assert [text.get_text() for text in axes.texts] == ["0.00", "0.50", "0.75", "0.50", "0.00", "0.50"]


def test_many_evaluations_make_the_stability_figure(experiment):
    def exact(run):
        # the transfer region goes up and down by .4 from one evaluation to the next, trained lengths stay
        return lambda task, length, step: 1.0 if length <= 8 else 0.3 + 0.4 * (step // 50 % 2)

    text = f"name: s\nconfig: {STRINGS}\nseeds: [0, 1]\n"
    manifest, (cell,), _ = experiment(text, exact, range(50, 401, 50))
    (picture,) = [p for p in sweep_pictures(manifest, [cell]) if p.name == "stability"]
    found = [measure(regime).value(r) for measure in (swing, fall) for regime in ("within", "transfer")
             for r in cell.results]  # fmt: skip
    assert found == pytest.approx([0, 0, 0.4, 0.4, 0, 0, 0.4, 0.4])
    (row,) = stability_table(manifest, [cell]).rows
    assert [str(value) for value in row.values] == ["transfer", "2", "0.000 (0.000–0.749)", *(
        ["0.400 (0.077–0.843)"] * 3
    )]  # fmt: skip
    assert "by 0.400 (0.077–0.843) in the transfer region" in picture.alt
    lines = picture.figure.axes[0].get_lines()
    assert len(lines) == 3 * (2 + 1)
    assert list(lines[2].get_ydata()) == [1.0] * 8


def test_the_curve_has_the_mean_and_every_seed(arms):
    manifest, cells, _ = arms
    picture = next(p for p in sweep_pictures(manifest, cells) if p.name == "curves")
    axes = picture.figure.axes[0]
    mean = next(line for line in axes.get_lines() if line.get_label() == "transfer (n=3)")
    assert list(mean.get_ydata())[8:12] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert "transfer 0.250 (0.023–0.727)" in picture.alt
    seeds = [line for line in axes.get_lines() if line.get_color() == ARM_COLORS[0] and line is not mean]
    assert [sum(own.get_ydata()) for own in seeds] == [8.0, 10.0, 12.0]


def test_all_is_written_and_the_numbers_are_there_to_read(arms):
    manifest, cells, folder = arms
    tables, figures = write_results("sweep", Results(manifest, cells), folder)
    assert [table.name for table in tables] == ["summary", "lengths", "differences", "seeds"]
    assert all(path.stat().st_size > 5000 for path in figures)
    data = json.loads((folder / "sweep.json").read_text())
    transfer = data["cells"][0]
    assert [run["curve"]["9"] for run in transfer["runs"]] == [0.0, 1.0, 1.0]
    assert [run["gain"] for run in transfer["runs"]] == [run["recovered"] for run in transfer["runs"]]
    assert "seed" not in transfer["config"]
    runs = transfer["runs"]
    assert [run["regimes"]["transfer"] for run in runs] == [0.0, 0.25, 0.5]
    assert runs[2]["regimes_by_step"]["200"]["transfer"] == 0.5
    text = (folder / "sweep.md").read_text()
    assert text.startswith("# s\n")
    assert "best" not in text.lower()


def test_a_mean_of_one_seed_has_no_interval(arms):
    _, cells, _ = arms
    one = dataclasses.replace(cells[0], results=cells[0].results[:1])
    assert mean_of(one, REACH) == Number(0.0)
    assert mean_of(cells[0], REACH).value == fmean([0.0, 0.25, 0.5])
    assert mean_of(cells[0], Measure("none", lambda r: None)) is None
    assert mean_of(cells[0], RECOVERED) == Number(0.25)


def test_tokens_of_training_stand_beside_what_they_brought(arms):
    manifest, _, folder = arms
    assert cost_table(manifest, collect(manifest, folder)).rows == ()
    for entry in manifest.runs:
        line = json.dumps({"step": 9, "tokens": 1_000_000 * (1 + entry.seed)})
        text = f'{line}\n{{"step": 10, "tok' if entry.arm == "transfer" else "no log\n"
        (manifest.run_dir(entry, folder) / "train.jsonl").write_text(text)
    cells = collect(manifest, folder)
    assert [[r.tokens for r in cell.results] for cell in cells] == [
        [1_000_000, 2_000_000, 3_000_000],
        [None] * 3,
        [None] * 3,
    ]
    (row,) = cost_table(manifest, cells).rows
    assert [str(value) for value in row.values][:2] == ["transfer", "3"]
    assert str(row.values[-1]) == "2.00"
    assert "cost" in [table.name for table in sweep_tables(manifest, cells)]
    # and comes back from the file of numbers
    (folder / "sweep.json").write_text(json.dumps(results_data(Results(manifest, cells), folder)))
    again = read_results(folder / "sweep.json")
    assert [r.tokens for r in again.cells[0].results] == [1_000_000, 2_000_000, 3_000_000]
