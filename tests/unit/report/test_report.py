import dataclasses
import json
import re
from statistics import fmean

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from hf_lgt import ConfigError, EvalRecord, load_config
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.records import RecordError, last_step, read_records
from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.plan import PlannedRun
from hf_lgt.experiments.report.comparison_figures import comparison_pictures
from hf_lgt.experiments.report.sweep_tables import seed_table, summary_table, sweep_tables
from hf_lgt.experiments.results import collect, read_evaluations
from hf_lgt.report.blocks import Number
from hf_lgt.report.figures import curves_figure, literal, mistakes_figure, save_figure
from hf_lgt.report.model_card import model_card
from hf_lgt.report.results import results_text
from hf_lgt.report.tables import length_table, mistake_table, summary_lines
from hf_lgt.utils.yaml import dump as dumped
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
            overrides = [
                f"seed.init={seed}",
                f"seed.data={seed}",
                f"output_dir={tmp_path}",
                "eval.examples=100",
            ]
            config = load_config(root / f"recipes/demo/{arm}.yaml", overrides)
            reach = {c.task: target if c.role == "target" else 16 for c in config.mixture}
            config.run_dir.mkdir(parents=True)
            lines = [r.to_json() + "\n" for r in made_up(config, reach)]
            (config.run_dir / "eval.jsonl").write_text("".join(lines))
            (config.run_dir / "config.yaml").write_text(dumped(config.to_dict()))
            (config.run_dir / "model").mkdir()
            items.append(PlannedRun("", arm, {}, seed, config, None, tmp_path / "demo"))
    return items


def cells(table):
    return [[c.strip() for c in row.strip("|").split("|")] for row in table.splitlines() if row[:2] != "|-"]


def collected(planned):
    """Manifest and settings of these runs."""
    manifest = Manifest("demo", tuple(item.entry for item in planned))
    return manifest, collect(manifest, planned[0].folder)


def test_collected_results_measure_every_arm_against_auxiliaries_of_the_same_seed(planned):
    results = {(r.arm, r.seed): r for cell in collected(planned)[1] for r in cell.results}
    # nothing of lengths 9 to 16: 8 of 16 lengths differ, normalised by 1 - 8/16
    assert {key: r.summary.normalized_gap for key, r in results.items()} == pytest.approx(
        {
            ("transfer", 0): 0.5,
            ("transfer", 1): 0.0,
            ("target_alone", 0): 1.0,
            ("target_alone", 1): 1.0,
            ("control", 0): 1.0,
            ("control", 1): 0.875,
        }
    )
    assert {key: r.gain for key, r in results.items()} == {
        ("transfer", 0): 0.5,
        ("transfer", 1): 1.0,
        ("target_alone", 0): None,
        ("target_alone", 1): None,
        ("control", 0): 0.0,
        ("control", 1): 0.125,
    }
    assert results["target_alone", 0].auxiliary_curve == {}
    assert results["target_alone", 0].summary.regimes.transfer == 0


def columns(table):
    return [dict(zip(table.headers, row.values, strict=True)) for row in table.rows]


def test_the_tables_have_every_seed_and_the_mean_with_its_interval(planned):
    manifest, settings = collected(planned)
    rows = columns(seed_table(manifest, settings))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        (arm, seed) for arm in ("transfer", "target_alone", "control") for seed in (0, 1)
    ]
    assert [str(row["transfer region"]) for row in rows[:2]] == ["0.500", "1.000"]
    first, alone, _ = columns(summary_table(manifest, settings))
    for name, both in {"transfer region": [0.5, 1.0], "within": [1.0, 1.0], "gap": [0.25, 0.0]}.items():
        assert first[name] == Number(fmean(both), *mean_interval(both))
    # the target alone is at 0 on both seeds
    mean, interval = paired_difference([0.5, 1.0], [0.0, 0.0])
    assert first["gain"] == Number(mean, *interval)
    assert alone["gain"] is None


