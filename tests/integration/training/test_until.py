"""Training to a criterion: it ends where it is met, resumes exactly, and says where it was not."""

import json
import shutil

import pytest

from hf_lgt import ConfigError, load_config, train, train_together
from hf_lgt.config.schema import TrainConfig, UntilConfig
from hf_lgt.evaluation import trained_model
from hf_lgt.evaluation.criterion import Criterion
from hf_lgt.evaluation.records import grouped_by_step, read_records
from hf_lgt.report.results import results_text
from hf_lgt.training.optimizers import make_schedule
from tests.conftest import ROOT
from tests.integration.workflows.test_train import interrupt, same_numbers

EASY = (
    "train.steps=60",
    "train.eval_every=4",
    "train.save_every=2",
    "train.log_every=1",
    "train.until.exact_match=0.001",
    "train.until.evaluations=2",
    "train.until.cooldown=5",
    "mixture=[{task: string_copy, role: target, lengths: [1, 1]}, "
    "{task: reverse, role: auxiliary, lengths: [1, 4]}]",
    "eval.lengths=[1, 4]",
    "train.learning_rate=0.01",
)
"""of one letter; a model that answers any of them has it"""


ONCE = ("train.until.exact_match=0.9", "train.until.cooldown=2", "train.until.evaluations=1")


