import dataclasses
import json

import pytest
from scipy import stats

from hf_lgt import ConfigError, EvalRecord
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.checkpoint_series import checkpoint_series, collect_checkpoints, pretraining_step_of
from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.report.checkpoint_figures import checkpoint_figure
from hf_lgt.experiments.report.checkpoint_tables import (
    checkpoint_data,
    checkpoint_lines,
    checkpoint_report,
    checkpoint_seed_table,
    checkpoint_table,
    shown_lengths,
)
from hf_lgt.experiments.spec import load_comparison
from hf_lgt.report.figures import save_figure
from hf_lgt.utils import yaml

TARGET = "{task: capitalize_reverse, role: target, lengths: [2, 4]}"
ALONE = f"name: alone\nmixture: [{TARGET}]\neval: {{lengths: [1, 12], examples: 100}}\n"
HELPED = f"""name: helped
mixture: [{TARGET}, {{task: reverse, role: auxiliary, lengths: [1, 8]}}]
eval: {{lengths: [1, 12], examples: 100}}
"""
COMPARISON = """name: c
arms: [alone.yaml, helped.yaml]
seeds: [0, 1]
checkpoints: {name_or_path: org/m, revisions: [step20, step0, step100]}
"""
REACH = {"random": 4, "step0": 4, "step20": 6, "step100": 10}
"""length up to which the target is right on seed 0; on seed 1 one more"""


def evaluation(config, step, reach):
    """Records of one evaluation, each task right up to a length."""
    for component in config.mixture:
        for length in config.eval.grid:
            right = 100 if length <= reach[component.task] else 0
            low, high = wilson_interval(right, 100)
            cells = (
                step,
                component.task,
                component.role,
                length,
                100,
                right / 100,
                low,
                high,
                right / 100,
                0,
            )
            yield EvalRecord(*cells)


def write_run(item, reach, pretraining=None, auxiliary=8):
    """What a finished run leaves, as far as a comparison looks: zero-shot right at length 1 alone."""
    run_dir = item.config.run_dir
    (run_dir / "model").mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.dump(item.config.to_dict()))
    records = []
    if not item.checkpoint.random:
        records += evaluation(item.config, 0, {"capitalize_reverse": 1, "reverse": 1})
    records += evaluation(item.config, 500, {"capitalize_reverse": 2, "reverse": 2})
    records += evaluation(item.config, 1000, {"capitalize_reverse": reach, "reverse": auxiliary})
    (run_dir / "eval.jsonl").write_text("".join(record.to_json() + "\n" for record in records))
    model = item.config.model
    about = {"name_or_path": model.name_or_path, "revision": model.revision, "commit": "c" * 40}
    (run_dir / "checkpoint.json").write_text(json.dumps({**about, "pretraining": pretraining}))


@pytest.fixture
def planned(tmp_path):
    """All runs of two arms from three checkpoints and their twin, over two seeds, finished."""
    for name, text in {"alone": ALONE, "helped": HELPED, "compare": COMPARISON}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    items = plan(load_comparison(tmp_path), [f"output_dir={tmp_path / 'runs'}"])
    for item in items:
        write_run(item, REACH[item.checkpoint.label] + item.seed)
    return items


@pytest.fixture
def alone(planned):
    """The sweep of the first arm."""
    return checkpoint_series(collect_checkpoints(planned))[0]


def of(sweep, label):
    return next(p for p in sweep.every if p.checkpoint.label == label)


def cells(table):
    return [[c.strip() for c in row.strip("|").split("|")] for row in table.splitlines() if row[:2] != "|-"]


def test_a_run_s_numbers_are_those_of_its_first_and_its_last_evaluation(planned):
    results = collect_checkpoints(planned)
    assert len(results) == 16
    r = next(r for r in results if (r.arm, r.checkpoint.label, r.seed) == ("alone", "step20", 1))
    assert r.within == 1.0  # 2 to 4
    assert r.extrapolation == 3 / 8  # 5, 6 and 7 of 5 to 12
    assert r.zero_shot == 1 / 12
    assert r.commit == "c" * 40
    twin = next(r for r in results if r.checkpoint.random)
    assert twin.zero_shot is None
    assert twin.pretraining_step is None


def test_within_is_over_the_lengths_that_were_trained(planned):
    write_run(planned[0], 3)
    assert collect_checkpoints(planned)[0].within == 2 / 3  # length 1 is shorter than any trained on


