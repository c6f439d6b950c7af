"""Runs whose roles have heads of their own: trained, saved, evaluated, resumed, compared."""

import json
import shutil

import pytest
from transformers import AutoModelForCausalLM

from data_builders import Component, Mixture, build_corpus
from hf_lgt import ConfigError, load_config, train
from hf_lgt.data.build import open_data, prepare_data
from hf_lgt.utils import yaml
from tests.conftest import ROOT, TINY
from tests.e2e.test_positions import SUMS, last_records
from tests.e2e.test_processes import train as launch
from tests.integration.models.test_role_heads import TRAINED
from tests.integration.workflows.test_train import interrupt, same_numbers
from tests.support import checkpoints

DEMO = ROOT / "recipes/demo/transfer.yaml"
MAZES = (
    "mixture=[{task: shortest_path, role: target, lengths: [2, 5], options: {side: 4}}, "
    "{task: dfs_trace, role: auxiliary, lengths: [2, 5], options: {side: 4}}]"
)
# large weights and steps, that a few steps may tell heads apart
FAST = [
    SUMS,
    "model.role_heads=disjoint",
    "model.heads=4",
    "model.initializer_range=0.3",
    "train.learning_rate=0.01",
]
RUNS = {
    "disjoint": FAST,
    "shared": [*FAST, "model.role_heads=shared"],
    "randomized": [*FAST, "model.position_ids=randomized", "model.position_range=100"],
    "mazes": [*FAST, MAZES, "eval.lengths=[2,6]", "eval.mistakes=4"],
    "neox": [*FAST, "model.architecture=gpt_neox"],
    "learned": TRAINED,
}

TASKS = f"""name: tasks
{yaml.dump({"mixture": yaml.load(SUMS.removeprefix("mixture="))})}
model: {{role_heads: all}}
eval: {{lengths: [3, 9], examples: 32}}
"""
"""a config that names the tasks, and all heads"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Makes a finished run, once; tests must leave it as it is."""
    out = tmp_path_factory.mktemp("runs")
    made = {}

    def make(name):
        if name not in made:
            made[name] = train(config_of(name, out / name), progress=False).run_dir
        return made[name]

    return make


def config_of(name, out, *overrides):
    return load_config(DEMO, [*TINY, *RUNS[name], f"output_dir={out}", *overrides])


def role_heads(folder):
    return yaml.load((folder / "config.yaml").read_text())["model"]["role_heads"]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_evaluated_with_the_heads_that_it_was_trained_with(call_recipe, trained, tmp_path, name):
    run, out, all_heads = trained(name), tmp_path / "again", tmp_path / "all"
    done = call_recipe("evaluate.py", run, "--output", out)
    assert done.returncode == 0, done.stderr
    assert last_records(out) == last_records(run)
    assert role_heads(out) == role_heads(run) == ("shared" if name == "shared" else "disjoint")
    if name == "mazes":
        records = [json.loads(line) for line in last_records(run)]
        assert sum(sum(r["mistakes"].values()) for r in records) > 6
    # unless the user says so
    done = call_recipe("evaluate.py", run, "--output", all_heads, "--model.role_heads", "all")
    assert done.returncode == 0, done.stderr
    assert last_records(all_heads) != last_records(run)
    assert role_heads(all_heads) == "all"


def test_generation_keeps_to_the_heads_of_the_run(call_recipe, trained, tmp_path):
    done = call_recipe("evaluate.py", trained("learned"), "--output", tmp_path / "o", "--check_generation")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "teacher-forced" in line]
    assert len(told) == 4
    assert all(" 0 of " in line for line in told)
    assert any("generate 0.0000" not in line for line in told)


def test_the_policy_of_the_training_makes_a_difference(trained):
    logs = {name: (trained(name) / "train.jsonl").read_text().splitlines() for name in ("disjoint", "shared")}
    first, last = ([json.loads(log[i])["loss"] for log in logs.values()] for i in (0, -1))
    assert first[0] != first[1]
    assert last[0] != last[1]


