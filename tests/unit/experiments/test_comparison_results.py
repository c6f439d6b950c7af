"""The tables of a comparison: those of a sweep."""

import dataclasses
import json
from statistics import fmean

import pytest

from hf_lgt import ConfigError
from hf_lgt.evaluation.statistics import paired_difference
from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.report.stored import read_results
from hf_lgt.experiments.report.verdict_tables import result_tables
from hf_lgt.experiments.results import seed_groups
from hf_lgt.experiments.spec import load_comparison
from hf_lgt.report.blocks import Number
from tests.conftest import ROOT
from tests.support.made_results import made
from tests.unit.experiments.test_sweep_results import finish, step_at

STRINGS = ROOT / "recipes/paper/strings_cpu.yaml"
TRANSFER = f"base: {STRINGS}\nname: transfer\n"
CLAIMS = "claims: [{more: {arm: transfer}, than: {arm: target_alone}}]\n"


@pytest.fixture
def compare(tmp_path, call_recipe):
    """Lays out the finished runs of a comparison, ``exact(run)``, and calls the recipe; gives its files."""

    def call(text, exact, **arms):
        for name, content in {"transfer": TRANSFER, **arms, "compare": text}.items():
            (tmp_path / f"{name}.yaml").write_text(content)
        for run in plan(load_comparison(tmp_path), [f"output_dir={tmp_path / 'runs'}"]):
            finish(run, exact(run))
        done = call_recipe("compare.py", tmp_path, "--output_dir", tmp_path / "runs")
        assert done.returncode == 0, done.stderr
        return tmp_path / "runs" / "c", done.stdout

    return call


def columns(folder, name):
    table = next(t for t in result_tables(read_results(folder / "comparison.json")) if t.name == name)
    return [dict(zip(table.headers, row.values, strict=True)) for row in table.rows]


def by_arm(run):
    ends = {"transfer": (12, 14), "target_alone": (8, 10), "target_long": (16, 15)}[run.arm]
    end = ends[run.seed]
    return lambda task, length, step: step_at(end if task == "capitalize_reverse" else 16)(length)


def test_a_comparison_with_the_target_on_long_lengths_has_recovered_fractions(compare):
    text = "name: c\narms: [transfer.yaml, target_alone, target_long]\nseeds: [0, 1]\n"
    folder, printed = compare(text + CLAIMS, by_arm)
    transfer, alone, long = columns(folder, "summary")
    # of lengths 9 to 16: 4 of 8 where long training gains 8, and (6 - 2) / (7 - 2)
    assert transfer["recovered"] == Number(pytest.approx(fmean([4 / 8, 4 / 5])))
    mean, interval = paired_difference([4 / 8, 6 / 8], [0 / 8, 2 / 8])
    assert transfer["gain"] == Number(mean, *interval)
    assert [alone[name] for name in ("gain", "recovered")] == [None, None]
    assert (long["gain"].value, long["recovered"]) == (pytest.approx(fmean([1, 5 / 8])), None)
    rows = columns(folder, "seeds")
    assert [row["recovered"] for row in rows[:2]] == [Number(0.5), Number(0.8)]
    data = json.loads((folder / "comparison.json").read_text())
    assert [run["recovered"] for run in data["cells"][0]["runs"]] == [0.5, 0.8]

    (verdict,) = columns(folder, "verdicts")
    assert (verdict["claim"], verdict["verdict"]) == ("arm transfer above arm target_alone", "underpowered")
    assert printed.count("**Exact match of the target by regime") == 1
    assert f"all tables: {folder}/comparison.md" in printed
    assert {p.name for p in folder.iterdir()} >= {
        "manifest.json", "comparison.md", "comparison.json", "comparison.png", "reach.png"
    }  # fmt: skip
    page = (folder / "comparison.md").read_text()
    assert page.startswith("# c\n\n**Exact match")
    assert all(
        title in page for title in ("What came of the claims: underpowered", "Paired diff", "Every run")
    )