def test_checkpoints_stand_in_the_order_of_pretraining_and_arms_apart(planned):
    first, second = checkpoint_series(collect_checkpoints(planned))
    assert (first.arm, second.arm) == ("alone", "helped")
    assert [p.checkpoint.label for p in first.every] == ["random", "step0", "step20", "step100"]
    assert first.positions == (0, 20, 100)
    assert first.steps_known


def test_what_a_checkpoint_says_of_itself_goes_before_its_name(planned):
    for item in planned:
        loss = {"step20": 2.5, "step0": 9.0, "random": 2.5}.get(item.checkpoint.label)
        step = {"step20": 7000, "step100": 50}.get(item.checkpoint.label)
        write_run(item, 4, {"step": step, "validation_loss": loss, "tokens": 1})
    sweep = checkpoint_series(collect_checkpoints(planned))[0]
    assert [p.checkpoint.label for p in sweep.points] == ["step0", "step100", "step20"]
    assert sweep.positions == (0, 50, 7000)
    assert [p.validation_loss for p in sweep.points] == [9.0, None, 2.5]
    # random weights have nothing of what the revision learned
    assert sweep.twin.validation_loss is None


@pytest.mark.parametrize("loss", ["low", None, True, float("nan"), [1]])
def test_a_validation_loss_that_is_no_number_is_not_known(planned, loss):
    write_run(planned[2], 4, {"step": "x", "validation_loss": loss})
    r = collect_checkpoints(planned)[2]
    assert (r.validation_loss, r.pretraining_step) == (None, 20)


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step-160000", 160_000),
        ("step143000", 143_000),
        ("step0", 0),
        ("stage1-step-40000", 40_000),
        ("stage1-step40000-tokens84B", 40_000),
        ("v2-7000", 7000),
        ("160000", 160_000),
        ("main", None),
        ("3f2a9c1", None),
        ("0123456789abcdef0123456789abcdef01234567", None),
    ],
)
def test_a_revision_s_name_tells_its_step(revision, step):
    assert pretraining_step_of(revision) == step


def test_where_a_step_is_not_known_the_list_s_order_counts(tmp_path, planned):
    text = COMPARISON.replace("step20, step0, step100", "step20, main, step0")
    (tmp_path / "compare.yaml").write_text(text)
    items = plan(load_comparison(tmp_path), [f"output_dir={tmp_path / 'runs'}"])
    for item in items:
        write_run(item, 6)
    sweep = checkpoint_series(collect_checkpoints(items))[0]
    assert [p.checkpoint.label for p in sweep.points] == ["step20", "main", "step0"]
    assert sweep.positions == (1, 2, 3)
    figure = checkpoint_figure("c", [sweep])
    assert figure.axes[2].get_xlabel() == "checkpoint, in the order of the list"


def test_the_trend_is_the_mean_of_the_seeds_without_the_twin(planned, alone):
    assert alone.trends == [1.0, 1.0], "each seed grows, whatever lies between the seeds"
    write_run(next(p for p in planned if p.checkpoint.label == "step100" and p.seed == 1), 5)
    sweep = checkpoint_series(collect_checkpoints(planned))[0]
    of_seed_1 = stats.spearmanr([0, 20, 100], [1 / 8, 3 / 8, 1 / 8]).statistic
    assert sweep.trends == pytest.approx([1.0, of_seed_1])
    assert sweep.trend == pytest.approx((1 + of_seed_1) / 2)


def test_where_nothing_beyond_was_evaluated_nothing_is_claimed(planned):
    def short(run):
        curve = dict.fromkeys(range(1, 5), 1.0)
        summary = dataclasses.replace(run.summary, curve=curve)
        return dataclasses.replace(run, summary=summary, extrapolation=None)

    sweep = checkpoint_series([short(r) for r in collect_checkpoints(planned)])[0]
    assert checkpoint_lines(sweep) == [
        "alone: nothing beyond the training length was evaluated (eval.lengths)"
    ]


def test_differences_to_the_twin_are_of_the_same_seed(alone):
    # the twin: 0 and 1/8; each checkpoint, too, is right at one length more on seed 1
    assert alone.gain(of(alone, "step100")) == [6 / 8, 6 / 8]
    assert alone.difference(of(alone, "step100")) == paired_difference([6 / 8, 7 / 8], [0.0, 1 / 8])
    assert alone.gain(of(alone, "step0")) == [0.0, 0.0]
    assert alone.difference(alone.twin) is None


