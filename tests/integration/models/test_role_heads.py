"""Heads by role: which an example may use, the batches that say so, and what a model makes of them."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from data_builders import Component, Mixture, get_task
from data_builders.sampling import stream
from hf_lgt import load_config, train
from hf_lgt.analysis.ablation import ablation_map, head_means, score, score_without
from hf_lgt.analysis.attention import attention_means
from hf_lgt.analysis.patching import patch_map
from hf_lgt.config.schema import HALVES, ModelConfig, TrainConfig
from hf_lgt.data.batch_sources import DatasetSource, GeneratedSource
from hf_lgt.data.batching import Pass, even_split, make_pass
from hf_lgt.data.build import prepare_data
from hf_lgt.data.codec import Codec
from hf_lgt.data.eval_sets import DatasetTests, GeneratedTests
from hf_lgt.data.hub_rows import TokenRows
from hf_lgt.data.policies import Policies
from hf_lgt.data.position_ids import Numbering, numbering_of
from hf_lgt.evaluation.generation import check_generation, generate_answers
from hf_lgt.evaluation.harness import EvaluationOptions, evaluate
from hf_lgt.experiments.controls import arm_settings
from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.spec import load_comparison
from hf_lgt.models.build import build_model, require_policies
from hf_lgt.models.forward import logits_of
from hf_lgt.models.heads import find_heads, require_halves, usable, within_halves
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT
from tests.integration.models.test_packing import take_gradient
from tests.support import tiny_pretraining
from tests.unit.models.test_heads import batch_of, model_of

DEMO = ROOT / "recipes/demo/transfer.yaml"
# the target is neither the first nor the last
MIXTURE = Mixture(
    [
        Component("no_carry", "auxiliary", (1, 7)),
        Component("reverse_add", "target", (1, 4)),
        Component("reverse_subtract", "auxiliary", (1, 7)),
    ]
)

SIZES = {"layers": 2, "hidden_size": 32, "heads": 4, "intermediate_size": 64, "initializer_range": 0.3}
HALF = ((0, 1), (2, 3))
"""half -> its heads, of four"""
POLICIES = {
    "all": None,
    "disjoint": {"target": 0, "auxiliary": 1},
    "shared": {"target": 0, "auxiliary": 0},
}


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


def columns(model, layer, head, grad=False):
    """The weights that read what a head writes, or their gradient."""
    heads = find_heads(model)
    projection = heads.projections[layer]
    weight = projection.weight.grad if grad else projection.weight.data
    weight = weight.T if isinstance(projection, Conv1D) else weight
    return weight.chunk(heads.count, dim=1)[head]


def of_half(model, half):
    """A copy in which nothing reads the heads of the other half."""
    other = copy.deepcopy(model)
    for layer, head in find_heads(other).every:
        if head not in HALF[half]:
            columns(other, layer, head).zero_()
    return other


def said_of(halves, batch):
    """The batch with what its examples may use."""
    return dataclasses.replace(batch, halves=np.array(halves))


# ---------------------------------------------------------------------------- which heads


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (2, [[1, 0], [0, 1], [1, 0]]),
        (4, [[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]]),
        (3, [[1, 0, 0], [0, 1, 0], [1, 0, 0]]),
        (5, [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 1, 0, 0, 0]]),
    ],
)
def test_a_half_is_the_first_heads_or_the_next_as_many(count, expected):
    found = usable(count, torch.tensor([0, 1, 0]))
    assert found.dtype == torch.bool
    assert found.tolist() == np.array(expected, dtype=bool).tolist()


def test_roles_have_the_halves_that_the_policy_says():
    assert HALVES == POLICIES


ODD = {"num_attention_heads": 3, "hidden_size": 24}
KINDS = ("llama", "gpt_neox", "gpt2", "bloom")


@pytest.mark.parametrize(
    ("kind", "sizes", "half"),
    [*((kind, {}, HALF) for kind in KINDS), ("llama", ODD, ((0,), (1,))), ("gpt_neox", ODD, ((0,), (1,)))],
)
def test_an_example_depends_on_the_heads_of_its_half_and_on_no_other(kind, sizes, half):
    model, halves = model_of(kind, **sizes), [0, 1, 1, 0]
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 24, (4, 7)))
    work = Pass(ids, torch.arange(7), ids, None, torch.tensor(halves))
    usual = dataclasses.replace(work, halves=None)

    def differ(one, two):
        return (one != two).flatten(1).any(dim=1).tolist()

    with torch.no_grad():
        before, within = logits_of(model, usual), logits_of(model, work)
        assert differ(before, within) == [True] * 4
        for layer, head in find_heads(model).every:
            columns(model, layer, head).neg_()
            assert differ(logits_of(model, usual), before) == [True] * 4
            assert differ(logits_of(model, work), within) == [head in half[own] for own in halves]
            columns(model, layer, head).neg_()
        assert torch.equal(logits_of(model, usual), before)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_heads_come_back_after_an_error_too():
    model = model_of("llama")
    with pytest.raises(ZeroDivisionError), within_halves(model, torch.tensor([0])):
        raise ZeroDivisionError
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_rows_of_a_padded_batch_have_the_logits_of_the_copy_of_their_half():
    model = model_of("llama")
    batch = said_of([0, 1] * 6, batch_of(model))
    work = make_pass(batch, np.arange(12))
    usual = dataclasses.replace(work, halves=None)
    with torch.no_grad():
        found = logits_of(model, work)
        for half in (0, 1):
            assert torch.equal(found[half::2], logits_of(of_half(model, half), usual)[half::2])


# ---------------------------------------------------------------------------- training


def source(codec, policy, batch_size=24):
    return GeneratedSource(
        MIXTURE, codec, batch_size=batch_size, seed=5, policies=Policies(halves=HALVES[policy])
    )


def of_targets(codec, batch, task="reverse_add"):
    """Which rows are of the target, by their tags."""
    return batch.ids[:, 1] == codec.tokenizer.convert_tokens_to_ids(f"<{task}>")


@pytest.mark.parametrize(
    ("policy", "role", "half"),
    [("disjoint", "target", 0), ("disjoint", "auxiliary", 1), ("shared", "auxiliary", 0)],
)
def test_a_role_trains_its_own_heads_alone(codec, policy, role, half):
    model = build_model(ModelConfig(**SIZES), codec, 1)
    batch = source(codec, policy).batch(0)
    only = batch.take(np.flatnonzero(of_targets(codec, batch) == (role == "target")))
    assert 0 < len(only.lengths) < 24
    take_gradient(model, only, TrainConfig(gradient_accumulation_steps=2, length_buckets=4))
    for layer, head in find_heads(model).every:
        attention = model.model.layers[layer].self_attn
        read = [getattr(attention, f"{name}_proj").weight.grad.chunk(4)[head] for name in "qkv"]
        for grad in [*read, columns(model, layer, head, grad=True)]:
            assert bool((grad != 0).any()) == (head in HALF[half])


def test_in_a_batch_of_both_roles_each_example_gives_the_gradient_of_its_own_half(codec):
    model = build_model(ModelConfig(**SIZES), codec, 1)
    batch = source(codec, "disjoint").batch(0)
    take_gradient(model, batch, TrainConfig(length_buckets=3))
    expected = 0
    for half, rows in enumerate([of_targets(codec, batch), ~of_targets(codec, batch)]):
        other = of_half(model, half)
        other.zero_grad()
        part = dataclasses.replace(batch.take(np.flatnonzero(rows)), halves=None)
        take_gradient(other, part, TrainConfig())
        # `backward` divides by the tokens of its own batch
        grad = other.get_input_embeddings().weight.grad
        expected += grad * part.answer_tokens / batch.answer_tokens
    torch.testing.assert_close(model.get_input_embeddings().weight.grad, expected, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------- batches


@pytest.fixture
def table(codec):
    """A dataset's rows: tokens of 20 sums of each task, task after task."""
    ids, lengths, scored, prompts = [], [], [], []
    for component in MIXTURE.components:
        sample = get_task(component.task).sample(stream(0, "a test"), 3, 20, operands="equal")
        encoded = codec.encode(sample, component.task)
        inside = np.arange(encoded.ids.shape[1]) < encoded.lengths[:, None]
        ids.append(encoded.ids[inside])
        scored.append(encoded.scored[inside])
        lengths.append(encoded.lengths)
        prompts.append(encoded.scored.argmax(axis=1))
    return TokenRows(
        ids=np.concatenate(ids).astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
        scored=np.concatenate(scored),
        prompt_tokens=np.concatenate(prompts),
        task=np.repeat(np.arange(3), 20),
        length=np.full(60, 3),
        prompt_hash=np.arange(60, dtype=np.uint64),
        tasks=tuple(c.task for c in MIXTURE.components),
    )