@pytest.mark.parametrize(
    ("length", "ends", "reached"), [(4, (8, 6), (4 / 8, 2 / 8)), (8, (10, 9), (2 / 4, 1 / 4))]
)
def test_arms_with_other_targets_are_measured_by_their_own(compare, length, ends, reached):
    """Also where both targets were trained on the same lengths."""
    other = f"base: {STRINGS}\nname: other\nmixture:\n"
    other += "  - {task: reverse, role: target, lengths: [1, LONGEST], options: {alphabet: abcd}}\n"
    other += "  - {task: string_copy, role: auxiliary, lengths: [1, 12], options: {alphabet: abcd}}\n"
    alone = f"base: {STRINGS}\nname: other-alone\n"
    alone += "mixture: [{task: reverse, role: target, lengths: [1, LONGEST], options: {alphabet: abcd}}]\n"
    text = "name: c\narms: [transfer.yaml, target_alone, other.yaml, other-alone.yaml]\nseeds: [0]\n"

    def exact(run):
        end = {"transfer": 12, "target_alone": 8, "other": ends[0], "other-alone": ends[1]}[run.arm]
        target = run.config.mixture[0].task
        return lambda task, length, step: step_at(end if task == target else 16)(length)

    files = {"other": other, "other-alone": alone}
    files = {name: text.replace("LONGEST", str(length)) for name, text in files.items()}
    folder, _ = compare(text, exact, **files)
    rows = {row["arm"]: row for row in columns(folder, "seeds")}
    # the first target from 9 to 16, the other from 5 or 9 to 12
    assert [rows[arm]["transfer region"].value for arm in rows] == [4 / 8, 0.0, *reached]
    assert rows["transfer"]["gain"] == Number(0.5)
    assert rows["other"]["gain"] == Number(0.25)
    assert (rows["target_alone"]["gain"], rows["other-alone"]["gain"]) == (None, None)
    results = read_results(folder / "comparison.json")
    summaries = {cell.arm: cell.results[0].summary for cell in results.cells}
    assert {(arm, s.target, s.target_length, s.auxiliary_length) for arm, s in summaries.items()} == {
        ("transfer", "capitalize_reverse", 8, 16),
        ("target_alone", "capitalize_reverse", 8, 16),
        ("other", "reverse", length, 12),
        ("other-alone", "reverse", length, 12),
    }


def test_an_arm_that_starts_elsewhere_is_not_the_target_alone():
    """A pretrained model and its random twin each have their own."""

    def other(arm, reach):
        found = made(arm, 0, reach)
        model = dataclasses.replace(found.config.model, init="pretrained", name_or_path="org/model")
        entry = dataclasses.replace(found.entry, id=f"{arm}_other/seed-0", arm=f"{arm}_other")
        return dataclasses.replace(found, entry=entry, config=dataclasses.replace(found.config, model=model))

    runs = [made("transfer", 0, 0.75), made("target_alone", 0, 0.5), other("target_alone", 0.0)]
    gains = {cell.arm: cell.results[0].gain for cell in seed_groups([*runs, other("transfer", 0.25)])}
    assert gains == {
        "transfer": 0.25,
        "target_alone": None,
        "target_alone_other": None,
        "transfer_other": 0.25,
    }


def test_an_evaluation_that_lacks_something_is_reported_before_any_table(compare, tmp_path, call_recipe):
    text = "name: c\narms: [transfer.yaml, target_alone]\nseeds: [0, 1]\n"
    folder, _ = compare(text, by_arm)
    before = (folder / "comparison.json").read_bytes()
    path = tmp_path / "runs/transfer/seed-1/eval.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    done = call_recipe("compare.py", tmp_path, "--output_dir", tmp_path / "runs")
    assert done.returncode == 2
    assert f"{path}: its last evaluation lacks reverse 20 and 0 more" in done.stderr
    assert (folder / "comparison.json").read_bytes() == before


def test_claims_with_faults_are_reported_before_any_run(tmp_path, call_recipe):
    (tmp_path / "transfer.yaml").write_text(TRANSFER)
    (tmp_path / "compare.yaml").write_text(
        "name: c\narms: [transfer.yaml]\nseeds: [0]\nclaims: [{more: {arm: 3}}]\n"
    )
    with pytest.raises(ConfigError, match=r"claims\.0\.more"):
        load_comparison(tmp_path)
    done = call_recipe("compare.py", tmp_path, "--output_dir", tmp_path / "runs")
    assert done.returncode == 2
    assert "claims.0.more: {'arm': 3} must map places to strings" in done.stderr
    assert not (tmp_path / "runs").exists()
