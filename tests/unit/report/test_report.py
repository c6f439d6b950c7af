import dataclasses
import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from hf_lgt import ConfigError, EvalRecord, load_config
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.records import RecordError, last_step, read_records
from hf_lgt.experiments.plan import PlannedRun
from hf_lgt.experiments.report.comparison_figures import comparison_figure
from hf_lgt.experiments.report.comparison_tables import comparison_table, success_lines
from hf_lgt.experiments.results import collect_arms
from hf_lgt.report.figures import curves_figure, literal, mistakes_figure, save_figure
from hf_lgt.report.model_card import model_card
from hf_lgt.report.results import results_text
from hf_lgt.report.tables import length_table, mistake_table, summary_lines
from tests.conftest import ROOT
from tests.unit.data_builders.test_texts import rendered

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
            items.append(PlannedRun("", arm, {}, seed, config, None, tmp_path / "demo"))
    return items


def cells(table):
    return [[c.strip() for c in row.strip("|").split("|")] for row in table.splitlines() if row[:2] != "|-"]


def test_collected_results_measure_every_arm_against_auxiliaries_of_the_same_seed(planned):
    results = {(r.arm, r.seed): r for r in collect_arms(planned)}
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
    header, *rows = cells(comparison_table(collect_arms(planned)))
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
    lines = success_lines(collect_arms(planned))
    assert lines[0].startswith("transfer: transfer 0.750, success rate 2/2 seeds (95 % 0.34–1.00)")
    assert lines[1].startswith("target_alone: transfer 0.000, success rate 0/2")


def test_an_evaluation_that_lacks_a_task_or_length_is_reported(planned):
    path = planned[2].config.run_dir / "eval.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(ConfigError, match=r"lacks capitalize_reverse 19 and 1 more"):
        collect_arms(planned)


def test_an_evaluation_of_a_part_of_the_lengths_has_no_gap_and_says_why(planned):
    config = planned[0].config
    records = [r for r in made_up(config, {c.task: 16 for c in config.mixture}) if r.length >= 9]
    text = "\n".join(summary_lines(config, records))
    assert "generalization gap –" in text
    assert "not all lengths from 1 to 16 were evaluated" in text


def test_without_any_auxiliary_no_transfer_is_claimed(planned):
    alone = [item for item in planned if item.arm == "target_alone"]
    results = collect_arms(alone)
    assert success_lines(results) == ["target_alone: no transfer can be measured (no auxiliary to follow)"]
    assert cells(comparison_table(results))[1][-2:] == ["–", "–"]


def test_unlearned_auxiliaries_are_reported_because_their_small_gap_means_nothing(planned):
    config = planned[0].config
    lines = summary_lines(config, made_up(config, {c.task: 1 for c in config.mixture}))
    assert any("were not learned" in line for line in lines)
    learned = summary_lines(config, made_up(config, {c.task: 16 for c in config.mixture}))
    assert not any("were not learned" in line for line in learned)


def test_small_test_sets_and_overlap_are_reported(planned):
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
    figure = comparison_figure("demo", collect_arms(planned))
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
    results = collect_arms(planned)
    nothing = {"learned": False, "gap": None, "normalized_gap": None, "transfer": None}
    unlearned = [dataclasses.replace(r, summary=dataclasses.replace(r.summary, **nothing)) for r in results]
    lines = success_lines(unlearned)
    assert all("not learned on any of" in line and "no gap and no transfer" in line for line in lines)
    # a seed on which they were not learned counts among those without success
    own = [r for r in results if r.arm == results[0].arm]
    (line,) = success_lines([*own, unlearned[0]])
    assert f"of the {len(own)} whose auxiliaries were learned, success rate" in line
    assert f"/{len(own) + 1} seeds" in line


ODD = ["<script>", "a|b", "$\\frac$", "$", "_x", "a\nb", "\x1b[31m", "`" * 3, "](javascript:a)", "漢\u202e"]


def renamed(config, names):
    """A config whose tasks have these names."""
    named = [dataclasses.replace(c, task=name) for c, name in zip(config.mixture, names, strict=True)]
    return dataclasses.replace(config, mixture=named)


def of_arm(result, name):
    """A result of an arm with this name."""
    return dataclasses.replace(result, entry=dataclasses.replace(result.entry, arm=name))


