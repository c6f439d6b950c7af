"""Ready arms: what each changes in a config, and what it leaves."""

import pytest

from hf_lgt.config.load import config_from_dict, load_config
from hf_lgt.experiments.controls import arm_settings, ready_arms, tokens_per_example
from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.spec import load_comparison
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT

STRINGS = ROOT / "recipes" / "paper" / "strings_cpu.yaml"


def changed(arm, path=STRINGS, overrides=()):
    """The config of an arm."""
    from hf_lgt.config.files import set_value

    config = load_config(path, overrides)
    data = config.to_dict()
    for key, value in arm_settings(arm, config).items():
        assert set_value(data, key, value) is None
    return config, config_from_dict(data)


def parts(config):
    return [(c.task, c.role, tuple(c.lengths), c.weight) for c in config.mixture]


def test_transfer_is_the_config_itself():
    before, after = changed("transfer")
    assert before == after


def test_alone_takes_the_auxiliaries_away_and_nothing_else():
    before, after = changed("target_alone")
    assert parts(after) == [("capitalize_reverse", "target", (1, 8), 1.0)]
    assert after.mixture[0].options == {"alphabet": "abcd"}
    assert (after.train, after.model, after.eval) == (before.train, before.model, before.eval)


def test_as_many_tokens_are_trained_on():
    before, after = changed("target_alone_same_tokens")
    assert parts(after) == [("capitalize_reverse", "target", (1, 8), 1.0)]
    # lengths 1..8 and 1..16 have means 4.5 and 8.5; two strings, '=' and three marks: 13 and 21 tokens
    expected = 3000 * (13 + 2 * 21) / 3 / 13
    assert after.train.steps == pytest.approx(expected, rel=0.02)
    tokens = [config.train.steps * tokens_per_example(config) for config in (before, after)]
    assert tokens[0] == pytest.approx(tokens[1], rel=0.001)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 11), (2.0, 16), (0.01, 1)])
def test_as_many_examples_of_the_target_are_trained_on(weight, expected):
    before, after = changed("target_alone_same_examples", overrides=[f"mixture.0.weight={weight}"])
    assert parts(after) == [("capitalize_reverse", "target", (1, 8), weight)]
    assert (before.train.batch_size, after.train.batch_size) == (32, expected)
    assert after.train.steps == before.train.steps


def test_the_token_count_is_that_of_the_sequences():
    config = load_config(
        STRINGS, ["mixture.0.lengths=[4,4]", "mixture.1.lengths=[4,4]", "mixture.2.lengths=[4,4]"]
    )
    assert tokens_per_example(config) == 4 + 1 + 4 + 3
    untagged = load_config(
        STRINGS, ["mixture=[{task: reverse, role: target, lengths: [4,4]}]", "data.tags=false"]
    )
    assert tokens_per_example(untagged) == 4 + 1 + 4 + 2


def test_long_trains_the_target_on_the_auxiliaries_lengths():
    _, after = changed("target_long")
    assert parts(after) == [("capitalize_reverse", "target", (1, 16), 1.0)]


def test_long_is_never_shorter():
    lengths = [f"mixture.{i}.lengths=[1,4]" for i in (1, 2)]
    _, after = changed("target_long", overrides=lengths)
    assert parts(after) == [("capitalize_reverse", "target", (1, 8), 1.0)]


def test_only_one_auxiliary_stays():
    _, after = changed("only_reverse")
    assert parts(after) == [
        ("capitalize_reverse", "target", (1, 8), 1.0),
        ("reverse", "auxiliary", (1, 16), 1.0),
    ]


@pytest.mark.parametrize(
    ("mixture", "task", "lengths"),
    [
        ("[{task: reverse_add, role: target, lengths: [1, 4], options: {base: 3}}, "
         "{task: no_carry, role: auxiliary, lengths: [1, 8], options: {base: 3}}, "
         "{task: carry_only, role: auxiliary, lengths: [1, 6], options: {base: 3}}]",
         "copy_first_op", (1, 8)),
        ("[{task: string_copy, role: target, lengths: [1, 8]}, {task: mqar, role: auxiliary, "
         "lengths: [3, 16], options: {query_width: 1}}]", "reverse", (3, 16)),
    ],
)  # fmt: skip
def test_an_unrelated_task_takes_the_auxiliaries_place_share_and_lengths(mixture, task, lengths):
    before, after = changed("unrelated", overrides=[f"mixture={mixture}"])
    weight = sum(c.weight for c in before.mixture if c.role == "auxiliary")
    assert parts(after)[1:] == [(task, "auxiliary", lengths, weight)]
    assert parts(after)[0] == parts(before)[0]