def test_one_seed_has_no_interval(planned):
    manifest, settings = collected([item for item in planned if item.seed == 0])
    rows = columns(summary_table(manifest, settings))
    for row in rows:
        assert row["seeds"] == 1
        for name in ("within", "transfer region", "beyond", "gain", "gap"):
            assert row[name] is None or (row[name].low, row[name].high) == (None, None)
    assert rows[0]["gain"] == Number(0.5)


def test_success_is_one_half_of_the_transfer_region(planned):
    first, alone, control = columns(summary_table(*collected(planned)))
    assert (first["seeds with ≥ 0.5 there"], str(first["success rate"])) == ("2/2", "1.00 (0.34–1.00)")
    assert (alone["seeds with ≥ 0.5 there"], str(alone["success rate"])) == ("0/2", "0.00 (0.00–0.66)")
    assert control["seeds with ≥ 0.5 there"] == "0/2"


def test_an_evaluation_that_lacks_a_task_or_length_is_reported(planned):
    path = planned[2].config.run_dir / "eval.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(ConfigError, match=r"lacks capitalize_reverse 19 and 1 more"):
        read_evaluations(planned)
    assert len(read_evaluations(planned[:2])) == 2


def test_an_evaluation_of_a_part_of_the_lengths_has_no_gap_and_says_why(planned):
    config = planned[0].config
    records = [r for r in made_up(config, {c.task: 16 for c in config.mixture}) if r.length >= 9]
    text = "\n".join(summary_lines(config, records))
    assert (
        "the paper's generalization gap – (the gap needs both curves from length 1; they start at 9)" in text
    )


def test_without_any_auxiliary_there_is_neither_gap_nor_gain(planned):
    manifest, settings = collected([item for item in planned if item.arm == "target_alone"])
    table = summary_table(manifest, settings)
    assert not {"gap", "gain", "recovered"} & set(table.headers)
    assert not any("no gap on" in note for note in table.notes)
    (row, _) = columns(seed_table(manifest, settings))
    assert (row["gap"], row["gain"], row["lowest auxiliary"]) == (None, None, None)
    config = planned[2].config
    text = "\n".join(summary_lines(config, made_up(config, {"capitalize_reverse": 8})))
    assert "gap" not in text
    assert "auxiliaries" not in text


def test_unlearned_auxiliaries_are_reported_because_their_small_gap_means_nothing(planned):
    config = planned[0].config
    gap = "capitalize_reverse: the paper's generalization gap"
    lines = summary_lines(config, made_up(config, {c.task: 1 for c in config.mixture}))
    reason = "exact match on own lengths is below 0.95: capitalize 0.062, reverse 0.062"
    assert f"{gap} – ({reason})" in [line.replace("\\", "") for line in lines]
    learned = summary_lines(config, made_up(config, {c.task: 16 for c in config.mixture}))
    assert f"{gap} 0.000, normalised 0.000" in learned


def test_a_run_alone_claims_no_transfer(planned):
    config = planned[0].config
    lines = summary_lines(config, made_up(config, {c.task: 16 for c in config.mixture}))
    assert lines[0] == (
        "capitalize_reverse: exact match 1.000 on trained lengths, 1.000 in the transfer region, 0.000 "
        "beyond; at .9 or above up to length 16, at .5 up to 16"
    )
    (line,) = [line for line in lines if "only a comparison with the target alone tells" in line]
    assert "hf-lgt compare" in line