@pytest.mark.parametrize("policy", ["disjoint", "shared"])
def test_another_config_that_names_the_tasks_does_not_change_the_heads(
    call_recipe, trained, tmp_path, policy
):
    run, file = trained(policy), tmp_path / "tasks.yaml"
    file.write_text(TASKS)
    done = call_recipe("evaluate.py", run, "--config", file, "--output", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    assert role_heads(tmp_path / "o") == policy
    known = [json.loads(line) for line in last_records(run)]
    found = [json.loads(line) for line in last_records(tmp_path / "o")]
    assert found == [r for r in known if 3 <= r["length"] <= 9]
    asked = ["--model.role_heads=all", "--eval.lengths", "[3,9]"]
    done = call_recipe("evaluate.py", run, "--config", file, "--output", tmp_path / "p", *asked)
    assert done.returncode == 0, done.stderr
    assert role_heads(tmp_path / "p") == "all"
    assert last_records(tmp_path / "p") != last_records(tmp_path / "o")


def test_a_change_of_the_positions_leaves_the_heads(call_recipe, trained, tmp_path):
    run, file = trained("randomized"), tmp_path / "tasks.yaml"
    file.write_text(TASKS)
    for name, override, left in [
        ("o", "--model.position_ids=sequential", ("sequential", "disjoint")),
        ("p", "--model.role_heads=all", ("randomized", "all")),
    ]:
        done = call_recipe("evaluate.py", run, "--config", file, "--output", tmp_path / name, override)
        assert done.returncode == 0, done.stderr
        model = yaml.load((tmp_path / name / "config.yaml").read_text())["model"]
        assert (model["position_ids"], model["role_heads"]) == left


@pytest.mark.parametrize("name", ["disjoint", "randomized"])
def test_an_interrupted_run_goes_on_to_the_same_bits(trained, tmp_path, name):
    config = config_of(name, tmp_path)
    shutil.copytree(trained(name), config.run_dir)
    interrupt(config.run_dir, 6)
    with pytest.raises(ConfigError, match="another config"):
        train(config_of(name, tmp_path, "model.role_heads=shared"), progress=False)
    train(config, progress=False)
    assert same_numbers(config.run_dir, trained(name))


def test_the_card_tells_of_the_heads(trained, tiny_run):
    for policy in ("disjoint", "shared"):
        card = (trained(policy) / "model/README.md").read_text()
        assert "**Heads.** It was trained, and has the results above, with half of each layer's heads" in card
        assert f"`model.role_heads: {policy}` in the config below" in card
        assert f"role_heads: {policy}\n" in card
    assert "**Heads.**" not in (tiny_run / "model/README.md").read_text()
    both = (trained("randomized") / "model/README.md").read_text()
    assert "**Positions.**" in both
    assert "**Heads.**" in both


def test_the_maps_of_a_role_lie_in_its_half(call_recipe, trained, tmp_path):
    options = ["--checkpoints", "last", "--examples", "16", "--output", tmp_path / "o"]
    done = call_recipe("analyze.py", "heads", trained("disjoint"), *options)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "o/heads.json").read_text())["runs"]
    lost = {"reverse_add": 0.0, "no_carry": 0.0}
    for one in run["checkpoints"][0]["maps"]:
        first = one["task"] == "reverse_add"
        for own in one["tokens_lost"]:
            assert (own[2:] if first else own[:2]) == [0, 0]
            lost[one["task"]] += sum(map(abs, own))
    assert min(lost.values()) > 0


def test_a_comparison_trains_the_arms_by_name(call_recipe, tmp_path):
    settings = [*TINY, SUMS, "train.steps=2", "train.save_every=null", "eval.lengths=[1,9]"]
    data = load_config(DEMO, [*settings, f"output_dir={tmp_path}/runs"]).to_dict()
    (tmp_path / "a.yaml").write_text(yaml.dump(data))
    (tmp_path / "compare.yaml").write_text(
        "name: c\narms: [a.yaml, disjoint_heads, shared_heads]\nseeds: [0]\n"
    )
    done = call_recipe("compare.py", tmp_path)
    assert done.returncode == 0, done.stderr
    names = {"tiny": "all", "tiny-disjoint-heads": "disjoint", "tiny-shared-heads": "shared"}
    runs = {name: tmp_path / "runs" / name / "seed-0" for name in names}
    assert {name: role_heads(run) for name, run in runs.items()} == names
    losses = {json.loads((run / "train.jsonl").read_text().splitlines()[-1])["loss"] for run in runs.values()}
    assert len(losses) == 3
    alone = "--mixture=[{task: reverse_add, role: target, lengths: [1, 4]}]"
    done = call_recipe("compare.py", tmp_path, alone, f"--output_dir={tmp_path}/alone")
    assert done.returncode == 2
    assert "arms: 'disjoint_heads' needs auxiliary tasks" in done.stderr


# ---------------------------------------------------------------------------- checkpoints and datasets


@pytest.mark.parametrize("kind", ["smollm", "gpt2"])
def test_checkpoints_and_adapters_are_trained_and_evaluated_so_too(call_recipe, tmp_path, kind):
    name = checkpoints.write(tmp_path / "llm", kind)
    usual = train(checkpoints.config(name, tmp_path, "name=usual"), progress=False)
    for method in ("none", "lora"):
        more = ["model.role_heads=disjoint", f"peft.method={method}", f"name={method}"]
        result = train(checkpoints.config(name, tmp_path, *more), progress=False)
        run = result.run_dir
        # the same weights and examples, before the first step
        assert [r.n for r in result.zero_shot] == [r.n for r in usual.zero_shot]
        logs = [(r.run_dir / "train.jsonl").read_text().splitlines() for r in (result, usual)]
        assert json.loads(logs[0][0])["loss"] != json.loads(logs[1][0])["loss"]
        for folder in (run, run / "adapter") if method == "lora" else (run,):
            out = tmp_path / "evaluated" / method / folder.name
            done = call_recipe("evaluate.py", folder, "--output", out)
            assert done.returncode == 0, done.stderr
            assert last_records(out) == last_records(run)
            assert role_heads(out) == "disjoint"
        AutoModelForCausalLM.from_pretrained(run / "model")


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_checkpoint_of_one_head_is_refused(tmp_path, init):
    name = checkpoints.write(tmp_path / "llm", num_attention_heads=1, num_key_value_heads=1)
    config = checkpoints.config(name, tmp_path, "model.role_heads=shared", f"model.init={init}")
    with pytest.raises(ConfigError) as caught:
        train(config, progress=False)
    assert caught.value.faults == ["model.role_heads: 'shared' takes two heads a layer; the model has 1"]
    assert not config.run_dir.exists()


