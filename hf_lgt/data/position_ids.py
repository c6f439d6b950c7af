"""Numbers of positions other than 0, 1, 2, ...: policies that need no model code of their own.

A model with rotary embeddings reads the position ID of each token from ``position_ids``, so the
place of a token in its sequence and the number that the model sees can be two things:

- *randomized* (Ruoss et al. 2023, arXiv 2305.16843): the numbers of a sequence are a random subset of
  ``range(size)``, without replacement, ascending. Training so sees numbers that only longer sequences
  would have. As in that paper they are drawn in tests too; here once for each test example, from the
  test seed, the task and the length alone, so that a test set stays the same test set.
- *coupled* (Cho et al. 2024, arXiv 2405.20671): tokens that belong together share a number. A sequence
  is cut into blocks: one begins before the prompt, at its tag, and one at each of the signs that the
  task names (`data_builders.registry.register_task`). A block is numbered s, s+1, ...: with the numbers
  of ``75+86=521`` written lowest digit first, digits of one significance have one number. The beginning
  of sequence is 0; the end of sequence follows the answer. The start s is drawn for each training
  sequence, uniformly from 1 to the largest with which all its numbers are below `size`; in tests it is 1.
- *abacus* (McLeish et al. 2024, arXiv 2405.17399): as coupled, but only digits have numbers; all other tokens
  have 0. That paper adds an embedding of them to a model without other positions: take one that has learned
  positions (``model.architecture: gpt2``).

Numbers for training are drawn anew in each step, from a stream of their own (data seed, "positions",
step): the examples of a batch are the same whatever the policy, and its numbers a function of seed and
step, for any number of processes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Sample, join
from data_builders.registry import get_task
from data_builders.symbols import DIGIT_ZERO, PAD
from data_builders.tasks.coupling import block_places, last_places
from hf_lgt.config.schema import ModelConfig
from hf_lgt.data.codec import Encoded
from hf_lgt.utils.errors import ConfigError, RunError


@dataclass(frozen=True)
class Numbering:
    """A policy other than the usual numbers."""

    policy: Literal["randomized", "coupled", "abacus"]
    size: int
    """numbers are below this"""

    def sample(
        self,
        encoded: Encoded,
        sample: Sample,
        task: str,
        rng: np.random.Generator,
        *,
        tags: bool,
        test: bool = False,
    ) -> Encoded:
        """Generated examples of one task with their position IDs.

        Args:
            encoded: their tokens.
            sample: their symbols.
            task: the name of their task.
            rng: what the numbers are drawn from.
            tags: whether the tokens hold the tag of the task.
            test: whether they are test examples.

        Raises:
            RunError: a sequence needs more numbers than there are.
        """
        if self.policy == "randomized":
            return self.rows(encoded, rng)
        places = block_places(sample, get_task(task).restarts, encoded.ids.shape[1], tags=tags)
        # the largest s at which the sequence fits
        most = self.size - 1 - last_places(places, encoded.lengths)
        if most.min(initial=1) < 1:
            raise RunError(
                f"a sequence of {task} needs {self.size + 1 - int(most.min())} {self.policy} positions; "
                f"model.position_range has {self.size}"
            )
        begin = np.ones_like(most) if test else rng.integers(1, most + 1)
        inside = np.arange(places.shape[1]) < encoded.lengths[:, None]
        numbers = np.where(inside, begin[:, None] + places, 0)
        numbers[:, 0] = 0  # the beginning of sequence is of no block
        if self.policy == "abacus":
            numbers *= _digits(sample, places.shape[1], tags=tags)
        return dataclasses.replace(encoded, positions=numbers)

    def rows(self, encoded: Encoded, rng: np.random.Generator) -> Encoded:
        """Sequences of any origin with randomized numbers, drawn row after row.

        Raises:
            RunError: a sequence needs more numbers than there are.
        """
        assert self.policy == "randomized", "coupled positions are for generated examples"
        if (longest := int(encoded.lengths.max(initial=0))) > self.size:
            raise RunError(
                f"a sequence of {longest} tokens needs as many positions; model.position_range has "
                f"{self.size}"
            )
        numbers = np.zeros(encoded.ids.shape, dtype=np.int64)
        for row, length in zip(numbers, encoded.lengths.tolist(), strict=True):
            row[:length] = np.sort(rng.choice(self.size, length, replace=False, shuffle=False))
        return dataclasses.replace(encoded, positions=numbers)


def _digits(sample: Sample, width: int, *, tags: bool) -> NDArray[np.bool_]:
    """Which tokens of full sequences are digits, bool [n, width]."""
    n, prompt, target = len(sample), sample.prompt, sample.target
    head = [PAD + 1] * (2 if tags else 1)  # any symbol that is none
    codes = join(n, [*head, (prompt, prompt != PAD), (target, target != PAD)])
    digits = (codes >= DIGIT_ZERO) & (codes < DIGIT_ZERO + 10)
    return np.pad(digits, ((0, 0), (0, max(0, width - digits.shape[1]))))[:, :width]


def numbering_of(model: ModelConfig, limit: int | None) -> Numbering | None:
    """The policy of a config, None for the usual numbers.

    Args:
        model: of a checked config.
        limit: longest sequence that the model takes, in tokens; None where nothing bounds it.

    Raises:
        ConfigError: more positions than the model takes, or no number of them where nothing bounds it.
    """
    if model.position_ids == "sequential":
        return None
    size = model.position_range or limit
    if size is None:
        raise ConfigError(
            [
                f"model.position_range: is missing; {model.position_ids!r} positions need it here, as the "
                "checkpoint does not say how many it takes"
            ]
        )
    if limit is not None and size > limit:
        fault = f"model.position_range: {size} is more than the {limit} tokens that the model takes"
        raise ConfigError([fault])
    return Numbering(model.position_ids, size)