def logged(run_dir):
    return [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    from hf_lgt import load_config
    from tests.conftest import ROOT, TINY

    out = tmp_path_factory.mktemp("until")
    return load_config(ROOT / "recipes/demo/transfer.yaml", [*TINY, f"output_dir={out}", *EASY])


@pytest.fixture(scope="module")
def run(config):
    return train(config, progress=False)


def test_it_ends_a_cooldown_after_the_evaluations_in_a_row_that_met_it(run, config):
    by_step = grouped_by_step(run.history)
    reached = Criterion.of(config).reached(by_step)
    met = [step for step in by_step if Criterion.of(config).holds(step, by_step[step])]
    assert reached is not None
    assert {reached - 4, reached} <= set(met)
    assert reached - 4 > 6, "evaluations of the warm-up do not count"
    steps = [line["step"] for line in logged(run.run_dir)]
    assert steps == list(range(1, reached + 6))
    assert max(by_step) == reached + 5, "the last step is evaluated"
    rates = [line["learning_rate"] for line in logged(run.run_dir)]
    assert rates[6:reached] == pytest.approx([0.01] * (reached - 6))
    cooled = rates[reached:]
    assert cooled == sorted(cooled, reverse=True)
    assert cooled[0] == pytest.approx(0.01)
    assert cooled[-1] < 0.002


def test_what_was_reached_and_when_is_reported(run, config):
    text = results_text(config, run.history)
    reached = Criterion.of(config).reached(grouped_by_step(run.history))
    told = f"exact match 0.001 on trained lengths was reached at step {reached}; the training ended at step"
    assert f"string_copy: {told} {reached + 5}" in text
    card = (run.run_dir / "model/README.md").read_text()
    assert told in card
    assert trained_model.find_model(run.run_dir, None, []).step == reached + 5


@pytest.mark.parametrize("before", [-8, -1, 1, 4])
def test_an_interrupted_one_ends_with_the_same_numbers(run, config, before, tmp_path):
    """Stopped at a checkpoint before the criterion, beside it, and within the cool-down."""
    import dataclasses

    reached = Criterion.of(config).reached(grouped_by_step(run.history))
    stopped = tmp_path / config.name / run.run_dir.name
    shutil.copytree(run.run_dir, stopped)
    interrupt(stopped, max((reached + before) // 2 * 2, 2))
    train(dataclasses.replace(config, output_dir=str(tmp_path)), progress=False)
    assert same_numbers(stopped, run.run_dir)


def test_one_that_does_not_reach_it_takes_every_step_and_says_so(tiny):
    hard = tiny("name=hard", "train.until.exact_match=1.0", "train.until.cooldown=4", "train.log_every=1",
                "train.until.evaluations=1")  # fmt: skip
    result = train(hard, progress=False)
    assert logged(result.run_dir)[-1]["step"] == 12
    rates = [line["learning_rate"] for line in logged(result.run_dir)]
    assert rates[1:9] == pytest.approx([0.002] * 8)
    assert rates[-1] < 0.001, "it cools down all the same"
    assert "exact match 1.0 on trained lengths was not reached within 12 steps" in results_text(
        hard, result.history
    )


def test_the_auxiliaries_can_be_asked_for_too(config, run):
    import dataclasses

    until = UntilConfig(exact_match=0.5, auxiliaries=True)
    both = Criterion.of(dataclasses.replace(config, train=dataclasses.replace(config.train, until=until)))
    assert dict(both.lengths) == {"string_copy": (1, 1), "reverse": (1, 4)}
    records = read_records(run.run_dir / "eval.jsonl")
    step = max(r.step for r in records)

    def right(task, low=1):
        return [
            dataclasses.replace(r, exact_match=float(r.task in task and r.length >= low))
            for r in records
            if r.step == step
        ]

    assert both.holds(step, right(["string_copy", "reverse"]))
    assert not both.holds(step, right(["string_copy"]))
    assert not both.holds(step, right(["reverse"]))
    assert not both.holds(1, right(["string_copy", "reverse"])), "within the warm-up"


def test_only_the_trained_lengths_are_evaluated_on_the_way(tiny):
    result = train(tiny("name=during", "eval.during=trained"), progress=False)
    lengths = {
        step: {task: [r.length for r in found if r.task == task] for task in {r.task for r in found}}
        for step, found in grouped_by_step(result.history).items()
    }
    assert lengths[6]["capitalize_reverse"] == list(range(1, 9))
    assert lengths[6]["reverse"] == list(range(1, 11))
    assert lengths[12]["capitalize_reverse"] == list(range(1, 11))


def test_of_the_targets_alone_on_the_way_and_of_all_at_the_end(tiny):
    result = train(tiny("name=during", "eval.during=target"), progress=False)
    tasks = {step: {r.task for r in found} for step, found in grouped_by_step(result.history).items()}
    assert tasks[6] == {"capitalize_reverse"}
    assert tasks[12] == {"capitalize_reverse", "capitalize", "reverse"}


@pytest.mark.slow
def test_a_pretrained_model_is_evaluated_first_unless_it_is_not_wanted(tiny_run, tmp_path):
    given = [f"model.name_or_path={tiny_run / 'model'}", "model.init=pretrained", f"output_dir={tmp_path}"]
    given += ["train.steps=2", "train.batch_size=8", "train.eval_every=null", "train.save_every=null"]
    given += ["eval.lengths=[4,8]", "eval.every=4", "eval.examples=8"]
    steps = []
    for more in ([], ["eval.zero_shot=false", "name=without"]):
        config = load_config(ROOT / "recipes/demo/checkpoint.yaml", [*given, *more])
        steps.append(sorted(grouped_by_step(train(config, progress=False).history)))
    assert steps == [[0, 2], [2]]


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (
            ["train.until.exact_match=0.9", "train.until.auxiliaries=true", "eval.during=target"],
            "train.until.auxiliaries: true, but eval.during 'target' evaluates no auxiliary",
        ),
        (["train.until.cooldown=5"], "train.until.cooldown: 5 is for train.until.exact_match, which is null"),
        (["train.until.exact_match=0"], "train.until.exact_match"),
        (["train.until.exact_match=0.9", "train.eval_every=null"], "give train.eval_every the steps between"),
        (["train.until.exact_match=0.9", "train.average=0.5"], "take train.average 0"),
        (["train.until.exact_match=0.9"], "train.until.cooldown: 100 steps do not fit train.steps, 12"),
        (
            ["train.until.exact_match=0.9", "train.until.cooldown=2", "eval.lengths=[9, 10]"],
            "1 to 8 of 'capitalize_reverse'; none of them is among those that eval.lengths",
        ),
        (
            ["train.until.exact_match=0.9", "train.until.cooldown=2"],
            "train.until.evaluations: 2 are never made",
        ),
        (["train.until.exact=0.9"], "did you mean 'exact_match'"),
    ],
)
def test_what_does_not_go_together_is_refused(tiny, overrides, fault):
    with pytest.raises(ConfigError) as caught:
        tiny(*overrides)
    assert fault in str(caught.value)


def test_runs_that_end_apart_are_not_trained_together(tiny):
    configs = [tiny(*ONCE, f"seed.init={seed}") for seed in (0, 1)]
    with pytest.raises(ConfigError, match=r"train\.until\.exact_match: 0\.9 is not for runs"):
        train_together(configs, progress=False)


def test_the_schedule_of_one_that_was_reached_is_that_of_a_shorter_training():
    import torch

    config = TrainConfig(steps=100, learning_rate=1.0, until=UntilConfig(exact_match=0.9, cooldown=10))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for taken, last, rate in [
        (5, 100, 0.505),
        (50, 100, 1.0),
        (95, 100, 0.505),
        (40, 50, 1.0),
        (45, 50, 0.505),
    ]:
        make_schedule(optimizer, config, taken, last)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, abs=0.005), (taken, last)


def test_what_a_training_will_do_is_told_before_it_begins(tiny, caplog):
    caplog.set_level("INFO", logger="hf_lgt")
    train(tiny("name=told", *ONCE), progress=False)
    said = [record.getMessage() for record in caplog.records if "announcement" in record.name]
    assert said == [
        "model:    llama, 1 layers, hidden 32, random weights, 0.02M parameters",
        "tasks:    target capitalize_reverse 1–8; auxiliary capitalize 1–16, reverse 1–16; "
        "evaluated at lengths 1–10",
        "training: at most 12 steps of 32 examples, until exact match 0.9 on trained lengths, on cpu",
    ]
