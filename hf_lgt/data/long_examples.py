"""Longer examples than those that are trained on: few of them for priming, prompts for self-improvement."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from data_builders import Component, Mixture
from data_builders.priming import Priming, draw_priming
from data_builders.sampling import prompt_hashes, stream
from hf_lgt.config.schema import Config
from hf_lgt.utils.errors import ConfigError

Rounds = Mapping[tuple[str, int], Priming]
"""(task, round) -> prompts of self-improvement, with their right answers"""


def priming_of(config: Config, mixture: Mixture) -> dict[str, Priming]:
    """The targets' long examples, by task.

    Raises:
        ConfigError: there is none without a test prompt.
    """
    own, test = config.data.priming, config.eval
    if not own.examples:
        return {}
    drawn, tests = (own.lengths, own.examples, own.share), (test.grid, test.examples, test.seed)
    try:
        return {
            component.task: draw_priming(component, *drawn, _rng(config, "priming", component), *tests)
            for component in mixture.with_role("target")
        }
    except ValueError as error:
        told = f"data.priming.lengths: {error}; take longer ones, or fewer eval.examples"
        raise ConfigError([told]) from None


def rounds_of(config: Config, mixture: Mixture) -> Rounds:
    """The targets' prompts of each round of self-improvement.

    Raises:
        ConfigError: of some length there is none that is no test prompt.
    """
    own, test = config.train.self_improvement, config.eval
    tests = test.grid, test.examples, test.seed
    rounds = {}
    try:
        for component in mixture.with_role("target"):
            for index in range(own.rounds):
                length = component.lengths[1] + (index + 1) * own.lengths
                drawn = (length, length), own.examples, own.share
                rng = _rng(config, f"self-improvement {index}", component)
                rounds[component.task, index] = draw_priming(component, *drawn, rng, *tests)
    except ValueError as error:
        told = f"train.self_improvement.rounds: {error}; set train.self_improvement.lengths to a larger step"
        raise ConfigError([f"{told}, or take fewer eval.examples"]) from None
    return rounds


def _rng(config: Config, purpose: str, component: Component) -> np.random.Generator:
    return stream(config.seed.data, purpose, component.key)


def prompts_beyond(config: Config) -> dict[str, NDArray[np.uint64]]:
    """Hashes of the prompts that a run sees beyond its trained lengths, by task, see `prompt_hashes`."""
    mixture = config.build_mixture()
    found: dict[str, list[NDArray[np.uint64]]] = {}
    for task, own in priming_of(config, mixture).items():
        found.setdefault(task, []).append(prompt_hashes(own.examples.prompt))
    for (task, _), own in rounds_of(config, mixture).items():
        found.setdefault(task, []).append(prompt_hashes(own.examples.prompt))
    return {task: np.concatenate(hashes) for task, hashes in found.items()}
