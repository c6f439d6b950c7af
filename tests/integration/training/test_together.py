"""Runs trained together: each has the numbers, files and faults that it would have alone."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BloomConfig, GPTNeoXConfig, LlamaConfig, MistralConfig

from hf_lgt import ConfigError, load_config, train, train_together
from hf_lgt.checkpointing.checkpoints import list_checkpoints, verify
from hf_lgt.config.schema import TrainConfig
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import CPU_TOKENS, even_split
from hf_lgt.data.codec import Codec
from hf_lgt.data.policies import Policies
from hf_lgt.data.position_ids import Numbering
from hf_lgt.experiments.bundles import STACKED_FAMILIES, bundles
from hf_lgt.models.build import build_model
from hf_lgt.models.forward import answer_loss
from hf_lgt.models.packing import pack_split
from hf_lgt.training.accelerator import make_accelerator
from hf_lgt.training.optimizers import make_optimizer
from hf_lgt.training.stacked_batches import join_batches, packed_passes, padded_passes, run_losses
from hf_lgt.training.stacked_trainer import clip_each, fit_together
from hf_lgt.training.stacking import UnstackableError, stack, stacking_fault, unstack
from hf_lgt.training.step import TrainingRun
from hf_lgt.utils.errors import TrainingError
from hf_lgt.utils.run_lock import RunLock
from tests.conftest import ROOT
from tests.integration.models.test_packing import FAMILIES, SMALL
from tests.integration.workflows.test_train import interrupt, same_numbers, timeless

STACKED = {
    **{name: config for name, config in FAMILIES.items() if name != "gpt2"},
    "tied": LlamaConfig(**SMALL, tie_word_embeddings=True, pad_token_id=1),
    "bloom": BloomConfig(vocab_size=128, hidden_size=32, n_layer=2, n_head=4),
    "mistral": MistralConfig(**SMALL, sliding_window=4, num_key_value_heads=2),
}
UNPACKED = ("bloom", "mistral")
CPU = torch.device("cpu")


def make(config, seed):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config)


def batches_of(config, codec, runs, **more):
    """Batches of runs with data seeds of their own."""
    sources = [
        GeneratedSource(config.build_mixture(), codec, batch_size=16, seed=seed, **more)
        for seed in range(runs)
    ]
    return [own.batch(0) for own in sources]


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


@pytest.mark.parametrize(
    ("family", "packed"),
    # the last two are no models for packed rows, see test_packing.py
    [(family, packed) for family in STACKED for packed in ([False] if family in UNPACKED else [False, True])],
)
def test_losses_and_gradients_are_those_of_the_models_alone(family, packed, tiny, codec):
    models = [make(STACKED[family], seed) for seed in range(3)]
    assert stacking_fault(models) is None
    own = batches_of(tiny(), codec, 3)
    assert len({batch.tokens for batch in own}) == 3, "the runs differ in their lengths"
    stacked, joined = stack(models), join_batches(own)
    works = packed_passes(joined, 2, CPU) if packed else padded_passes(joined, 1, 3, CPU)
    assert len(works) == 2 + (not packed)
    together = sum(run_losses(stacked, work, 3) for work in works)
    together.sum().backward()
    for index, (model, batch) in enumerate(zip(models, own, strict=True)):
        alone = sum(answer_loss(model, work) for work in even_split(batch, 1, 3))
        alone.backward()
        assert together[index].item() == pytest.approx(alone.item(), rel=1e-6)
        for (name, p), q in zip(model.named_parameters(), stacked.parameters(), strict=True):
            torch.testing.assert_close(
                q.grad[index], p.grad, rtol=1e-4, atol=2e-5, msg=lambda m, n=name: n + m
            )


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_of_positions_and_halves_of_heads_are_each_runs_own(packed, tiny, codec):
    models = [build_model(tiny().model, codec, seed) for seed in range(2)]
    numbering = Numbering("randomized", 200)
    halves = None if packed else {"target": 0, "auxiliary": 1}
    own = batches_of(tiny(), codec, 2, policies=Policies(numbering, halves))
    joined = join_batches(own)
    works = packed_passes(joined, 1, CPU) if packed else padded_passes(joined, 1, 2, CPU)
    found = sum(run_losses(stack(models), work, 2) for work in works).tolist()
    wanted = [
        sum(answer_loss(m, w) for w in even_split(b, 1, 2)).item() for m, b in zip(models, own, strict=True)
    ]
    assert found == pytest.approx(wanted, rel=1e-6)
    plain = [dataclasses.replace(batch, positions=None) for batch in own]
    (work, *_) = padded_passes(join_batches(plain), 1, 1, CPU)
    assert run_losses(stack(models), work, 2).tolist() != pytest.approx(wanted, rel=1e-6)


def test_weights_come_back_and_shared_ones_stay_shared():
    models = [make(STACKED["tied"], seed) for seed in range(3)]
    stacked = stack(models)
    assert stacked.lm_head.weight is stacked.model.embed_tokens.weight
    assert sum(p.numel() for p in stacked.parameters()) == 3 * sum(p.numel() for p in models[0].parameters())
    other = unstack(stacked, 2, make(STACKED["tied"], 9))
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), models[2].parameters(), strict=True))
    models[0].lm_head.weight.data.zero_()
    assert stacked.lm_head.weight[0].abs().sum() > 0, "the models stay apart from it"


def test_the_row_of_padding_gets_no_gradient():
    models = [make(STACKED["tied"], seed) for seed in range(2)]
    stacked = stack(models)
    stacked.model.embed_tokens(torch.tensor([[1, 2], [3, 1]])).sum().backward()
    rows = stacked.model.embed_tokens.weight.grad.abs().sum(dim=2)
    assert [rows[0].nonzero().ravel().tolist(), rows[1].nonzero().ravel().tolist()] == [[2], [3]]


def test_what_cannot_be_stacked_is_reported():
    dropout = [make(GPTNeoXConfig(**SMALL, hidden_dropout=0.1), seed) for seed in range(2)]
    assert stacking_fault(dropout) == "GPTNeoXForCausalLM gives other logits that way, or has dropout"
    assert dropout[0].training == dropout[1].training
    learned = [make(FAMILIES["gpt2"], seed) for seed in range(2)]
    assert "GPT2LMHeadModel: transformer.h.0.attn.c_attn is a Conv1D" in stacking_fault(learned)
    with pytest.raises(UnstackableError, match="differ in their parameters"):
        stack([make(STACKED["llama"], 0), make(STACKED["grouped"], 0)])


def test_clipping_and_decay_are_each_runs_own():
    models = [make(STACKED["gpt_neox"], seed) for seed in range(3)]
    stacked = stack(models)
    for index, model in enumerate(models):
        for p, q in zip(model.parameters(), stacked.parameters(), strict=True):
            p.grad = torch.randn_like(p) * 10.0 ** (index - 3)
            q.grad = torch.zeros_like(q) if q.grad is None else q.grad
            q.grad[index] = p.grad
    norms = clip_each(stacked, 3, 0.5)
    for index, model in enumerate(models):
        assert norms[index].item() == pytest.approx(
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item(), rel=1e-5
        )
        for p, q in zip(model.parameters(), stacked.parameters(), strict=True):
            torch.testing.assert_close(q.grad[index], p.grad, rtol=1e-5, atol=1e-8)
    assert (norms < 0.5).tolist() == [True, False, False], "one is not clipped, two are"
    alone, together = make_optimizer(models[0], TrainConfig()), make_optimizer(stacked, TrainConfig(), 1)
    assert [len(group["params"]) for group in alone.param_groups] == [
        len(group["params"]) for group in together.param_groups
    ]


def three(tiny, name, *overrides):
    return [tiny(f"name={name}", f"seed.init={seed}", *overrides) for seed in range(3)]


def weights_of(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three finished runs that were trained together; tests must leave them as they are."""
    from tests.conftest import TINY

    out = tmp_path_factory.mktemp("together")
    base = ROOT / "recipes/demo/transfer.yaml"
    configs = [
        load_config(base, [*TINY, f"output_dir={out}", f"seed.init={seed}", "name=runs"]) for seed in range(3)
    ]
    return [result.run_dir for result in train_together(configs, progress=False)]


