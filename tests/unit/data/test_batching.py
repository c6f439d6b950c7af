import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders import Component, Mixture
from hf_lgt.config.schema import ModelConfig
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import IGNORE, Batch, _cut, even_split, make_pass
from hf_lgt.data.codec import Codec
from hf_lgt.models.build import build_model
from hf_lgt.models.forward import answer_loss

MIXTURE = Mixture(
    [
        Component("reverse_add", "target", (1, 5)),
        Component("mqar", "auxiliary", (3, 12), options={"alphabet": "abc"}),
    ]
)


@pytest.fixture(scope="module")
def codec():
    return Codec.build()


@pytest.fixture(scope="module")
def batch(codec):
    return GeneratedSource(MIXTURE, codec, batch_size=24, seed=5).batch(3)


@pytest.fixture(scope="module")
def model(codec):
    sizes = {"layers": 2, "hidden_size": 16, "heads": 2, "intermediate_size": 32, "initializer_range": 0.3}
    return build_model(ModelConfig(**sizes), codec, seed=1)


def reference_loss(model, batch):
    """Row by row, without padding, with all logits."""
    total = 0.0
    for ids, length, scored in zip(batch.ids, batch.lengths, batch.scored, strict=True):
        row = torch.from_numpy(ids[:length])[None]
        logits = model(input_ids=row, use_cache=False).logits[0]
        for place in np.flatnonzero(scored):
            total = total - torch.log_softmax(logits[place - 1], -1)[ids[place]]
    return total


@pytest.mark.parametrize("buckets", [1, 2, 5])
def test_loss_and_gradient_equal_those_of_rows_without_padding(model, batch, buckets):
    model.zero_grad()
    expected = reference_loss(model, batch)
    expected.backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    total = sum(answer_loss(model, work) for work in even_split(batch, 1, buckets))
    total.backward()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    for p, grad in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-4, atol=1e-5)


def test_the_loss_ignores_what_stands_in_the_padding(model, batch):
    noisy = batch.ids.copy()
    noisy[np.arange(noisy.shape[1]) >= batch.lengths[:, None]] = 7
    changed = Batch(noisy, batch.lengths, batch.scored)
    for a, b in zip(even_split(batch, 1, 2), even_split(changed, 1, 2), strict=True):
        assert answer_loss(model, a) == answer_loss(model, b)


def test_a_pass_keeps_only_positions_that_predict_a_scored_token(batch):
    work = make_pass(batch, np.arange(len(batch.lengths)))
    scored = int((work.labels != IGNORE).sum())
    assert scored == batch.answer_tokens
    assert (work.labels != IGNORE).any(dim=0).all()


@pytest.mark.parametrize(("world", "buckets"), [(1, 3), (2, 3), (4, 2)])
def test_all_processes_together_see_each_example_once_in_passes_of_one_width(batch, world, buckets):
    ranks = [even_split(batch, 1, buckets, rank, world) for rank in range(world)]
    assert len({len(passes) for passes in ranks}) == 1
    for passes in zip(*ranks, strict=True):
        assert len({p.input_ids.shape for p in passes}) == 1
    # tokens that are read: all but the last of each sequence, padding apart
    seen = sorted(tuple(row[row != 0].tolist()) for passes in ranks for p in passes for row in p.input_ids)
    widest = {len(r) for r in seen}
    assert len(seen) == len(batch.lengths)
    assert max(widest) == batch.lengths.max() - 1
    total = sum(int((p.labels != IGNORE).sum()) for passes in ranks for p in passes)
    assert total == batch.answer_tokens


@pytest.mark.parametrize("pieces", [1, 2, 3, 24])
def test_accumulation_bounds_a_pass_and_changes_no_loss(model, batch, pieces):
    works = even_split(batch, pieces, buckets=2)
    assert max(len(w.input_ids) for w in works) <= -(-24 // pieces)
    total = sum(answer_loss(model, w).item() for w in works)
    assert total == pytest.approx(
        sum(answer_loss(model, w).item() for w in even_split(batch, 1, 1)), rel=1e-5
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 4))
def test_no_other_cut_has_less_padding(lengths, buckets):
    lengths = np.array(sorted(lengths))
    cuts = _cut(lengths, buckets, 1)
    assert [c for pair in cuts for c in pair][1:-1:2] == [start for start, _ in cuts[1:]]
    assert (cuts[0][0], cuts[-1][1]) == (0, len(lengths))

    def cost(runs):
        return sum((stop - start) * lengths[stop - 1] for start, stop in runs)

    places = range(1, len(lengths))
    every = (
        list(itertools.pairwise([0, *chosen, len(lengths)]))
        for k in range(min(buckets, len(lengths)))
        for chosen in itertools.combinations(places, k)
    )
    assert cost(cuts) == min(cost(runs) for runs in every)


def test_a_source_gives_the_same_batch_whenever_it_is_asked(codec, batch):
    source = GeneratedSource(MIXTURE, codec, batch_size=24, seed=5)
    source.batch(9)
    assert (source.batch(3).ids == batch.ids).all()
    assert not np.array_equal(source.batch(4).ids, batch.ids)
    assert not np.array_equal(GeneratedSource(MIXTURE, codec, batch_size=24, seed=6).batch(3).ids, batch.ids)


def test_a_batch_of_which_a_task_is_not_drawn_is_as_wide_as_the_others(codec):
    """Few examples of several tasks: whichever is left out, its width is none of the batch's."""
    mixture = Mixture(
        [Component("string_copy", "target", (1, 2)), Component("mqar", "auxiliary", (3, 9), weight=0.3)]
    )
    source = GeneratedSource(mixture, codec, batch_size=2, seed=0)
    for step in range(60):
        batch = source.batch(step)
        assert batch.ids.shape == (2, batch.lengths.max())
