"""Filler before training examples."""

import numpy as np
import pytest

from data_builders import Component, Mixture
from hf_lgt import ConfigError, load_config
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import Batch
from hf_lgt.data.build import prepare_data
from hf_lgt.data.codec import Codec
from hf_lgt.data.filler import FilledSource, filled
from tests.conftest import ROOT

MIXTURE = Mixture([Component("reverse", "target", (1, 9)), Component("string_copy", "auxiliary", (1, 12))])
DEMO = ROOT / "recipes/demo/transfer.yaml"


def test_rows_move_to_the_right_behind_so_many_tokens():
    ids = np.array([[1, 5, 6, 2], [1, 7, 2, 0]])
    scored = np.array([[False, False, True, True], [False, True, True, False]])
    moved = filled(Batch(ids, np.array([4, 3]), scored), np.array([0, 3]), 9)
    assert moved.ids[0, :4].tolist() == [1, 5, 6, 2]
    assert moved.ids[1].tolist() == [9, 9, 9, 1, 7, 2]
    assert moved.scored.tolist() == [[False, False, True, True, False, False], [False] * 4 + [True, True]]
    assert moved.lengths.tolist() == [4, 6]


def test_every_example_is_there_with_its_answer():
    codec = Codec.build()
    plain = GeneratedSource(MIXTURE, codec, batch_size=64, seed=3)
    source = FilledSource(plain, 20, codec.bos_id, 3)
    seen = set()
    for step in range(5):
        usual, batch = plain.batch(step), source.batch(step)
        assert np.array_equal(batch.ids, source.batch(step).ids)  # a function of the step
        counts = batch.lengths - usual.lengths
        seen |= set(counts.tolist())
        for row, count in enumerate(counts):
            n = usual.lengths[row]
            assert (batch.ids[row, :count] == codec.bos_id).all()
            assert np.array_equal(batch.ids[row, count : count + n], usual.ids[row, :n])
            assert np.array_equal(batch.scored[row, count : count + n], usual.scored[row, :n])
        assert batch.answer_tokens == usual.answer_tokens
    assert seen == set(range(21))


def test_the_config_fills_training_batches_alone():
    without, given = (load_config(DEMO, [f"data.filler={most}"]) for most in (0, 12))
    usual, other = prepare_data(without, None), prepare_data(given, None)
    assert isinstance(usual.source, GeneratedSource)
    assert other.source.batch(0).lengths.sum() > usual.source.batch(0).lengths.sum()
    assert other.source.describe(0) == usual.source.describe(0)
    for cell in usual.tests.cells[:4]:
        assert np.array_equal(usual.tests.examples(cell).batch.ids, other.tests.examples(cell).batch.ids)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.filler=-1"], "data.filler"),
        (["data.filler=8", "model.position_ids=randomized"], "data.filler: 8 moves examples among"),
        (
            ["data.filler=8", "model.architecture=looped_llama"],
            "data.filler: 8 would count as a part",
        ),
        (["data.filler=512"], "data.filler: 512 leaves no place for an example; model.max_positions is 512"),
        (
            ["data.filler=300", "model.max_positions=320"],
            "takes at least 336 tokens with data.filler; model.max_positions is 320",
        ),
    ],
)
def test_filler_that_does_not_fit_is_refused(overrides, told):
    with pytest.raises(ConfigError) as error:
        load_config(DEMO, overrides)
    assert told in str(error.value)
