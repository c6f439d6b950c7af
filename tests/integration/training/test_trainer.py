import json
import math
import shutil
from contextlib import nullcontext

import pytest
import torch

from hf_lgt import train
from hf_lgt.config.schema import TrainConfig
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import even_split
from hf_lgt.data.codec import Codec
from hf_lgt.models.build import build_model
from hf_lgt.models.forward import answer_loss
from hf_lgt.training import embedding_gradient, trainer
from hf_lgt.training.embedding_gradient import gradient_by_rows, tied_embedding
from hf_lgt.training.optimizers import make_optimizer, make_schedule
from hf_lgt.utils.errors import ConfigError, TrainingError
from hf_lgt.utils.seeding import seed_generators
from tests.integration.models.test_packing import take_gradient


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(run_dir):
    return [line["loss"] for line in lines(run_dir / "train.jsonl")]


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.length_buckets=1"],
        ["train.length_buckets=7"],
        ["train.gradient_accumulation_steps=4"],
        ["train.gradient_accumulation_steps=32"],
        ["train.eval_every=null", "train.save_every=null"],
    ],
)
def test_equivalent_settings_give_one_trajectory(tiny, tiny_run, overrides):
    run = train(tiny(*overrides), progress=False).run_dir
    assert losses(run) == pytest.approx(losses(tiny_run), rel=2e-4)


@pytest.mark.parametrize(
    "overrides", [["seed.init=1"], ["seed.data=1"], ["train.learning_rate=0.01"], ["train.betas=[0.5,0.5]"]]
)
def test_settings_that_matter_change_the_trajectory(tiny, tiny_run, overrides):
    run = train(tiny(*overrides), progress=False).run_dir
    assert losses(run)[-1] != pytest.approx(losses(tiny_run)[-1], rel=2e-4)


def test_the_gradient_is_that_of_the_mean_over_the_batchs_answer_tokens(tiny):
    config = tiny()
    codec = Codec.build()
    model = build_model(config.model, codec, 0)
    source = GeneratedSource(config.build_mixture(), codec, batch_size=32, seed=0)
    batch = source.batch(0)
    (whole,) = even_split(batch, 1, 1)
    (answer_loss(model, whole) / batch.answer_tokens).backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    take_gradient(model, batch, config.train)
    for p, grad in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("padding", [None, 7])
def test_a_tied_embedding_has_the_gradient_of_both_its_uses(tiny, padding):
    """Though that of its rows is added after the passes; the model is left as it was."""
    config, codec = tiny("model.tie_embeddings=true"), Codec.build()
    batch = GeneratedSource(config.build_mixture(), codec, batch_size=32, seed=0).batch(0)
    grads = []
    for by_rows in (False, True):
        model = build_model(config.model, codec, 0)
        embedding = model.get_input_embeddings()
        embedding.padding_idx = padding  # has no gradient of its own
        assert tied_embedding(model) is embedding
        with gradient_by_rows(embedding) if by_rows else nullcontext():
            for _ in range(2):  # passes add up
                take_gradient(model, batch, config.train)
        assert "forward" not in vars(embedding)
        grads.append([p.grad for p in model.parameters()])
    assert grads[0][0][7].abs().sum() > 0
    for dense, grad in zip(*grads, strict=True):
        torch.testing.assert_close(grad, dense, rtol=1e-4, atol=1e-7)


def test_an_embedding_that_is_not_tied_or_is_frozen_is_left_alone(tiny):
    assert tied_embedding(build_model(tiny().model, Codec.build(), 0)) is None
    frozen = build_model(tiny("model.tie_embeddings=true").model, Codec.build(), 0)
    frozen.get_input_embeddings().weight.requires_grad = False
    assert tied_embedding(frozen) is None


def test_a_run_with_a_tied_embedding_takes_its_gradient_by_rows(tiny, monkeypatch):
    taken = []
    by_rows = trainer.gradient_by_rows
    monkeypatch.setattr(trainer, "gradient_by_rows", lambda e: taken.append(e) or by_rows(e))
    train(tiny("model.tie_embeddings=true", "train.steps=2", "name=small"), progress=False)
    assert taken == []
    monkeypatch.setattr(embedding_gradient, "LARGE", 0)
    train(tiny("model.tie_embeddings=true", "train.steps=2", "name=tied"), progress=False)
    assert len(taken) == 2


