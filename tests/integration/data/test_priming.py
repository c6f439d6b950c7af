"""A few long examples among the short ones."""

import json

import numpy as np
import pytest

from data_builders import Component, Mixture
from data_builders.priming import draw_priming
from data_builders.sampling import draw_batch, draw_test_set, stream
from hf_lgt import ConfigError, train
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.build import prepare_data
from hf_lgt.data.codec import Codec

STRING = Component("reverse", "target", (1, 4), options={"alphabet": "ab"})
MIXTURE = Mixture([STRING, Component("capitalize", "auxiliary", (1, 6))])
ON = ["data.priming.examples=5", "data.priming.lengths=[9,10]", "data.priming.share=0.5"]


def primed(**more):
    given = {"lengths": (5, 6), "examples": 20, "share": 0.25, "seed": 1, "tested": range(1, 9)}
    given |= {"test_examples": 8, "test_seed": 3, **more}
    return draw_priming(STRING, rng=stream(given.pop("seed"), "priming", STRING.key), **given)


def test_the_examples_are_long_none_is_a_test_prompt_and_the_seed_draws_them():
    own, again = (primed(lengths=(5, 5), examples=200, test_examples=400).examples.text() for _ in "ab")
    prompts = {prompt for prompt, _ in own}
    tested = {prompt for prompt, _ in draw_test_set(STRING, 5, 400, 3).examples.text()}
    assert {len(prompt) for prompt in prompts} == {6}
    assert not prompts & tested
    assert own == again
    assert primed(seed=2).examples.text() != primed().examples.text()
    with pytest.raises(ValueError, match="reverse has no prompts of lengths 5 to 5 that are no test prompts"):
        primed(lengths=(5, 5), test_examples=5000)


def test_a_share_of_the_targets_examples_is_replaced_and_nothing_else():
    codec = Codec.build()
    given = {"batch_size": 400, "seed": 0}
    usual = GeneratedSource(MIXTURE, codec, **given)
    source = GeneratedSource(MIXTURE, codec, **given, priming={"reverse": primed()})
    long = []
    for step in range(10):
        plain, own = draw_batch(MIXTURE, step, 400, 0), source._draw(step)
        assert np.array_equal(plain.component, own.component)
        replaced = own.length > 4
        long.append(replaced[own.component == 0].mean())
        assert (own.length == plain.length)[~replaced & (own.component == 0)].all()
        assert own.groups[1][1].text() == plain.groups[1][1].text()
        texts = own.groups[0][1].text()
        assert {t for t in texts if len(t[0]) > 5} <= set(primed().examples.text())
        assert all(target == prompt[-2::-1] for prompt, target in texts)
    assert 0.2 < np.mean(long) < 0.3
    assert "5 to 6" in source.describe(0) or "1 to 6" in source.describe(0)
    assert not np.array_equal(usual.batch(0).ids, source.batch(0).ids)


def test_a_run_is_primed_and_off_means_as_before(tiny):
    runs = [train(tiny(*more, f"name=run{i}"), progress=False).run_dir for i, more in enumerate(([], ON, ON))]
    logs = [
        [json.loads(line)["loss"] for line in (run / "train.jsonl").read_text().splitlines()] for run in runs
    ]
    assert logs[0] != logs[1] == logs[2]
    source = prepare_data(tiny(*ON), None).source
    assert set(source.priming) == {"capitalize_reverse"}
    assert prepare_data(tiny(), None).source.priming == {}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.priming.share=0.5"], "data.priming.examples: 0, so the other keys"),
        ([ON[0], "data.priming.lengths=[8,12]"], "data.priming.lengths: [8, 12] must be longer than"),
        (
            [ON[0], "data.priming.lengths=[9,900]"],
            "data.priming.lengths: length 900 of capitalize_reverse takes",
        ),
        ([*ON, "data.source=dataset", "data.path=x", "data.tags=false"], "are for data.source 'generated'"),
        ([ON[0], "data.priming.lengths=[12,9]"], "data.priming.lengths"),
    ],
)
def test_a_mistake_is_reported(tiny, overrides, told):
    with pytest.raises(ConfigError) as error:
        tiny(*overrides)
    assert any(told in fault for fault in error.value.faults)