def test_a_model_that_belongs_to_no_run_is_evaluated_as_the_config_says(call_recipe, trained, tmp_path):
    run, model = trained("disjoint"), tmp_path / "llama"
    shutil.copytree(run / "model", model)
    done = call_recipe("evaluate.py", model, "--config", run / "config.yaml", "--output", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    found, known = (
        [{**json.loads(line), "step": 0, "overlap": None} for line in last_records(folder)]
        for folder in (tmp_path / "o", run)
    )
    assert found == known
    one = checkpoints.write(tmp_path / "one", num_attention_heads=1, num_key_value_heads=1)
    settings = checkpoints.settings(one, tmp_path, "model.role_heads=disjoint")
    (tmp_path / "config.yaml").write_text(yaml.dump(settings))
    done = call_recipe("evaluate.py", one, "--config", tmp_path / "config.yaml", "--output", tmp_path / "p")
    assert done.returncode == 2
    assert "model.role_heads: 'disjoint' takes two heads a layer; the model has 1" in done.stderr


@pytest.fixture
def corpus(tmp_path):
    parts = [
        Component("reverse_add", "target", (1, 4), options={"base": 2}),
        Component("no_carry", "auxiliary", (1, 4), options={"base": 2}),
    ]
    made = build_corpus(Mixture(parts), train_examples=200, test_examples=8, test_lengths=range(1, 7), seed=0)
    made.save_to_disk(tmp_path / "corpus")
    return tmp_path / "corpus"


def test_a_dataset_is_trained_on_so_too(call_recipe, corpus, tmp_path):
    mixture = (
        "mixture=[{task: no_carry, role: auxiliary, lengths: [1, 4]}, "
        "{task: reverse_add, role: target, lengths: [1, 4]}]"
    )
    overrides = [*TINY, *FAST, mixture, f"data={{source: dataset, path: {corpus}}}"]
    overrides += ["eval.lengths=[1,6]", "eval.examples=8", f"output_dir={tmp_path}"]
    config = load_config(DEMO, overrides)
    data = prepare_data(config, open_data(config))
    batch = data.source.batch(0)
    target = data.codec.tokenizer.convert_tokens_to_ids("<reverse_add>")
    assert batch.halves.tolist() == [int(tag != target) for tag in batch.ids[:, 1]]
    run = train(config, progress=False).run_dir
    for name, more in (("o", []), ("p", ["--model.role_heads", "all"])):
        done = call_recipe("evaluate.py", run, "--output", tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
        assert (last_records(tmp_path / name) == last_records(run)) == (name == "o")


# ---------------------------------------------------------------------------- several processes


def test_two_processes_train_and_evaluate_as_one_does(tmp_path):
    one, two = (
        launch(tmp_path / str(n), n, *FAST, "train.eval_every=null", "eval.lengths=[3,6]") for n in (1, 2)
    )
    assert [r["loss"] for r in two[0]] == pytest.approx([r["loss"] for r in one[0]], rel=1e-5)
    keys = ("task", "length", "n", "exact_match", "overlap")
    assert [[r[k] for k in keys] for r in two[1]] == [[r[k] for k in keys] for r in one[1]]


def test_a_task_is_evaluated_in_the_half_that_it_was_trained_in_whatever_it_is_called(
    call_recipe, trained, tmp_path
):
    run, file = trained("disjoint"), tmp_path / "tasks.yaml"
    known = [json.loads(line) for line in last_records(run)]
    other = next(r["task"] for r in known if r["role"] == "auxiliary")
    options = next(
        c["options"] for c in config_of("disjoint", tmp_path).to_dict()["mixture"] if c["task"] == other
    )
    task = {"task": other, "role": "target", "lengths": [1, 4], "options": options}
    file.write_text(
        f"name: one\nmixture: [{json.dumps(task)}]\ntrain: {{compile: true, gradient_checkpointing: true}}\n"
        "model: {max_positions: 64}\neval: {lengths: [3, 4], examples: 32}\n"
    )
    done = call_recipe("evaluate.py", run, "--config", file, "--output", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in last_records(tmp_path / "o")]
    assert {r["role"] for r in found} == {"target"}
    wanted = [r for r in known if r["task"] == other and 3 <= r["length"] <= 4]
    assert [r["token_accuracy"] for r in found] == [r["token_accuracy"] for r in wanted]


def test_heads_are_not_moved_between_runs_whose_examples_use_others(call_recipe, trained):
    done = call_recipe("analyze.py", "patch", trained("disjoint"), "--into", trained("shared"))
    assert done.returncode == 2
    assert "has model.role_heads 'shared'" in done.stderr
    assert "an example may not use the same heads in both" in done.stderr