@pytest.fixture
def again(tiny, trained):
    """Configs of runs with copies of the finished ones' folders."""
    configs = three(tiny, "runs")
    for config, run_dir in zip(configs, trained, strict=True):
        shutil.copytree(run_dir, config.run_dir)
    return configs


def close(a, b):
    """Whether two runs have the same numbers up to floating-point error, and the same files."""
    files = [sorted(p.relative_to(run).as_posix() for p in run.rglob("*")) for run in (a, b)]
    assert files[0] == files[1]
    for one, other in zip(timeless(a), timeless(b), strict=True):
        assert one.pop("loss") == pytest.approx(other.pop("loss"), rel=1e-5)
        assert one == other
    evaluated = [list(map(json.loads, (run / "eval.jsonl").read_text().splitlines())) for run in (a, b)]
    for one, other in zip(*evaluated, strict=True):
        assert one["token_accuracy"] == pytest.approx(other["token_accuracy"], abs=2e-3)
        assert [one[k] for k in ("step", "task", "length", "n")] == [
            other[k] for k in ("step", "task", "length", "n")
        ]
    for step, path in list_checkpoints(a):
        verify(path)
        for name, wanted in weights_of(path).items():
            found = weights_of(b / path.relative_to(a))[name]
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
        both = [torch.load(run / path.relative_to(a) / "optimizer.pt", weights_only=True) for run in (a, b)]
        assert both[0]["param_groups"] == both[1]["param_groups"], step
        assert both[0]["state"].keys() == both[1]["state"].keys()
    return True


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_each_run_is_what_it_would_be_alone(tiny, trained, layout):
    together = trained
    if layout == "packed":
        configs = three(tiny, "packed", "train.layout=packed")
        together = [result.run_dir for result in train_together(configs, progress=False)]
    for seed, run_dir in enumerate(together):
        config = tiny(f"seed.init={seed}", "name=alone", f"train.layout={layout}")
        alone = train(config, progress=False).run_dir
        assert close(run_dir, alone)
        recorded = [json.loads((run / "environment.json").read_text()) for run in (run_dir, alone)]
        assert [environment["runs_together"] for environment in recorded] == [3, 1]
    assert timeless(together[0]) != timeless(together[1])


