"""Rounds in which a model answers longer prompts itself and trains on some of the answers."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from hf_lgt import ConfigError, train
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.build import prepare_data, prepare_tests
from hf_lgt.utils.errors import CheckpointError
from hf_lgt.workflows.self_improvement import LOG, SelfImprovement, draft_steps, round_steps

MIXTURE = "mixture=[{task: first_letter, role: target, lengths: [1, 3], options: {alphabet: abcd}}]"
EASY = [MIXTURE, "train.steps=120", "train.batch_size=32", "train.learning_rate=0.01", "train.average=0.0"]
EASY += ["train.save_every=70", "train.eval_every=null", "train.log_every=1", "eval.lengths=[1,6]"]
ROUNDS = ["train.self_improvement.rounds=3", "train.self_improvement.examples=24"]


def losses(run_dir):
    return [json.loads(line)["loss"] for line in (run_dir / "train.jsonl").read_text().splitlines()]


def answers(run_dir):
    return [json.loads(line) for line in (run_dir / LOG).read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with rounds, and one without."""
    from hf_lgt import load_config
    from tests.conftest import ROOT, TINY

    out = tmp_path_factory.mktemp("runs")

    def run(*more):
        config = load_config(ROOT / "recipes/demo/transfer.yaml", [*TINY, f"output_dir={out}", *EASY, *more])
        return config, train(config, progress=False).run_dir

    return run(*ROUNDS, "name=rounds"), run("name=plain")


def test_rounds_are_spread_over_what_follows_the_first_part(tiny):
    config = tiny(*EASY, *ROUNDS)
    assert round_steps(config) == [60, 80, 100]
    assert draft_steps(config) == [50, 70, 90]


def test_a_run_learns_from_its_own_answers_to_longer_prompts(finished):
    (_, run), (_, plain) = finished
    lines = answers(run)
    assert [(step, sum(line["step"] == step for line in lines)) for step in (50, 60, 70, 80, 90, 100)] == [
        (step, 24) for step in (50, 60, 70, 80, 90, 100)
    ]
    final = [line for line in lines if line["step"] in (60, 80, 100)]
    assert [sorted({line["length"] for line in final if line["step"] == s}) for s in (60, 80, 100)] == [
        [4],
        [5],
        [6],
    ]
    drafts = [line for line in lines if line not in final]
    assert all(line["kept"] is None for line in drafts)
    # kept is what was answered twice alike, whether right or not
    for draft, line in zip(drafts, final, strict=True):
        assert draft["prompt"] == line["prompt"]
        assert line["kept"] == (draft["answer"] == line["answer"] != "")
        assert line["right"] == (line["answer"] == line["prompt"][0])
    assert sum(line["kept"] for line in final) > 10
    # the same up to the first round, then others
    ours, theirs = losses(run), losses(plain)
    assert ours[:60] == theirs[:60]
    assert ours[60:] != theirs[60:]


def test_no_prompt_of_its_own_is_a_test_prompt(finished):
    (config, run), _ = finished
    data = prepare_data(config, None)
    tested = set()
    for cell in data.tests.cells:
        batch = data.tests.examples(cell).batch
        tested |= {text.removeprefix("<first_letter>")[:-1] for text in data.codec.decode(batch.ids)}
    own = {line["prompt"] for line in answers(run)}
    assert len(own) > 40
    assert {len(prompt) for prompt in own} == {5, 6, 7}
    assert {"=", *"aA"} <= set("".join(tested))
    assert 7 in map(len, tested)
    assert not own & tested


def test_batches_hold_kept_answers_of_all_rounds_until_then(finished):
    (config, run), _ = finished
    data = prepare_data(config, None)
    assert isinstance(data.source, GeneratedSource)
    learner = SelfImprovement(config, data, main=True)
    learner.resume(120)
    kept = {(line["prompt"], line["answer"]) for line in answers(run) if line["kept"]}
    pool = data.source.priming["first_letter"]
    assert set(pool.examples.text()) == kept
    assert sorted(set(pool.lengths.tolist())) == sorted({len(prompt) - 1 for prompt, _ in kept})
    drawn = [length for step in range(100, 120) for length in data.source._draw(step).length]
    assert 0.4 < np.mean(np.array(drawn) > 3) < 0.6


def test_an_interrupted_run_takes_the_same_steps(finished, tmp_path):
    (config, run), _ = finished
    (checkpoint,) = (run / "checkpoints").glob("step-000070")  # between a round and the next draft's round
    other = tmp_path / config.name
    moved = dataclasses.replace(config, output_dir=str(tmp_path))
    again = train(moved, resume=checkpoint, progress=False).run_dir
    assert again.is_relative_to(other)
    assert losses(again) == losses(run)
    assert answers(again) == answers(run)
    # and in its own folder, where the logs are longer than the checkpoint knows
    whole, own = losses(again), answers(again)
    shutil.rmtree(again / "model")
    shutil.rmtree(again / "checkpoints" / "step-000120", ignore_errors=True)
    train(moved, progress=False)
    assert losses(again) == whole
    assert answers(again) == own


