"""A whole probe: real trainings of tiny checkpoints with a tiny battery."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from hf_lgt import load_config
from hf_lgt.experiments.probe.answers import read_probe
from hf_lgt.models.local_hub import write_revision
from hf_lgt.utils import yaml
from tests.conftest import ROOT
from tests.support import checkpoints
from tests.support.tiny_battery import BATTERY


@pytest.fixture
def battery(tmp_path):
    path = tmp_path / "battery.yaml"
    path.write_text(yaml.dump(BATTERY))
    return path


def folder_of(runs):
    """Where a probe's files are."""
    (folder,) = runs.glob("tiny-of-*")
    return folder


@pytest.fixture
def repository(tmp_path):
    """A model with two revisions."""
    for step in (1, 2):
        write_revision(
            tmp_path / "some", f"step-{step}", lambda folder, s=step: checkpoints.write(folder, seed=s)
        )
    return tmp_path / "some"


def test_two_stages_of_a_model_beside_their_twin(call_recipe, tmp_path, battery, repository):
    arguments = [f"{repository}@step-1", f"{repository}@step-2", "--battery", battery, "--seeds", "0,1",
                 "--output_dir", tmp_path / "runs"]  # fmt: skip
    done = call_recipe("probe.py", *arguments)
    assert done.returncode == 0, done.stderr
    folder = folder_of(tmp_path / "runs")
    probe = read_probe(folder / "probe.json")
    assert [(m.label, m.twin) for m in probe.models] == [
        ("some@step-1", False),
        ("some@step-2", False),
        ("some (random twin)", True),
    ]
    assert {f.name: (f.target, f.trained, dict(f.auxiliaries), f.longest) for f in probe.families} == {
        "copy": ("string_copy", 2, {"mqar": 4}, 6),
        "sort": ("sorted_numbers", 2, {"next_larger": 4}, 6),
    }
    # both families, alone and jointly, of three models
    assert len(probe.trainings) == 2 * 2 * 3
    assert all([t.seed for t in own] == [0, 1] for own in probe.trainings.values())
    for (_, model, arm), own in probe.trainings.items():
        assert all(list(t.curve) == [1, 2, 3, 4, 5, 6] for t in own)
        # before its first step the joint training's model is the same
        first = model != "some (random twin)" and arm == "target_alone"
        assert all(bool(t.zero_shot) == first for t in own)
    assert "24 trainings, 0 finished" in done.stdout
    # what tiny models do not learn ranks none of them
    learned = any(t.reached is not None for own in probe.trainings.values() for t in own)
    assert learned or "No ranking: there is no family that every model has learned." in done.stdout
    assert (folder / "probe.png").stat().st_size > 10_000
    page = (folder / "report/index.html").read_text()
    assert "How far each model extrapolates" in page
    # what goes on from there is a config that can be trained
    config = load_config(folder / "next/some-step-1-copy.yaml")
    assert config.train.steps == 32
    assert config.model.revision == "step-1"
    card = (folder / "cards/some-step-2.md").read_text()
    assert card.startswith("## Length extrapolation")
    assert "some@step-1" not in card
    # once more: nothing is trained, and what is written is the same
    before = (folder / "probe.json").read_bytes()
    again = call_recipe("probe.py", *arguments)
    assert "24 trainings, 24 finished" in again.stdout
    assert (folder / "probe.json").read_bytes() == before


def test_what_cannot_be_trained_is_refused_in_a_line_and_the_others_go_on(call_recipe, tmp_path, battery):
    from transformers import BertConfig, BertModel

    _, endless, short = (checkpoints.write(tmp_path / name) for name in ("good", "endless", "short"))
    settings = json.loads((endless / "tokenizer_config.json").read_text())
    (endless / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": None}))
    (endless / "special_tokens_map.json").unlink(missing_ok=True)
    shutil.rmtree(short)
    checkpoints.write(short, max_position_embeddings=6)
    BertModel(BertConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=8)).save_pretrained(tmp_path / "encoder")  # fmt: skip
    checkpoints.write_tokenizer(tmp_path / "encoder", "smollm")
    models = [tmp_path / name for name in ("encoder", "good", "endless", "short", "missing")]
    done = call_recipe(
        "probe.py", *models, "--battery", battery, "--families", "copy", "--output_dir", tmp_path / "runs"
    )
    assert done.returncode == 0, done.stderr
    told = {
        line.split(": not probed: ")[0]: line for line in done.stdout.splitlines() if "not probed: " in line
    }
    assert {"encoder", "endless", "short", "missing"} <= set(told)
    assert "good" not in told
    probe = read_probe(folder_of(tmp_path / "runs") / "probe.json")
    assert [m.label for m in probe.models] == ["good", "good (random twin)"]
    assert set(probe.missing.refused) == {"encoder", "endless", "short", "missing"}
    assert "takes at least 8 tokens; the context of" in probe.missing.refused["short"]
    none = call_recipe("probe.py", tmp_path / "missing", "--battery", battery, "--output_dir", tmp_path / "x")
    assert none.returncode == 2
    assert "missing" in none.stderr


