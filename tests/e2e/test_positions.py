"""Runs with other positions than 0, 1, 2, ... and RoPE: trained, saved, evaluated, resumed."""

import json
import shutil

import pytest
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from data_builders import Component, Mixture, build_corpus
from hf_lgt import ConfigError, load_config, train
from hf_lgt.data.build import open_data, prepare_data
from hf_lgt.utils import yaml
from hf_lgt.workflows.setup import make_model
from tests.conftest import ROOT, TINY
from tests.integration.workflows.test_train import interrupt, same_numbers
from tests.support import checkpoints

SUMS = (
    "mixture=[{task: reverse_add, role: target, lengths: [1, 4], options: {base: 2}}, "
    "{task: no_carry, role: auxiliary, lengths: [1, 8], options: {base: 2}}]"
)
MAZES = "mixture=[{task: shortest_path, role: target, lengths: [2, 5], options: {side: 4}}]"
POLICIES = {
    "randomized": [SUMS, "model.position_ids=randomized", "model.position_range=100"],
    "coupled": [SUMS, "model.position_ids=coupled", "model.position_range=40"],
    "mazes": [MAZES, "model.position_ids=randomized", "eval.lengths=[2,7]", "eval.mistakes=4"],
    "neox": [SUMS, "model.architecture=gpt_neox", "model.position_ids=randomized", "model.hidden_size=64"],
    "bloom": [SUMS, "model.architecture=bloom", "model.positions=alibi", "model.intermediate_size=128"],
}


