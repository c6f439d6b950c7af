"""Blocks that are applied as often as the prompt is long."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from data_builders import Component
from hf_lgt.data.batching import make_pass
from hf_lgt.data.codec import Codec
from hf_lgt.data.eval_sets import GeneratedTests
from hf_lgt.evaluation.generation import check_generation
from hf_lgt.models.forward import logits_of
from hf_lgt.models.looped import LoopedConfig
from hf_lgt.models.packing import packing_fault
from hf_lgt.training.stacking import stacking_fault

SIZES = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "max_position_embeddings": 128}


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LoopedConfig(**SIZES, loops_per_token=0.5, most_loops=8, initializer_range=0.2)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def tests():
    component = Component("string_copy", "target", (1, 8))
    return GeneratedTests(Codec.build(), [component], [3, 12], examples=16, seed=0)


@torch.no_grad()
def test_each_row_gets_the_loops_of_its_own_prompt(model):
    ids, prompts = torch.randint(3, 60, (4, 9)), torch.tensor([1, 4, 7, 9])
    together = model(input_ids=ids, prompt_tokens=prompts).logits
    for row, tokens in enumerate(prompts):
        alone = model(input_ids=ids[row : row + 1], prompt_tokens=tokens[None]).logits[0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-5)
    assert model.model.loops(torch.tensor([0, 1, 3, 40])).tolist() == [1, 1, 2, 8]
    fewer = model(input_ids=ids, prompt_tokens=torch.ones_like(prompts)).logits
    assert not torch.allclose(fewer[3], together[3], atol=1e-3)


@torch.no_grad()
def test_one_loop_is_a_llama_and_two_are_its_blocks_twice(model):
    plain = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    plain.load_state_dict(model.state_dict())
    ids = torch.randint(3, 60, (2, 6))
    once = model(input_ids=ids, prompt_tokens=torch.tensor([2, 2])).logits
    torch.testing.assert_close(once, plain(input_ids=ids).logits, rtol=0, atol=1e-5)
    # by hand: what the first loop gave and the embeddings go through the blocks again
    embedded = plain.model.embed_tokens(ids)
    numbers = torch.arange(6)[None]
    rotary = plain.model.rotary_emb(embedded, position_ids=numbers)
    hidden = torch.zeros_like(embedded)
    for _ in range(2):
        hidden = hidden + embedded
        for layer in plain.model.layers:
            hidden = layer(hidden, position_embeddings=rotary, position_ids=numbers)
    twice = model(input_ids=ids, prompt_tokens=torch.tensor([4, 4])).logits
    torch.testing.assert_close(twice, plain.lm_head(plain.model.norm(hidden)), rtol=0, atol=1e-5)


def test_passes_and_generation_loop_as_often(model, tests):
    for cell in tests.cells:
        assert check_generation(model, tests, cell).disagreements == 0
        batch = tests.examples(cell).batch
        work = make_pass(batch, np.arange(4))
        # bos, tag and the symbols of the prompt
        wanted = batch.scored[:4].argmax(axis=1)
        assert work.prompt_tokens.tolist() == wanted.tolist()
        usual = model(input_ids=work.input_ids, prompt_tokens=torch.ones(4), logits_to_keep=work.keep)
        assert not torch.allclose(logits_of(model, work), usual.logits, atol=1e-3)


def test_a_saved_model_is_opened_and_writes_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    prompts = torch.randint(3, 60, (2, 7))
    mask = torch.ones_like(prompts)
    ours, theirs = (
        m.generate(prompts, attention_mask=mask, max_new_tokens=5, do_sample=False) for m in (model, again)
    )
    assert torch.equal(ours, theirs)
    ids = prompts
    for _ in range(5):
        logits = model(input_ids=ids, prompt_tokens=torch.full((2,), 7)).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(ours, ids[:, : ours.shape[1]])


def test_stacked_models_loop_as_single_ones():
    models = [AutoModelForCausalLM.from_config(LoopedConfig(**SIZES)) for _ in range(2)]
    assert stacking_fault(models) is None


def test_sizes_that_mean_nothing_are_refused():
    with pytest.raises(Exception, match="loops_per_token must be above 0"):
        LoopedConfig(**SIZES, loops_per_token=0.0)


def test_packed_rows_are_refused_whatever_the_loops(model):
    for given in (model, AutoModelForCausalLM.from_config(LoopedConfig(**SIZES, loops_per_token=0.01))):
        assert "as long as its prompt asks" in packing_fault(given)
