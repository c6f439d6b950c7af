"""The recipes over published checkpoints, run against a Hub on loopback: unchanged but for sizes."""

import json

import pytest

from hf_lgt import train
from hf_lgt.utils import yaml
from hf_lgt.workflows.publish import push_run
from tests.conftest import ROOT
from tests.support import checkpoints

# the client's own, of the HTTP library below it
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

LORA = "peft={method: lora, rank: 4}"
SMALL = {
    "train.steps": "2",
    "train.batch_size": "8",
    "train.gradient_accumulation_steps": "1",
    "eval.lengths": "[2, 18]",
    "eval.every": "16",
    "eval.examples": "2",
    "eval.mistakes": "0",
}


def publish(hub, tmp_path, recipe, kind, **sizes):
    """Every revision that a recipe lists, each with weights of its own, as a repository of its name."""
    listed = yaml.load((ROOT / "recipes" / recipe / "compare.yaml").read_text())["checkpoints"]
    repository = hub.store.create_repo("model", listed["name_or_path"])
    for seed, revision in enumerate(listed["revisions"]):
        folder = checkpoints.write(tmp_path / revision, kind, seed, **sizes)
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        add_branch(repository, revision, files)
    return listed


def add_branch(repository, revision, files):
    repository.put_ref(repository.branches, revision, "main")
    repository.add(files, revision, branch=revision)


@pytest.mark.parametrize(
    ("recipe", "kind", "chosen"),
    [("smollm", "smollm", ("step-160000", "step-2560000")), ("pythia", "pythia", ("step143000",))],
)
def test_a_recipe_over_published_checkpoints_runs(hub, tmp_path, call_recipe, recipe, kind, chosen):
    listed = publish(hub, tmp_path, recipe, kind, max_position_embeddings=2048)
    assert len(listed["revisions"]) > len(chosen)
    overrides = [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    done = call_recipe(
        "compare.py", ROOT / "recipes" / recipe, "--seeds", "0", "--checkpoints", ",".join(chosen),
        "--jobs", "2", "--output_dir", tmp_path / "runs", *overrides,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = sorted(p.parent for p in (tmp_path / "runs").glob("*/seed-0/checkpoint.json"))
    assert len(runs) == 2 * (len(chosen) + 1), "two tasks, each from the revisions and from random weights"
    shas = {name: hub.store.repo("model", listed["name_or_path"]).branches[name] for name in chosen}
    for run in runs:
        loaded = json.loads((run / "checkpoint.json").read_text())
        assert loaded["on_hub"]
        assert loaded["name_or_path"] == listed["name_or_path"]
        if not run.parent.name.endswith("-random"):
            assert run.parent.name.endswith(loaded["revision"])
            assert loaded["commit"] == shas[loaded["revision"]]
        steps = {json.loads(line)["step"] for line in (run / "eval.jsonl").read_text().splitlines()}
        assert steps == ({2} if run.parent.name.endswith("-random") else {0, 2})
    for revision in chosen:
        assert revision in done.stdout
    assert (tmp_path / "runs" / listed_name(recipe) / "comparison.png").stat().st_size > 10_000


def listed_name(recipe):
    return yaml.load((ROOT / "recipes" / recipe / "compare.yaml").read_text())["name"]


def test_a_pushed_adapter_names_its_base_on_the_hub_and_no_folder_of_this_disk(hub, tmp_path):
    folder = checkpoints.write(tmp_path / "my secret folder" / "base", "smollm")
    repository = hub.store.create_repo("model", "org/base")
    repository.add({file.name: file.read_bytes() for file in folder.iterdir()})
    for name, shown in (("org/base", "org/base"), (str(folder), "base")):
        config = checkpoints.config(name, tmp_path / "out", f"name={shown[:3]}-x".replace("/", "-"), LORA)
        run_dir = train(config, progress=False).run_dir
        push_run(run_dir, "org/adapted")
        files = hub.store.repo("model", "org/adapted").files()
        assert json.loads(files["adapter/adapter_config.json"])["base_model_name_or_path"] == shown
        assert (
            files["adapter/adapter_model.safetensors"]
            == (run_dir / "adapter/adapter_model.safetensors").read_bytes()
        )
        card = files["README.md"].decode()
        assert ("base_model: org/base" in card) == (shown == "org/base")
        assert f"`{shown}`" in card.split("---")[2]
        assert "by low-rank adapters" in card
        assert json.loads(files["run/checkpoint.json"])["name_or_path"] == shown
        assert not any(b"my secret folder" in data for data in files.values())


def test_a_revision_that_is_not_published_is_reported_with_those_that_are(hub, tmp_path, call_recipe):
    name = yaml.load((ROOT / "recipes/pythia/compare.yaml").read_text())["checkpoints"]["name_or_path"]
    repository = hub.store.create_repo("model", name)
    folder = checkpoints.write(tmp_path / "made", "pythia")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    for revision in ("step0", "step512"):
        add_branch(repository, revision, files)
    done = call_recipe("compare.py", ROOT / "recipes/pythia", "--output_dir", tmp_path / "runs")
    assert done.returncode == 2
    assert "'step143000'" in done.stderr
    assert "step0, step512" in done.stderr
    assert not (tmp_path / "runs").exists()
