from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from hf_lgt.data.batch_sources import DatasetSource
from hf_lgt.data.hub_rows import TokenRows

PAD = 0


def table(lengths_of):
    """Rows of some tasks; the only token of a row is its number from 1, before an end token 1000."""
    pairs = [(task, n) for task, lengths in enumerate(lengths_of.values()) for n in lengths]
    n = len(pairs)
    return TokenRows(
        ids=np.stack([np.arange(1, n + 1), np.full(n, 1000)], axis=1).ravel().astype(np.int32),
        starts=2 * np.arange(n + 1),
        scored=np.tile([False, True], n),
        prompt_tokens=np.ones(n, dtype=np.int64),
        task=np.array([task for task, _ in pairs]),
        length=np.array([length for _, length in pairs]),
        prompt_hash=np.arange(n, dtype=np.uint64),
        tasks=tuple(lengths_of),
    )


def part(task, lengths=(1, 9), weight=1.0):
    return SimpleNamespace(task=task, lengths=lengths, weight=weight)


ROWS = table({"a": [1] * 7, "b": [2] * 5, "c": [3] * 11})
PARTS = [part("a", weight=0.5), part("b", weight=0.1), part("c", weight=0.4)]


def source(rows=ROWS, parts=PARTS, *, batch_size=8, seed=0):
    return DatasetSource(rows, parts, batch_size=batch_size, seed=seed, pad_id=PAD)


def given(made, steps):
    """Row numbers, by step."""
    return [sorted((made.batch(step).ids[:, 0] - 1).tolist()) for step in steps]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8, 64])
def test_every_batch_has_its_size_and_nobody_takes_examples_back(batch_size):
    made = source(batch_size=batch_size)
    before = np.zeros(3)
    for step in range(200):
        now = made.drawn(step)
        assert now.sum() == step * batch_size
        assert (now >= before).all()
        assert len(made.batch(step).ids) == batch_size
        before = now


@pytest.mark.parametrize(
    "weights", [(1, 1, 1), (0.5, 0.1, 0.4), (1e-9, 1.0, 1e9), (3, 1, 1000), (0.1, 0.2, 0.3)]
)
@pytest.mark.parametrize("batch_size", [1, 6, 128])
def test_each_gives_its_share_by_weight_at_any_batch_size(weights, batch_size):
    parts = [part(task, weight=w) for task, w in zip("abc", weights, strict=True)]
    made = source(parts=parts, batch_size=batch_size)
    shares = np.array(weights) / sum(weights)
    for step in (1, 2, 5, 77, 1000, 123_456):
        off = made.drawn(step) - shares * step * batch_size
        assert np.abs(off).max() <= 0.5 + shares.max() * 1.5


def test_shares_are_exact_where_they_can_be():
    parts = [part("a", weight=5.0), part("b", weight=2.0), part("c", weight=3.0)]
    for batch_size in (1, 5, 10):
        made = source(parts=parts, batch_size=batch_size)
        assert made.drawn(1000).tolist() == [500 * batch_size, 200 * batch_size, 300 * batch_size]


def test_what_is_given_before_an_example_does_not_depend_on_the_batch_size():
    fine, coarse = source(batch_size=1), source(batch_size=24)
    for step in range(20):
        assert (fine.drawn(24 * step) == coarse.drawn(step)).all()


def test_many_small_shares_beside_a_large_one_depend_on_the_step_alone():
    # the small ones fall due together, when the large one has given less than its share
    rows = table({name: [1] * 3 for name in "abcdefghijk"})
    parts = [part("a", weight=10.0), *(part(name) for name in "bcdefghijk")]
    given_after = [source(rows, parts, batch_size=1).drawn(k) for k in range(100)]
    for before, after in pairwise(given_after):
        assert sorted((after - before).tolist()) == [0] * 10 + [1]
    assert given_after[15].tolist() == [5, *[1] * 10]
    assert given_after[40].tolist() == [20, *[2] * 10]


def test_the_rows_of_some_steps_are_the_same_whatever_the_batch_boundaries():
    by_size = [
        Counter(row for step in given(source(batch_size=size), range(120 // size)) for row in step)
        for size in (1, 5, 24, 120)
    ]
    assert by_size[0] == by_size[1] == by_size[2] == by_size[3]


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_each_row_is_given_once_before_any_is_given_again(batch_size):
    parts = [part("a", weight=0.7), part("c", weight=0.3)]
    made = source(parts=parts, batch_size=batch_size)
    order = {"a": [], "c": []}
    for step in range(200 // batch_size):
        for row in (made.batch(step).ids[:, 0] - 1).tolist():
            order["a" if row < 7 else "c"].append(row)
    # within a batch the examples of a component stand in the order in which they are given
    for task, rows in (("a", range(7)), ("c", range(12, 23))):
        for start in range(0, len(order[task]) - len(rows), len(rows)):
            assert sorted(order[task][start : start + len(rows)]) == list(rows)
    assert order["a"][:7] != order["a"][7:14] != sorted(order["a"][7:14])


def test_a_batch_does_not_depend_on_what_was_asked_before():
    fresh = {step: source().batch(step) for step in (0, 3, 40)}
    used = source()
    for step in (40, 0, 7, 3, 40, 3, 0):
        batch = used.batch(step)
        if step in fresh:
            assert (batch.ids == fresh[step].ids).all()
            assert (batch.scored == fresh[step].scored).all()


def test_the_seed_draws_the_order():
    assert given(source(seed=0), range(5)) == given(source(seed=0), range(5))
    assert given(source(seed=0), range(5)) != given(source(seed=1), range(5))


def test_rows_outside_the_lengths_are_never_drawn():
    rows = table({"a": [1, 2, 3, 4, 5], "b": [1, 2, 3]})
    made = source(rows, [part("a", (2, 4)), part("b", (3, 9))], batch_size=5)
    seen = {row for step in given(made, range(50)) for row in step}
    assert seen == {1, 2, 3, 7}


def test_a_component_without_rows_is_named():
    with pytest.raises(ValueError, match=r"no row of task 'b' has a length in \(3, 9\)"):
        source(parts=[part("a"), part("b", (3, 9))])


def test_rows_are_padded_on_the_right_and_padding_is_not_scored():
    rows = TokenRows(
        ids=np.array([5, 6, 7, 8, 9], dtype=np.int32),
        starts=np.array([0, 2, 5]),
        scored=np.array([False, True, False, True, True]),
        prompt_tokens=np.array([1, 1]),
        task=np.array([0, 0]),
        length=np.array([1, 1]),
        prompt_hash=np.zeros(2, dtype=np.uint64),
        tasks=("a",),
    )
    encoded = rows.encoded(np.array([0, 1, 0]), 99)
    assert encoded.ids.tolist() == [[5, 6, 99], [7, 8, 9], [5, 6, 99]]
    assert encoded.lengths.tolist() == [2, 3, 2]
    assert encoded.scored.tolist() == [[False, True, False], [False, True, True], [False, True, False]]