# in another order than the table's, in unequal shares
PARTS = [
    SimpleNamespace(task=task, lengths=(1, 4), weight=weight, role=role)
    for task, weight, role in [
        ("reverse_subtract", 1.0, "auxiliary"),
        ("reverse_add", 2.0, "target"),
        ("no_carry", 1.5, "auxiliary"),
    ]
]


@pytest.mark.parametrize("kind", ["generated", "dataset"])
def test_every_row_of_a_batch_has_the_half_of_its_role(codec, table, kind):
    def batch(policy, step):
        if kind == "generated":
            return source(codec, policy).batch(step)
        made = DatasetSource(
            table, PARTS, batch_size=7, seed=2, pad_id=0, policies=Policies(halves=HALVES[policy])
        )
        return made.batch(step)

    for step in range(4):
        found, usual = batch("disjoint", step), batch("all", step)
        assert usual.halves is None
        assert np.array_equal(found.ids, usual.ids)
        assert found.halves.tolist() == np.where(of_targets(codec, usual), 0, 1).tolist()
        assert set(found.halves) == {0, 1}
        assert batch("shared", step).halves.tolist() == [0] * len(usual.lengths)


@pytest.mark.parametrize("kind", ["generated", "dataset"])
def test_every_row_of_a_test_set_has_the_half_of_its_role(codec, table, kind):
    def tests(policy):
        if kind == "generated":
            return GeneratedTests(
                codec,
                MIXTURE.components,
                [2, 3],
                examples=5,
                seed=1,
                policies=Policies(halves=HALVES[policy]),
            )
        return DatasetTests(
            codec, table, PARTS, examples=5, seed=1, trained=None, policies=Policies(halves=HALVES[policy])
        )

    assert {cell.role for cell in tests("all").cells} == {"target", "auxiliary"}
    for cell in tests("all").cells:
        usual, found, shared = (tests(policy).examples(cell).batch for policy in POLICIES)
        assert usual.halves is None
        assert found.halves.tolist() == [int(cell.role == "auxiliary")] * 5
        assert shared.halves.tolist() == [0] * 5
        assert np.array_equal(found.ids, usual.ids)


