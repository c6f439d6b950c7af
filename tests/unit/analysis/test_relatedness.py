"""Scores of relatedness: gradients, ablation maps and representations of two tasks beside each other."""

from statistics import fmean

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_builders import Component
from hf_lgt.analysis.ablation import AblationMap, ablation_map, score
from hf_lgt.analysis.relatedness import SCORES, answer_means, cka, cosine, overlap, relatedness, task_gradient
from hf_lgt.data.batching import Batch
from hf_lgt.data.codec import Codec
from hf_lgt.data.eval_sets import GeneratedTests
from tests.unit.models.test_heads import batch_of, model_of

CODEC = Codec.build()
SMALL = {"alphabet": "ab"}


def examples_of(task, length, **options):
    """Examples of a task, as the evaluation makes them."""
    component = Component(task, role="target", lengths=(length, length), options=options)
    tests = GeneratedTests(CODEC, [component], [length], examples=12, seed=3)
    return tests.examples(tests.cells[0]).batch


@pytest.fixture(scope="module")
def speaker():
    """A random model with words for every task."""
    return model_of("llama", vocab_size=CODEC.vocab_size)


# ---------------------------------------------------------------------------------- gradients


def slow_gradient(model, batches):
    """Gradients of every parameter from one example after the other: name -> gradient."""
    model.zero_grad()
    answers = sum(int(batch.scored.sum()) for batch in batches)
    for batch in batches:
        for ids, length, scored in zip(batch.ids, batch.lengths, batch.scored, strict=True):
            said = model(input_ids=torch.from_numpy(ids[None, : length - 1])).logits[0]
            for at in np.flatnonzero(scored):
                (F.cross_entropy(said[at - 1], torch.tensor(ids[at])) / answers).backward(retain_graph=True)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def of_several_lengths(model):
    return [batch_of(model, n=5, prompt=4, answer=2), batch_of(model, n=4, prompt=6, answer=5, seed=1)]


