"""Theory's labels against measurement."""

import json
from math import comb
from statistics import fmean

import pytest

from hf_lgt import ConfigError, load_config
from hf_lgt.analysis.report.theory import write_theory
from hf_lgt.analysis.theory import TheoryResult, auc_of, theory_result
from hf_lgt.commands.theory import find_tasks
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.experiments.plan import plan, record_plan
from hf_lgt.experiments.spec import load_sweep
from hf_lgt.utils import yaml
from tests.conftest import ROOT
from tests.unit.experiments.test_sweep_results import finish


def result(predicted, twice, *, chance=0.0, within=1.0, task="reverse"):
    return TheoryResult(task, predicted, "", 16, chance, (within, within), (twice, twice))


def record(length, exact_match):
    return EvalRecord(
        step=9, task="parity", role="target", length=length, n=4, exact_match=exact_match, ci_low=0.0,
        ci_high=1.0, token_accuracy=1.0,
    )  # fmt: skip


def test_a_task_is_measured_above_its_constant_answer():
    mixture = "mixture=[{task: parity, role: target, lengths: [1, 4]}]"
    config = load_config(ROOT / "recipes/paper/strings_cpu.yaml", [mixture, "eval.examples=64"])
    runs = [(config, [record(2, 1.0), record(4, 0.8), record(8, own)]) for own in (0.75, 0.5)]
    found = theory_result(runs)
    assert (found.task, found.predicted, found.length) == ("parity", "no", 8)
    assert 0.5 <= found.chance < 0.65  # two answers
    assert found.within == (0.9, 0.9)
    assert found.twice == (0.75, 0.5)
    assert found.above_chance[0] == pytest.approx((0.75 - found.chance) / (1 - found.chance))
    assert found.learned
    assert not found.extrapolates
    with pytest.raises(ValueError, match="or none of length 8"):
        theory_result([(config, [record(4, 1.0)])])
    both = load_config(ROOT / "recipes/paper/strings_cpu.yaml")
    with pytest.raises(ValueError, match="trains 3 tasks"):
        theory_result([(both, [])])


def test_the_area_is_the_mean_of_both_shares_and_open_tasks_do_not_count():
    own = [result("yes", 0.9), result("yes", 0.9), result("no", 0.9), result("no", 0.1), result("yes", 0.2)]
    own += [result("open", 0.9), result("open", 0.0)]
    area = auc_of(own)
    assert area.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (area.hits, area.rejections) == ((3, 2), (2, 1))
    assert 0 <= area.low < area.value < area.high <= 1
    assert auc_of([result("yes", 0.9), result("no", 0.8)]) is None
    assert not result("no", 0.7, chance=0.5).extrapolates


@pytest.mark.parametrize(("n", "m"), [(8, 8), (5, 12), (10, 15)])
@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.8, 0.6), (0.9, 0.9), (0.95, 0.3)])
def test_the_interval_of_the_area_covers_it(n, m, p, q):
    # exactly, over all counts of right labels that there can be
    covered = 0.0
    for i in range(n + 1):
        for j in range(m + 1):
            own = [result("yes" if k < i else "no", 1.0) for k in range(n)]
            own += [result("no" if k < j else "yes", 0.0) for k in range(m)]
            area = auc_of(own)
            if area.low <= (p + q) / 2 <= area.high:
                covered += comb(n, i) * p**i * (1 - p) ** (n - i) * comb(m, j) * q**j * (1 - q) ** (m - j)
    assert covered > 0.9  # .92 and more but for five tasks of twelve


def test_table_numbers_and_figure_are_written(tmp_path):
    own = [result("yes", 0.9, task="sort"), result("no", 0.1, task="parity", within=0.5)]
    areas, tasks = write_theory(own, tmp_path / "theory")
    assert [str(value) for value in areas.rows[0].values][:3] == ["all tasks", "2", "1.00 (0.44–1.00)"]
    assert areas.rows[1].values[2] is None  # of the learned ones, all extrapolate
    assert [row.values[-1] for row in tasks.rows] == ["yes", "not learned"]
    data = json.loads((tmp_path / "theory/theory.json").read_text())
    assert data["tasks"][0]["task"] == "sort"
    assert data["auc"]["all"]["value"] == 1.0
    assert fmean(data["tasks"][0]["above_chance"]) == 0.9
    assert (tmp_path / "theory/theory.png").stat().st_size > 5000


def test_tasks_of_a_sweep_are_found_once_each(tmp_path):
    mixtures = {"a": ("parity", 4), "b": ("last_letter", 4), "c": ("parity", 3)}
    groups = {
        name: {"mixture": [{"task": task, "role": "target", "lengths": [1, longest]}]}
        for name, (task, longest) in mixtures.items()
    }
    config = str(ROOT / "recipes/paper/strings_cpu.yaml")
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.dump({"name": "s", "config": config, "seeds": [0], "groups": groups}))
    spec = load_sweep(file)
    runs = plan(spec, [f"output_dir={tmp_path / 'runs'}", "eval.lengths=[1,8]", "eval.examples=64"])
    record_plan(spec, runs)
    folder = runs[0].folder
    with pytest.raises(ConfigError, match="no run of it is finished"):
        find_tasks(folder)
    finish(runs[0], lambda task, length, step: 1.0)
    results, missing = find_tasks(folder)
    assert ([own.task for own in results], missing) == (["parity"], ["b", "c"])
    finish(runs[1], lambda task, length, step: 0.0)
    results, missing = find_tasks(folder)
    assert ([own.task for own in results], missing) == (["parity", "last_letter"], ["c"])
    finish(runs[2], lambda task, length, step: 0.0)
    with pytest.raises(ConfigError, match="has several settings of parity; a task counts once"):
        find_tasks(folder)