@pytest.mark.parametrize("pieces", [1, 3])
def test_rows_and_halves_stay_together_on_every_process(codec, pieces):
    batch = source(codec, "disjoint").batch(3)

    def seen(rank, world):
        rows = []
        for work in even_split(batch, pieces, 4, rank, world):
            for ids, half in zip(work.input_ids.tolist(), work.halves.tolist(), strict=True):
                rows.append((ids[: ids.index(codec.eos_id)] if codec.eos_id in ids else ids, half))
        return sorted(rows)

    expected = sorted(
        (batch.ids[i, : n - 1].tolist(), half)
        for i, (n, half) in enumerate(zip(batch.lengths.tolist(), batch.halves.tolist(), strict=True))
    )
    assert {half for _, half in expected} == {0, 1}
    assert seen(0, 1) == expected
    assert sorted(seen(0, 2) + seen(1, 2)) == expected


def test_some_rows_are_taken_with_their_halves(codec):
    batch, order = source(codec, "disjoint").batch(3), np.array([20, 3, 3, 11, 0])
    taken = batch.take(order)
    assert taken.halves.tolist() == [batch.halves[i] for i in order]
    assert taken.halves.tolist() == np.where(of_targets(codec, taken), 0, 1).tolist()
    assert make_pass(batch, order).halves.tolist() == taken.halves.tolist()
    assert make_pass(batch, order).to(torch.device("cpu")).halves.tolist() == taken.halves.tolist()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_key_of_a_config_reaches_training_and_tests(tiny, policy):
    data = prepare_data(tiny(f"model.role_heads={policy}", "eval.lengths=[2,3]"), None)
    batch, half = data.source.batch(0), POLICIES[policy]
    cells = {cell: data.tests.examples(cell).batch.halves for cell in data.tests.cells}
    assert len(cells) == 6
    if half is None:
        assert batch.halves is None
        assert set(cells.values()) == {None}
        return
    of_target = of_targets(data.codec, batch, "capitalize_reverse")
    assert batch.halves.tolist() == np.where(of_target, half["target"], half["auxiliary"]).tolist()
    assert {cell.role: set(halves) for cell, halves in cells.items()} == {
        role: {own} for role, own in half.items()
    }