def test_the_table_has_a_row_a_checkpoint_the_twin_first(alone):
    header, *rows = cells(checkpoint_table(alone))
    assert header[:4] == ["checkpoint", "validation loss", "zero-shot", "within ≤ 4"]
    assert header[4:] == [*map(str, range(5, 13)), "mean > 4", "minus twin's"]
    assert [row[0] for row in rows] == ["random", "step0", "step20", "step100"]
    assert rows[0][1:4] == ["–", "–", "1.000"]
    # as in the data: the interval of both extrapolations, not of the differences
    _, (low, high) = alone.difference(of(alone, "step20"))
    assert rows[2] == [
        "step20", "–", "0.083", "1.000", "1.000", "1.000", "0.500", *["0.000"] * 5,
        "0.312 (0.033–0.817)", f"+0.250 ({low:+.3f} to {high:+.3f})",
    ]  # fmt: skip
    assert rows[0][-1] == "–"


def test_an_arm_with_auxiliaries_also_has_the_gap(planned):
    alone, helped = checkpoint_series(collect_checkpoints(planned))
    header, *rows = cells(checkpoint_table(helped))
    assert header[-2:] == ["minus twin's", "gap"]
    # the twin: 4 of 8 lengths differ; on seed 1 it is 3 of 8
    low, high = mean_interval([4 / 8, 3 / 8])
    assert rows[0][-1] == f"0.438 ({low:.3f}–{high:.3f})"
    assert "gap" not in cells(checkpoint_table(alone))[0]


def test_the_other_table_has_every_seed(alone):
    header, *rows = cells(checkpoint_seed_table(alone))
    assert header[:2] == ["checkpoint", "seed"]
    labels = ("random", "step0", "step20", "step100")
    assert [row[:2] for row in rows] == [[label, seed] for label in labels for seed in "01"]
    assert [row[-2:] for row in rows[4:6]] == [["0.250", "+0.250"], ["0.375", "+0.250"]]


def test_many_lengths_are_thinned_out_to_eight_with_the_last(planned):
    def longer(run):
        curve = dict.fromkeys(range(1, 44), 1.0)
        return dataclasses.replace(run, summary=dataclasses.replace(run.summary, curve=curve))

    sweep = checkpoint_series([longer(r) for r in collect_checkpoints(planned)])[0]
    assert shown_lengths(sweep) == [8, 13, 18, 23, 28, 33, 38, 43]


def test_the_lines_say_whether_extrapolation_grows(alone):
    trend, twin = checkpoint_lines(alone)
    assert (
        "Spearman correlation of pretraining step and extrapolation +1.00, mean of the seeds' +1.00, +1.00"
        in trend
    )
    assert "(3 checkpoints, 2 seeds;" in trend
    assert twin == "alone: 2 of 3 checkpoints extrapolate further than the random twin on every seed"


def test_one_seed_that_is_no_better_is_enough_not_to_beat_the_twin(planned):
    write_run(next(p for p in planned if p.checkpoint.label == "step20" and p.seed == 1), 5)
    sweep = checkpoint_series(collect_checkpoints(planned))[0]
    assert sweep.gain(of(sweep, "step20")) == [2 / 8, 0.0]
    assert "1 of 3 checkpoints" in checkpoint_lines(sweep)[1]


def test_a_task_that_was_not_learned_is_reported_because_its_extrapolation_says_nothing(planned):
    write_run(planned[1], 2)  # the twin on seed 1
    for item in planned[2:4]:
        write_run(item, 1)
    lines = checkpoint_lines(checkpoint_series(collect_checkpoints(planned))[0])
    assert "not learned" in lines[2]
    assert "from random (0.667, 1 of 2 seeds), step20 (0.000, 2 of 2 seeds); extrapolation" in lines[2]
    assert "a twin that did not learn the task" in lines[3]
    learned = "\n".join(checkpoint_lines(checkpoint_series(collect_checkpoints(planned))[1]))
    assert "not learned" not in learned