@pytest.mark.parametrize("at", range(0, len(ODD) - 1, 3))
def test_names_are_drawn_literally(planned, tmp_path, at):
    names = (ODD + ODD)[at : at + 3]
    config = renamed(planned[0].config, names)
    records = made_up(config, dict.fromkeys(names, 4))
    records = [dataclasses.replace(r, mistakes={ODD[0]: 1, ODD[2]: 2}) for r in records]
    figures = [curves_figure(config, records), mistakes_figure(config, records)]
    results = collect_arms(planned)
    odd = [of_arm(r, names[i % 3]) for i, r in enumerate(results)]
    figures.append(comparison_figure(names[0], odd))
    for i, figure in enumerate(figures):
        save_figure(figure, tmp_path / f"{i}.png")
    drawn = [text.get_text() for text in figures[0].findobj(Text)]
    shown = [text for text in drawn if "(target, ≤" in text or "(auxiliary, ≤" in text]
    assert len(shown) == 3  # each in the legend
    assert not any(set(text) & set("\n\x1b\u202e") for text in shown)


def test_a_name_in_a_figure_is_no_formula():
    assert literal("$x$") == r"\$x\$"
    assert literal("_a\n\x1bb") == " _a \\x1bb"
    assert len(literal("w" * 500)) == 60


def test_names_of_arms_and_kinds_of_mistakes_cannot_break_a_table(planned):
    results = [of_arm(r, f"{ODD[1]} {ODD[0]}") for r in collect_arms(planned)]
    lines = comparison_table(results).splitlines()
    assert len({len(line.replace("\\|", "").split("|")) for line in lines}) == 1
    config = planned[0].config
    records = [
        dataclasses.replace(r, mistakes={"<b>|\n": 1})
        for r in made_up(config, dict.fromkeys((c.task for c in config.mixture), 4))
    ]
    (head, *rest) = mistake_table(config, records).splitlines()
    assert {line.replace("\\|", "").count("|") for line in (head, *rest)} == {5}
    for text in (*lines, *success_lines(results), head):
        assert "<" not in text


def test_a_long_name_stays_in_its_place_in_the_card(planned):
    # too long for a line of YAML, which is broken before what looks like a fence
    task = f"{'x' * 98} ``` <script>alert(1)</script>"
    config = renamed(planned[0].config, [task, "b", "c"])
    data = {"path": "x", "train_rows": 1, "test_rows": 1, "revision": None}
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, source="dataset", path="x", tags=False)
    )
    card = model_card(
        config, made_up(config, {task: 4, "b": 4, "c": 4}), dict.fromkeys((task, "b", "c"), ("q", "a")), data
    )
    _, metadata, body = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["model-index"][0]["results"][0]["dataset"]["name"] == task
    page = rendered(body)
    assert "script" not in page.tags
    assert page.tags.count("pre") == 2
    assert page.text.rstrip().endswith("mistakes: 32")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    config = load_config(ROOT / "recipes/demo/transfer.yaml")
    made = made_up(config, {c.task: 8 for c in config.mixture})[::7]
    return (
        config,
        [dataclasses.replace(r, mistakes={"a": 1}).to_json() for r in made],
        tmp_path_factory.mktemp("r"),
    )


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([[], {}, {"a": 1}, {"<b>": 0}, 10**30, 0, 1, "capitalize", "reverse", [1]])
)
FIELDS = st.sampled_from([f.name for f in dataclasses.fields(EvalRecord)] + ["more"])
CHANGES = st.lists(st.tuples(st.integers(0, 8), FIELDS, VALUES), max_size=3)


@given(changes=CHANGES, cut=st.none() | st.integers(0, 3000), extra=st.binary(max_size=8))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_any_records_are_read_and_shown_or_told(whole, changes, cut, extra):
    config, lines, folder = whole
    rows = [json.loads(line) for line in lines]
    for at, field, value in changes:
        rows[at % len(rows)][field] = value
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "eval.jsonl").write_bytes(content if cut is None else content[:cut] + extra + content[cut:])
    fault = None
    try:
        records = last_step(read_records(folder / "eval.jsonl"))
    except RecordError as error:
        fault = str(error)
    if fault is not None:
        assert re.match(rf"{folder}/eval\.jsonl(, line [0-9]+)? (is|has) ", fault)
        assert fault.isprintable()
        return
    told = results_text(config, records)
    assert "<b>" not in told
    curves_figure(config, records)
