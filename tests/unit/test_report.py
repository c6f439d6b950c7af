import dataclasses

import pytest

from hf_lgt import ConfigError, EvalRecord, load_config
from hf_lgt.comparison import Planned, collect
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.records import read_records
from hf_lgt.report.figures import comparison_figure, curves_figure, save_figure
from hf_lgt.report.tables import comparison_table, length_table, success_lines, summary_lines

LENGTHS = range(1, 21)


def made_up(config, reach):
    """Records of a run in which each task is right up to a length."""
    records = []
    for component in config.mixture:
        for length in LENGTHS:
            right = 100 if length <= reach[component.task] else 0
            low, high = wilson_interval(right, 100)
            cell = (4000, component.task, component.role, length, 100, right / 100, low, high, right / 100, 0)
            records.append(EvalRecord(*cell))
    return records


@pytest.fixture
def planned(root, tmp_path):
    """Two seeds of each demo arm, with evaluations on disk: transfer reaches 12 and 16, others 8."""
    items = []
    for arm, reaches in {"transfer": (12, 16), "target_alone": (8, 8), "control": (8, 9)}.items():
        for seed, target in enumerate(reaches):
            overrides = [f"seed.init={seed}", f"output_dir={tmp_path}", "eval.examples=100"]
            config = load_config(root / f"recipes/demo/{arm}.yaml", overrides)
            reach = {c.task: target if c.role == "target" else 16 for c in config.mixture}
            config.run_dir.mkdir(parents=True)
            lines = [r.to_json() + "\n" for r in made_up(config, reach)]
            (config.run_dir / "eval.jsonl").write_text("".join(lines))
            items.append(Planned(arm, seed, config, ()))
    return items


def cells(table):
    return [[c.strip() for c in row.strip("|").split("|")] for row in table.splitlines() if row[:2] != "|-"]


def test_collected_results_measure_every_arm_against_auxiliaries_of_the_same_seed(planned):
    results = {(r.arm, r.seed): r for r in collect(planned)}
    transfer = {key: r.summary.transfer for key, r in results.items()}
    # no transfer: 8 of 16 lengths differ, normalised by 1 - 8/16
    assert transfer == pytest.approx(
        {
            ("transfer", 0): 0.5,
            ("transfer", 1): 1.0,
            ("target_alone", 0): 0.0,
            ("target_alone", 1): 0.0,
            ("control", 0): 0.0,
            ("control", 1): 0.125,
        }
    )
    assert results["target_alone", 0].auxiliary_curve == {}
    assert results["target_alone", 0].summary.regimes.transfer == 0


def test_the_comparison_table_has_every_seed_and_the_mean_with_its_interval(planned):
    header, *rows = cells(comparison_table(collect(planned)))
    assert header[:3] == ["arm", "seed", "worst ≤ 8"]
    assert header[3:-3] == [str(n) for n in range(9, 17)]
    assert header[-3:] == ["mean > 16", "gap", "transfer"]
    assert [row[:2] for row in rows[:4]] == [["transfer", s] for s in ("0", "1", "mean", "95 %")]
    by_name = {tuple(row[:2]): row for row in rows}
    assert by_name["transfer", "0"][3:-3] == ["1.000"] * 4 + ["0.000"] * 4
    assert by_name["transfer", "mean"][-1] == "0.750"
    assert by_name["transfer", "95 %"][-1] == "0.50–1.00"
    assert by_name["transfer", "95 %"][2] == "1.00–1.00"


def test_success_is_transfer_from_one_half(planned):
    lines = success_lines(collect(planned))
    assert lines[0].startswith("transfer: transfer 0.750, success rate 2/2 seeds (95 % 0.34–1.00)")
    assert lines[1].startswith("target_alone: transfer 0.000, success rate 0/2")


def test_an_evaluation_that_lacks_a_task_or_length_is_told(planned):
    path = planned[2].config.run_dir / "eval.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(ConfigError, match=r"lacks capitalize_reverse 19 and 1 more"):
        collect(planned)


def test_an_evaluation_of_a_part_of_the_lengths_has_no_gap_and_says_why(planned):
    config = planned[0].config
    records = [r for r in made_up(config, {c.task: 16 for c in config.mixture}) if r.length >= 9]
    text = "\n".join(summary_lines(config, records))
    assert "generalization gap –" in text
    assert "not all lengths from 1 to 16 were evaluated" in text