# ---------------------------------------------------------------------------- evaluation and generation

COPIES, SUMS = (
    Component("copy_first_op", "target", (1, 2), options={"base": 2}),
    Component("no_carry", "auxiliary", (1, 3), options={"base": 2}),
)
TRAINED = [
    "mixture=[{task: copy_first_op, role: target, lengths: [1, 2], options: {base: 2}},"
    "{task: no_carry, role: auxiliary, lengths: [1, 3], options: {base: 2}}]",
    "model={layers: 2, hidden_size: 32, heads: 4, intermediate_size: 128, max_positions: 40}",
    "model.role_heads=disjoint",
    "train={steps: 300, batch_size: 64, learning_rate: 5e-3, eval_every: null, save_every: null}",
    "train.length_buckets=1",
    "eval={lengths: [1, 4], examples: 16}",
]


@pytest.fixture(scope="module", params=["sequential", "randomized"])
def learned(request, tmp_path_factory):
    """A model of disjoint heads that has learned some lengths and not others, and its positions."""
    from transformers import AutoModelForCausalLM

    out = tmp_path_factory.mktemp("learned")
    config = load_config(DEMO, [*TRAINED, f"model.position_ids={request.param}", f"output_dir={out}"])
    run = train(config, progress=False).run_dir
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    return model, Codec.load(run / "model"), numbering_of(config.model, config.model.position_limit)


def test_an_evaluation_is_that_of_the_copies_without_the_other_heads(learned):
    model, codec, numbering = learned

    def records(model, components, halves=None):
        return evaluate(
            model,
            codec,
            components,
            [1, 2, 3, 5],
            examples=60,
            options=EvaluationOptions(policies=Policies(numbering, halves)),
        )

    found = records(model, [COPIES, SUMS], HALVES["disjoint"])
    assert found == records(of_half(model, 0), [COPIES]) + records(of_half(model, 1), [SUMS])
    assert found != records(model, [COPIES, SUMS]) != records(model, [COPIES, SUMS], HALVES["shared"])
    shares = [record.exact_match for record in found]
    assert max(shares) > 0.5 > min(shares)


def test_generation_and_teacher_forcing_agree_within_halves(learned):
    model, codec, numbering = learned
    tests = GeneratedTests(
        codec,
        [COPIES, SUMS],
        [1, 2, 5],
        examples=60,
        seed=2,
        policies=Policies(numbering, HALVES["disjoint"]),
    )
    usual = GeneratedTests(
        codec, [COPIES, SUMS], [1, 2, 5], examples=60, seed=2, policies=Policies(numbering)
    )
    shares, others = [], []
    for cell in tests.cells:
        found = check_generation(model, tests, cell)
        assert (found.disagreements, found.widest_margin) == (0, None)
        assert found.teacher_forced == found.generated
        shares.append(found.generated)
        others.append(check_generation(model, usual, cell).generated)
    assert max(shares) > 0.5 > min(shares)
    assert shares != others


def test_each_row_is_answered_by_the_heads_of_its_own_half(learned):
    model, codec, numbering = learned
    tests = GeneratedTests(codec, [COPIES], [4], examples=14, seed=2, policies=Policies(numbering))
    usual = tests.examples(tests.cells[0]).batch
    halves = np.random.default_rng(0).integers(0, 2, 14)
    rows = np.array([9, 0, 13, 4, 2, 7, 1, 5])
    found = generate_answers(model, said_of(halves, usual), rows, codec, slack=2)
    alone = [generate_answers(of_half(model, half), usual, rows, codec, slack=2) for half in (0, 1)]
    assert alone[0] != alone[1]
    assert found == [alone[halves[row]][i] for i, row in enumerate(rows.tolist())]


