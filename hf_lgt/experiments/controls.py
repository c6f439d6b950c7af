"""Ready arms: controls that any experiment can add by their name.

Each is a function from the config of the transfer arm to the settings in which the arm differs from it.
From ``unrelated`` on (the paper's figure 8) they are controls matched in exposure and in compute, an upper
bound, and whether transfer needs heads that both roles can use.

| arm | what it is |
|---|---|
| ``transfer`` | the config as it is |
| ``target_alone`` | without the auxiliaries, the same steps and batch size (paper, figures 3d, 4b, 4d) |
| ``only_TASK`` | with this auxiliary alone (paper, figure 14) |
| ``unrelated`` | an unrelated task instead of the auxiliaries, at the same lengths and share (figure 8) |
| ``target_alone_same_tokens`` | without the auxiliaries, for as many training tokens |
| ``target_alone_same_examples`` | without the auxiliaries, for as many steps and examples of the target |
| ``target_long`` | the target alone, trained on the auxiliaries' lengths: an upper bound |
| ``disjoint_heads`` | half of each layer's heads for the target, the other half for the auxiliaries |
| ``shared_heads`` | one half of each layer's heads for both: as many for each as ``disjoint_heads`` has |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_builders import get_task
from data_builders.registry import unknown
from data_builders.sampling import draw_batch, stream
from data_builders.symbols import PAD
from hf_lgt.config.schema import ComponentConfig, Config, plain_data
from hf_lgt.utils.errors import ConfigError

Settings = dict[str, Any]
"""key -> value, where an arm differs from the config that it is made from"""
Arm = Callable[[Config], Settings]

TRANSFER = "transfer"
_arms: dict[str, Arm] = {TRANSFER: lambda config: {}}
ONLY = "only_"
UNRELATED = {"arithmetic": ("copy_first_op",), "strings": ("string_copy", "reverse")}
"""family -> tasks that share no step with the others of the family, the first that a mixture lacks is taken
(the paper's figure 8)"""
ELSEWHERE = "string_copy"
"""stands for an unrelated task where a family has none: a task of another family"""


def arm(function: Arm) -> Arm:
    """Register a ready arm under the function's name."""
    name = function.__name__
    assert name not in _arms, f"{name} is taken"
    assert not name.startswith(ONLY), f"{name} is an arm with one auxiliary"
    _arms[name] = function
    return function


def ready_arms() -> list[str]:
    """Names of the ready arms."""
    return [*_arms, f"{ONLY}TASK"]


def is_ready(name: str) -> bool:
    """Whether a name is that of a ready arm, whatever the config."""
    return name in _arms or name.startswith(ONLY)


def arm_settings(name: str, config: Config) -> Settings:
    """Where a ready arm differs from a config.

    Raises:
        ConfigError: there is no such arm, or the config cannot have it.
    """
    if name in _arms:
        return _arms[name](config)
    if name.startswith(ONLY):
        return _only(config, name.removeprefix(ONLY))
    raise ConfigError([f"arms: {unknown('arm', name, ready_arms())}"])


@arm
def target_alone(config: Config) -> Settings:
    """The target alone, for as many steps of as many examples."""
    return _mixture(_targets(config))


@arm
def target_alone_same_tokens(config: Config) -> Settings:
    """The target alone, for as many tokens: more steps where its examples are shorter."""
    settings = target_alone(config)
    if config.data.source == "dataset":
        raise ConfigError(
            ["arms: 'target_alone_same_tokens' counts generated tokens; data.source is 'dataset'"]
        )
    alone = dataclasses.replace(config, mixture=_targets(config))
    ratio = tokens_per_example(config) / tokens_per_example(alone)
    return {**settings, "train.steps": round(config.train.steps * ratio)}


@arm
def target_alone_same_examples(config: Config) -> Settings:
    """The target alone, for as many steps of as many target examples: its share of each batch.

    `target_alone` sees as many examples in all, more of them the target's.
    """
    _auxiliaries(config, "target_alone_same_examples")
    share = sum(c.weight for c in _targets(config)) / sum(c.weight for c in config.mixture)
    return {**target_alone(config), "train.batch_size": max(1, round(config.train.batch_size * share))}


@arm
def target_long(config: Config) -> Settings:
    """The target alone, trained on lengths up to the auxiliaries' where those are longer: an upper bound."""
    longest = max(c.lengths[1] for c in _auxiliaries(config, "target_long"))
    long = [
        dataclasses.replace(c, lengths=(c.lengths[0], max(longest, c.lengths[1]))) for c in _targets(config)
    ]
    return _mixture(long)


@arm
def disjoint_heads(config: Config) -> Settings:
    """The config with half of each layer's heads for the target and the other half for the auxiliaries."""
    _auxiliaries(config, "disjoint_heads")
    return {"model.role_heads": "disjoint"}


@arm
def shared_heads(config: Config) -> Settings:
    """The config with one half of each layer's heads for both roles, as many as in `disjoint_heads`."""
    _auxiliaries(config, "shared_heads")
    return {"model.role_heads": "shared"}


@arm
def unrelated(config: Config) -> Settings:
    """An unrelated task in the auxiliaries' place: as many examples, at the same long positions.

    Of the target's own family where that has one. A maze has far more tokens than nodes; there the
    stand-in is a string copy, long enough for its sequences to be as long in tokens.
    """
    if config.data.source == "dataset":
        raise ConfigError(["arms: 'unrelated' generates a task of its own; data.source is 'dataset'"])
    auxiliaries, targets = _auxiliaries(config, "unrelated"), _targets(config)
    family = get_task(targets[0].task).family
    used = {c.task for c in config.mixture}
    name = next((task for task in UNRELATED.get(family, ()) if task not in used), ELSEWHERE)
    if name in used:
        raise ConfigError(
            [f"arms: 'unrelated': {name} is in the mixture already; name an arm's mixture yourself"]
        )
    longest = max(auxiliaries, key=lambda c: c.lengths[1])
    other = stand_in(longest, name)
    if get_task(name).family != family:
        least = get_task(name).smallest_length(other.options)
        lengths = (least, _as_long_in_tokens(longest, name, other.options))
        other = dataclasses.replace(other, lengths=lengths)
    weight = sum(c.weight for c in auxiliaries)
    return _mixture([*targets, dataclasses.replace(other, weight=weight)])


def stand_in(like: ComponentConfig, task: str) -> ComponentConfig:
    """A component of another task in the place of one: its lengths and those of its options that apply."""
    options = {key: value for key, value in like.options.items() if key in get_task(task).options}
    first = max(like.lengths[0], get_task(task).smallest_length(options))
    return dataclasses.replace(like, task=task, options=options, lengths=(first, like.lengths[1]))


def _only(config: Config, task: str) -> Settings:
    auxiliaries = _auxiliaries(config, f"{ONLY}{task}")
    kept = [c for c in auxiliaries if c.task == task]
    if not kept:
        raise ConfigError([f"arms: {ONLY}TASK: {unknown('auxiliary', task, [c.task for c in auxiliaries])}"])
    return _mixture([*_targets(config), *kept])


def tokens_per_example(config: Config) -> float:
    """Mean length in tokens of the training sequences of generated data, from a fixed sample of 4096."""
    drawn = draw_batch(config.build_mixture(), 0, 4096, 0)
    heads = 3 if config.data.tags else 2  # BOS, tag, EOS
    total = sum(
        int((s.prompt != PAD).sum() + (s.target != PAD).sum()) + heads * len(s) for _, s in drawn.groups
    )
    return total / 4096 + config.data.filler / 2


def _as_long_in_tokens(long: ComponentConfig, name: str, options: dict[str, Any]) -> int:
    """Length of a string copy whose sequences have the mean tokens of a component's longest."""
    sample = get_task(long.task).sample(stream(0, "controls"), long.lengths[1], 256, **long.options)
    tokens = float(np.mean((sample.prompt != PAD).sum(axis=1) + (sample.target != PAD).sum(axis=1)))
    return max(get_task(name).smallest_length(options), round((tokens - 1) / 2))


def _targets(config: Config) -> list[ComponentConfig]:
    return [c for c in config.mixture if c.role == "target"]


def _auxiliaries(config: Config, arm_name: str) -> list[ComponentConfig]:
    auxiliaries = [c for c in config.mixture if c.role == "auxiliary"]
    if not auxiliaries:
        raise ConfigError([f"arms: {arm_name!r} needs auxiliary tasks in the mixture, which has none"])
    return auxiliaries


def _mixture(components: Sequence[ComponentConfig]) -> Settings:
    return {"mixture": [given(c) for c in components]}


def given(component: ComponentConfig) -> dict[str, Any]:
    """A component as plain data, without keys that have their default value."""
    data = plain_data(dataclasses.asdict(component))
    usual = {"weight": 1.0, "options": {}}
    return {key: value for key, value in data.items() if key not in usual or value != usual[key]}
