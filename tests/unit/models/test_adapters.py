"""Adapters: what they wrap, what is drawn, what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_lgt.checkpointing.adapter_files import (
    ADAPTER_FILE,
    is_adapted,
    load_adapted,
    read_adapters,
    save_adapters,
)
from hf_lgt.config.schema import PeftConfig
from hf_lgt.models.adapters import add_adapters, merged
from hf_lgt.utils.errors import ConfigError
from tests.support import checkpoints

LORA = PeftConfig(method="lora", rank=4)
LAYERS = {
    "smollm": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "pythia": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
}


def wrapped(kind="smollm", config=LORA, added=(5, 7), seed=0):
    return add_adapters(checkpoints.model(kind), config, list(added), seed, base="org/base", revision="abc")


def adapters(model):
    return {k: p.detach().clone() for k, p in model.named_parameters() if p.requires_grad}


def shake(model):
    """Give the adapters and rows values that they have not at first."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for p in model.parameters():
            if p.requires_grad:
                p += 0.1 * torch.randn_like(p)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 5, 9, 7]]), use_cache=False).logits


@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_all_linear_layers_but_the_output_are_adapted(kind):
    model = wrapped(kind)
    adapted = {k.split(".lora_")[0].split(".")[-1] for k in adapters(model) if ".lora_" in k}
    assert adapted == LAYERS[kind]
    assert is_adapted(model)
    assert not is_adapted(checkpoints.model(kind))


@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_before_training_nothing_is_changed(kind):
    assert logits(wrapped(kind).eval()).equal(logits(checkpoints.model(kind).eval()))


def test_only_the_layers_that_are_named_are_adapted():
    model = wrapped(config=PeftConfig(method="lora", target_modules=["q_proj", "v_proj"]), added=())
    assert {k.split(".")[-4] for k in adapters(model)} == {"q_proj", "v_proj"}


def test_the_draw_depends_on_the_seed_alone():
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    first = adapters(wrapped())
    assert torch.rand(2).equal(expected)
    again, other = adapters(wrapped()), adapters(wrapped(seed=1))
    assert all(first[k].equal(again[k]) for k in first)
    drawn = [k for k in first if "lora_A" in k]
    assert not any(first[k].equal(other[k]) for k in drawn)


@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_adapters_and_rows_come_back_by_both_ways(kind, tmp_path):
    model = shake(wrapped(kind))
    save_adapters(model, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", ADAPTER_FILE]
    about = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (about["base_model_name_or_path"], about["revision"]) == ("org/base", "abc")
    expected = logits(model)
    assert not expected.equal(logits(checkpoints.model(kind).eval()))
    assert logits(load_adapted(checkpoints.model(kind), tmp_path).eval()).equal(expected)
    other = wrapped(kind, seed=8)
    read_adapters(other, tmp_path)
    assert logits(other.eval()).equal(expected)
    assert all(p.equal(adapters(other)[k]) for k, p in adapters(model).items())


@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_merged_it_is_a_model_of_transformers_with_the_same_logits(kind, tmp_path):
    model = shake(wrapped(kind))
    expected = logits(model)
    plain = merged(model)
    assert type(plain) is type(checkpoints.model(kind))
    assert logits(plain).allclose(expected, atol=1e-5)
    assert list(plain.state_dict()) == list(checkpoints.model(kind).state_dict())
    tied = kind != "pythia"
    assert (plain.get_input_embeddings().weight is plain.get_output_embeddings().weight) == tied
    plain.save_pretrained(tmp_path)
    again = type(plain).from_pretrained(tmp_path).eval()
    assert logits(again).equal(logits(plain))


@pytest.mark.parametrize("part", ["lora_A", "token_adapter"])
def test_adapters_of_another_model_are_refused(tmp_path, part):
    def both_refuse(told):
        with pytest.raises(ValueError, match=f"has not the adapters of this model: .*{told}"):
            read_adapters(wrapped(), tmp_path)
        with pytest.raises(ValueError, match=f"has not the adapters of this model: .*{told}"):
            load_adapted(checkpoints.model("smollm"), tmp_path)

    save_adapters(wrapped("smollm"), tmp_path)
    tensors = load_file(tmp_path / ADAPTER_FILE)
    key = next(k for k in tensors if part in k)
    save_file({k: v for k, v in tensors.items() if k != key}, tmp_path / ADAPTER_FILE)
    both_refuse(part)
    save_file({**tensors, "base_model.model.other.lora_A.weight": torch.zeros(1)}, tmp_path / ADAPTER_FILE)
    both_refuse("other")


@pytest.mark.parametrize("kind", checkpoints.KINDS)
@pytest.mark.parametrize("name", ["nothing_like_it", "embed_tokens", "lm_head", "norm", "layers", "proj", ""])
def test_a_name_of_no_layer_between_embedding_and_output_is_reported(kind, name):
    there = min(LAYERS[kind])
    config = PeftConfig(method="lora", target_modules=[there, name, "neither"])
    with pytest.raises(ConfigError) as caught:
        wrapped(kind, config)
    assert [fault.split(";")[0].split(" (")[0] for fault in caught.value.faults] == [
        f"peft.target_modules: unknown layer {name!r}",
        "peft.target_modules: unknown layer 'neither'",
    ]
    assert there in caught.value.faults[0]


def test_a_layer_may_be_named_with_its_place():
    one = wrapped(config=PeftConfig(method="lora", target_modules=["layers.1.self_attn.q_proj"]), added=())
    assert len(adapters(one)) == 2