def test_the_policies_of_positions_and_of_heads_are_followed_together(codec):
    numbering = Numbering("randomized", 60)
    made = GeneratedSource(
        MIXTURE, codec, batch_size=8, seed=5, policies=Policies(numbering, HALVES["disjoint"])
    )
    model, batch = build_model(ModelConfig(**SIZES), codec, 1).eval(), made.batch(0)
    whole = make_pass(batch, np.arange(8))
    with torch.no_grad():
        found = logits_of(model, whole)
        for half in (0, 1):
            mine = torch.from_numpy(batch.halves == half)
            expected = logits_of(of_half(model, half), dataclasses.replace(whole, halves=None))
            assert torch.equal(found[mine], expected[mine])
        other = logits_of(model, dataclasses.replace(whole, position_ids=None))
    assert not torch.allclose(found, other, atol=1e-3)


# ---------------------------------------------------------------------------- analysis


@pytest.mark.parametrize("half", [0, 1])
def test_heads_that_a_batch_may_not_use_cost_nothing(half):
    model = model_of("llama")
    copied = of_half(model, half)
    usual = batch_of(copied)
    batch = said_of([half] * 12, usual)
    assert score(model, usual) != score(model, batch) == (1.0, 1.0)
    torch.testing.assert_close(head_means(model, batch), head_means(copied, usual), rtol=0, atol=0)
    for size in (65_536, 40):
        found, expected = ablation_map(model, batch, batch_tokens=size), ablation_map(copied, usual)
        unused = [head for head in range(4) if head not in HALF[half]]
        assert (found.exact_lost[:, unused] == 0).all()
        assert (found.tokens_lost[:, unused] == 0).all()
        assert (found.tokens_lost[:, HALF[half]] > 0).any()
        np.testing.assert_array_equal(found.exact_without, expected.exact_without)
        np.testing.assert_array_equal(found.tokens_without, expected.tokens_without)
    np.testing.assert_array_equal(attention_means(model, batch), attention_means(copied, usual))
    assert not np.array_equal(attention_means(model, batch), attention_means(model, usual))


def test_a_map_over_both_halves_is_that_of_one_head_after_the_other():
    model = model_of("llama")
    batch = said_of([0, 0, 1, 0, 1, 1] * 2, batch_of(of_half(model, 0)))
    for size in (65_536, 40):
        found = ablation_map(model, batch, batch_tokens=size)
        assert len(np.unique(found.tokens_without)) > 4  # else there is nothing to agree on
        for layer, head in find_heads(model).every:
            one = score_without(model, batch, [(layer, head)], batch_tokens=size)
            assert one == (found.exact_without[layer, head], found.tokens_without[layer, head])


def test_patching_keeps_to_the_halves_too():
    model, donor = model_of("llama"), of_half(model_of("llama"), 0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for projection in find_heads(donor).projections:
            projection.weight.data += 0.2 * torch.randn_like(projection.weight)
    usual = batch_of(donor)
    batch = said_of([0] * 12, usual)
    found = patch_map(model, donor, batch, batch_tokens=50)
    assert (found.by_head[:, 2:] == found.receiver).all()
    expected = patch_map(of_half(model, 0), of_half(donor, 0), usual)
    assert (found.receiver, found.donor) == (expected.receiver, expected.donor)
    np.testing.assert_array_equal(found.by_head, expected.by_head)
    assert len(np.unique(found.by_head)) > 2


# ---------------------------------------------------------------------------- configs and arms


@pytest.mark.parametrize("policy", ["disjoint", "shared"])
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.heads=1", "model.role_heads: {!r} takes two heads a layer; model.heads is 1"),
        (
            "train.compile=true",
            "model.role_heads: {!r} works without train.compile only; set that to false",
        ),
        (
            "train.gradient_checkpointing=true",
            "model.role_heads: {!r} works without train.gradient_checkpointing only; set that to false",
        ),
    ],
)
def test_what_heads_by_role_cannot_have_is_reported(policy, override, told):
    load_config(DEMO, [override])
    load_config(DEMO, [f"model.role_heads={policy}"])
    with pytest.raises(ConfigError) as caught:
        load_config(DEMO, [override, f"model.role_heads={policy}"])
    assert caught.value.faults == [told.format(policy)]