def test_auxiliaries_that_were_not_learned_are_reported(planned):
    write_run(
        next(p for p in planned if (p.arm, p.checkpoint.label) == ("helped", "step100")), 8, auxiliary=1
    )
    helped = checkpoint_series(collect_checkpoints(planned))[1]
    assert checkpoint_lines(helped)[-1] == (
        "helped, step100: no gap on 1 of 2 seeds (exact match on own lengths is below 0.95: reverse 0.125)"
    )
    # the gap is that of the other seed: both are right up to 8
    assert cells(checkpoint_table(helped))[-1][-1] == "0.000"


def test_one_seed_has_no_interval_and_the_report_says_so(planned):
    one = [item for item in planned if item.seed == 0]
    made = checkpoint_series(collect_checkpoints(one))
    assert cells(checkpoint_table(made[0]))[3][-2:] == ["0.250", "+0.250"]
    assert "one seed, so there are no intervals" in checkpoint_report(made)
    point = checkpoint_data(made)["checkpoints"][-1]
    assert point["difference_to_twin"] is not None
    assert (point["extrapolation_interval"], point["difference_interval"]) == (None, None)


def test_one_checkpoint_has_no_trend(planned):
    few = [item for item in planned if item.checkpoint.label in ("random", "step20")]
    lines = checkpoint_lines(checkpoint_series(collect_checkpoints(few))[0])
    assert lines[0] == ("alone: whether extrapolation grows with pretraining is unknown: one checkpoint")


def test_without_a_twin_nothing_is_said_of_one(planned):
    made = checkpoint_series(collect_checkpoints([item for item in planned if not item.checkpoint.random]))
    assert "twin" not in checkpoint_report(made)
    assert checkpoint_data(made)["trends"][0]["beat_twin_on_every_seed"] is None
    save = checkpoint_figure("c", made)
    assert "random weights" not in legend(save, 0)


def test_a_revision_that_moved_between_seeds_is_reported(planned):
    path = planned[2].config.run_dir / "checkpoint.json"
    path.write_text(json.dumps({"commit": "d" * 40, "pretraining": None}))
    lines = checkpoint_lines(checkpoint_series(collect_checkpoints(planned))[0])
    assert lines[-1] == f"alone: step20 is not one model: {'c' * 40}, {'d' * 40}"


def test_every_file_that_cannot_be_read_is_reported(planned):
    (planned[0].config.run_dir / "eval.jsonl").unlink()
    (planned[1].config.run_dir / "checkpoint.json").write_text("{")
    (planned[2].config.run_dir / "checkpoint.json").write_text("[]")
    (planned[3].config.run_dir / "checkpoint.json").unlink()  # then nothing is known
    with pytest.raises(ConfigError) as caught:
        collect_checkpoints(planned)
    faults = caught.value.faults
    assert len(faults) == 3
    assert "eval.jsonl: No such file" in faults[0]
    assert "checkpoint.json: is not JSON" in faults[1]
    assert "checkpoint.json: holds no JSON object" in faults[2]


def test_the_data_hold_every_run_checkpoint_and_trend(alone):
    data = json.loads(json.dumps(checkpoint_data([alone]), allow_nan=False))
    assert len(data["runs"]) == 8
    run = data["runs"][-1]
    assert (run["revision"], run["seed"], run["pretraining_step"]) == ("step100", 1, 100)
    assert (run["extrapolation"], run["difference_to_twin"]) == (7 / 8, 6 / 8)
    assert run["curve"]["11"] == 1.0
    assert run["zero_shot_curve"]["1"] == 1.0
    point = data["checkpoints"][-1]
    assert point["extrapolation"] == 13 / 16
    assert point["extrapolation_interval"] == list(mean_interval([6 / 8, 7 / 8]))
    assert data["trends"] == [
        {
            "arm": "alone",
            "name_or_path": "org/m",
            "spearman": alone.trend,
            "spearman_of_seeds": alone.trends,
            "steps_known": True,
            "checkpoints": 3,
            "beat_twin_on_every_seed": 2,
        }
    ]


def legend(figure, row):
    """Labels of one row's legend; legends have a last column of their own."""
    own = [axes for axes in figure.axes if axes.get_legend()]
    return [text.get_text() for text in own[row].get_legend().get_texts()]