FAMILIES = {
    # layers, the projection within one, and whether its weights are [out, in]
    "llama": ("model.layers", "self_attn.o_proj", True),
    "gpt_neox": ("gpt_neox.layers", "attention.dense", True),
    "gpt2": ("transformer.h", "attn.c_proj", False),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_gradient_is_that_of_a_loop_over_examples(kind):
    layers, projection, out_first = FAMILIES[kind]
    model = model_of(kind)
    batches = of_several_lengths(model)
    slow = slow_gradient(model, batches)
    model.train()  # GPT-2's dropout must not matter
    found = task_gradient(model, batches, batch_tokens=30)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert len(found.by_layer) == 3
    for layer, own in enumerate(found.by_layer):
        wanted = [g.flatten() for name, g in slow.items() if name.startswith(f"{layers}.{layer}.")]
        torch.testing.assert_close(own, torch.cat(wanted), rtol=1e-4, atol=1e-5)
        weight = slow[f"{layers}.{layer}.{projection}.weight"]
        reads = weight if out_first else weight.T
        for head in range(4):
            columns = reads[:, head * 8 : (head + 1) * 8]
            by_head = found.by_head[layer, head].view(8, 32).T
            torch.testing.assert_close(by_head, columns, rtol=1e-4, atol=1e-5)
            assert by_head.norm() > 0


def test_how_many_tokens_a_pass_takes_changes_no_gradient():
    model = model_of("llama")
    batches = of_several_lengths(model)
    whole = task_gradient(model, batches)
    for batch_tokens in (100, 11):
        found = task_gradient(model, batches, batch_tokens=batch_tokens)
        torch.testing.assert_close(found.by_layer, whole.by_layer, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.by_head, whole.by_head, rtol=1e-4, atol=1e-5)
    assert not model.training


def test_gradients_that_a_model_has_are_left_alone():
    model = model_of("llama")
    batches = of_several_lengths(model)
    before = torch.cat(task_gradient(model, batches).by_layer)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    after = torch.cat(task_gradient(model, batches).by_layer)
    torch.testing.assert_close(after, before)
    assert all((p.grad == 7.0).all() for p in model.parameters())


def test_a_model_is_in_its_own_mode_after_an_error_too():
    model = model_of("llama").train()
    batch = batch_of(model)
    model.lm_head.forward = lambda hidden: 1 / 0
    with pytest.raises(ZeroDivisionError):
        task_gradient(model, [batch])
    assert model.training


def test_the_cosine():
    one, other = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([-4.0, 3.0, 0.0])
    assert cosine(one, 2 * one) == pytest.approx(1)
    assert cosine(one, -one) == pytest.approx(-1)
    assert cosine(one, other) == 0
    assert cosine(one, torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(0.6)
    assert cosine(one, torch.zeros(3)) is None
    assert cosine(torch.zeros(3), one) is None


# ---------------------------------------------------------------------------------- ablation maps


def lost(*tokens):
    """A map of two layers of two heads that loses these token accuracies."""
    without = 0.9 - np.array(tokens).reshape(2, 2)
    return AblationMap(0.5, 0.9, np.zeros((2, 2)), without)


def test_the_overlap_of_two_maps():
    first = lost(0.4, 0.0, 0.2, 0.0)
    assert overlap(first, first) == pytest.approx(1)
    assert overlap(first, lost(0.0, 0.3, 0.0, 0.1)) == pytest.approx(0)
    # .2 and .1 are shared, of .4, .3, .2 and .1
    assert overlap(first, lost(0.2, 0.3, 0.1, 0.1)) == pytest.approx(0.3 / 1.0)
    assert overlap(lost(0.2, 0.3, 0.1, 0.1), first) == pytest.approx(0.3)


def test_what_is_gained_without_a_head_is_no_loss():
    first = lost(0.4, -0.3, 0.2, 0.0)
    assert overlap(first, lost(0.4, 0.0, 0.2, -0.5)) == pytest.approx(1)
    assert overlap(first, lost(-0.4, -0.3, 0.2, 0.0)) == pytest.approx(0.2 / 0.6)


def test_where_no_head_is_needed_there_is_no_overlap_to_speak_of():
    assert overlap(lost(0.0, -0.1, 0.0, 0.0), lost(0.0, 0.0, 0.0, -0.2)) is None
    assert overlap(lost(0.0, 0.0, 0.0, 0.0), lost(0.1, 0.0, 0.0, 0.0)) == pytest.approx(0)


# ---------------------------------------------------------------------------------- representations


def slow_means(model, batch):
    """Representations before each scored token, one example after the other."""
    found = {}
    for ids, length, scored in zip(batch.ids, batch.lengths, batch.scored, strict=True):
        with torch.no_grad():
            given = torch.from_numpy(ids[None, : length - 1])
            states = model(input_ids=given, output_hidden_states=True).hidden_states
        for k, at in enumerate(np.flatnonzero(scored)):
            found.setdefault(k, []).append([own[0, at - 1].double().numpy() for own in states[1:]])
    return np.stack([np.mean(found[k], axis=0) for k in range(len(found))], axis=1)


@pytest.mark.parametrize(
    ("task", "length", "options", "differ"),
    [
        ("reverse_add", 3, {"operands": "independent"}, "starts"),
        ("mqar", 7, SMALL, "answers"),
        ("reverse", 4, SMALL, None),
    ],
)
def test_means_of_representations_are_those_of_a_loop_over_examples(speaker, task, length, options, differ):
    batch = examples_of(task, length, **options)
    assert (len(set(batch.scored.argmax(axis=1))) > 1) == (differ == "starts")
    assert (len(set(batch.scored.sum(axis=1))) > 1) == (differ == "answers")
    slow = slow_means(speaker, batch)
    assert slow.shape == (3, batch.scored.sum(axis=1).max(), 32)
    for batch_tokens in (65_536, 40):
        found = answer_means(speaker, batch, batch_tokens=batch_tokens)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, slow, rtol=1e-4, atol=1e-4)


def test_means_leave_no_trace(speaker):
    batch = examples_of("reverse", 3, **SMALL)
    speaker.train()
    answer_means(speaker, batch)
    assert speaker.training
    speaker.eval()


def random_rows(seed, n, size=20):
    return np.random.default_rng(seed).normal(size=(n, size))


def test_representations_that_differ_by_rotation_and_scale_are_alike():
    rows = random_rows(0, 9)
    rotation, _ = np.linalg.qr(random_rows(1, 20))
    assert cka(rows, rows) == pytest.approx(1)
    assert cka(rows, 3.5 * rows @ rotation + 2) == pytest.approx(1)
    assert cka(rows, np.concatenate([rows @ rotation, np.zeros((9, 30))], axis=1)) == pytest.approx(1)
    assert cka(rows, rows[::-1]) < 0.5


def test_few_random_rows_of_many_dimensions_are_not_alike():
    draws = [(random_rows(2 * seed, 6, 200), random_rows(2 * seed + 1, 6, 200)) for seed in range(200)]

    def biased(first, second):
        first, second = first - first.mean(axis=0), second - second.mean(axis=0)
        norms = np.linalg.norm(first @ first.T) * np.linalg.norm(second @ second.T)
        return ((first @ first.T) * (second @ second.T)).sum() / norms

    assert fmean(biased(*own) for own in draws) > 0.9
    assert abs(fmean(cka(*own) for own in draws)) < 0.06


def test_the_alignment_is_that_of_kernels_centred_without_their_diagonals():
    def centred(rows):
        kernel, n = rows @ rows.T, len(rows)
        kernel[np.arange(n), np.arange(n)] = 0
        mean = kernel.sum(axis=0) / (n - 2)
        kernel = kernel - mean - mean[:, None] + kernel.sum() / ((n - 1) * (n - 2))
        kernel[np.arange(n), np.arange(n)] = 0
        return kernel

    for n in (4, 5, 12):
        first, second = random_rows(n, n) + 1, random_rows(n + 50, n, 7)
        second[:, :5] += first[:, :5]
        a, b = centred(first), centred(second)
        wanted = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        assert cka(first, second) == pytest.approx(wanted)
        assert cka(second, first) == pytest.approx(wanted)


def test_what_has_no_alignment():
    rows = random_rows(0, 6)
    assert cka(rows[:3], rows[:3]) is None
    assert cka(rows[:4], rows[:4]) == pytest.approx(1)
    constant = np.tile(random_rows(1, 1), (6, 1))
    for alike in (0 * rows, constant):
        assert cka(rows, alike) is None
        assert cka(alike, rows) is None


@pytest.mark.parametrize("n", [5, 8])
def test_rows_that_are_alike_but_for_rounding_have_no_alignment(n):
    rows, alike = random_rows(0, n), [np.tile(random_rows(seed, 1), (n, 1)) for seed in range(20)]
    assert [cka(rows, own) for own in alike] == [None] * 20


# ---------------------------------------------------------------------------------- all of them


@pytest.fixture(scope="module")
def tasks():
    """A model and (near, far) examples of two tasks that it knows, but for the first one's far answers."""
    model = model_of("llama")
    near, other_near, far, other_far = (
        [batch_of(model, prompt=5, answer=k, seed=seed + k) for k in answers]
        for seed, answers in ((0, (2, 4)), (10, (3, 3)), (20, (4, 5)), (30, (4, 5)))
    )
    wrong = [np.where(own.scored & (own.ids % 2 == 0), own.ids + 1, own.ids) for own in far]
    far = [Batch(ids, own.lengths, own.scored) for ids, own in zip(wrong, far, strict=True)]
    return model, (near, far), (other_near, other_far)


def test_a_task_is_wholly_related_to_itself(tasks):
    model, (near, far), _ = tasks
    found = relatedness(model, (near, near), (far, far))
    for name in ("gradient", "gradient_far", "gradient_heads", "ablation", "cka"):
        assert found.scores[name] == pytest.approx(1, abs=1e-4), name
    assert found.gradient_by_layer == pytest.approx([1] * 3, abs=1e-4)
    assert np.array(found.gradient_by_head) == pytest.approx(np.ones((3, 4)), abs=1e-4)
    assert found.cka_by_layer == pytest.approx([1] * 3)


def test_each_score_is_of_the_examples_that_it_says(tasks):
    model, (near, far), (other_near, other_far) = tasks
    found = relatedness(model, (near, other_near), (far, other_far), batch_tokens=50)
    assert list(found.scores) == list(SCORES)
    first, second, long, other_long = (
        task_gradient(model, own) for own in (near, other_near, far, other_far)
    )
    flat = [torch.cat(own.by_layer) for own in (first, second, long, other_long)]
    by_layer = [cosine(*own) for own in zip(first.by_layer, second.by_layer, strict=True)]
    by_head = [[cosine(first.by_head[at, head], second.by_head[at, head]) for head in range(4)]
               for at in range(3)]  # fmt: skip
    assert found.scores["gradient"] == pytest.approx(cosine(*flat[:2]), abs=1e-4)
    assert found.scores["gradient_far"] == pytest.approx(cosine(*flat[2:]), abs=1e-4)
    assert found.scores["gradient_heads"] == pytest.approx(np.mean(by_head), abs=1e-4)
    assert found.gradient_by_layer == pytest.approx(by_layer, abs=1e-4)
    assert np.array(found.gradient_by_head) == pytest.approx(np.array(by_head), abs=1e-4)
    maps = [[ablation_map(model, own[i]) for own in (near, other_near)] for i in (0, 1)]
    assert found.scores["ablation"] == overlap(*maps[1]) != overlap(*maps[0])
    right = [score(model, own)[1] for own in far]
    assert found.scores["early"] == pytest.approx(fmean(right))
    assert 0 < right[0] != right[1] < 1
    # of 2 and 3 answer tokens, then of 4 and 3, those that both have
    rows = [np.concatenate([slow_means(model, batch)[:, :k] for batch, k in zip(own, (2, 3), strict=True)], 1)
            for own in (near, other_near)]  # fmt: skip
    alike = [cka(*own) for own in zip(*rows, strict=True)]
    assert found.cka_by_layer == pytest.approx(alike, abs=1e-3)
    assert found.scores["cka"] == pytest.approx(fmean(alike), abs=1e-3)


def test_a_head_that_writes_nothing_has_no_cosine(tasks):
    _, (near, far), (other_near, other_far) = tasks
    model = model_of("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.weight[:8] = 0  # what the first head reads
    found = relatedness(model, (near, other_near), (far, other_far))
    assert [row[0] for row in found.gradient_by_head] == [None] * 3
    known = [value for row in found.gradient_by_head for value in row[1:]]
    assert found.scores["gradient_heads"] == pytest.approx(fmean(known))
