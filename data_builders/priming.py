"""Priming: a few long examples of the target, the same ones again and again, among the short ones.

Jelassi et al. 2023, arXiv 2306.15400. None of them has a test prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Sample
from data_builders.mixture import Component
from data_builders.sampling import draw_test_set, prompt_hashes

PATIENCE = 200
"""draws for an example without a test prompt"""


@dataclass(frozen=True)
class Priming:
    """Long examples of one component."""

    examples: Sample
    lengths: NDArray[np.int64]
    """int64 [n], of each"""
    share: float
    """of the component's examples that are one of these"""

    def mixed(
        self, sample: Sample, lengths: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Sample, NDArray[np.int64]]:
        """Examples of a step and their lengths, some of them replaced by long ones."""
        rows = np.flatnonzero(rng.random(len(sample)) < self.share)
        if not len(rows):
            return sample, lengths
        chosen = rng.integers(0, len(self.lengths), size=len(rows))
        lengths = lengths.copy()
        lengths[rows] = self.lengths[chosen]
        return _wide(sample, self.examples).replace(rows, self.examples.take(chosen)), lengths


def draw_priming(
    component: Component,
    lengths: tuple[int, int],
    examples: int,
    share: float,
    rng: np.random.Generator,
    tested: Sequence[int],
    test_examples: int,
    test_seed: int,
) -> Priming:
    """Draw the long examples.

    Args:
        component: whose.
        lengths: smallest and largest, both included; drawn uniformly.
        examples: how many.
        share: of the component's examples that are one of them.
        rng: draws them.
        tested: evaluated lengths, whose test prompts are left out.
        test_examples: test examples a length.
        test_seed: the test seed.

    Raises:
        ValueError: all prompts of these lengths are test prompts.
    """
    low, high = lengths
    sets = [draw_test_set(component, n, test_examples, test_seed) for n in tested if low <= n <= high]
    taken = [prompt_hashes(own.examples.prompt) for own in sets]
    held_out = np.concatenate([np.empty(0, dtype=np.uint64), *taken])
    task = component.definition
    drawn = rng.integers(low, high + 1, size=examples)
    sample = task.sample(rng, drawn, examples, **component.options)
    for _ in range(PATIENCE):
        rows = np.flatnonzero(np.isin(prompt_hashes(sample.prompt), held_out))
        if not len(rows):
            return Priming(sample, drawn, share)
        sample = sample.replace(rows, task.sample(rng, drawn[rows], len(rows), **component.options))
    raise ValueError(f"{component.task} has no prompts of lengths {low} to {high} that are no test prompts")


def joined(first: Priming, second: Priming) -> Priming:
    """The examples of both, with the share of the second."""
    a, b = _wide(first.examples, second.examples), _wide(second.examples, first.examples)
    prompt, target, mask = (
        np.concatenate([getattr(own, name) for own in (a, b)]) for name in ("prompt", "target", "loss_mask")
    )
    examples = Sample(prompt, target, mask, first.examples.scores_eos)
    return Priming(examples, np.concatenate([first.lengths, second.lengths]), second.share)


def _wide(sample: Sample, other: Sample) -> Sample:
    """A sample with room for another's examples."""

    def padded(own: NDArray[np.generic], width: int) -> NDArray[np.generic]:
        return np.pad(own, ((0, 0), (0, max(0, width - own.shape[1]))))

    return Sample(
        padded(sample.prompt, other.prompt.shape[1]),  # type: ignore[arg-type]
        padded(sample.target, other.target.shape[1]),  # type: ignore[arg-type]
        padded(sample.loss_mask, other.target.shape[1]),  # type: ignore[arg-type]
        sample.scores_eos,
    )