def test_the_figure_has_a_column_an_arm_and_its_legends_beside(planned, tmp_path):
    figure = checkpoint_figure("c", checkpoint_series(collect_checkpoints(planned)))
    assert [axes.get_title() for axes in figure.axes] == ["alone", "helped", "", "", "", ""]
    assert legend(figure, 0) == ["step0", "step20", "step100", "random weights", "step100, zero-shot"]
    assert set(legend(figure, 1)) == {
        "random weights, 95 %", "mean, 95 %", "single seed", "zero-shot, all lengths"
    }  # fmt: skip
    assert all(not axes.axison for axes in figure.axes if axes.get_legend())
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["step20"].get_ydata().tolist() == [1.0] * 6 + [0.5] + [0.0] * 5
    assert lines["step100, zero-shot"].get_ydata().tolist() == [1.0] + [0.0] * 11
    assert lines["random weights"].get_linestyle() == "--"
    assert [t.get_text() for t in figure.axes[1].texts] == ["target trained ≤ 4", "auxiliary trained ≤ 8"]
    assert save_figure(figure, tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_the_second_row_is_extrapolation_against_the_step(alone):
    axes = checkpoint_figure("c", [alone]).axes[2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("pretraining step", "exact match, mean > 4")
    mean = next(line for line in axes.lines if line.get_color() == "#D55E00")
    assert mean.get_xdata().tolist() == [0, 20, 100]
    assert mean.get_ydata().tolist() == pytest.approx([1 / 16, 5 / 16, 13 / 16])
    seeds = next(c for c in axes.collections if c.get_label() == "single seed")
    assert len(seeds.get_offsets()) == 6
    assert axes.get_xscale() == "linear"


def stretched(alone, *steps):
    return dataclasses.replace(alone, positions=steps)


def test_steps_over_decades_are_drawn_on_a_logarithmic_axis(alone, tmp_path):
    for steps, scale in [
        ((0, 512, 143_000), "symlog"),
        ((10, 512, 143_000), "log"),
        ((10, 20, 30), "linear"),
    ]:
        figure = checkpoint_figure("c", [stretched(alone, *steps)])
        assert figure.axes[2].get_xscale() == scale
        save_figure(figure, tmp_path / "a.png")
        if scale != "linear":
            assert figure.axes[2].get_xticks().tolist() == list(steps)


def test_the_third_row_is_there_where_a_validation_loss_is_known(planned):
    for item in planned:
        if item.arm == "alone":
            write_run(
                item, 6, {"validation_loss": {"step20": 3.0, "step100": 2.0}.get(item.checkpoint.label)}
            )
    figure = checkpoint_figure("c", checkpoint_series(collect_checkpoints(planned)))
    assert len(figure.axes) == 9
    (line,) = figure.axes[6].lines
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(20, 3.0), (100, 2.0)]
    assert not figure.axes[7].axison  # of the other arm none is known


def test_compare_writes_table_data_and_figure_of_finished_runs(planned, tmp_path, call_recipe):
    arguments = [tmp_path, "--output_dir", tmp_path / "runs"]
    done = call_recipe("compare.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "16 runs, 16 finished" in done.stdout
    folder = tmp_path / "runs" / "c"
    assert (folder / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    report = (folder / "comparison.md").read_text()
    assert "## alone" in report
    assert report.count("Every seed:") == 2
    assert "Every seed:" not in done.stdout
    assert len(json.loads((folder / "comparison.json").read_text())["runs"]) == 16

    fewer = call_recipe("compare.py", *arguments, "--checkpoints", "step100", "--seeds", "1")
    assert "4 runs, 4 finished" in fewer.stdout
    unknown = call_recipe("compare.py", *arguments, "--checkpoints", "step10")
    assert unknown.returncode == 2
    assert "unknown revision 'step10'" in unknown.stderr


def test_each_repository_has_a_column_and_labels_of_its_own(planned):
    other = [
        dataclasses.replace(r, checkpoint=dataclasses.replace(r.checkpoint, name_or_path="org/n"))
        for r in collect_checkpoints(planned)
        if r.checkpoint.label != "step0"
    ]
    made = checkpoint_series([*collect_checkpoints(planned), *other])
    assert [(s.arm, len(s.points)) for s in made] == [
        ("alone", 3),
        ("helped", 3),
        ("alone", 2),
        ("helped", 2),
    ]
    figure = checkpoint_figure("c", made)
    assert figure.axes[2].get_title() == "alone (org/n)"
    assert {"m, step20", "n, step20"} < set(legend(figure, 0))
    assert "## alone (org/m)" in checkpoint_report(made)
