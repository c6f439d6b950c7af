"""Rows without padding: the same losses and gradients as padded ones, and models that cannot."""

import dataclasses

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    SmolLM3Config,
)

from hf_lgt import ConfigError, load_config, train
from hf_lgt.config.schema import TrainConfig
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import even_split
from hf_lgt.data.codec import Codec
from hf_lgt.data.policies import Policies
from hf_lgt.data.position_ids import Numbering
from hf_lgt.models.build import build_model
from hf_lgt.models.forward import answer_loss
from hf_lgt.models.packing import (
    MOST_TOKENS,
    NAME,
    choose_layout,
    pack_split,
    packed_attention,
    packed_loss,
    packing_fault,
    wants_packing,
)
from hf_lgt.training.trainer import backward, make_passes
from tests.conftest import ROOT

SMALL = {
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
FAMILIES = {
    "llama": LlamaConfig(**SMALL),
    "grouped": LlamaConfig(**SMALL, num_key_value_heads=2),
    "gpt_neox": GPTNeoXConfig(**SMALL),
    "gpt2": GPT2Config(vocab_size=128, n_positions=64, n_embd=32, n_layer=2, n_head=4),
    "smollm3": SmolLM3Config(**SMALL, num_key_value_heads=2, no_rope_layers=[0, 1], pad_token_id=0),
}
CPU = torch.device("cpu")


def take_gradient(model, batch, config, packed=False):
    """Add a batch's gradient in one process, cut as a config says."""
    accelerator = Accelerator()
    return backward(model, batch, make_passes(batch, config, accelerator, packed), accelerator)


def make(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


@pytest.fixture
def batch(tiny, codec):
    return source(tiny(), codec).batch(0)


def source(config, codec, **more):
    return GeneratedSource(config.build_mixture(), codec, batch_size=32, seed=0, **more)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_those_of_padded_passes(family, batch):
    model = make(FAMILIES[family]).eval()
    assert packing_fault(model) is None
    assert wants_packing(batch)
    losses = [sum(answer_loss(model, work) for work in even_split(batch, 1, 3)),
              sum(packed_loss(model, work) for work in pack_split(batch, 2))]  # fmt: skip
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-6)
    for wanted, found in zip(*(gradients(model, loss) for loss in losses), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_numbers_of_positions_are_kept(tiny, codec):
    config = tiny("model.position_ids=randomized", "model.position_range=200")
    numbering = Numbering("randomized", 200)
    batch = source(config, codec, policies=Policies(numbering)).batch(0)
    assert batch.positions is not None
    model = build_model(config.model, codec, 0)
    padded = sum(answer_loss(model, work) for work in even_split(batch, 1, 2))
    packed = sum(packed_loss(model, work) for work in pack_split(batch, 1))
    assert packed.item() == pytest.approx(padded.item(), rel=1e-6)
    plain = dataclasses.replace(batch, positions=None)
    assert packed_loss(model, pack_split(plain, 1)[0]).item() != pytest.approx(packed.item(), rel=1e-6)


@pytest.mark.parametrize(("pieces", "world"), [(1, 1), (3, 1), (1, 2), (5, 4)])
def test_the_passes_of_all_processes_hold_every_token_once(batch, pieces, world):
    shares = [pack_split(batch, pieces, rank, world) for rank in range(world)]
    assert {len(passes) for passes in shares} == {pieces}
    works = [work for passes in shares for work in passes]
    assert sum(work.input_ids.numel() for work in works) == batch.tokens - len(batch.lengths)
    assert sum(work.labels.numel() for work in works) == batch.answer_tokens
    assert sum(count for work in works for count, _ in work.groups) == len(batch.lengths)
    assert max(sum(count for count, _ in work.groups) for work in works) <= -(-32 // (pieces * world))
    rows = {tuple(ids[: n - 1]) for ids, n in zip(batch.ids.tolist(), batch.lengths, strict=True)}
    for work in works:
        at = 0
        for count, length in work.groups:
            for _ in range(count):
                assert tuple(work.input_ids[0, at : at + length].tolist()) in rows
                assert work.position_ids[0, at : at + length].tolist() == list(range(length))
                at += length


def test_large_batches_are_cut(batch):
    rows = np.tile(np.arange(32), 100)
    for most in (MOST_TOKENS, 2000):
        works = pack_split(batch.take(rows), 1, most_tokens=most)
        assert len(works) > 1
        assert max(work.input_ids.numel() for work in works) <= 1.05 * most


def test_the_model_is_left_as_it_was(batch):
    model = make(FAMILIES["llama"])
    wanted = model(input_ids=torch.arange(6)[None]).logits
    packed_loss(model, pack_split(batch, 1)[0])
    with pytest.raises(RuntimeError, match="midway"), packed_attention(model, ((1, 6),)):
        assert model.config._attn_implementation == NAME
        raise RuntimeError("midway")
    assert model.config._attn_implementation == "sdpa"
    assert model.training
    assert torch.equal(model(input_ids=torch.arange(6)[None]).logits, wanted)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (BloomConfig(vocab_size=128, hidden_size=32, n_layer=2, n_head=4), "Bloom"),  # ALiBi, eager
        (MistralConfig(**SMALL, sliding_window=4, num_key_value_heads=2), "Mistral"),
        (SmolLM3Config(**SMALL, num_key_value_heads=2, use_sliding_window=True, sliding_window=4,
                       layer_types=["sliding_attention", "full_attention"], pad_token_id=0),
         "layers of full_attention, sliding_attention"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_is_reported_and_trained_with_padding(config, told, batch):
    model = make(config)
    before = model.config._attn_implementation
    assert told in packing_fault(model)
    assert model.config._attn_implementation == before
    auto, packed = TrainConfig(layout="auto"), TrainConfig(layout="packed")
    assert not choose_layout(auto, model, CPU)
    with pytest.raises(ConfigError, match=r"train\.layout: 'packed': .*; take 'padded'"):
        choose_layout(packed, model, CPU)


def test_which_layout_is_taken():
    model = make(FAMILIES["llama"])
    assert choose_layout(TrainConfig(layout="auto"), model, CPU)
    assert choose_layout(TrainConfig(layout="packed"), model, CPU)
    assert choose_layout(TrainConfig(), model, CPU)
    assert not choose_layout(TrainConfig(layout="padded"), model, CPU)
    assert not choose_layout(TrainConfig(layout="auto"), model, torch.device("cuda"))
    for key in ("compile", "gradient_checkpointing"):
        assert not choose_layout(TrainConfig(layout="auto", **{key: True}), model, CPU)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("train.compile=true", "train.compile"),
        ("train.gradient_checkpointing=true", "train.gradient_checkpointing"),
        ("model.role_heads=shared", "model.role_heads"),
    ],
)
def test_what_packed_rows_do_not_go_with_is_reported(more, key):
    with pytest.raises(ConfigError, match=rf"train\.layout: 'packed' does not go with {key}"):
        load_config(ROOT / "recipes/demo/transfer.yaml", ["train.layout=packed", more])


def test_a_model_that_cannot_is_refused_before_the_folder_is_made(tiny):
    bloom = ["model.architecture=bloom", "model.positions=alibi", "model.intermediate_size=128"]
    config = tiny("train.layout=packed", *bloom)
    with pytest.raises(ConfigError, match=r"train\.layout: 'packed': Bloom.*; take 'padded'"):
        train(config, progress=False)
    assert not config.run_dir.exists()


def test_a_step_is_packed_where_there_is_padding(batch, monkeypatch):
    taken = []
    monkeypatch.setattr("hf_lgt.training.trainer.packed_loss", lambda *a: taken.append(1) or packed_loss(*a))
    model = make(FAMILIES["llama"])
    take_gradient(model, batch, TrainConfig(), packed=True)
    assert len(taken) == 1
    even = batch.take(np.flatnonzero(batch.lengths == batch.lengths[0]))
    take_gradient(model, even, TrainConfig(), packed=True)
    take_gradient(model, batch, TrainConfig())
    halves = dataclasses.replace(batch, halves=np.zeros(len(batch.lengths), dtype=np.int64))
    take_gradient(model, halves, TrainConfig(), packed=True)
    assert len(taken) == 1


def test_a_run_has_the_losses_of_a_padded_one(tiny):
    records = [train(tiny(f"train.layout={layout}", f"name={layout}"), progress=False).records
               for layout in ("padded", "packed")]  # fmt: skip
    padded, packed = ([r.token_accuracy for r in own] for own in records)
    assert packed == pytest.approx(padded, abs=2e-3)