def test_the_learning_rate_rises_stays_and_falls_to_its_last_share(tiny):
    config = TrainConfig(steps=100, learning_rate=0.5, warmup=0.1, decay=0.4, min_lr_ratio=0.2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = make_schedule(optimizer, config)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:11] == pytest.approx([0.1 + 0.04 * i for i in range(11)])
    assert rates[10:61] == pytest.approx([0.5] * 51)
    cosine = [0.1 + 0.4 * (1 + math.cos(math.pi * i / 40)) / 2 for i in range(40)]
    assert rates[60:] == pytest.approx(cosine)


def test_a_schedule_that_starts_later_goes_on_as_if_it_had_not(tiny):
    config = TrainConfig(steps=50, learning_rate=0.5)
    whole = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = make_schedule(whole, config)
    for _ in range(33):
        whole.step()
        schedule.step()
    later = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    make_schedule(later, config, taken=33)
    assert later.param_groups[0]["lr"] == whole.param_groups[0]["lr"]


def test_weight_decay_is_on_matrices_only(tiny):
    model = build_model(tiny().model, Codec.build(), 0)
    groups = make_optimizer(model, TrainConfig(weight_decay=0.3)).param_groups
    decayed = {id(p) for g in groups if g["weight_decay"] == 0.3 for p in g["params"]}
    plain = {id(p) for g in groups if g["weight_decay"] == 0.0 for p in g["params"]}
    for name, p in model.named_parameters():
        assert id(p) in (plain if "norm" in name else decayed)
        assert id(p) not in (decayed if "norm" in name else plain)


def test_a_loss_that_is_not_finite_stops_with_step_tasks_and_lengths(tiny):
    overrides = ["train.learning_rate=1e30", "train.warmup=0", "train.max_grad_norm=null"]
    config = tiny(*overrides, "train.log_every=1")
    told = r"is (nan|inf) at step (\d+), on \d+ of capitalize_reverse \(length [1-8] to [1-8]\), \d+ of cap"
    with pytest.raises(TrainingError, match=told):
        train(config, progress=False)
    assert all(math.isfinite(line["loss"]) for line in lines(config.run_dir / "train.jsonl"))


def test_bf16_trains_and_stays_near_float32(tiny, tiny_run):
    run = train(tiny("train.precision=bf16"), progress=False).run_dir
    assert losses(run) == pytest.approx(losses(tiny_run), rel=0.02)
    assert losses(run) != losses(tiny_run)


def test_a_compiled_model_gives_the_same_losses(tiny, tiny_run):
    run = train(tiny("train.compile=true", "train.length_buckets=1"), progress=False).run_dir
    assert losses(run) == pytest.approx(losses(tiny_run), rel=2e-4)


def test_trackers_get_the_log(tiny):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tiny("train.trackers=[tensorboard]"), progress=False).run_dir
    files = list((run / "trackers").rglob("events.*"))
    tags = set()
    for file in files:
        events = EventAccumulator(str(file)).Reload()
        tags |= set(events.Tags()["scalars"])
        if "loss" in events.Tags()["scalars"]:
            logged = [(e.step, e.value) for e in events.Scalars("loss")]
    expected = [(line["step"], line["loss"]) for line in lines(run / "train.jsonl")]
    assert [step for step, _ in logged] == [step for step, _ in expected]
    assert [value for _, value in logged] == pytest.approx([value for _, value in expected])
    assert "exact_match/capitalize_reverse/length_004" in tags


def test_passes_draw_what_torchs_own_seed_would_let_them_draw():
    torch.manual_seed(2**62 + 3)
    wanted = torch.rand(4)
    torch.manual_seed(0)
    seed_generators(2**62 + 3, torch.device("cpu"))
    assert torch.equal(torch.rand(4), wanted)


def test_a_curriculum_begins_with_short_examples_and_resumes_exactly(tiny):
    whole = train(tiny("data.curriculum=0.5", "train.save_every=4", "name=whole"), progress=False).run_dir
    tokens = [line["tokens"] for line in lines(whole / "train.jsonl")]
    usual = train(tiny("name=usual"), progress=False).run_dir
    assert tokens[0] < lines(usual / "train.jsonl")[0]["tokens"]
    assert losses(whole) != losses(usual)
    shutil.rmtree(whole / "model")
    shutil.rmtree(max((whole / "checkpoints").iterdir()))
    kept = losses(whole)
    train(tiny("data.curriculum=0.5", "train.save_every=4", "name=whole"), progress=False)
    assert losses(whole) == kept


def test_a_curriculum_is_for_tasks_that_are_drawn(tiny):
    rows = ["data.source=dataset", "data.path=x", "data.tags=false", "data.curriculum=0.5"]
    with pytest.raises(ConfigError, match=r"data.curriculum: 0.5 is for data.source 'generated'"):
        tiny(*rows)
