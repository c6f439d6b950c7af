"""Runs that start from a checkpoint: what is trained, saved, continued and read back."""

import copy
import json
import re
import shutil
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import hf_lgt.workflows.train as run_module
from data_builders.tasks.arithmetic import numbers, reverse_add
from hf_lgt import train
from hf_lgt.checkpointing.checkpoints import list_checkpoints
from hf_lgt.data.build import open_data, prepare_data
from hf_lgt.data.codec import Codec
from hf_lgt.evaluation.harness import evaluate_tests
from hf_lgt.evaluation.records import read_records
from hf_lgt.evaluation.trained_model import find_model
from hf_lgt.evaluation.trained_model import load_trained_model as load_saved
from hf_lgt.models.base_checkpoint import open_base_checkpoint
from hf_lgt.models.build import build_from_checkpoint
from hf_lgt.utils import yaml
from tests.integration.workflows.test_train import timeless
from tests.support import checkpoints

LORA = "peft={method: lora, rank: 4}"
RUNS = {
    "smollm": ("smollm", []),
    "pythia": ("pythia", []),
    "gpt2": ("gpt2", []),
    "smollm-lora": ("smollm", [LORA]),
    "pythia-lora": ("pythia", [LORA]),
    "gpt2-lora": ("gpt2", [LORA, "peft.dropout=0.1"]),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each kind."""
    out = tmp_path_factory.mktemp("checkpoints")
    return {kind: checkpoints.write(out / kind, kind) for kind in checkpoints.KINDS}


@pytest.fixture(scope="module")
def done(folders, tmp_path_factory):
    """Finished runs by name, each made when it is first asked for; tests must leave them as they are."""
    out, made = tmp_path_factory.mktemp("runs"), {}

    def get(name):
        if name not in made:
            kind, overrides = RUNS[name]
            config = checkpoints.config(folders[kind], out, f"name={name}", *overrides)
            kept = []
            with keeping(kept):
                result = train(config, progress=False)
            made[name] = SimpleNamespace(config=config, dir=result.run_dir, model=kept[0], result=result)
        return made[name]

    return get


@contextmanager
def keeping(kept):
    """Keeps a copy of the model that `fit` trained, as it is when it is handed back."""
    with pytest.MonkeyPatch.context() as patch:

        def fit(*args, fit=run_module.fit, **settings):
            bare = fit(*args, **settings)
            kept.append(copy.deepcopy(bare).eval())
            return bare

        patch.setattr(run_module, "fit", fit)
        yield


def logits(model, codec):
    encoded = codec.encode(reverse_add(numbers(57, 68, 9, 1)), "reverse_add")
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(encoded.ids), use_cache=False).logits


def interrupt(run_dir, checkpoint_step):
    """What is left of a run that was killed some steps after a checkpoint."""
    shutil.rmtree(run_dir / "model")
    if (run_dir / "adapter").is_dir():  # it was stopped while the model was written
        (run_dir / "adapter/adapter_model.safetensors").write_bytes(b"damage")
    for step, path in list_checkpoints(run_dir):
        if step > checkpoint_step:
            shutil.rmtree(path)
    with open(run_dir / "eval.jsonl", "a") as file:
        file.write('{"step": 4, "ta')


def same(a, b):
    """Holds that two runs have the same numbers and weights, bit for bit."""
    assert timeless(a) == timeless(b)
    assert (a / "eval.jsonl").read_bytes() == (b / "eval.jsonl").read_bytes()
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (a / file).is_file() == (b / file).is_file()
        if (a / file).is_file():
            one, two = load_file(a / file), load_file(b / file)
            assert one.keys() == two.keys()
            assert all(one[k].equal(two[k]) for k in one), file


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("step", [2, 0])
def test_an_interrupted_run_goes_on_to_the_same_bits(done, tmp_path, name, step, news):
    run = done(name)
    again = tmp_path / run.config.name / "seed-0"
    shutil.copytree(run.dir, again)
    interrupt(again, step)
    _, overrides = RUNS[name]
    config = checkpoints.config(run.config.model.name_or_path, tmp_path, f"name={name}", *overrides)
    train(config, progress=False)
    assert any(f"resumes from step {step}" in line for line in news)
    same(again, run.dir)


# ---- what is saved is what was trained


def test_the_saved_model_decodes_greedily_and_stops_where_training_did(tmp_path):
    folder = checkpoints.write(tmp_path / "base", "smollm")
    odd = {
        "eos_token_id": 2,
        "do_sample": True,
        "temperature": 1.5,
        "repetition_penalty": 1.3,
        "max_length": 9,
    }
    (folder / "generation_config.json").write_text(json.dumps(odd))
    model = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**model, "eos_token_id": 2}))
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    for peft in ("none", "lora"):
        config = checkpoints.config(folder, tmp_path / peft, f"peft.method={peft}", "train.steps=1")
        saved = train(config, progress=False).run_dir / "model"
        again, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
        kept = {
            k: v for k, v in again.generation_config.to_diff_dict().items() if k != "transformers_version"
        }
        end = tokenizer.eos_token_id
        assert kept == {"bos_token_id": 0, "eos_token_id": end, "pad_token_id": end, "do_sample": False}
        assert again.config.eos_token_id == end
        assert tokenizer.chat_template == template


@pytest.mark.parametrize("name", ["smollm", "pythia", "gpt2"])
def test_the_saved_model_has_the_logits_of_the_trained_one(done, name):
    run = done(name)
    codec = Codec.load(run.dir / "model")
    again = AutoModelForCausalLM.from_pretrained(run.dir / "model").eval()
    expected = logits(run.model, codec)
    assert logits(again, codec).equal(expected)
    newest = AutoModelForCausalLM.from_pretrained(run.dir / "checkpoints/step-000004").eval()
    assert logits(newest, codec).equal(expected)
    assert expected.shape[-1] == again.config.vocab_size >= codec.vocab_size


@pytest.mark.parametrize("name", ["smollm", "pythia", "gpt2"])
def test_full_fine_tuning_trains_all_weights(done, folders, name):
    run = done(name)
    start = open_base_checkpoint(run.config.model)
    codec = Codec.load(run.dir / "model")
    before = build_from_checkpoint(run.config.model, start, codec_of(run.config), 0).state_dict()
    after = run.model.state_dict()
    frozen = [k for k, v in before.items() if v.is_floating_point() and v.equal(after[k])]
    assert frozen == []
    assert before["lm_head.weight"].shape[0] >= codec.vocab_size


def codec_of(config):
    """The codec that a run of this config trains with."""
    return prepare_data(config, None, open_base_checkpoint(config.model)).codec


@pytest.mark.parametrize("name", ["smollm-lora", "pythia-lora", "gpt2-lora"])
def test_lora_leaves_the_base_as_it_is_and_trains_adapters_and_new_rows(done, name):
    run = done(name)
    codec = codec_of(run.config)
    base = build_from_checkpoint(
        run.config.model, open_base_checkpoint(run.config.model), codec, 0
    ).state_dict()
    names = {
        re.sub(r"\.base_layer|\.token_adapter", "", k).removeprefix("base_model.model."): v
        for k, v in run.model.state_dict().items()
        if "lora_" not in k and "trainable_tokens" not in k
    }
    assert names.keys() == base.keys()
    assert all(names[k].equal(base[k]) for k in base)
    trained = {k: p for k, p in run.model.named_parameters() if p.requires_grad}
    rows = {k: p for k, p in trained.items() if "trainable_tokens_delta" in k}
    assert len(rows) == (2 if name == "pythia-lora" else 1)
    for matrix, p in zip([base_rows(base, "input"), base_rows(base, "output")], rows.values(), strict=False):
        assert p.shape == (len(codec.added), 32)
        # as drawn to begin with, and trained since
        assert not p.detach().equal(matrix[list(codec.added)])
        assert p.detach().allclose(matrix[list(codec.added)], atol=0.1)
    assert all("lora_" in k for k in trained.keys() - rows.keys())
    used = [p for k, p in trained.items() if "lora_B" in k]
    assert len(used) >= 8
    assert all(p.abs().max() > 0 for p in used)
    saved = load_file(run.dir / "checkpoints/step-000004/adapter_model.safetensors")
    assert sum(v.numel() for v in saved.values()) == sum(p.numel() for p in trained.values())


def base_rows(state, which):
    names = ("model.embed_tokens.weight", "gpt_neox.embed_in.weight", "transformer.wte.weight")
    return state["lm_head.weight"] if which == "output" else next(state[n] for n in names if n in state)


@pytest.mark.parametrize("name", ["smollm-lora", "pythia-lora", "gpt2-lora"])
def test_saved_adapters_give_the_same_logits_by_us_by_peft_and_merged(done, name):
    from peft import PeftModel

    run = done(name)
    codec = Codec.load(run.dir / "model")
    expected = logits(run.model, codec)
    for folder in (run.dir / "adapter", run.dir / "checkpoints/step-000004"):
        found = find_model(folder, None, [])
        ours, _ = load_saved(found)
        assert logits(ours.eval(), codec).equal(expected)
        base = AutoModelForCausalLM.from_pretrained(run.config.model.name_or_path)
        rows = max(base.get_input_embeddings().weight.shape[0], len(AutoTokenizer.from_pretrained(folder)))
        base.resize_token_embeddings(rows, mean_resizing=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT uses what transformers gives up
            plain = PeftModel.from_pretrained(base, folder).eval()
        assert logits(plain, codec).equal(expected)
    merged = AutoModelForCausalLM.from_pretrained(run.dir / "model").eval()
    assert logits(merged, codec).allclose(expected, atol=1e-5)
    in_memory = copy.deepcopy(run.model).merge_and_unload()
    assert logits(merged, codec).equal(logits(in_memory, codec))
    assert "lora" not in " ".join(load_file(run.dir / "model/model.safetensors"))


def test_adapters_name_their_base_and_hold_nothing_of_it(done):
    run = done("smollm-lora")
    about = json.loads((run.dir / "adapter/adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == run.config.model.name_or_path
    assert about["r"] == 4
    tensors = load_file(run.dir / "adapter/adapter_model.safetensors")
    assert all("lora_" in k or "trainable_tokens" in k or "token_adapter" in k for k in tensors)
    assert not (run.dir / "adapter/README.md").exists()
    assert (run.dir / "model/README.md").exists()


# ---- step 0 is the untouched checkpoint


@pytest.mark.parametrize("name", ["smollm", "pythia-lora"])
def test_step_0_is_the_evaluation_of_the_untouched_checkpoint(done, name):
    run = done(name)
    start = open_base_checkpoint(run.config.model)
    data = prepare_data(run.config, None, start)
    model = build_from_checkpoint(run.config.model, start, data.codec, 0)
    expected = evaluate_tests(model, data.tests, step=0, batch_tokens=run.config.eval.batch_tokens)
    records = read_records(run.dir / "eval.jsonl")
    assert [r for r in records if r.step == 0] == expected
    assert [r.step for r in records] == [0] * 8 + [2] * 8 + [4] * 8


def test_a_random_twin_has_no_step_0_and_says_which_tokenizer_it_has(folders, done, tmp_path):
    config = checkpoints.config(folders["smollm"], tmp_path, "model.init=random")
    twin = train(config, progress=False)
    assert {r.step for r in read_records(twin.run_dir / "eval.jsonl")} == {2, 4}
    assert [(r.task, r.length, r.n) for r in twin.records] == [
        (r.task, r.length, r.n) for r in done("smollm").result.records
    ]
    codecs = [Codec.load(d / "model") for d in (twin.run_dir, done("smollm").dir)]
    assert codecs[0].tokenizer.get_vocab() == codecs[1].tokenizer.get_vocab()
    one, two = (AutoConfig.from_pretrained(d / "model").to_dict() for d in (twin.run_dir, done("smollm").dir))
    skipped = {"_name_or_path"}
    assert {k: v for k, v in one.items() if k not in skipped} == {k: two[k] for k in two if k not in skipped}


# ---- settings


@pytest.mark.parametrize("overrides", [[], [LORA]])
@pytest.mark.parametrize("kind", ["smollm", "pythia"])
def test_gradient_checkpointing_changes_no_loss(folders, done, tmp_path, kind, overrides):
    config = checkpoints.config(folders[kind], tmp_path, "train.gradient_checkpointing=true", *overrides)
    run_dir = train(config, progress=False).run_dir
    plain = done(kind + ("-lora" if overrides else "")).dir
    losses = [[line["loss"] for line in timeless(d)] for d in (run_dir, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_gradient_checkpointing_reaches_adapters_behind_a_frozen_embedding(folders, tmp_path):
    overrides = [LORA, "data.tags=false", f"mixture={json.dumps(checkpoints.MIXTURE[:1])}"]
    losses = []
    for i, more in enumerate([[], ["train.gradient_checkpointing=true"]]):
        config = checkpoints.config(folders["smollm"], tmp_path / str(i), *overrides, *more)
        losses.append([line["loss"] for line in timeless(train(config, progress=False).run_dir)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("overrides", [[], [LORA]])
@pytest.mark.parametrize("setting", ["model.dtype=bfloat16", "train.precision=bf16"])
def test_half_precision_trains(folders, done, tmp_path, setting, overrides):
    config = checkpoints.config(folders["smollm"], tmp_path, setting, *overrides)
    run_dir = train(config, progress=False).run_dir
    plain = done("smollm" + ("-lora" if overrides else "")).dir
    losses = [[line["loss"] for line in timeless(d)] for d in (run_dir, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] != losses[1]
    saved = load_file(run_dir / "model/model.safetensors").values()
    expected = torch.bfloat16 if "dtype" in setting else torch.float32
    assert {v.dtype for v in saved} == {expected}
    again = AutoModelForCausalLM.from_pretrained(run_dir / "model")
    assert again.dtype == expected
    shutil.rmtree(run_dir / "model")
    shutil.rmtree(run_dir / "checkpoints/step-000004")
    before = timeless(run_dir)
    train(config, progress=False)
    assert timeless(run_dir) == before


def test_dropout_of_a_checkpoints_own_config_is_used(folders, done, tmp_path):
    still = tmp_path / "still"
    checkpoints.write(still, "gpt2", attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    run_dir = train(checkpoints.config(still, tmp_path), progress=False).run_dir
    a, b = ([line["loss"] for line in timeless(d)] for d in (run_dir, done("gpt2").dir))
    assert a[0] != b[0]
    zero = [[r for r in read_records(d / "eval.jsonl") if r.step == 0] for d in (run_dir, done("gpt2").dir)]
    assert zero[0] == zero[1], "it is off while evaluating"


def test_a_maze_run_adds_a_row_for_each_node(folders, tmp_path):
    config = checkpoints.config(
        folders["pythia"], tmp_path, f"mixture={json.dumps(checkpoints.MAZE)}", "eval.lengths=[2,5]",
        "eval.mistakes=2",
    )  # fmt: skip
    run_dir = train(config, progress=False).run_dir
    codec = Codec.load(run_dir / "model")
    assert codec.tokenizer.tokenize("[16]?") == ["[16]", "?"]
    model = AutoModelForCausalLM.from_pretrained(run_dir / "model")
    rows = load_file(folders["pythia"] / "model.safetensors")["gpt_neox.embed_in.weight"].shape[0]
    assert codec.vocab_size == codec_of(config).inherited + 17
    assert model.config.vocab_size == max(rows, codec.vocab_size)


# ---- recipes/evaluate.py


@pytest.mark.parametrize("name", ["smollm", "pythia-lora", "smollm-lora"])
def test_the_evaluation_recipe_reads_runs_checkpoints_and_adapters(done, call_recipe, tmp_path, name):
    run = done(name)
    last = read_records(run.dir / "eval.jsonl")
    places = {"": 4, "checkpoints/step-000002": 2, "checkpoints/step-000004": 4, "model": 4}
    places |= {"adapter": 4} if "lora" in name else {}
    for i, (place, step) in enumerate(places.items()):
        called = call_recipe("evaluate.py", run.dir / place, "--output", tmp_path / str(i))
        assert called.returncode == 0, called.stderr
        assert "Traceback" not in called.stderr
        records = read_records(tmp_path / str(i) / "eval.jsonl")
        assert [(r.task, r.length, r.exact_match, r.token_accuracy, r.step) for r in records] == [
            (r.task, r.length, r.exact_match, r.token_accuracy, r.step) for r in last if r.step == step
        ]


def test_the_evaluation_recipe_refuses_lengths_beyond_the_context(done, call_recipe, tmp_path):
    for name, place in (("smollm", ""), ("smollm-lora", "adapter"), ("smollm-lora", "model")):
        called = call_recipe(
            "evaluate.py", done(name).dir / place, "--eval.lengths", "[1,300]", "--output", tmp_path / "x"
        )
        assert called.returncode == 2
        assert "512" in called.stderr
        assert "Traceback" not in called.stderr
        assert not (tmp_path / "x").exists()


def test_the_evaluation_recipe_checks_generation(done, call_recipe, tmp_path):
    called = call_recipe(
        "evaluate.py", done("smollm-lora").dir / "adapter", "--output", tmp_path / "x", "--check_generation",
        "--eval.lengths", "[1,2]",
    )  # fmt: skip
    assert called.returncode == 0, called.stderr
    assert "0 of 6 disagree" in called.stdout


# ---- datasets


def test_a_users_texts_keep_the_checkpoints_tokens(folders, call_recipe, tmp_path):
    words = ("the", "length", "of", "naïve", "copies", "75", "864")
    parts = [(words * 2)[k : k + 1 + k % 3] for k in range(7)] * 4
    rows = [
        {
            "task": "backwards",
            "length": len(p),
            "prompt": f"Say: {' '.join(p)}\n",
            "target": " ".join(p[::-1]),
        }
        for p in parts
    ]
    for split in ("train", "test"):
        Dataset.from_list(rows).to_json(tmp_path / "data" / f"{split}.jsonl")
    config = checkpoints.config(
        folders["pythia"],
        tmp_path / "runs",
        "mixture=[{task: backwards, role: target, lengths: [1, 3]}]",
        f"data={{source: dataset, path: '{tmp_path / 'data'}'}}",
        "model.tokenizer=text",
        "eval.lengths=[1,3]",
    )
    run_dir = train(config, progress=False).run_dir
    own = checkpoints.tokenizer("pythia")
    saved = AutoTokenizer.from_pretrained(run_dir / "model")
    assert len(saved) == len(own) + 1
    prompt = rows[2]["prompt"]
    assert saved(prompt, add_special_tokens=False)["input_ids"] == own(prompt)["input_ids"]
    data = prepare_data(config, open_data(config), open_base_checkpoint(config.model))
    batch = data.source.batch(0)
    expected = {
        (0, len(own), *own(r["prompt"])["input_ids"], *own(r["target"])["input_ids"], 0) for r in rows
    }
    for ids, length in zip(batch.ids.tolist(), batch.lengths, strict=True):
        assert tuple(ids[:length]) in expected
    called = call_recipe("evaluate.py", run_dir / "checkpoints/step-000002", "--output", tmp_path / "e")
    assert called.returncode == 0, called.stderr
    again = read_records(tmp_path / "e/eval.jsonl")
    assert again == [r for r in read_records(run_dir / "eval.jsonl") if r.step == 2]


# ---- from the Hub


@pytest.fixture
def on_hub(hub, folders):
    """A checkpoint on the Hub at a branch."""
    made = hub.store.create_repo("model", "org/hub-llm")
    made.put_ref(made.branches, "step-10", made.resolve("main").sha)
    files = {p.name: p.read_bytes() for p in folders["smollm"].iterdir()}
    made.add(files, branch="step-10")
    return made


def test_adapters_of_a_model_on_the_hub_name_its_commit_and_are_evaluated_on_it(
    hub, on_hub, folders, call_recipe, tmp_path
):
    config = checkpoints.config("org/hub-llm", tmp_path, LORA, "model.revision=step-10")
    run_dir = train(config, progress=False).run_dir
    commit = on_hub.resolve("step-10").sha
    about = json.loads((run_dir / "adapter/adapter_config.json").read_text())
    assert (about["base_model_name_or_path"], about["revision"]) == ("org/hub-llm", commit)
    model, codec = load_saved(find_model(run_dir / "adapter", None, []))
    other = checkpoints.write(tmp_path / "other", "smollm", seed=5)
    on_hub.add({p.name: p.read_bytes() for p in other.iterdir()}, branch="step-10")
    again, _ = load_saved(find_model(run_dir / "adapter", None, []))
    assert logits(again.eval(), codec).equal(logits(model.eval(), codec))
    called = call_recipe("evaluate.py", run_dir / "adapter", "--output", tmp_path / "e")
    assert called.returncode == 0, called.stderr
    assert read_records(tmp_path / "e/eval.jsonl") == [
        r for r in read_records(run_dir / "eval.jsonl") if r.step == 4
    ]


# ---- wrong input: told once, with status 2, before anything is written


@pytest.fixture
def finetune(call_recipe, tmp_path):
    """Calls the recipe on a config; an error must be one that a user can read."""

    def call(name, *overrides):
        data = checkpoints.settings(name, tmp_path / "out", *overrides)
        (tmp_path / "config.yaml").write_text(yaml.dump(data))
        done = call_recipe("finetune.py", "--config", tmp_path / "config.yaml")
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return call


def test_the_recipe_starts_from_a_checkpoint(finetune, folders):
    done = finetune(folders["smollm"], "train.steps=1")
    assert done.returncode == 0, done.stderr
    assert "2 tokens were added to its tokenizer: <reverse_add>, <no_carry>" in done.stdout


LOCAL = "{smollm}"
MISTAKES = {
    "no such folder": ("./nowhere", [], "model.name_or_path: './nowhere' is no folder here and no id"),
    "no such model": ("org/nowhere", [], "no model on the Hub that may be read (status 40"),
    "no such revision": ("org/hub-llm", ["model.revision=step-1"], "known: main, step-10"),
    "revision of a folder": (LOCAL, ["model.revision=step-1"], "model.revision: 'step-1' is for the Hub"),
    "context too short": (LOCAL, ["eval.lengths=[1,200]", "mixture.1.lengths=[1,300]"], "is 512"),
    "positions": (LOCAL, ["model.max_positions=600"], "model.max_positions: 600 is more than the 512"),
    "adapters of nothing": (LOCAL, ["model.init=random", LORA], "peft.method: 'lora' adapts a pretrained"),
    "no such layer": (LOCAL, [LORA, "peft.target_modules=[q_prj]"], "did you mean 'q_proj'?"),
    "sizes": (LOCAL, ["model.layers=3"], "model.layers: 3 is for a model trained from scratch"),
    "texts of no dataset": (LOCAL, ["model.tokenizer=text"], "model.tokenizer: 'text' is for a dataset"),
    "a run": ("{run}", [], "is no model: it has no config.json; "),
    "adapters": ("{run}/adapter", [], "holds adapters; merge them into their base"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_reported_once_before_anything_is_written(
    hub, on_hub, finetune, folders, done, tmp_path, case
):
    name, overrides, told = MISTAKES[case]
    called = finetune(name.format(smollm=folders["smollm"], run=done("smollm-lora").dir), *overrides)
    assert called.returncode == 2
    assert told in called.stderr
    assert called.stderr.splitlines()[0].startswith("error: ")
    assert len(called.stderr.splitlines()) == (4 if "context" in case else 2)
    assert hub.token not in called.stderr
    assert not (tmp_path / "out").exists()


def test_adapters_where_no_token_is_added(folders, call_recipe, tmp_path):
    config = checkpoints.config(
        folders["smollm"], tmp_path, LORA, "data.tags=false", f"mixture={json.dumps(checkpoints.MIXTURE[:1])}"
    )
    run_dir = train(config, progress=False).run_dir
    assert not any("token" in k for k in load_file(run_dir / "adapter/adapter_model.safetensors"))
    called = call_recipe("evaluate.py", run_dir / "adapter", "--output", tmp_path / "e")
    assert called.returncode == 0, called.stderr
    last = [r for r in read_records(run_dir / "eval.jsonl") if r.step == 4]
    assert read_records(tmp_path / "e/eval.jsonl") == last


def test_what_a_run_saved_is_a_checkpoint_for_the_next(done, tmp_path):
    first = done("pythia")
    config = checkpoints.config(first.dir / "model", tmp_path, "mixture.1.task=carry_only")
    second = train(config, progress=False).run_dir
    codec = Codec.load(second / "model")
    before = Codec.load(first.dir / "model")
    assert codec.vocab_size == before.vocab_size + 1
    zero = {
        r.length: r for r in read_records(second / "eval.jsonl") if (r.step, r.task) == (0, "reverse_add")
    }
    for r in first.result.records:
        if r.task == "reverse_add":
            assert zero[r.length].token_accuracy == r.token_accuracy


def test_a_checkpoint_alone_is_evaluated_where_its_tokenizer_has_the_symbols(folders, call_recipe, tmp_path):
    """Without tags it has: that is what the checkpoint knows by itself."""
    data = checkpoints.settings(folders["smollm"], tmp_path / "out", "data.tags=false")
    data["mixture"] = data["mixture"][:1]
    (tmp_path / "config.yaml").write_text(yaml.dump(data))
    options = ["--config", tmp_path / "config.yaml", "--output", tmp_path / "e"]
    done = call_recipe("evaluate.py", folders["smollm"], *options)
    assert done.returncode == 0, done.stderr
    assert len(read_records(tmp_path / "e/eval.jsonl")) == 4
    tagged = call_recipe("evaluate.py", folders["smollm"], *options[:2], "--data.tags", "true")
    assert tagged.returncode == 2
    told = tagged.stderr.splitlines()
    assert told[-1].endswith("smollm: the tokenizer lacks <reverse_add>, which reverse_add writes")
    assert "Loading weights" not in tagged.stderr