def test_only_what_fits_the_time_is_trained(call_recipe, tmp_path, battery):
    model = checkpoints.write(tmp_path / "m")
    arguments = [model, "--battery", battery, "--output_dir", tmp_path / "runs", "--jobs", "1"]
    none = call_recipe("probe.py", *arguments, "--minutes", "0.0001")
    assert none.returncode == 2
    assert "--minutes: 0.0001 is too short for any family" in none.stderr
    assert not list((tmp_path / "runs").glob("tiny-of-*/manifest.json"))
    # what was measured is kept: the time of the first family alone
    costs = folder_of(tmp_path / "runs") / "plan.json"
    plan = json.loads(costs.read_text())
    starts = zip(plan["costs"], [1.0, 1.0, 1000.0, 1000.0], strict=True)  # of copy, then of sort
    plan["costs"] = {name: {"start": s, "step": 0, "evaluation": 0, "on_the_way": 0} for name, s in starts}
    costs.write_text(json.dumps(plan))
    some = call_recipe("probe.py", *arguments, "--minutes", "2")
    assert some.returncode == 0, some.stderr
    assert "left out, as --minutes is 2: sort, seed 0; copy, random twins, seed 0; sort" in some.stdout
    probe = read_probe(folder_of(tmp_path / "runs") / "probe.json")
    assert {key[:2] for key in probe.trainings} == {("copy", "m")}
    assert probe.missing.not_run[0] == "sort, seed 0"


def test_a_reference_stands_beside_what_is_of_its_battery(call_recipe, tmp_path, battery, monkeypatch):
    one, other = (checkpoints.write(tmp_path / name, seed=i) for i, name in enumerate(("one", "other")))
    arguments = ["--battery", battery, "--families", "copy"]
    assert call_recipe("probe.py", one, *arguments, "--output_dir", tmp_path / "a").returncode == 0
    references = tmp_path / "references"
    references.mkdir()
    found = json.loads((folder_of(tmp_path / "a") / "probe.json").read_text())
    (references / "same.json").write_text(json.dumps(found))
    found["battery"]["version"] = 4
    (references / "later.json").write_text(json.dumps(found))
    done = call_recipe(
        "probe.py", other, *arguments, "--references", references, "--output_dir", tmp_path / "b"
    )
    assert done.returncode == 0, done.stderr
    assert "one (reference)" in done.stdout
    assert "later.json is of battery tiny version 4" in done.stdout
    own = read_probe(folder_of(tmp_path / "b") / "probe.json")
    assert [m.label for m in own.models] == ["other", "other (random twin)"], (
        "a probe's file is of its own models"
    )


@pytest.mark.slow
def test_a_probe_that_is_killed_goes_on_to_the_same_answers(tmp_path, battery):
    model = checkpoints.write(tmp_path / "m")
    command = [sys.executable, str(ROOT / "recipes/probe.py"), str(model), "--battery", str(battery),
               "--families", "copy", "--jobs", "2"]  # fmt: skip

    def start(folder):
        return subprocess.Popen([*command, "--output_dir", str(tmp_path / folder)], stdout=subprocess.DEVNULL,
                                start_new_session=True, cwd=tmp_path)  # fmt: skip

    begin = time.monotonic()
    assert start("whole").wait(timeout=300) == 0
    seconds = time.monotonic() - begin
    for share in (0.35, 0.6, 0.8, 0.95):
        running = start("killed")
        time.sleep(share * seconds)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert start("killed").wait(timeout=300) == 0
    one, other = ((folder_of(tmp_path / name) / "probe.json").read_text() for name in ("whole", "killed"))
    assert one == other


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"familes": {}}, "unknown key 'familes'; did you mean 'families'"),
        ({"version": 0}, "version: 0 must be an integer from 1"),
        ({"families": {}}, "families: {} must map names to configs with a mixture"),
        ({"families": {"a": {"train": {}}}}, "families.a: "),
        ({"sizes": [{"below": "big"}]}, "sizes.0.below: 'big' must be a number of parameters"),
        (
            {"families": {"a": {"corpus": {"family": "nouns"}, "mixture": []}}},
            "families.a.corpus: unknown family",
        ),
        ({"seeds": [0, 0]}, "seeds: [0, 0] must be a list of different integers"),
        ({"config": {"train": {"stepz": 3}}}, "did you mean 'steps'"),
    ],
)
def test_a_battery_with_faults_is_reported_before_anything_is_written(call_recipe, tmp_path, changes, fault):
    path = tmp_path / "battery.yaml"
    path.write_text(yaml.dump({**BATTERY, **changes}))
    done = call_recipe("probe.py", tmp_path / "m", "--battery", path, "--output_dir", tmp_path / "runs")
    assert done.returncode == 2
    assert fault in done.stderr
    assert not (tmp_path / "runs").exists()


def test_wrong_options_are_reported(call_recipe, tmp_path, battery):
    for words, fault in [
        (["--families", "copy,sorting"], "--families: unknown family 'sorting'"),
        (["--minutes", "-3"], "must be a number of minutes above 0"),
        (["--seeds", "a"], "--seeds: "),
        ([str(tmp_path / "m")], "is there twice"),
        (["--families", ""], "--families: unknown family ''"),
        (["--model.init", "random"], "model.init"),
    ]:
        done = call_recipe(
            "probe.py", tmp_path / "m", *words, "--battery", battery, "--output_dir", tmp_path / "r"
        )
        assert done.returncode == 2
        assert fault in done.stderr
    assert not (tmp_path / "r").exists()