def test_a_damaged_log_is_refused(finished, tmp_path):
    (config, run), _ = finished
    moved = dataclasses.replace(config, output_dir=str(tmp_path))
    moved.run_dir.mkdir(parents=True)
    data = prepare_data(config, None)
    lines = (run / LOG).read_text().splitlines()
    one, *others = lines
    kept = next(i for i, line in enumerate(lines) if '"kept": true' in line)
    for damage in (
        lines[:-1],
        lines[::-1],
        [one.replace('"answer"', '"anwser"'), *others],
        [one.replace('"kept": null', '"kept": false'), *others],
        [*lines[:kept], lines[kept].replace('"kept": true', '"kept": "true"'), *lines[kept + 1 :]],
        [*lines[:kept], re.sub('"answer": "."', '"answer": "[7]"', lines[kept]), *lines[kept + 1 :]],
        ["[]"],
    ):
        (moved.run_dir / LOG).write_text("\n".join(damage) + "\n")
        with pytest.raises(CheckpointError, match=r"is damaged: .*; restore it, or begin the run anew"):
            SelfImprovement(moved, data, main=True).resume(120)
    (moved.run_dir / LOG).unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        SelfImprovement(moved, data, main=True).resume(120)
    SelfImprovement(moved, data, main=True).resume(50)  # before the first answers


@pytest.mark.parametrize(
    ("keep", "told"), [("length", ["aab", "aa", "aaa"]), ("all", ["aab", "aa", "b", "aaaaaa", "aaa"])]
)
def test_rules_that_keep_answers(tiny, keep, told):
    config = tiny(*EASY, *ROUNDS, f"train.self_improvement.keep={keep}")
    learner = SelfImprovement(config, prepare_data(config, None), main=True)
    given = ["aab", "", "aa", "b", "aaaaaa", "aaa"]
    kept = learner._kept("first_letter", given)
    assert [answer for answer, own in zip(given, kept, strict=True) if own] == told
    assert not learner.drafts


def test_an_answer_has_an_end_and_is_of_the_tasks_symbols_alone(tiny):
    config = tiny(*EASY, *ROUNDS)
    data = prepare_data(config, None)
    learner, codec = SelfImprovement(config, data, main=True), data.codec
    words = codec.tokenizer.get_vocab()
    a, tag = words["a"], words["<reverse>"]
    assert learner._text([a, a, codec.eos_id]) == "aa"
    for ids in ([a, a], [a, codec.bos_id, a, codec.eos_id], [codec.pad_id, codec.eos_id], [tag, codec.eos_id],
                [codec.eos_id]):  # fmt: skip
        assert learner._text(ids) == ""
    drawn = data.rounds["first_letter", 0]
    assert learner._can_be_learned("aAb", drawn)
    for answer in ("", "[7]", "<reverse>", "<pad>", "a b", "aaaa"):  # the right one has one symbol
        assert not learner._can_be_learned(answer, drawn)


def test_an_evaluation_knows_the_prompts_beyond_the_trained_lengths(finished):
    (config, run), (plain, _) = finished
    codec = prepare_data(config, None).codec
    more = dataclasses.replace(config, eval=dataclasses.replace(config.eval, examples=2000))
    prompts = {line["prompt"] for line in answers(run) if line["length"] == 4}

    def overlap(of):
        tests = prepare_tests(more, codec, of)
        cell = next(cell for cell in tests.cells if cell.length == 4)
        own = tests.examples(cell)
        texts = [text.removeprefix("<first_letter>")[:-1] for text in codec.decode(own.batch.ids)]
        seen = sum(text in prompts for text in texts)
        return own.overlap, seen

    found, seen = overlap(config)
    assert found == seen > 0
    assert overlap(plain)[0] == 0


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["train.self_improvement.examples=9"], "rounds: 0, so the other keys of train.self_improvement"),
        (["train.self_improvement.rounds=61", "train.steps=120"], "rounds: 61 do not fit train.steps, 120"),
        (
            [*ROUNDS, "train.until.exact_match=0.9", "train.eval_every=2", "train.until.cooldown=10"],
            "which train.until.exact_match would cut",
        ),
        (
            [*ROUNDS, "data.priming.examples=3", "data.priming.lengths=[7,8]"],
            "rounds: 3 do not go with data.priming",
        ),
        ([*ROUNDS, "model.max_positions=12"], "rounds: length 6 of first_letter takes at least 13"),
        (
            [*ROUNDS, "data.curriculum=0.6"],
            "data.curriculum: 0.6 ends after train.self_improvement.begin, 0.5",
        ),
        (
            [*ROUNDS, MIXTURE.replace("first_letter", "mqar").replace(", options: {alphabet: abcd}", "")],
            "mqar",
        ),
        ([*ROUNDS, "data.source=dataset", "data.path=x", "data.tags=false"], "need data.source 'generated'"),
    ],
)
def test_rounds_that_cannot_be_are_refused(tiny, overrides, told):
    with pytest.raises(ConfigError) as error:
        tiny(*EASY, *overrides)
    assert told in str(error.value)


def test_too_few_prompts_are_reported_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(ConfigError) as error:
        train(tiny(*EASY, *ROUNDS, "eval.examples=5000"), progress=False)
    assert "train.self_improvement.rounds: first_letter has no prompts of lengths 4 to 4" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_batches_that_are_made_ahead_have_them_too(finished, tmp_path, monkeypatch):
    (config, run), _ = finished
    monkeypatch.setattr("hf_lgt.utils.prefetch.asynchronous", lambda device: True)
    ahead = train(dataclasses.replace(config, output_dir=str(tmp_path)), progress=False).run_dir
    assert answers(ahead) == answers(run)
    assert losses(ahead) == pytest.approx(losses(run), rel=1e-4)  # attention is another function there
