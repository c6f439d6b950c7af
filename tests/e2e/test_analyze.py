"""analyze.py: maps of a run's checkpoints, and what it says where there is nothing to look into."""

import json
import shutil

import numpy as np
import pytest

from hf_lgt.checkpointing.run_folder import read_run_config
from hf_lgt.evaluation.curves import training_lengths
from hf_lgt.evaluation.measures import Auxiliaries, summarize
from hf_lgt.evaluation.records import read_records


def test_heads_of_a_run(tiny_run, call_recipe, tmp_path):
    out = tmp_path / "heads"
    done = call_recipe("analyze.py", "heads", tiny_run, "--examples", "8", "--output", out)
    assert done.returncode == 0, done.stderr
    assert "Rank correlation" not in done.stdout  # of too few checkpoints
    assert str(out) in done.stdout
    config = read_run_config(tiny_run)
    data = json.loads((out / "heads.json").read_text())
    (run,) = data["runs"]
    steps = [c["step"] for c in run["checkpoints"]]
    assert steps == sorted(int(p.name[5:]) for p in (tiny_run / "checkpoints").iterdir())
    (_, first), *_ = training_lengths(config, "target")
    last = max(length for _, length in training_lengths(config, "auxiliary"))
    arrays = np.load(out / "heads.npz")
    for checkpoint in run["checkpoints"]:
        records = [r for r in read_records(tiny_run / "eval.jsonl") if r.step == checkpoint["step"]]
        auxiliaries = Auxiliaries.of(records, training_lengths(config, "auxiliary"))
        gap = summarize(records, (_, first), auxiliaries).gap if records else None
        assert checkpoint["gap"] == gap
        assert {m["length"] for m in checkpoint["maps"]} == {first, (first + last) // 2, last}
        assert {m["task"] for m in checkpoint["maps"]} == {c.task for c in config.mixture}
        for one in checkpoint["maps"]:
            name = f"{run['run']}/step-{checkpoint['step']:06d}/{one['task']}/{one['length']}"
            assert np.shape(one["tokens_lost"]) == (config.model.layers, config.model.heads)
            np.testing.assert_array_equal(arrays[f"{name}/tokens_lost"], one["tokens_lost"])
            assert one["examples"] <= 8
        assert set(checkpoint["differences"]) == {str(n) for n in (first, (first + last) // 2, last)}
    drawn = sorted(p.name for p in out.glob("*.png"))
    assert len(drawn) == 3
    assert "How far the maps of target and auxiliaries differ" in (out / "heads.md").read_text()

    again = call_recipe("analyze.py", "heads", tiny_run, "--examples", "8", "--output", out)
    assert again.returncode == 2
    assert "exists; choose another, or give --overwrite" in again.stderr
    (out / "mine.txt").write_text("keep")
    spared = call_recipe("analyze.py", "heads", tiny_run, "--output", out, "--overwrite")
    assert spared.returncode == 2
    assert "holds more than such an analysis" in spared.stderr
    (out / "mine.txt").unlink()
    options = ("--lengths", "2", "--tasks", "reverse", "--checkpoints", "last", "--examples", "8")
    other = call_recipe("analyze.py", "heads", tiny_run, *options, "--output", out, "--overwrite")
    assert other.returncode == 0, other.stderr
    (run,) = json.loads((out / "heads.json").read_text())["runs"]
    (checkpoint,) = run["checkpoints"]
    assert checkpoint["step"] == config.train.steps
    assert [(m["task"], m["length"]) for m in checkpoint["maps"]] == [("reverse", 2)]
    assert checkpoint["differences"] == {}


def test_where_it_goes_by_itself(tiny_run, call_recipe, tmp_path):
    runs = [tmp_path / "arm" / name for name in ("seed-0", "seed-1")]
    for run in runs:
        shutil.copytree(tiny_run, run)
    options = ("--checkpoints", "last", "--examples", "4", "--lengths", "2")
    assert call_recipe("analyze.py", "heads", runs[0], *options).returncode == 0
    assert (runs[0] / "analysis" / "heads" / "heads.json").is_file()
    assert call_recipe("analyze.py", "heads", *runs, *options).returncode == 0
    data = json.loads((tmp_path / "arm" / "analysis" / "heads" / "heads.json").read_text())
    assert [run["run"] for run in data["runs"]] == ["arm/seed-0", "arm/seed-1"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tasks", "reverse,mqar"], "was not trained on mqar; it has capitalize_reverse"),
        (["--lengths", "8,x"], "--lengths: 'x' must be an integer >= 1"),
        (["--lengths", "8,8"], "must be different lengths"),
        (
            ["--lengths", "100000"],
            "--lengths: length 100000 of reverse takes at least 100000 tokens",
        ),
        (["--examples", "0"], "must be an integer >= 1"),
        (["--steps", "5"], "unknown option --steps"),
        (["--checkpoints", "first"], "invalid choice"),
    ],
)
def test_a_wrong_option_is_reported(tiny_run, call_recipe, tmp_path, options, said):
    out = tmp_path / "out"
    done = call_recipe("analyze.py", "heads", tiny_run, "--output", out, *options)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_run_without_checkpoints_is_reported(tiny_run, call_recipe, tmp_path):
    run = tmp_path / "arm" / "seed-0"
    shutil.copytree(tiny_run, run)
    shutil.rmtree(run / "checkpoints")
    done = call_recipe("analyze.py", "heads", run, tmp_path / "nothing")
    assert done.returncode == 2
    assert "has no checkpoints" in done.stderr
    assert "--checkpoints last looks into its model/" in done.stderr
    assert "nothing is no run" in done.stderr
    shutil.rmtree(run / "model")
    for options in ([], ["--checkpoints", "last"]):
        done = call_recipe("analyze.py", "heads", run, *options)
        assert done.returncode == 2
        assert "has no checkpoints" in done.stderr


def test_necessity_of_a_run(tiny_run, call_recipe, tmp_path):
    out = tmp_path / "necessity"
    options = ("--examples", "8", "--lengths", "3,4", "--output", out)
    done = call_recipe("analyze.py", "necessity", tiny_run, "--k", "1", *options)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((out / "necessity.json").read_text())
    found = run["by_k"]["1"]
    assert run["lengths"] == [3, 4]
    ((layer, head),) = found["chosen"]
    assert (layer, 0 <= head < 2) == (0, True)
    assert len(found["lost_matched"]) == 1
    assert found["effect"] == pytest.approx(found["lost"] - found["lost_matched"][0])
    assert (out / "necessity.png").is_file()
    assert "lost without k matched" in done.stdout
    many = call_recipe("analyze.py", "necessity", tiny_run, "--k", "2", *options, "--overwrite")
    assert many.returncode == 2
    assert "--k: " in many.stderr
    assert "less than the model's 2 heads" in many.stderr
    assert json.loads((out / "necessity.json").read_text()) == [run]  # what was there stays


def test_heads_of_one_arm_in_another(tiny_run, call_recipe, tmp_path):
    donor, receiver = tmp_path / "with" / "seed-0", tmp_path / "alone" / "seed-0"
    for run in (donor, receiver):
        shutil.copytree(tiny_run, run)
    options = ("--examples", "8", "--lengths", "3,4")
    done = call_recipe("analyze.py", "patch", donor, "--into", receiver.parent, *options)
    assert done.returncode == 0, done.stderr
    (pair,) = json.loads((donor / "analysis" / "patch" / "patching.json").read_text())
    assert (pair["donor"], pair["receiver"]) == ("with/seed-0", "alone/seed-0")
    assert list(pair["by_length"]) == ["3", "4"]
    for found in pair["by_length"].values():  # a run's own heads change nothing
        assert found["donor"] == found["receiver"] == found["together"]
        assert np.unique(np.array(found["by_head"])[..., 1]).tolist() == [found["receiver"][1]]
    config = receiver / "config.yaml"
    config.write_text(config.read_text().replace("init: 0", "init: 1"))
    other = call_recipe("analyze.py", "patch", donor, "--into", receiver, *options, "--overwrite")
    assert other.returncode == 2
    assert "has another seed.init than" in other.stderr
    missing = call_recipe("analyze.py", "patch", donor, "--into", tmp_path / "none", *options, "--overwrite")
    assert missing.returncode == 2
    assert "none/seed-0 is no run" in missing.stderr


@pytest.mark.parametrize(
    ("what", "options", "said"),
    [
        ("patch", [], "the following arguments are required: --into"),
        ("heads", ["--k", "2"], "unknown option --k"),
        ("necessity", ["--tasks", "reverse"], "unknown option --tasks"),
        ("necessity", ["--into", "runs"], "unknown option --into"),
        ("patch", ["--into", "runs", "--target", "reverse"], "unknown option --target"),
        ("heads", ["--output=x", "--train.steps=5"], "unknown option --train.steps"),
        ("heads", ["--chekpoints", "last"], "unknown option --chekpoints; did you mean --checkpoints?"),
        ("predict", [], "the following arguments are required: --related"),
    ],
)
def test_options_of_another_analysis_are_refused(tiny_run, call_recipe, what, options, said):
    done = call_recipe("analyze.py", what, tiny_run, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert f"{what} [-h]" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: {heads,"),
        (["head", "runs"], "unknown analysis 'head'; did you mean 'heads'?"),
        (["runs", "heads"], "unknown analysis 'runs'"),
        (["--lengths", "3"], "the following arguments are required: {heads,"),
    ],
)
def test_what_is_no_analysis_is_reported_with_those_there_are(call_recipe, words, said):
    done = call_recipe("analyze.py", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "{heads,necessity,patch,related,predict,theory}" in done.stderr


def test_help_lists_the_analyses(call_recipe):
    done = call_recipe("analyze.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for what in ("heads", "necessity", "patch", "related", "predict", "theory"):
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"  {what} "))
        assert len(line.split()) > 3  # what it does


@pytest.mark.parametrize(
    ("what", "own", "keys"),
    [
        ("heads", "--checkpoints", False),
        ("necessity", "--k", False),
        ("patch", "--into", False),
        ("related", "--candidates", True),
        ("predict", "--related", False),
    ],
)
def test_help_of_an_analysis_lists_its_own_options(call_recipe, what, own, keys):
    done = call_recipe("analyze.py", what, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{what} [-h]" in done.stdout.splitlines()[0]
    assert f"  {own} " in done.stdout
    assert "  --overwrite " in done.stdout
    assert ("train.learning_rate" in done.stdout) == keys
    assert ("--checkpoints" in done.stdout) == (what == "heads")
