"""Numbers of positions: the arrays, the batches that carry them, and what a model makes of them."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_builders import Component, Mixture, Sample, get_task, register_task
from data_builders.registry import coupled_tasks
from data_builders.sampling import stream
from data_builders.tasks.arithmetic import ARITHMETIC, Operands, numbers
from data_builders.tasks.coupling import numbers_needed
from hf_lgt import load_config, train
from hf_lgt.config.schema import ModelConfig
from hf_lgt.data.batch_sources import DatasetSource, GeneratedSource
from hf_lgt.data.batching import IGNORE, even_split, make_pass
from hf_lgt.data.codec import Codec
from hf_lgt.data.eval_sets import DatasetTests, GeneratedTests
from hf_lgt.data.hub_rows import TokenRows
from hf_lgt.data.policies import Policies
from hf_lgt.data.position_ids import Numbering, numbering_of
from hf_lgt.evaluation.generation import _next_numbers, check_generation, generate_answers
from hf_lgt.evaluation.harness import EvaluationOptions, evaluate
from hf_lgt.models.build import build_model
from hf_lgt.models.forward import check_positions, logits_of
from hf_lgt.utils.errors import ConfigError, RunError

MIXTURE = Mixture(
    [Component("reverse_add", "target", (1, 4)), Component("reverse_subtract", "auxiliary", (1, 7))]
)
RANDOMIZED, COUPLED = Numbering("randomized", 60), Numbering("coupled", 16)
POLICIES = [RANDOMIZED, COUPLED]
SIZES = {"layers": 2, "hidden_size": 16, "heads": 2, "intermediate_size": 64, "initializer_range": 0.3}
FAMILIES = {
    "llama": {},
    "gpt_neox": {"architecture": "gpt_neox"},
    "nope": {"positions": "nope"},
    "bloom": {"architecture": "bloom", "positions": "alibi"},
}


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


@pytest.fixture(scope="module")
def models(codec):
    return {
        name: build_model(ModelConfig(**SIZES, **more), codec, 1).eval() for name, more in FAMILIES.items()
    }


def rng(seed=0):
    return stream(seed, "a test")


def coupled(task, *pairs, size=50, tags=True, test=True, codec=None, seed=0):
    """The numbers of a task's example, and how many of each row are tokens."""
    codec = codec or Codec.build(tags=tags)
    sample = get_task(task)(numbers(*pairs))
    encoded = codec.encode(sample, task)
    made = Numbering("coupled", size).sample(encoded, sample, task, rng(seed), tags=tags, test=test)
    return made.positions, encoded.lengths


# ---------------------------------------------------------------------------- the arrays