def arguments(policy, out):
    return [f"--{override}" for override in [*TINY, *POLICIES[policy], f"output_dir={out}"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Makes a finished run of a policy, once; tests must leave it as it is."""
    out = tmp_path_factory.mktemp("runs")
    made = {}

    def make(policy):
        if policy not in made:
            config = load_config(
                ROOT / "recipes/demo/transfer.yaml", [*TINY, *POLICIES[policy], f"output_dir={out / policy}"]
            )
            made[policy] = train(config, progress=False).run_dir
        return made[policy]

    return make


def last_records(folder):
    lines = (folder / "eval.jsonl").read_text().splitlines()
    step = json.loads(lines[-1])["step"]
    return [line for line in lines if json.loads(line)["step"] == step]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_is_evaluated_with_the_positions_that_it_was_trained_with(call_recipe, tmp_path, policy):
    done = call_recipe("finetune.py", *arguments(policy, tmp_path))
    assert done.returncode == 0, done.stderr
    run, out = tmp_path / "tiny/seed-0", tmp_path / "again"
    done = call_recipe("evaluate.py", run, "--output", out, "--check_generation")
    assert done.returncode == 0, done.stderr
    assert last_records(out) == last_records(run)
    told = [line for line in done.stdout.splitlines() if "teacher-forced" in line]
    assert len(told) >= 6
    assert all(" 0 of " in line for line in told)
    if policy == "mazes":
        records = [json.loads(line) for line in last_records(run)]
        assert sum(sum(r["mistakes"].values()) for r in records) > 6
    card = (run / "model/README.md").read_text()
    named = f"`model.position_ids: {'coupled' if policy == 'coupled' else 'randomized'}` in the config"
    assert (named in card) == (policy != "bloom")
    assert ("**Positions.**" in card) == (policy != "bloom")


@pytest.mark.parametrize("policy", ["randomized", "coupled"])
def test_another_config_that_names_the_tasks_does_not_change_the_positions(
    call_recipe, trained, tmp_path, policy
):
    run, file = trained(policy), tmp_path / "tasks.yaml"
    file.write_text(
        "name: tasks\nmixture:\n- {task: reverse_add, role: target, lengths: [1, 4], options: {base: 2}}\n"
        "model: {max_positions: 64}\neval: {lengths: [3, 9], examples: 32}\n"
    )
    done = call_recipe("evaluate.py", run, "--config", file, "--output", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    written = yaml.load((tmp_path / "o/config.yaml").read_text())["model"]
    before = yaml.load((run / "config.yaml").read_text())["model"]
    keys = ("position_ids", "position_range", "max_positions")
    assert [written[key] for key in keys] == [before[key] for key in keys]
    known = [json.loads(line) for line in last_records(run)]
    found = [json.loads(line) for line in last_records(tmp_path / "o")]
    assert [r["length"] for r in found] == list(range(3, 10))
    assert found == [r for r in known if r["task"] == "reverse_add" and 3 <= r["length"] <= 9]
    # unless the user says so; the range is then none that the other config would have to take back
    asked = ["--model.position_ids", "sequential", "--eval.lengths", "[3,4]"]
    done = call_recipe("evaluate.py", run, "--config", file, "--output", tmp_path / "p", *asked)
    assert done.returncode == 0, done.stderr
    written = yaml.load((tmp_path / "p/config.yaml").read_text())["model"]
    assert (written["position_ids"], written["position_range"]) == ("sequential", None)


def test_positions_are_only_changed_by_who_asks_for_it(call_recipe, trained, tmp_path):
    run = trained("randomized")
    plain = ["--model.position_ids", "sequential"]
    done = call_recipe("evaluate.py", run, "--output", tmp_path / "a", *plain)
    assert done.returncode == 2
    assert "model.position_range: 100 is for model.position_ids 'randomized'" in done.stderr
    done = call_recipe(
        "evaluate.py", run, "--output", tmp_path / "b", *plain, "--model.position_range", "null"
    )
    assert done.returncode == 0, done.stderr
    assert last_records(tmp_path / "b") != last_records(run)
    assert yaml.load((tmp_path / "b/config.yaml").read_text())["model"]["position_ids"] == "sequential"
    # a model that belongs to no run is evaluated as the config says, if it can be
    shutil.copytree(trained("randomized") / "model", tmp_path / "llama")
    shutil.copytree(trained("bloom") / "model", tmp_path / "bloom")
    config = trained("randomized") / "config.yaml"
    done = call_recipe("evaluate.py", tmp_path / "llama", "--config", config, "--output", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    found, known = (
        [{**json.loads(line), "step": 0, "overlap": None} for line in last_records(folder)]
        for folder in (tmp_path / "c", run)
    )
    assert found == known
    done = call_recipe("evaluate.py", tmp_path / "bloom", "--config", config, "--output", tmp_path / "d")
    assert done.returncode == 2
    assert "'randomized' is not for this model: BloomForCausalLM does not use position_ids" in done.stderr


@pytest.mark.parametrize("policy", ["randomized", "coupled", "bloom"])
def test_an_interrupted_run_goes_on_to_the_same_bits(trained, tmp_path, policy):
    config = load_config(
        ROOT / "recipes/demo/transfer.yaml", [*TINY, *POLICIES[policy], f"output_dir={tmp_path}"]
    )
    shutil.copytree(trained(policy), config.run_dir)
    interrupt(config.run_dir, 6)
    train(config, progress=False)
    assert same_numbers(config.run_dir, trained(policy))


# ---------------------------------------------------------------------------- checkpoints and datasets


@pytest.mark.parametrize(
    ("kind", "policy"), [("smollm", "coupled"), ("pythia", "randomized"), ("gpt2", "randomized")]
)
def test_checkpoints_are_trained_with_a_policy_too(tmp_path, kind, policy):
    name = checkpoints.write(tmp_path / "llm", kind)
    config = checkpoints.config(name, tmp_path, f"model.position_ids={policy}")
    data = prepare_data(config, None, _start(config))
    assert data.source.policies.numbering.size == checkpoints.CONTEXT
    result = train(config, progress=False)
    other = train(checkpoints.config(name, tmp_path, "name=usual"), progress=False)
    assert [r.n for r in other.zero_shot] == [r.n for r in result.zero_shot]
    # the same weights and examples, told other numbers
    logs = [(r.run_dir / "train.jsonl").read_text().splitlines() for r in (result, other)]
    assert json.loads(logs[0][0])["loss"] != json.loads(logs[1][0])["loss"]
    AutoModelForCausalLM.from_pretrained(result.run_dir / "model")


def test_adapters_are_evaluated_with_the_positions_that_they_were_trained_with(call_recipe, tmp_path):
    name = checkpoints.write(tmp_path / "llm", "smollm")
    config = checkpoints.config(name, tmp_path, "model.position_ids=randomized", "peft.method=lora")
    run = train(config, progress=False).run_dir
    for folder in (run, run / "adapter"):
        done = call_recipe("evaluate.py", folder, "--output", tmp_path / folder.name)
        assert done.returncode == 0, done.stderr
        assert last_records(tmp_path / folder.name) == last_records(run)
        kept = yaml.load((tmp_path / folder.name / "config.yaml").read_text())["model"]
        assert (kept["position_ids"], kept["position_range"]) == ("randomized", None)


def _start(config):
    from hf_lgt.models.base_checkpoint import open_base_checkpoint

    return open_base_checkpoint(config.model)


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_checkpoint_without_numbers_of_positions_is_refused(tmp_path, init):
    folder = tmp_path / "llm"
    sizes = {"hidden_size": 32, "n_layer": 1, "n_head": 2, "seq_length": 128}
    model = BloomForCausalLM(BloomConfig(vocab_size=checkpoints.rows_of("smollm"), **sizes))
    model.save_pretrained(folder)
    checkpoints.write_tokenizer(folder, "smollm")
    config = checkpoints.config(folder, tmp_path, "model.position_ids=randomized", f"model.init={init}")
    with pytest.raises(ConfigError, match=r"model\.position_ids: 'randomized' is not for this model: Bloom"):
        train(config, progress=False)
    assert not config.run_dir.exists()
    # ALiBi's checkpoints are trained as they are
    usual = checkpoints.config(folder, tmp_path, f"model.init={init}", "train.steps=1")
    start = _start(usual)
    assert make_model(usual, start, prepare_data(usual, None, start).codec).config.model_type == "bloom"


def test_a_range_beyond_a_checkpoints_context_is_reported(tmp_path):
    name = checkpoints.write(tmp_path / "llm", "smollm")
    settings = ["model.position_ids=randomized", "model.position_range=513"]
    config = checkpoints.config(name, tmp_path, *settings)
    with pytest.raises(ConfigError, match=r"model\.position_range: 513 is more than the 512 tokens"):
        train(config, progress=False)
    assert not config.run_dir.exists()


@pytest.fixture
def corpus(tmp_path):
    parts = [Component("reverse_add", "target", (1, 4), options={"base": 2})]
    made = build_corpus(Mixture(parts), train_examples=200, test_examples=8, test_lengths=range(1, 7), seed=0)
    made.save_to_disk(tmp_path / "corpus")
    return tmp_path / "corpus"


def test_a_dataset_is_trained_on_with_randomized_positions(call_recipe, corpus, tmp_path):
    mixture = "mixture=[{task: reverse_add, role: target, lengths: [1, 4]}]"
    more = [mixture, f"data={{source: dataset, path: {corpus}}}", "eval.lengths=[1,6]", "eval.examples=8"]
    more += ["model.position_ids=randomized", "model.position_range=30", f"output_dir={tmp_path}"]
    options = [f"--{o}" for o in [*TINY, *more]]
    done = call_recipe("finetune.py", *options)
    assert done.returncode == 0, done.stderr
    done = call_recipe("evaluate.py", tmp_path / "tiny/seed-0", "--output", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    assert last_records(tmp_path / "o") == last_records(tmp_path / "tiny/seed-0")
    done = call_recipe("finetune.py", *options, "--model.position_range", "20", "--name", "small")
    assert done.returncode == 2
    assert "tokens with its target; model.position_range is 20. Raise it, or leave the row out" in done.stderr
    assert not (tmp_path / "small").exists()
    config = load_config(ROOT / "recipes/demo/transfer.yaml", [*TINY, *more])
    assert prepare_data(config, open_data(config)).source.batch(0).positions.max() < 30
