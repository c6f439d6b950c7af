"""Figures that cannot be drawn, whatever the cause: nothing else is lost, and a warning names them."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hf_lgt import ConfigError, train
from hf_lgt.experiments.manifest import read_manifest
from hf_lgt.experiments.report.outputs import write_results
from hf_lgt.experiments.report.stored import Results
from hf_lgt.experiments.results import collect
from hf_lgt.training.train_log import end_trackers, start_trackers, track
from tests.conftest import ROOT
from tests.integration.utils.test_atomic_io import left_by_killed
from tests.support.report_runs import write_experiment, write_grid
from tests.support.tiny_pretraining import SMALL, write_text

WARNED = "could not be made: RuntimeError: no fonts here;"


@pytest.fixture
def broken(monkeypatch):
    """No figure can be written."""
    from matplotlib.figure import Figure

    def fail(*_, **__):
        raise RuntimeError("no fonts here")

    monkeypatch.setattr(Figure, "savefig", fail)


def test_a_training_keeps_its_model(tiny, broken, caplog):
    config = tiny("train.steps=1", "eval.lengths=[1,2]", "train.eval_every=null")
    result = train(config, progress=False)
    assert {"model.safetensors", "README.md"} <= {p.name for p in (result.run_dir / "model").iterdir()}
    assert len(result.records) == 6
    assert result.figures == []
    assert f"curves.png {WARNED} hf-lgt evaluate {result.run_dir} draws it" in caplog.text


def test_a_finished_run_that_was_killed_while_it_drew_keeps_no_draft(tiny):
    config = tiny("train.steps=1", "eval.lengths=[1,2]", "train.eval_every=null")
    run_dir = train(config, progress=False).run_dir
    left_by_killed(run_dir / "curves", ".png").write_bytes(b"")
    with pytest.raises(ConfigError, match="holds a finished run"):
        train(config, progress=False)
    assert not [*run_dir.glob(".*")]


def test_a_training_keeps_its_model_where_the_card_cannot_be_made(tiny, monkeypatch, caplog):
    import hf_lgt.workflows.train

    def fail(*_, **__):
        raise TypeError("bad card")

    monkeypatch.setattr(hf_lgt.workflows.train, "model_card", fail)
    result = train(tiny("train.steps=1", "eval.lengths=[1,2]", "train.eval_every=null"), progress=False)
    assert (result.run_dir / "model" / "model.safetensors").is_file()
    assert not (result.run_dir / "model" / "README.md").exists()
    assert "the model's card could not be made: TypeError: bad card; the model is saved" in caplog.text


def test_an_evaluation_and_an_analysis_keep_their_numbers(tiny_run, call_recipe, broken, caplog, tmp_path):
    done = call_recipe("evaluate.py", tiny_run, "--eval.lengths", "[1,2]", "--output", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "e").iterdir()} == {"eval.jsonl", "config.yaml"}
    options = ("--checkpoints", "last", "--examples", "4", "--lengths", "2", "--output", tmp_path / "h")
    done = call_recipe("analyze.py", "heads", tiny_run, *options)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "h").iterdir()} == {"heads.json", "heads.npz", "heads.md"}
    assert caplog.text.count(f"{WARNED} the same command with --overwrite draws it") == 2


def test_a_pretraining_ends_well(call_recipe, broken, monkeypatch, caplog, tmp_path):
    import hf_lgt.pretraining.run

    def fail(*_, **__):
        raise TypeError("bad card")

    monkeypatch.setattr(hf_lgt.pretraining.run, "revision_card", fail)
    overrides = [*SMALL, f"text.files=['{write_text(tmp_path / 'text')}']", f"output_dir={tmp_path / 'p'}"]
    done = call_recipe("pretrain.py", *(f"--{o}" for o in overrides))
    assert done.returncode == 0, done.stderr
    assert "revisions: " in done.stdout
    assert f"validation.png {WARNED}" in caplog.text
    assert "the card of step 12 could not be made: TypeError: bad card" in caplog.text


def test_comparisons_and_sweeps_keep_their_tables(broken, caplog, tmp_path):
    folder = write_grid(tmp_path)
    manifest = read_manifest(folder)
    results = Results(manifest, collect(manifest, folder))
    for kind in ("sweep", "comparison"):
        assert write_results(kind, results, folder)[1] == []
        assert (folder / f"{kind}.md").is_file()
        assert (folder / f"{kind}.json").is_file()
    assert f"gap.png {WARNED} the same command draws it" in caplog.text
    assert f"comparison.png {WARNED} the same command draws it" in caplog.text
    assert f"stability.png {WARNED}" in caplog.text


def test_a_report_says_which_figure_it_lacks_and_leaves_nothing(call_recipe, broken, tmp_path):
    write_experiment(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = call_recipe("report.py", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: demo-curves.svg could not be drawn: RuntimeError: no fonts here")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "environment",
    [
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"MPLBACKEND": "no_backend"},
        {"MATPLOTLIBRC": "bad"},
        {"MATPLOTLIBRC": "odd"},
        {"MPLCONFIGDIR": "bad"},
    ],
)
def test_figures_need_nothing_of_a_users_matplotlib(tmp_path, environment):
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    (tmp_path / "odd").write_text("backend: nope\nfont.size: -5\nno colon\n")
    code = "from hf_lgt.report.canvas import empty_figure as e; f = e(1, 1); f.subplots(); f.savefig('a.png')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_every_figure_is_made_on_a_canvas_of_its_own():
    for folder in ("hf_lgt", "recipes", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            assert "pyplot" not in source, path
            assert path.name == "canvas.py" or "Figure(" not in source, path


class _Failing:
    """An accelerator whose trackers fail."""

    def __init__(self):
        self.trackers = ["one"]

    def _fail(self, *_, **__):
        if self.trackers:
            raise OSError("no network")

    init_trackers = log = end_training = _fail


def test_trackers_that_fail_end_no_training(caplog):
    accelerator = _Failing()
    config = SimpleNamespace(name="a", train=SimpleNamespace(trackers=["wandb"]))
    with pytest.raises(RuntimeError, match=r"train\.trackers: \['wandb'\] do not start: OSError: no network"):
        start_trackers(accelerator, config, {})
    end_trackers(accelerator)
    assert "the trackers did not end well: OSError: no network" in caplog.text
    for step in (3, 4):
        track(accelerator, {"loss": 1.0}, step)
    assert caplog.text.count("the trackers get no more lines after step 3: OSError: no network") == 1
    assert "step 4" not in caplog.text