@pytest.mark.parametrize(
    ("task", "pair", "tags", "expected"),
    [
        # <bos> <tag> 7 5 + 8 6 = 5 2 1 <eos>
        ("reverse_add", (57, 68), True, [0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5]),
        ("reverse_add", (57, 68), False, [0, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5]),
        # <bos> <tag> 7 5 + 8 = 5 6 0 <eos>
        ("no_carry", (57, 8), True, [0, 1, 2, 3, 1, 2, 1, 2, 3, 4, 5]),
        # the minus of the answer begins no block: 7 5 - 8 6 = 1 1 -
        ("reverse_subtract", (57, 68), True, [0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5]),
        ("copy_first_op", (5, 1234), True, [0, 1, 2, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_digits_of_one_significance_share_a_number(task, pair, tags, expected):
    found, lengths = coupled(task, *pair, tags=tags)
    assert lengths.tolist() == [len(expected)]
    assert found[0, : len(expected)].tolist() == expected
    assert numbers_needed(get_task(task)(numbers(*pair)), get_task(task).restarts, tags=tags) == (
        max(expected) + 1
    )


def test_abacus_numbers_digits_alone():
    codec, sample = Codec.build(), get_task("reverse_subtract")(numbers(57, 68, 5, 1234))
    encoded = codec.encode(sample, "reverse_subtract")
    policy = Numbering("abacus", 20)
    found = policy.sample(encoded, sample, "reverse_subtract", rng(), tags=True, test=True).positions
    # <bos> <tag> 7 5 - 8 6 = 1 1 - <eos>, and 5 - 4 3 2 1 = 9 2 2 1 -
    assert found[0, :12].tolist() == [0, 0, 2, 3, 0, 2, 3, 0, 2, 3, 0, 0]
    assert found[1, :15].tolist() == [0, 0, 2, 0, 2, 3, 4, 5, 0, 2, 3, 4, 5, 0, 0]
    assert not found[1, 15:].any()
    drawn = [
        policy.sample(encoded, sample, "reverse_subtract", rng(seed), tags=True).positions
        for seed in range(9)
    ]
    assert len({int(numbers[0, 2]) for numbers in drawn}) > 3
    for moved in drawn:
        assert ((moved == 0) == (found == 0)).all()
        assert len(np.unique((moved - found)[0][found[0] > 0])) == 1


def test_abacus_trains_a_model_with_learned_positions(tiny):
    sums = ["mixture=[{task: reverse_add, role: target, lengths: [1, 3]}]", "eval.lengths=[1,5]"]
    own = ["model.architecture=gpt2", "model.position_ids=abacus", "model.position_range=20", "name=abacus"]
    result = train(tiny(*sums, *own), progress=False)
    usual = train(tiny(*sums, own[0], "name=usual"), progress=False)
    logs = ((r.run_dir / "train.jsonl").read_text().splitlines() for r in (result, usual))
    one, other = ([json.loads(line)["loss"] for line in log] for log in logs)
    assert one != other


def test_a_family_without_position_ids_is_refused(tiny, tmp_path):
    own = [
        "model.architecture=mamba2",
        "model.config={state_size: 8, num_heads: 8, head_dim: 8, n_groups: 1}",
    ]
    with pytest.raises(ConfigError, match=r"model.position_ids: 'randomized' is not for this model"):
        train(tiny(*own, "model.position_ids=randomized"), progress=False)
    assert not list(tmp_path.iterdir())


def test_rows_of_unlike_lengths_are_numbered_each_for_itself():
    found, lengths = coupled("reverse_add", 57, 68, 1, 234)
    assert found[0, : lengths[0]].tolist() == [0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5]
    assert found[1, : lengths[1]].tolist() == [0, 1, 2, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    assert not found[0, lengths[0] :].any()


def test_training_begins_anywhere_that_fits_and_keeps_the_blocks():
    # 5 places after the first: s is 1 to 7 of 12 numbers
    found, _ = coupled("reverse_add", *(57, 68) * 700, size=12, test=False)
    starts = found[:, 1]
    assert np.unique(starts).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert np.bincount(starts)[1:].min() > 60
    assert (found[:, 1:] - starts[:, None] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4]).all()
    assert not found[:, 0].any()
    assert found.max() == 11


def test_more_numbers_than_there_are_is_an_error(codec):
    assert coupled("reverse_add", 57, 68, size=6)[0].max() == 5
    with pytest.raises(RunError, match=r"needs 6 coupled positions; model\.position_range has 5"):
        coupled("reverse_add", 57, 68, size=5)
    encoded = codec.encode(get_task("reverse_add")(numbers(57, 68)), "reverse_add")
    assert Numbering("randomized", 12).rows(encoded, rng()).positions[0].tolist() == list(range(12))
    with pytest.raises(RunError, match=r"12 tokens needs as many positions; model\.position_range has 11"):
        Numbering("randomized", 11).rows(encoded, rng())


def test_randomized_numbers_are_ascending_and_from_the_whole_range(codec):
    sample = get_task("reverse_add")(numbers(*(57, 68, 5, 6) * 300))
    encoded = codec.encode(sample, "reverse_add")
    found = RANDOMIZED.sample(encoded, sample, "reverse_add", rng(), tags=True).positions
    inside = np.arange(found.shape[1]) < encoded.lengths[:, None]
    assert (np.diff(found)[inside[:, 1:]] > 0).all()
    assert not found[~inside].any()
    # every number is as likely as every other
    counts = np.bincount(found[inside], minlength=60)
    assert len(counts) == 60
    assert counts.min() > 0.7 * counts.mean()
    assert counts.max() < 1.3 * counts.mean()


def test_the_tasks_that_are_coupled():
    sums = ["reverse_add", "no_carry", "carry_only", "reverse_subtract", "copy_first_op"]
    assert coupled_tasks() == [*sums, "binary_add"]


def test_a_task_of_ones_own_declares_its_coupling(own_registry):
    @register_task(ARITHMETIC, restarts="*=")
    def largest(operands: Operands) -> Sample:
        """The larger digit of each place."""
        digits = np.maximum(operands.a, operands.b)
        return Sample(operands.prompt("*"), operands.fixed_width(np.concatenate([digits, digits[:1]])))

    assert coupled_tasks()[-1] == "largest"
    codec = Codec.build(tasks=["largest"])
    sample = largest(numbers(57, 68))
    encoded = codec.encode(sample, "largest")
    found = COUPLED.sample(encoded, sample, "largest", rng(), tags=True, test=True).positions
    assert found[0, : encoded.lengths[0]].tolist() == [0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"restarts '\+!' holds '!', which is no symbol"):
        register_task(ARITHMETIC, restarts="+!")


# ---------------------------------------------------------------------------- batches


def source(codec, numbering, seed=5, batch_size=24):
    return GeneratedSource(MIXTURE, codec, batch_size=batch_size, seed=seed, policies=Policies(numbering))


@pytest.mark.parametrize("numbering", POLICIES, ids=lambda n: n.policy)
def test_a_batch_is_a_function_of_seed_and_step_and_has_the_usual_examples(codec, numbering):
    made = source(codec, numbering)
    third = made.batch(3)
    made.batch(8)
    assert np.array_equal(made.batch(3).positions, third.positions)
    assert np.array_equal(third.ids, source(codec, None).batch(3).ids)
    # sequences of one length: only what the numbers are drawn from can tell batches apart
    alike = Mixture([Component("no_carry", "target", (3, 3), options={"operands": "equal"})])

    def alone(step, seed):
        same = GeneratedSource(alike, codec, batch_size=9, seed=seed, policies=Policies(numbering))
        return same.batch(step).positions.tolist()

    assert alone(3, 5) not in (alone(4, 5), alone(3, 6))
    assert alone(3, 5) == alone(3, 5)


@pytest.mark.parametrize("numbering", POLICIES, ids=lambda n: n.policy)
@pytest.mark.parametrize("pieces", [1, 3])
def test_every_process_has_the_numbers_of_its_own_rows(codec, numbering, pieces):
    batch = source(codec, numbering).batch(3)

    def seen(rank, world):
        rows = []
        for work in even_split(batch, pieces, 4, rank, world):
            assert work.position_ids.shape == work.input_ids.shape
            for ids, numbers_ in zip(work.input_ids.tolist(), work.position_ids.tolist(), strict=True):
                length = ids.index(codec.eos_id) if codec.eos_id in ids else len(ids)
                rows.append((ids[:length], numbers_[:length]))
        return rows

    expected = [
        (batch.ids[i, : n - 1].tolist(), batch.positions[i, : n - 1].tolist())
        for i, n in enumerate(batch.lengths.tolist())
    ]
    assert sorted(seen(0, 1)) == sorted(expected)
    assert sorted(seen(0, 2) + seen(1, 2)) == sorted(expected)


@pytest.fixture
def table(codec):
    """A dataset's rows: the tokens of 40 sums of as many digits, though their lengths are said to differ."""
    sample = get_task("reverse_add").sample(rng(), 3, 40, operands="equal")
    encoded = codec.encode(sample, "reverse_add")
    inside = np.arange(encoded.ids.shape[1]) < encoded.lengths[:, None]
    return TokenRows(
        ids=encoded.ids[inside].astype(np.int32),
        starts=np.concatenate([[0], np.cumsum(encoded.lengths)]),
        scored=encoded.scored[inside],
        prompt_tokens=encoded.scored.argmax(axis=1),
        task=np.zeros(40, dtype=np.int64),
        length=np.arange(40) % 4 + 1,
        prompt_hash=np.arange(40, dtype=np.uint64),
        tasks=("reverse_add",),
    )


def test_rows_of_a_dataset_are_numbered_at_random_too(codec, table):
    parts = [SimpleNamespace(task="reverse_add", lengths=(1, 4), weight=1.0, role="target")]

    def batch(step, numbering=RANDOMIZED):
        made = DatasetSource(table, parts, batch_size=8, seed=2, pad_id=0, policies=Policies(numbering))
        return made.batch(step)

    assert batch(1, None).positions is None
    assert np.array_equal(batch(1).ids, batch(1, None).ids)
    assert np.array_equal(batch(1).positions, batch(1).positions)
    assert not np.array_equal(batch(1).positions, batch(2).positions)
    inside = np.arange(batch(1).ids.shape[1]) < batch(1).lengths[:, None]
    assert (np.diff(batch(1).positions)[inside[:, 1:]] > 0).all()

    tests = DatasetTests(codec, table, parts, examples=5, seed=3, trained=None, policies=Policies(RANDOMIZED))
    first, again = (tests.examples(tests.cells[1]).batch.positions for _ in range(2))
    assert np.array_equal(first, again)
    assert (first > np.arange(first.shape[1])).any()
    assert not np.array_equal(first, tests.examples(tests.cells[2]).batch.positions)
    plain = DatasetTests(codec, table, parts, examples=5, seed=3, trained=None)
    assert plain.examples(plain.cells[1]).batch.positions is None


def generated(codec, numbering, seed=1, examples=30, lengths=(3, 6)):
    return GeneratedTests(
        codec, MIXTURE.components, lengths, examples=examples, seed=seed, policies=Policies(numbering)
    )


def test_a_test_set_is_numbered_by_seed_task_and_length_alone(codec):
    tests = generated(codec, RANDOMIZED)
    found = [tests.examples(cell).batch.positions for cell in tests.cells]
    assert np.array_equal(tests.examples(tests.cells[2]).batch.positions, found[2])
    # the beginning of a larger set is the smaller one
    more = generated(codec, RANDOMIZED, examples=60)
    assert np.array_equal(more.examples(tests.cells[1]).batch.positions[:30], found[1])
    # a task's and a length's own
    parts = [
        Component(t, "target", (3, 3), options={"operands": "equal"}) for t in ("no_carry", "carry_only")
    ]
    alike = [
        tests.examples(cell).batch.positions.tolist()
        for seed in (1, 2)
        for tests in [GeneratedTests(codec, parts, [3], examples=9, seed=seed, policies=Policies(RANDOMIZED))]
        for cell in tests.cells
    ]
    assert all(alike.count(one) == 1 for one in alike)
    # the tasks' options and the other lengths do not matter
    alone = generated(codec, RANDOMIZED, lengths=(6,))
    assert np.array_equal(alone.examples(alone.cells[0]).batch.positions, found[1])


def test_coupled_tests_begin_at_one(codec):
    tests = generated(codec, COUPLED)
    for cell in tests.cells:
        assert (tests.examples(cell).batch.positions[:, 1] == 1).all()


# ---------------------------------------------------------------------------- models


def test_the_usual_numbers_are_not_told_to_the_model(codec, models):
    batch = source(codec, None).batch(3)
    work = make_pass(batch, np.arange(24))
    assert batch.positions is None
    assert work.position_ids is None
    told = []
    hook = models["llama"].register_forward_pre_hook(
        lambda module, args, kwargs: told.append(kwargs), with_kwargs=True
    )
    logits_of(models["llama"], work)
    logits_of(models["llama"], make_pass(source(codec, COUPLED).batch(3), np.arange(24)))
    hook.remove()
    assert [sorted(kwargs) for kwargs in told] == [
        ["input_ids", "logits_to_keep", "use_cache"],
        ["attention_mask", "input_ids", "logits_to_keep", "position_ids", "use_cache"],
    ]


@pytest.mark.parametrize("numbering", [None, *POLICIES], ids=["sequential", "randomized", "coupled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_has_the_logits_of_each_row_alone(codec, models, family, numbering):
    batch, model = source(codec, numbering).batch(3), models[family]
    whole = make_pass(batch, np.arange(24))
    with torch.no_grad():
        together = logits_of(model, whole)
        for row in range(24):
            alone = make_pass(batch, np.array([row]))
            mine = whole.labels[row] != IGNORE
            wanted = logits_of(model, alone)[0, alone.labels[0] != IGNORE]
            torch.testing.assert_close(together[row, mine], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
@pytest.mark.parametrize("numbering", POLICIES, ids=lambda n: n.policy)
def test_a_token_reads_all_before_it_whatever_its_number(codec, models, family, numbering):
    """Numbers that jump or begin again must not be taken for several packed texts."""
    batch, model = source(codec, numbering).batch(3), models[family]
    row = int(batch.lengths.argmax())
    work = make_pass(batch, np.array([row]))
    grown = {"input_ids": work.input_ids, "position_ids": work.position_ids, "use_cache": False}
    width = work.input_ids.shape[1]
    causal = torch.full((width, width), torch.finfo(torch.float32).min).triu(1)[None, None]
    with torch.no_grad():
        expected = model(**grown, attention_mask=causal).logits[:, work.keep]
        torch.testing.assert_close(logits_of(model, work), expected, rtol=1e-4, atol=1e-5)
        ids = work.input_ids.clone()
        ids[0, 2] = codec.encode(get_task("reverse_add")(numbers(9, 9)), "reverse_add").ids[0, 2] + 1
        changed = logits_of(model, dataclasses.replace(work, input_ids=ids))
    assert not torch.allclose(changed[0, -1], expected[0, -1], atol=1e-4)


def test_models_that_do_not_read_the_numbers_are_reported(models):
    check_positions(models["llama"].train())
    assert models["llama"].training
    models["llama"].eval()
    check_positions(models["gpt_neox"])
    with pytest.raises(ValueError, match="SmolLM3ForCausalLM does not use position_ids"):
        check_positions(models["nope"])
    with pytest.raises(ValueError, match="BloomForCausalLM does not use position_ids"):
        check_positions(models["bloom"])

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, input_ids, use_cache, logits_to_keep):
            raise AssertionError

    with pytest.raises(ValueError, match=r"Plain takes no position_ids: .*unexpected keyword"):
        check_positions(Plain())


def test_evaluate_takes_a_policy_and_refuses_a_model_that_does_not(codec, models):
    arguments = codec, MIXTURE.components, [2, 3]
    plain = evaluate(models["llama"], *arguments, examples=40)
    other = evaluate(
        models["llama"], *arguments, examples=40, options=EvaluationOptions(policies=Policies(RANDOMIZED))
    )
    assert [r.n for r in plain] == [r.n for r in other]
    assert [r.token_accuracy for r in plain] != [r.token_accuracy for r in other]
    with pytest.raises(ValueError, match="does not use position_ids"):
        evaluate(
            models["nope"], *arguments, examples=40, options=EvaluationOptions(policies=Policies(RANDOMIZED))
        )


@pytest.mark.parametrize(
    ("settings", "limit", "told"),
    [
        ({"position_ids": "randomized"}, None, "model.position_range: is missing; 'randomized' positions"),
        ({"position_ids": "coupled", "position_range": 600}, 512, "600 is more than the 512 tokens"),
    ],
)
def test_a_range_that_a_model_does_not_have_is_reported(settings, limit, told):
    with pytest.raises(ConfigError, match=told):
        numbering_of(ModelConfig(**settings), limit)


def test_the_range_is_that_of_the_model_unless_told():
    assert numbering_of(ModelConfig(), 512) is None
    assert numbering_of(ModelConfig(position_ids="coupled"), 512) == Numbering("coupled", 512)
    told = ModelConfig(position_ids="randomized", position_range=100)
    assert numbering_of(told, 512) == numbering_of(told, None) == Numbering("randomized", 100)


# ---------------------------------------------------------------------------- generation

TRAINED = [
    "mixture=[{task: copy_first_op, role: target, lengths: [1, 2], options: {base: 2}}]",
    "model={layers: 2, hidden_size: 32, heads: 2, intermediate_size: 128, max_positions: 40}",
    "train={steps: 400, batch_size: 64, learning_rate: 5e-3, eval_every: null, save_every: null}",
    "train.length_buckets=1",
    "eval={lengths: [1, 4], examples: 16}",
]


@pytest.fixture(scope="module", params=["sequential", "randomized", "coupled", "alibi"])
def learned(request, root, tmp_path_factory):
    """A model that has learned some lengths and not others, and its policy."""
    from transformers import AutoModelForCausalLM

    overrides = [*TRAINED, f"output_dir={tmp_path_factory.mktemp('learned')}"]
    if request.param == "alibi":
        overrides += ["model.architecture=bloom", "model.positions=alibi"]
    else:
        overrides += [f"model.position_ids={request.param}"]
    config = load_config(root / "recipes/demo/transfer.yaml", overrides)
    run = train(config, progress=False).run_dir
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    return model, Codec.load(run / "model"), numbering_of(config.model, config.model.position_limit)


def test_generation_and_teacher_forcing_agree_under_every_policy(learned):
    model, codec, numbering = learned
    component = Component("copy_first_op", "target", (1, 2), options={"base": 2})
    shares = []
    for length in (1, 2, 6):
        tests = GeneratedTests(
            codec, [component], [length], examples=60, seed=2, policies=Policies(numbering)
        )
        found = check_generation(model, tests, tests.cells[0])
        assert (found.disagreements, found.widest_margin) == (0, None)
        assert found.teacher_forced == found.generated
        shares.append(found.generated)
    assert max(shares) > 0.5 > min(shares)


def test_generated_answers_are_those_of_a_loop_over_single_rows(codec, models):
    """Wrong answers too, and such as are longer than the right ones."""
    tests = generated(codec, RANDOMIZED, examples=6)
    batch, model = tests.examples(tests.cells[0]).batch, models["llama"]
    rows, slack = np.array([4, 0, 5]), 3
    answers = generate_answers(model, batch, rows, codec, slack)
    starts = batch.scored.argmax(axis=1)
    longest = int((batch.lengths - starts).max()) + slack
    for row, answer in zip(rows, answers, strict=True):
        start = starts[row]
        ids, own = batch.ids[row, :start].tolist(), batch.positions[row, : batch.lengths[row]].tolist()
        own += [own[-1] + 1 + k for k in range(20)]
        written = []
        while len(written) < longest and codec.eos_id not in written:
            now = torch.tensor([ids + written])
            with torch.no_grad():
                logits = model(
                    input_ids=now,
                    position_ids=torch.tensor([own[: now.shape[1]]]),
                    attention_mask=torch.ones_like(now),
                    use_cache=False,
                ).logits
            written.append(int(logits[0, -1].argmax()))
        assert answer == written


def test_numbers_beyond_a_sequence_follow_on_and_stay_in_the_model(codec):
    tests = generated(codec, RANDOMIZED, examples=6)
    batch = tests.examples(tests.cells[0]).batch
    width = batch.ids.shape[1] + 5
    found = _next_numbers(batch, width, None)
    for row, length in zip(range(6), batch.lengths.tolist(), strict=True):
        assert np.array_equal(found[row, :length], batch.positions[row, :length])
        assert (np.diff(found[row, length - 1 :]) == 1).all()
    bounded = _next_numbers(batch, width, 60)
    assert np.array_equal(bounded, np.minimum(found, 59))