def test_arms_and_data_seeds_may_differ(tiny):
    mixture = "[{task: reverse, role: target, lengths: [1, 5], options: {alphabet: abcd}}]"
    configs = [
        tiny("name=a", "seed.data=1"),
        tiny("name=b", f"mixture={mixture}", "eval.lengths=[2,4]", "seed.init=3"),
    ]
    results = train_together(configs, progress=False)
    for config, result in zip(configs, results, strict=True):
        alone = train(dataclasses.replace(config, name=f"{config.name}-alone"), progress=False)
        assert close(result.run_dir, alone.run_dir)
        assert [r.task for r in result.records] == [r.task for r in alone.records]


@pytest.mark.parametrize("steps", [(6, 6, 6), (6, 0, 6)])
def test_interrupted_runs_go_on_to_the_same_bits(again, trained, steps, news):
    for config, step in zip(again, steps, strict=True):
        interrupt(config.run_dir, step)
    train_together(again, progress=False)
    assert [f"resumes from step {step}" in line for line, step in zip(news, steps, strict=True)] == [True] * 3
    for config, run_dir in zip(again, trained, strict=True):
        assert same_numbers(config.run_dir, run_dir)


def test_a_run_goes_on_alone(again, trained):
    interrupt(again[1].run_dir, 6)
    train(again[1], progress=False)
    assert close(again[1].run_dir, trained[1])


def test_finished_runs_are_kept(again):
    before = {path: path.stat().st_mtime_ns for path in again[0].run_dir.rglob("*")}
    shutil.rmtree(again[2].run_dir)
    results = train_together(again, progress=False)
    assert {path: path.stat().st_mtime_ns for path in again[0].run_dir.rglob("*")} == before
    assert [result.run_dir for result in results] == [config.run_dir for config in again]
    assert all((config.run_dir / "model").is_dir() for config in again)
    with pytest.raises(ConfigError, match="another config"):
        train_together([dataclasses.replace(c, eval=dataclasses.replace(c.eval, seed=5)) for c in again])