def test_a_policy_that_is_none_is_reported_with_those_that_are():
    with pytest.raises(ConfigError) as caught:
        load_config(DEMO, ["model.role_heads=disjont"])
    assert caught.value.faults == ["model.role_heads: 'disjont' must be 'all', 'disjoint' or 'shared'"]


def test_a_model_of_one_head_or_of_an_unknown_family_is_refused(monkeypatch):
    model = model_of("llama", num_attention_heads=1)
    require_halves("all", model)
    require_halves("disjoint", model_of("llama", num_attention_heads=2))
    for policy in ("disjoint", "shared"):
        told = f"^model.role_heads: '{policy}' takes two heads a layer; the model has 1$"
        with pytest.raises(ConfigError, match=told):
            require_halves(policy, model)
        with pytest.raises(ConfigError, match=told):
            require_policies(ModelConfig(role_heads=policy), model)
    monkeypatch.setattr("hf_lgt.models.heads.FAMILIES", {})
    require_halves("all", model)
    with pytest.raises(ConfigError, match="the heads of 'llama' models are not known"):
        require_halves("shared", model)


def test_a_pretraining_has_no_roles(tmp_path):
    tiny_pretraining.tiny_config(tmp_path, "model.role_heads=all")
    with pytest.raises(ConfigError) as caught:
        tiny_pretraining.tiny_config(tmp_path, "model.role_heads=shared")
    (fault,) = caught.value.faults
    assert fault.startswith("model.role_heads: 'shared' is for fine-tuning")


@pytest.mark.parametrize("policy", ["disjoint", "shared"])
def test_the_arms_change_the_heads_alone_and_need_auxiliaries(policy):
    arm = f"{policy}_heads"
    assert arm_settings(arm, load_config(DEMO)) == {"model.role_heads": policy}
    alone = load_config(DEMO, ["mixture=[{task: reverse, role: target, lengths: [1, 8]}]"])
    with pytest.raises(ConfigError, match=f"arms: '{arm}' needs auxiliary tasks"):
        arm_settings(arm, alone)


def test_a_comparison_has_the_arms_by_name(tmp_path):
    (tmp_path / "a.yaml").write_text(f"base: {DEMO}\nname: mine\n")
    (tmp_path / "compare.yaml").write_text(
        "name: c\narms: [a.yaml, disjoint_heads, shared_heads]\nseeds: [0]\n"
    )
    planned = plan(load_comparison(tmp_path), [f"output_dir={tmp_path}/runs"])
    assert [(p.config.name, p.config.model.role_heads) for p in planned] == [
        ("mine", "all"),
        ("mine-disjoint-heads", "disjoint"),
        ("mine-shared-heads", "shared"),
    ]
    first = planned[0].config
    for p in planned:
        model = dataclasses.replace(p.config.model, role_heads="all")
        assert dataclasses.replace(p.config, name="mine", model=model) == first


def test_halves_that_a_model_or_mapping_does_not_have_are_reported(codec):
    one = model_of("llama", num_attention_heads=1)
    component = Component("reverse_add", "target", (1, 4))
    with pytest.raises(ValueError, match=r"halves: a layer of the model has 1 head, which makes no halves"):
        evaluate(
            one,
            codec,
            [component],
            [1],
            examples=2,
            options=EvaluationOptions(policies=Policies(halves={"target": 0})),
        )
    for halves in ({}, {"auxiliary": 1}):
        with pytest.raises(ValueError, match=r"halves: says nothing of role 'target'"):
            evaluate(
                model_of("llama"),
                codec,
                [component],
                [1],
                examples=2,
                options=EvaluationOptions(policies=Policies(halves=halves)),
            )


def test_a_task_is_scored_in_the_half_that_it_was_trained_in(codec):
    component = Component("reverse_add", "target", (1, 4))
    halves = {"target": 0, "auxiliary": 1}
    for roles, half in (({}, 0), ({"reverse_add": "auxiliary"}, 1), ({"no_carry": "auxiliary"}, 0)):
        tests = GeneratedTests(
            codec, [component], [2], examples=4, seed=0, policies=Policies(halves=halves), roles=roles
        )
        assert tests.examples(tests.cells[0]).batch.halves.tolist() == [half] * 4
