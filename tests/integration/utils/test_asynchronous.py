"""What a GPU needs, tested on a CPU: no host-device synchronisation in a step, no mask, one graph."""

import threading

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, BloomConfig, MistralConfig

from hf_lgt import train, train_together
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import Pass, pinned
from hf_lgt.data.codec import Codec
from hf_lgt.models.build import build_model
from hf_lgt.models.causal_attention import NAME, attention_named, causal_fault
from hf_lgt.training.loop import Loop
from hf_lgt.training.step import TrainingRun
from hf_lgt.training.trainer import SingleStep
from hf_lgt.utils.prefetch import Prefetcher, asynchronous
from tests.integration.models.test_packing import FAMILIES, SMALL
from tests.integration.workflows.test_train import timeless


def make(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


class Questions(TorchDispatchMode):
    """Notes the operations whose result the program waits for."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if any(name.startswith(own) for own in self.WAITING):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def loop(tiny):
    def begin(name, *overrides):
        config = tiny(f"name={name}", "train.layout=padded", *overrides)
        config.run_dir.mkdir(parents=True)
        codec = Codec.build()
        source = GeneratedSource(config.build_mixture(), codec, batch_size=32, seed=0)
        model = build_model(config.model, codec, 0)
        run = TrainingRun(config, model, codec, source, lambda model, step, last: False)
        return Loop([run], Accelerator(), SingleStep)

    return begin


@pytest.mark.parametrize("more", [(), ("model.positions=nope",), ("model.architecture=gpt_neox",)])
def test_a_step_asks_the_device_nothing_and_has_the_same_numbers(loop, monkeypatch, more):
    usual = loop("usual", *more)
    assert not usual.causal
    monkeypatch.setattr("hf_lgt.utils.prefetch.asynchronous", lambda device: True)
    ours = loop("ours", *more)
    assert ours.causal
    for _ in range(4):
        rate, loss = usual.take_step()
        with Questions() as questions:
            found = ours.take_step()
        assert questions.asked == []
        assert found == (rate, loss), "to the bit: the same attention without a look at the positions"
    for a, b in zip(usual.step.bare.parameters(), ours.step.bare.parameters(), strict=True):
        assert torch.equal(a, b)
    ours.causal = False
    with Questions() as questions:
        ours.take_step()
    assert "_local_scalar_dense" in questions.asked, "transformers asks whether the positions need a mask"
    ours.close()


def test_a_whole_run_with_batches_made_ahead_has_the_same_numbers(tiny, tiny_run, monkeypatch):
    monkeypatch.setattr("hf_lgt.utils.prefetch.asynchronous", lambda device: True)
    config = tiny()
    train(config, progress=False)
    assert timeless(config.run_dir) == timeless(tiny_run)
    assert threading.active_count() < 20
    assert not [t for t in threading.enumerate() if t.name.startswith("batches") and t.is_alive()]


def test_stacked_runs_with_batches_made_ahead_have_the_same_numbers(tiny, monkeypatch):
    def runs(name):
        configs = [tiny(f"name={name}", f"seed.init={seed}", "seed.data=0") for seed in (0, 1)]
        return [result.run_dir for result in train_together(configs, progress=False)]

    usual = runs("usual")
    monkeypatch.setattr("hf_lgt.utils.prefetch.asynchronous", lambda device: True)
    assert [timeless(run_dir) for run_dir in runs("ahead")] == [timeless(run_dir) for run_dir in usual]
    assert not [t for t in threading.enumerate() if t.name.startswith("batches") and t.is_alive()]


def test_what_is_made_ahead_comes_in_order():
    main, made = threading.current_thread(), []

    def make_one(step):
        made.append((step, threading.current_thread() is main))
        if step == 3:
            raise ValueError("no batch")
        return 10 * step

    prepared = Prefetcher(make_one, 5)
    assert [prepared(1), prepared(2)] == [10, 20]
    with pytest.raises(ValueError, match="no batch"):
        prepared(3)
    assert prepared(4) == 40
    assert prepared(2) == 20, "another step than the one that was made"
    prepared.close()
    assert made[0] == (1, True), "the first is waited for"
    assert made[1] == (2, False), "the others are made meanwhile"
    assert max(step for step, _ in made) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_without_masks_gives_the_same_logits(family):
    model = make(FAMILIES[family])
    assert causal_fault(model) is None
    assert model.training
    ids = torch.randint(0, 128, (3, 9), generator=torch.Generator().manual_seed(0))
    numbers = torch.tensor([[0, 1, 2, 9, 10, 11, 30, 31, 33]]).repeat(3, 1)
    model.eval()
    usual = model(input_ids=ids, position_ids=numbers, attention_mask=torch.ones_like(ids)).logits
    with attention_named(model, NAME):
        ours = model(input_ids=ids, position_ids=numbers, use_cache=False).logits
    torch.testing.assert_close(ours, usual)
    assert model.config._attn_implementation == "sdpa"


def test_models_that_need_masks_keep_theirs():
    assert "Bloom" in causal_fault(make(BloomConfig(vocab_size=128, hidden_size=32, n_layer=2, n_head=4)))
    window = MistralConfig(**SMALL, sliding_window=4, num_key_value_heads=2)
    assert "Mistral" in causal_fault(make(window))


def test_which_devices_work_by_themselves():
    assert [asynchronous(torch.device(kind)) for kind in ("cpu", "cuda", "mps")] == [False, True, True]
    work = Pass(torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 1))
    assert pinned(work, torch.device("cpu")) is work


def test_a_compiled_model_is_one_graph_for_all_shapes(loop, monkeypatch):
    from torch._dynamo.utils import counters

    # the graphs are the same ones, without the minute that it takes to compile them
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **more: real(model, backend="aot_eager", **more))
    usual, compiled = loop("usual"), loop("compiled", "train.compile=true")
    assert compiled.causal
    counters.clear()
    shapes = set()
    for _ in range(6):
        _, passes = compiled._prepare(compiled.taken)
        shapes |= {tuple(work.input_ids.shape) for work in passes}
        _, wanted = usual.take_step()
        _, found = compiled.take_step()
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert len(shapes) > 6
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