def test_an_arithmetic_stand_in_keeps_the_base():
    mixture = (
        "[{task: reverse_add, role: target, lengths: [1, 4], options: {base: 3}}, "
        "{task: no_carry, role: auxiliary, lengths: [1, 8], options: {base: 3}}]"
    )
    _, after = changed("unrelated", overrides=[f"mixture={mixture}"])
    assert after.mixture[1].options == {"base": 3}


def test_beside_mazes_a_string_copy_is_as_long_in_tokens():
    mixture = (
        "[{task: dfs_trace, role: target, lengths: [2, 4], options: {side: 3}}, "
        "{task: shortest_path, role: auxiliary, lengths: [2, 8], options: {side: 3}}]"
    )
    _, after = changed("unrelated", overrides=[f"mixture={mixture}", "eval.lengths=[2,8]"])
    stand_in = after.mixture[1]
    assert stand_in.task == "string_copy"
    from data_builders import get_task
    from data_builders.sampling import stream
    from data_builders.symbols import PAD

    def mean_tokens(task, length, options):
        sample = get_task(task).sample(stream(1, "test"), length, 512, **options)
        return ((sample.prompt != PAD).sum() + (sample.target != PAD).sum()) / 512

    maze = mean_tokens("shortest_path", 8, {"side": 3})
    copied = mean_tokens("string_copy", stand_in.lengths[1], {})
    assert copied == pytest.approx(maze, abs=2)


@pytest.mark.parametrize(
    ("arm", "mixture", "told"),
    [
        ("target_alon", None, "did you mean 'target_alone'?"),
        ("only_revers", None, "did you mean 'reverse'?"),
        ("unrelated", "[{task: reverse, role: target, lengths: [1, 8]}]", "needs auxiliary tasks"),
        ("target_long", "[{task: reverse, role: target, lengths: [1, 8]}]", "needs auxiliary tasks"),
        ("unrelated", "[{task: string_copy, role: target, lengths: [1, 8]}, "
         "{task: reverse, role: auxiliary, lengths: [1, 16]}]", "name an arm's mixture yourself"),
    ],
)  # fmt: skip
def test_what_a_config_cannot_have_is_reported(arm, mixture, told):
    config = load_config(STRINGS, [] if mixture is None else [f"mixture={mixture}"])
    with pytest.raises(ConfigError, match="arms: ") as caught:
        arm_settings(arm, config)
    assert told in str(caught.value)


@pytest.mark.parametrize("arm", ["unrelated", "target_alone_same_tokens"])
def test_controls_that_generate_refuse_a_dataset(arm):
    config = load_config(STRINGS, ["data.source=dataset", "data.path=org/name"])
    with pytest.raises(ConfigError, match=r"data\.source is 'dataset'"):
        arm_settings(arm, config)


def test_as_many_examples_of_the_target_are_drawn_of_a_dataset_too():
    overrides = ["data.source=dataset", "data.path=org/name"]
    _, after = changed("target_alone_same_examples", overrides=overrides)
    assert (after.train.batch_size, len(after.mixture)) == (11, 1)


def test_the_names_are_listed():
    assert {"transfer", "target_alone", "unrelated", "target_long", "only_TASK"} <= set(ready_arms())


def test_a_comparison_adds_ready_arms_by_name(tmp_path):
    (tmp_path / "a.yaml").write_text(f"base: {STRINGS}\nname: mine\n")
    (tmp_path / "compare.yaml").write_text(
        "name: c\narms: [a.yaml, target_alone, unrelated]\nseeds: [0, 1]\n"
    )
    planned = plan(load_comparison(tmp_path), [f"output_dir={tmp_path}/runs", "train.steps=7"])
    assert [(p.arm, p.config.name, p.seed) for p in planned] == [
        ("a", "mine", 0),
        ("a", "mine", 1),
        ("target_alone", "mine-target-alone", 0),
        ("target_alone", "mine-target-alone", 1),
        ("unrelated", "mine-unrelated", 0),
        ("unrelated", "mine-unrelated", 1),
    ]
    assert all(p.config.train.steps == 7 for p in planned)
    assert [len(p.config.mixture) for p in planned] == [3, 3, 1, 1, 2, 2]
    # what each run is called with gives the config that was planned
    for p in planned:
        arguments = list(p.arguments)
        overrides = [a.removeprefix("--") for a in arguments[2:]]
        assert load_config(arguments[1], overrides) == p.config


def test_a_ready_arm_that_is_none_is_reported_with_the_others(tmp_path):
    (tmp_path / "a.yaml").write_text(f"base: {STRINGS}\nname: mine\n")
    (tmp_path / "compare.yaml").write_text("name: c\narms: [a.yaml, target_aloen]\nseeds: [0]\n")
    with pytest.raises(ConfigError, match="did you mean 'target_alone'"):
        plan(load_comparison(tmp_path))