def test_a_run_that_goes_wrong_leaves_the_others_as_they_are(tiny, codec):
    configs = three(tiny, "runs")
    data = GeneratedSource(configs[0].build_mixture(), codec, batch_size=32, seed=0)

    def members(broken):
        evaluated.clear()
        for seed, config in enumerate(configs):
            model = build_model(config.model, codec, seed)
            if broken and seed == 1:
                model.lm_head.weight.data[5] = float("nan")
            config.run_dir.mkdir(parents=True)
            yield TrainingRun(
                config, model, codec, data, lambda model, step, last, s=seed: evaluated.append((s, step))
            )

    evaluated = []
    fine = list(members(False))
    assert fit_together(fine, Accelerator(), progress=False) == [None] * 3
    assert evaluated == [(s, step) for step in (6, 12) for s in range(3)]
    for config in configs:
        shutil.rmtree(config.run_dir)
    broken = list(members(True))
    errors = fit_together(broken, Accelerator(), progress=False)
    assert [errors[0], errors[2]] == [None, None]
    assert isinstance(errors[1], TrainingError)
    assert "the loss is nan at step 1, on " in str(errors[1])
    assert evaluated == [(s, step) for step in (6, 12) for s in (0, 2)]
    assert list_checkpoints(configs[1].run_dir) == []
    for index in (0, 2):
        pairs = zip(fine[index].model.parameters(), broken[index].model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_runs_that_go_wrong_are_reported_and_the_others_are_finished(tiny, monkeypatch):
    configs = three(tiny, "runs")
    real = build_model

    def with_nan(config, codec, seed):
        model = real(config, codec, seed)
        if seed == 2:
            model.model.norm.weight.data[0] = float("nan")
        return model

    monkeypatch.setattr("hf_lgt.workflows.setup.build_model", with_nan)
    with pytest.raises(TrainingError, match=r"1 of 3 runs went wrong:\n.*seed-2: the loss is nan at step 1"):
        train_together(configs, progress=False)
    assert [(config.run_dir / "model").is_dir() for config in configs] == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("train.learning_rate=0.5",), r"train\.learning_rate: is 0\.002 and 0\.5; runs that are trained"),
        (("model.layers=3",), r"model\.layers: is 1 and 3"),
        (("seed.init=0",), r"name: 2 runs have the folder"),
    ],
)
def test_runs_that_do_not_suit_each_other_are_refused(tiny, changes, told):
    configs = [tiny("seed.init=0"), tiny("seed.init=1", *changes)]
    with pytest.raises(ConfigError, match=told):
        train_together(configs)
    assert not configs[0].run_dir.exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.compile=true", r"train\.compile: true is not for runs that are trained together"),
        ("train.gradient_checkpointing=true", r"train\.gradient_checkpointing"),
        ("train.precision=fp16", r"train\.precision: 'fp16'"),
        ("train.trackers=[tensorboard]", r"train\.trackers"),
    ],
)
def test_settings_that_are_for_single_runs_are_refused(tiny, override, told):
    configs = [tiny(f"seed.init={seed}", override) for seed in (0, 1)]
    with pytest.raises(ConfigError, match=told):
        train_together(configs)
    assert not configs[0].run_dir.exists()


def test_another_vocabulary_is_refused_before_a_folder_is_made(tiny):
    maze = "[{task: dfs_trace, role: target, lengths: [2, 4], options: {side: 4}}]"
    configs = [tiny("name=a"), tiny("name=b", f"mixture={maze}", "eval.lengths=[2,4]")]
    with pytest.raises(ConfigError, match=r"mixture: b has another vocabulary than a"):
        train_together(configs)
    assert not any(config.run_dir.exists() for config in configs)


def test_passes_hold_every_token_of_every_run_once(tiny, codec):
    own = batches_of(tiny(), codec, 3)
    joined = join_batches(own)
    wanted = [sorted(ids[:n].tolist() for ids, n in zip(b.ids, b.lengths, strict=True)) for b in own]
    found = [
        sorted(ids[ids != 0].tolist() for ids in joined.ids[run]) for run in range(3)
    ]  # no token but padding is 0
    assert found == wanted
    scored = sum(int((work.labels >= 0).sum()) for work in packed_passes(joined, 3, CPU))
    assert scored == sum(b.answer_tokens for b in own)
    assert np.all(joined.lengths == np.max([np.sort(b.lengths) for b in own], axis=0))


def test_passes_lie_in_one_piece(tiny, codec):
    own = batches_of(tiny(), codec, 2, policies=Policies(Numbering("randomized", 200)))
    works = [*padded_passes(join_batches(own), 1, 3, CPU), *packed_passes(join_batches(own), 2, CPU)]
    works += [*even_split(own[0], 1, 3), *pack_split(own[0], 2)]
    for work in works:
        parts = [getattr(work, field.name) for field in dataclasses.fields(work)]
        assert all(part.is_contiguous() for part in parts if isinstance(part, torch.Tensor))


def test_passes_of_equal_lengths_are_bounded_too(tiny, codec):
    config = tiny("mixture=[{task: reverse, role: target, lengths: [8, 8]}]", "eval.lengths=[8,8]")
    own = [batch.take(np.arange(160) % 16) for batch in batches_of(config, codec, 8)]
    works = padded_passes(join_batches(own), 1, 1, CPU)
    assert len(works) > 4
    assert max(work.input_ids.numel() for work in works) <= CPU_TOKENS
    assert sum(work.input_ids.shape[0] for work in works) == 8 * 160


def test_bf16_is_that_of_runs_alone(tiny):
    settings = ["train.precision=bf16", "train.steps=6", "train.learning_rate=1.0e-2"]
    together = train_together(three(tiny, "bf", *settings), progress=False)
    for seed, result in enumerate(together):
        alone = train(tiny("name=alone", f"seed.init={seed}", *settings), progress=False)
        pairs = zip(result.records, alone.records, strict=True)
        assert max(abs(a.token_accuracy - b.token_accuracy) for a, b in pairs) < 0.02
        loss, other = (timeless(r.run_dir)[-1]["loss"] for r in (result, alone))
        assert loss == pytest.approx(other, rel=1e-2)