def test_without_any_auxiliary_no_transfer_is_claimed(planned):
    alone = [item for item in planned if item.arm == "target_alone"]
    results = collect(alone)
    assert success_lines(results) == ["target_alone: no transfer can be measured (no auxiliary to follow)"]
    assert cells(comparison_table(results))[1][-2:] == ["–", "–"]


def test_unlearned_auxiliaries_are_told_because_their_small_gap_means_nothing(planned):
    config = planned[0].config
    lines = summary_lines(config, made_up(config, {c.task: 1 for c in config.mixture}))
    assert any("were not learned" in line for line in lines)
    learned = summary_lines(config, made_up(config, {c.task: 16 for c in config.mixture}))
    assert not any("were not learned" in line for line in learned)


def test_small_test_sets_and_overlap_are_told(planned):
    config = planned[0].config
    records = made_up(config, {c.task: 16 for c in config.mixture})
    records[0] = dataclasses.replace(records[0], n=8, overlap=4)
    text = "\n".join(summary_lines(config, records))
    assert "capitalize_reverse 1 (n=8)" in text
    assert "training could draw: capitalize_reverse 1 (4 of 8)" in text


def test_the_length_table_names_the_regime_of_each_length(planned):
    config = planned[0].config
    rows = cells(length_table(config, made_up(config, {c.task: 12 for c in config.mixture})))[1:]
    assert [row[1] for row in rows] == ["within"] * 8 + ["transfer"] * 8 + ["beyond"] * 4
    assert [row[2] for row in rows] == ["1.000"] * 12 + ["0.000"] * 8


def axis_texts(axes):
    return [t.get_text() for t in axes.texts]


def test_the_run_figure_shows_every_task_and_its_training_lengths(planned, tmp_path):
    config = planned[0].config
    figure = curves_figure(config, read_records(config.run_dir / "eval.jsonl"))
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert set(lines) == {
        "capitalize_reverse (target, ≤ 8)",
        "capitalize (auxiliary, ≤ 16)",
        "reverse (auxiliary, ≤ 16)",
    }
    target = lines["capitalize_reverse (target, ≤ 8)"]
    assert target.get_ydata().tolist() == [1.0] * 12 + [0.0] * 8
    assert axis_texts(axes) == ["target trained ≤ 8", "auxiliary trained ≤ 16"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("length", "exact match")
    path = save_figure(figure, tmp_path / "a.png")
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_the_comparison_figure_has_a_panel_an_arm_and_a_line_a_seed(planned):
    figure = comparison_figure("demo", collect(planned))
    assert [axes.get_title() for axes in figure.axes] == ["transfer", "target alone", "control"]
    curves = [[line for line in axes.lines if len(line.get_xdata()) == 20] for axes in figure.axes]
    assert [len(lines) for lines in curves] == [4, 3, 4]  # two seeds, their mean, the auxiliaries
    assert curves[0][2].get_ydata()[13] == 0.5
    assert [axis_texts(axes)[-1] for axes in figure.axes] == [
        "auxiliary trained ≤ 16",
        "target trained ≤ 8",
        "auxiliary trained ≤ 16",
    ]


def test_a_figure_of_few_lengths_draws_without_a_warning(planned, tmp_path):
    config = planned[0].config
    records = [r for r in read_records(config.run_dir / "eval.jsonl") if 2 <= r.length <= 4]
    save_figure(curves_figure(config, records), tmp_path / "a.png")


def test_a_task_s_name_cannot_break_a_table(planned):
    config = planned[0].config
    named = dataclasses.replace(config.mixture[0], task="a|b<script>")
    config = dataclasses.replace(config, mixture=[named, *config.mixture[1:]])
    lines = length_table(config, made_up(config, {c.task: 4 for c in config.mixture})).splitlines()
    assert "a\\|b&lt;script>" in lines[0]
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(config.mixture) + 4}


def test_transfer_from_auxiliaries_that_were_not_learned_is_no_success(planned):
    results = collect(planned)
    nothing = [dataclasses.replace(r.summary, auxiliary_mean=0.1, transfer=1.0) for r in results]
    lines = success_lines([dataclasses.replace(r, summary=s) for r, s in zip(results, nothing, strict=True)])
    assert all("were not learned, so the gap and the transfer say nothing" in line for line in lines)
