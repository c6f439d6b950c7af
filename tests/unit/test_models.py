import pytest
import torch

from hf_lgt.codec import Codec
from hf_lgt.config import ModelConfig
from hf_lgt.models import build_model, parameter_count

SIZES = {"layers": 2, "hidden_size": 32, "heads": 4, "intermediate_size": 48, "max_positions": 64}


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def test_sizes_are_those_of_the_config(codec):
    model = build_model(ModelConfig(**SIZES, kv_heads=2, rope_theta=500.0), codec, 0)
    assert model.config.num_hidden_layers == 2
    assert model.config.num_key_value_heads == 2
    assert model.config.rope_parameters["rope_theta"] == 500.0
    assert (model.config.bos_token_id, model.config.eos_token_id) == (codec.bos_id, codec.eos_id)
    vocab, d, ff = codec.vocab_size, 32, 48
    layer = 2 * d * d + 2 * d * (d // 2) + 3 * d * ff + 2 * d
    assert parameter_count(model) == 2 * vocab * d + 2 * layer + d


def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator(codec):
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    first = build_model(ModelConfig(**SIZES), codec, 4).state_dict()
    assert torch.equal(torch.rand(3), expected)
    torch.rand(17)
    again = build_model(ModelConfig(**SIZES), codec, 4).state_dict()
    other = build_model(ModelConfig(**SIZES), codec, 5).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_initializer_range_is_the_spread_of_the_weights(codec):
    weight = build_model(ModelConfig(**SIZES, initializer_range=0.2), codec, 0).model.embed_tokens.weight
    assert weight[1:].std().item() == pytest.approx(0.2, rel=0.1)


def test_nope_ignores_the_positions_and_rope_does_not(codec):
    ids = torch.tensor([[1, 20, 30, 21, 5]])
    for positions, changes in [("rope", True), ("nope", False)]:
        model = build_model(ModelConfig(**SIZES, positions=positions, initializer_range=0.2), codec, 0)
        mask = torch.ones_like(ids)
        with torch.no_grad():
            near = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            gapped = torch.tensor([[0, 3, 4, 9, 20]])
            far = model(input_ids=ids, attention_mask=mask, position_ids=gapped, use_cache=False).logits
        assert torch.allclose(near, far, atol=1e-6) != changes


@pytest.mark.parametrize("positions", ["rope", "nope"])
def test_a_saved_model_loads_and_gives_the_same_logits(codec, tmp_path, positions):
    from transformers import AutoModelForCausalLM

    model = build_model(ModelConfig(**SIZES, positions=positions), codec, 0).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[1, 20, 30, 21, 5]])
    assert torch.equal(logits(model, ids), logits(again, ids))


def test_tied_embeddings_are_one_matrix(codec):
    model = build_model(ModelConfig(**SIZES, tie_embeddings=True), codec, 0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