def test_evaluation_has_the_precision_of_training(tiny, codec):
    config = tiny("train.precision=bf16", "train.steps=1")
    config.run_dir.mkdir(parents=True)
    seen = []

    def note(model, step, last):
        seen.append(model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=False).logits.dtype)

    data = GeneratedSource(config.build_mixture(), codec, batch_size=32, seed=0)
    member = TrainingRun(config, build_model(config.model, codec, 0), codec, data, note)
    fit_together([member], make_accelerator(config), progress=False)
    assert seen == [torch.bfloat16]


def test_a_run_that_another_process_writes_is_left_out(tiny):
    configs = three(tiny, "runs")
    lock = RunLock.acquire(configs[1].run_dir)
    try:
        with pytest.raises(TrainingError, match=r"1 of 3 runs went wrong:\n.*seed-1: .*another"):
            train_together(configs, progress=False)
    finally:
        lock.release()
    assert [(config.run_dir / "model").is_dir() for config in configs] == [True, False, True]
    lock = RunLock.acquire(configs[1].run_dir)
    try:
        with pytest.raises(ConfigError, match="another"):
            train_together(configs, progress=False)
    finally:
        lock.release()


def test_nothing_is_removed_where_one_run_is_refused(again):
    shutil.rmtree(again[1].run_dir)
    again[1].run_dir.mkdir()
    (again[1].run_dir / "thesis.txt").write_text("mine")
    before = sorted(again[0].run_dir.rglob("*"))
    with pytest.raises(ConfigError, match="holds files that are no run"):
        train_together(again, overwrite=True, progress=False)
    assert sorted(again[0].run_dir.rglob("*")) == before
    assert (again[1].run_dir / "thesis.txt").read_text() == "mine"


@dataclasses.dataclass(frozen=True)
class Planned:
    config: object
    log: str = "run.log"
    arguments: tuple = ("alone",)

    @property
    def config_file(self):
        return Path(f"{self.config.name}.yaml")


def test_runs_are_put_together_by_shape_and_vocabulary(tiny):
    maze = "mixture=[{{task: dfs_trace, role: target, lengths: [2, 4], options: {{side: {side}}}}}]"
    configs = [
        *(tiny(f"seed.init={seed}") for seed in range(5)),
        tiny("name=wide", "model.hidden_size=64"),
        *(tiny(f"name=maze{k}", maze.format(side=k), "eval.lengths=[2,4]") for k in (3, 4)),
        tiny("name=alone", "mixture=[{task: reverse, role: target, lengths: [1, 4]}]", "eval.lengths=[1,4]"),
    ]
    made = bundles([Planned(config) for config in configs], 3)
    names = [[f"{run.config.name}-{run.config.seed.init}" for run in bundle.runs] for bundle in made]
    assert names == [["tiny-0", "tiny-1", "tiny-2"], ["tiny-3", "tiny-4", "alone-0"],
                     ["wide-0"], ["maze3-0"], ["maze4-0"]]  # fmt: skip
    assert made[1].arguments == ("--config", "tiny.yaml", "tiny.yaml", "alone.yaml")
    assert made[2].arguments == ("alone",)


def test_runs_that_cannot_be_stacked_have_bundles_of_their_own(tiny):
    configs = [
        *(tiny(f"seed.init={seed}") for seed in range(2)),
        *(tiny(f"seed.init={seed}", "model.architecture=gpt2") for seed in range(2)),
        *(tiny(f"seed.init={seed}", "train.self_improvement.rounds=2") for seed in range(2)),
    ]
    made = bundles([Planned(config) for config in configs], 3)
    assert [len(bundle.runs) for bundle in made] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize("family", STACKED_FAMILIES)
def test_families_that_are_put_together_can_be(tiny, family):
    more = {
        "bloom": ["model.positions=alibi", "model.intermediate_size=128"],
        "gpt_neox": ["model.hidden_size=64"],
    }.get(family, [])
    config, codec = tiny(f"model.architecture={family}", *more), Codec.build()
    assert stacking_fault([build_model(config.model, codec, seed) for seed in range(2)]) is None


def test_without_the_option_every_run_is_welcome(tiny):
    runs = [Planned(tiny(f"seed.init={seed}", "train.compile=true")) for seed in range(2)]
    assert [len(bundle.runs) for bundle in bundles(runs, 1)] == [1, 1]
    with pytest.raises(ConfigError, match=r"--together: train\.compile: true is not for runs"):
        bundles(runs, 2)
