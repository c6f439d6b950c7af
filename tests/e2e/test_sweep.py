"""recipes/sweep.py on this machine, with real runs."""

import json

import pytest

from hf_lgt import load_config
from hf_lgt.utils import yaml
from hf_lgt.utils.run_lock import RunLock
from tests.conftest import ROOT, TINY

SWEEP = """
name: small
config: {base: DEMO, name: tiny, SETTINGS}
arms: [transfer, target_alone]
grid: {train.learning_rate: [1.0e-3, 3.0e-3]}
seeds: [0]
"""


@pytest.fixture
def sweep(tmp_path, call_recipe):
    """Calls recipes/sweep.py on a sweep of four tiny runs."""
    file = tmp_path / "sweep.yaml"
    sections = {}
    for word in TINY[1:]:
        key, value = word.split("=")
        sections.setdefault(key.split(".")[0], []).append(f"{key.split('.')[1]}: {value}")
    settings = ", ".join(f"{section}: {{{', '.join(keys)}}}" for section, keys in sections.items())
    text = SWEEP.replace("DEMO", str(ROOT / "recipes/demo/transfer.yaml")).replace("SETTINGS", settings)
    file.write_text(text)

    def call(*arguments):
        return call_recipe("sweep.py", file, f"--output_dir={tmp_path / 'runs'}", *arguments)

    return call


def test_a_sweep_runs_is_kept_and_only_adds_what_is_missing(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_lgt.experiments.launch.PATIENCE", 0.0)
    listed = sweep("--dry_run")
    assert listed.returncode == 0
    assert listed.stdout.count("to do") == 4
    assert not (tmp_path / "runs").exists(), "a dry run writes nothing"

    # one that fails is reported, and the others are summed up
    first, folder = listed.stdout.split()[2], tmp_path / "runs" / "small"
    with RunLock.acquire(tmp_path / "runs" / first):
        failed = sweep("--jobs", 2)
    assert failed.returncode == 1
    assert "4 runs, 0 finished" in failed.stdout
    assert f"error: {first} (transfer, train.learning_rate 0.001) failed; see" in failed.stderr
    assert "is being written by process" in failed.stderr
    assert "1 of 4 runs are not finished" in (folder / "sweep.md").read_text()
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*/seed-0/*")}

    done = sweep("--jobs", 2)
    assert (done.returncode, done.stderr.count("error:")) == (0, 0)
    assert "4 runs, 3 finished" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    names = {"manifest.json", "sweep.md", "sweep.json", "curves.png", "reach.png", "configs", "logs"}
    assert {path.name for path in folder.iterdir()} == names
    assert len(json.loads((folder / "sweep.json").read_text())["cells"]) == 4
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["runs"]:
        run_dir = (folder / entry["folder"]).resolve()
        assert (run_dir / "model").is_dir()
        assert run_dir.parent.name + "/" + run_dir.name == entry["id"]
        config = load_config(run_dir / "config.yaml")
        assert f"{config.train.learning_rate:g}" == entry["point"]["train.learning_rate"]
        assert (len(config.mixture) == 1) == (entry["arm"] == "target_alone")

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*/seed-0/*")}
    again = sweep()
    assert again.returncode == 0
    assert "4 runs, 4 finished" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*/seed-0/*")} == before
    assert sweep("--dry_run").stdout.count("finished") == 4
    more = sweep("--seeds", "0,7", "--dry_run").stdout
    assert (more.count("finished"), more.count("to do")) == (4, 4)
    assert sweep("--seeds", "7", "--dry_run").stdout.count("\n") == 4

    # a trial with other settings has tables of its own
    tables = (folder / "sweep.md").read_bytes()
    tried = sweep("--jobs", 2, "--train.steps", 6)
    assert tried.returncode == 0
    (other,) = (tmp_path / "runs").glob("small-*")
    assert (other / "sweep.md").is_file()
    assert (folder / "sweep.md").read_bytes() == tables


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--train.stepz", "5"), "train.stepz: unknown key 'stepz'; did you mean 'steps'?"),
        (("--seeds", "a"), "--seeds: ['a'] must be a list"),
        (("--seed.init", "3"), "seed.init: is set by the sweep's seeds"),
        (("--train.learning_rate", "1"), "is set by the sweep's grid"),
        (("--executor", "cloud"), "invalid choice: 'cloud'"),
        (("--jobs", "0"), "'0' must be an integer >= 1"),
        (("--retries", "-1"), "'-1' must be an integer >= 0"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_written(sweep, tmp_path, arguments, told):
    done = sweep(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_comparison_leaves_a_manifest_too(call_recipe, tmp_path):
    (tmp_path / "a.yaml").write_text(f"base: {ROOT / 'recipes/demo/transfer.yaml'}\nname: mine\n")
    (tmp_path / "compare.yaml").write_text("name: c\narms: [a.yaml, target_alone]\nseeds: [0]\n")
    settings = [f"--{word}" for word in TINY if not word.startswith("name")]
    out = tmp_path / "runs"
    done = call_recipe("compare.py", tmp_path, *settings, f"--output_dir={out}", "--jobs", 2)
    assert (done.returncode, done.stderr.count("error:")) == (0, 0)
    from hf_lgt.experiments.manifest import read_manifest
    from hf_lgt.experiments.results import collect

    manifest = read_manifest(out / "c")
    assert [(e.arm, e.id) for e in manifest.runs] == [
        ("a", "mine/seed-0"),
        ("target_alone", "mine-target-alone/seed-0"),
    ]
    assert [cell.arm for cell in collect(manifest, out / "c")] == ["a", "target_alone"]


@pytest.mark.parametrize("recipe", ["compare.py", "sweep.py"])
def test_a_finished_run_that_cannot_be_read_is_reported_before_others_are_started(
    recipe, call_recipe, tmp_path
):
    from hf_lgt.experiments.plan import plan
    from hf_lgt.experiments.spec import load_comparison, load_sweep

    demo, out = ROOT / "recipes/demo/transfer.yaml", tmp_path / "runs"
    short = "train: {steps: 1}\neval: {lengths: [1, 9], examples: 4}"
    (tmp_path / "base.yaml").write_text(f"base: {demo}\nname: mine\noutput_dir: {out}\n{short}\n")
    file = tmp_path / "runs.yaml"
    arms = "arms: [base.yaml]" if recipe == "compare.py" else "config: {base: base.yaml}"
    file.write_text(f"name: several\n{arms}\nseeds: [0, 1]\n")
    first = (plan(load_comparison(file)) if recipe == "compare.py" else plan(load_sweep(file)))[0]
    run_dir = first.config.run_dir
    (run_dir / "model").mkdir(parents=True)
    (run_dir / "config.yaml").write_text(yaml.dump(first.config.to_dict()))
    (run_dir / "eval.jsonl").write_text('{"step": 0, "task": "rev')
    done = call_recipe(recipe, file)
    assert done.returncode == 2
    assert f"{run_dir / 'eval.jsonl'}, line 1 is not an evaluation record" in done.stderr
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [
        "config.yaml",
        "eval.jsonl",
    ]
