"""The average of the last weights: what it is, and that nothing else changes."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from hf_lgt import train, train_together
from hf_lgt.evaluation import trained_model
from hf_lgt.evaluation.harness import evaluate_tests
from hf_lgt.evaluation.records import last_step, read_records
from hf_lgt.training.weight_average import add_to_average, average_in_place, averaged_steps
from hf_lgt.utils.errors import ConfigError
from tests.integration.workflows.test_train import interrupt, same_numbers

LAST_HALF = ("train.average=0.5", "train.save_every=1", "train.eval_every=6")


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture
def averaged(tiny):
    return train(tiny("name=averaged", *LAST_HALF), progress=False).run_dir


def test_the_steps_are_the_last_ones():
    assert list(averaged_steps(12, 0.5)) == [7, 8, 9, 10, 11, 12]
    assert list(averaged_steps(12, 1.0)) == list(range(1, 13))
    assert list(averaged_steps(12, 0.0)) == []


def test_the_model_has_the_mean_of_the_last_weights(averaged):
    steps = [weights(averaged / f"checkpoints/step-{step:06d}") for step in range(7, 13)]
    found = weights(averaged / "model")
    for name, value in found.items():
        torch.testing.assert_close(value, torch.stack([own[name] for own in steps]).mean(0))
    assert any(not torch.equal(found[name], steps[-1][name]) for name in found)


def test_training_goes_its_way_and_the_last_evaluation_is_of_the_average(tiny, averaged):
    plain = train(tiny("name=plain", *LAST_HALF[1:]), progress=False).run_dir

    def losses(run_dir):
        return [json.loads(line)["loss"] for line in (run_dir / "train.jsonl").read_text().splitlines()]

    assert losses(averaged) == losses(plain)
    ends = [run / "checkpoints/step-000012" for run in (averaged, plain)]
    assert all(torch.equal(value, weights(ends[1])[name]) for name, value in weights(ends[0]).items())
    by_step = [[r for r in read_records(run / "eval.jsonl") if r.step == 6] for run in (averaged, plain)]
    assert by_step[0] == by_step[1], "before there is an average"
    found = trained_model.find_model(averaged, None, [])
    model, codec = trained_model.load_trained_model(found)
    records = evaluate_tests(model, trained_model.tests_of(found, codec, model), step=12)
    assert records == last_step(read_records(averaged / "eval.jsonl"))


@pytest.mark.parametrize("step", [3, 6, 9, 12])
def test_a_resumed_run_has_the_same_average(tiny, averaged, step):
    whole = averaged.with_name("whole")
    shutil.copytree(averaged, whole)
    interrupt(averaged, step)
    train(tiny("name=averaged", *LAST_HALF), progress=False)
    assert same_numbers(averaged, whole)


def test_stacked_runs_have_averages_of_their_own(tiny):
    configs = [tiny("name=stacked", *LAST_HALF, f"seed.init={seed}") for seed in range(2)]
    for config, result in zip(configs, train_together(configs, progress=False), strict=True):
        alone = train(tiny("name=alone", *LAST_HALF, f"seed.init={config.seed.init}"), progress=False)
        for name, value in weights(result.run_dir / "model").items():
            torch.testing.assert_close(value, weights(alone.run_dir / "model")[name], rtol=1e-3, atol=1e-5)


def test_within_the_block_the_weights_are_their_average_and_as_before_after():
    layer, unused = torch.nn.Linear(3, 2), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([*layer.parameters(), unused], lr=0.1)
    taken = []
    for count in range(1, 4):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        add_to_average(optimizer, count)
        taken.append(layer.weight.detach().clone())
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ZeroDivisionError), average_in_place(optimizer):
        torch.testing.assert_close(layer.weight, torch.stack(taken).mean(0))
        raise ZeroDivisionError
    assert torch.equal(layer.weight, taken[-1])
    for number, own in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, before["state"][number][name]) for name, value in own.items())


def test_weights_too_coarse_for_a_mean_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"train\.average: 0\.5 is for model\.dtype 'float32'"):
        tiny("train.average=0.5", "model.dtype=bfloat16")