def test_stopping_errors_are_reported_where_they_were_counted(planned):
    config = planned[0].config
    records = made_up(config, {c.task: 8 for c in config.mixture})
    assert not any("stop too early" in line for line in summary_lines(config, records))
    counted = [
        dataclasses.replace(r, stopped_early=(r.length > 8) * 60, ran_on=(r.length > 8) * 10) for r in records
    ]
    (line,) = [line for line in summary_lines(config, counted) if "stop too early" in line]
    assert line == (
        "capitalize_reverse: answers in the transfer region that stop too early 0.600, that run on 0.100, "
        "with another wrong token 0.300"
    )
    right = [dataclasses.replace(r, exact_match=1.0, stopped_early=0, ran_on=0) for r in counted]
    assert not any("stop too early" in line for line in summary_lines(config, right))


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
    pictures = {picture.name: picture for picture in comparison_pictures(*collected(planned))}
    assert list(pictures) == ["comparison", "reach"]
    reached = Number(0.75, *mean_interval([0.5, 1.0]))
    assert f"transfer {reached}; target_alone 0.000" in pictures["comparison"].alt
    figure = pictures["comparison"].figure
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


def test_a_reach_counts_whether_the_auxiliaries_were_learned_or_not(planned):
    """What a target reaches is no less for that; it has no gap, and the table says so."""
    config = planned[1].config
    reach = {c.task: 16 if c.role == "target" else 1 for c in config.mixture}
    lines = [r.to_json() + "\n" for r in made_up(config, reach)]
    (config.run_dir / "eval.jsonl").write_text("".join(lines))
    table = summary_table(*collected(planned))
    first = columns(table)[0]
    assert (first["seeds with ≥ 0.5 there"], str(first["gap"])) == ("2/2", "0.250")
    reason = "exact match on own lengths is below 0.95: capitalize 0.062, reverse 0.062"
    assert f"transfer: no gap on 1 of 2 seeds ({reason})." in table.notes


ODD = ["<script>", "a|b", "$\\frac$", "$", "_x", "a\nb", "\x1b[31m", "`" * 3, "](javascript:a)", "漢\u202e"]


def renamed(config, names):
    """A config whose tasks have these names."""
    named = [dataclasses.replace(c, task=name) for c, name in zip(config.mixture, names, strict=True)]
    return dataclasses.replace(config, mixture=named)


def of_arm(cell, name):
    """A setting whose arm has this name."""
    entries = [dataclasses.replace(r.entry, arm=name) for r in cell.results]
    results = [dataclasses.replace(r, entry=e) for r, e in zip(cell.results, entries, strict=True)]
    return dataclasses.replace(cell, arm=name, results=tuple(results))


@pytest.mark.parametrize("at", range(0, len(ODD) - 1, 3))
def test_names_are_drawn_literally(planned, tmp_path, at):
    names = (ODD + ODD)[at : at + 3]
    config = renamed(planned[0].config, names)
    records = made_up(config, dict.fromkeys(names, 4))
    records = [dataclasses.replace(r, mistakes={ODD[0]: 1, ODD[2]: 2}) for r in records]
    figures = [curves_figure(config, records), mistakes_figure(config, records)]
    manifest, settings = collected(planned)
    odd = [of_arm(cell, name) for cell, name in zip(settings, names, strict=True)]
    pictures = comparison_pictures(dataclasses.replace(manifest, name=names[0]), odd)
    figures += [picture.figure for picture in pictures]
    assert len(figures) == 4
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
    manifest, settings = collected(planned)
    odd = [of_arm(cell, f"{ODD[1]} {ODD[0]} {i}") for i, cell in enumerate(settings)]
    tables, lines = sweep_tables(manifest, odd), []
    assert [table.name for table in tables] == ["summary", "lengths", "differences", "seeds"]
    for table in tables:
        own = [line for line in table.markdown().splitlines() if line.startswith("|")]
        assert len({len(line.replace("\\|", "").split("|")) for line in own}) == 1
        lines += table.markdown().splitlines()
    config = planned[0].config
    records = [
        dataclasses.replace(r, mistakes={"<b>|\n": 1})
        for r in made_up(config, dict.fromkeys((c.task for c in config.mixture), 4))
    ]
    (head, *rest) = mistake_table(config, records).splitlines()
    assert {line.replace("\\|", "").count("|") for line in (head, *rest)} == {5}
    for text in (*lines, head):
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
