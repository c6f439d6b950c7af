"""Counter-based draws: the batch of a step, test sets, and the prompts held out from training.

Every draw comes from `stream`: Philox keyed by a hash of the seed and of what is drawn. Neighbouring
seeds or steps share nothing, and no draw depends on what was drawn before it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Sample
from data_builders.mixture import Component, Mixture
from data_builders.registry import Task, get_task
from data_builders.symbols import PAD, Codes

TEST_CHUNK = 1024
PATIENCE = 32
CORPUS_CHUNK = 4096
"""rows of a corpus that are drawn together, see `draw_chunk`"""


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of this seed for what `names` say, e.g. ``stream(0, "train", step)``."""
    key = hashlib.blake2b(repr((int(seed), *names)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


LONGEST_PROMPT = 2**15
"""symbols that `prompt_hashes` takes at most"""
_WEIGHTS = stream(0, "prompt hash").integers(0, 2**64, LONGEST_PROMPT, dtype=np.uint64) | np.uint64(1)


def prompt_hashes(prompts: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row that padding does not change, uint64 [n].

    A collision would make one training example be redrawn needlessly, nothing worse.
    """
    mixed = prompts.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    hashes: NDArray[np.uint64] = (mixed * _WEIGHTS[: prompts.shape[1]]).sum(axis=1, dtype=np.uint64)
    return hashes


def widths(task: Task, length: int, options: Mapping[str, Any]) -> tuple[int, int]:
    """Symbols of the widest prompt and the widest answer of a few examples.

    Kept, as a sweep asks the same for each of its runs.

    Args:
        task: to draw from.
        length: of each example.
        options: plain data, see `Task.options`.

    Raises:
        TaskError: there are no such examples.
    """
    return _widths(task.rule, task.name, length, json.dumps(dict(options)))


@functools.lru_cache(maxsize=4096)
def _widths(rule: Callable[[Any], Sample], name: str, length: int, options: str) -> tuple[int, int]:
    """As `widths`; the rule, as another one may get the name."""
    sample = get_task(name).sample(stream(0, "check"), length, 4, **json.loads(options))
    return sample.prompt.shape[1], sample.target.shape[1]


@dataclass(frozen=True)
class TestSet:
    """The fixed examples on which a (task, length) is evaluated, no prompt twice."""

    __test__ = False  # pytest: not a test class

    examples: Sample
    exhausted: bool
    """fewer than asked for: these are all the prompts there are"""
    held_out: int
    """the first so many are never trained on, the rest may be (see `draw_test_set`)"""


def draw_test_set(component: Component, length: int, examples: int, seed: int) -> TestSet:
    """The test set of a (task, length): depends on the task, its options and the seed alone.

    A smaller set is the beginning of a larger one. Where holding out the whole set would take more
    than half of the length's prompts, `held_out` is half of them. The number of prompts is not
    declared by a task but found: draws continue until twice `examples` different prompts are there, or
    until `PATIENCE` times as many draws as there are prompts brought nothing new.

    Args:
        component: names the task and its options; its lengths and role are not used.
        length: the length of all examples.
        examples: how many are wanted.
        seed: the test seed.

    Raises:
        TaskError: the length is below the task's smallest.
        ValueError: no examples are wanted.
    """
    if examples < 1:
        raise ValueError(f"a test set of {examples} examples")
    rng = stream(seed, "test", component.key, length)
    task, wanted = component.definition, 2 * examples
    found = np.empty(0, dtype=np.uint64)
    kept: list[Sample] = []
    barren = 0
    while len(found) < wanted and barren < PATIENCE * max(len(found), TEST_CHUNK // PATIENCE):
        drawn = task.sample(rng, length, TEST_CHUNK, **component.options)
        hashes = prompt_hashes(drawn.prompt)
        rows = np.sort(np.unique(hashes, return_index=True)[1])  # where each is drawn first
        fresh = rows[~np.isin(hashes[rows], found)]
        barren = 0 if len(fresh) else barren + TEST_CHUNK
        if len(fresh):
            found = np.concatenate([found, hashes[fresh]])
            kept.append(drawn.take(fresh))
    every = _concatenate(kept)
    n = min(examples, len(every))
    held_out = n if len(every) >= wanted else min(n, len(every) // 2)
    return TestSet(every.take(np.arange(n)), n < examples, held_out)


def _concatenate(samples: Sequence[Sample]) -> Sample:
    prompt, target, mask = (
        np.concatenate([getattr(s, name) for s in samples]) for name in ("prompt", "target", "loss_mask")
    )
    return Sample(prompt, target, mask, samples[0].scores_eos)


class HeldOut:
    """The test prompts that no training example may have, by component.

    ``beyond``, empty unless set: task -> hashes of the prompts that training has beyond its lengths.

    Args:
        mixture: the training mixture.
        lengths: evaluated lengths.
        examples: test examples a (task, length).
        seed: the test seed.
    """

    def __init__(self, mixture: Mixture, lengths: Sequence[int], examples: int, seed: int) -> None:
        self._components: dict[str, Component] = {}
        self._hashes: dict[str, NDArray[np.uint64]] = {}
        self.beyond: Mapping[str, NDArray[np.uint64]] = {}
        for component in mixture.components:
            low, high = component.lengths
            trained = sorted({n for n in lengths if low <= n <= high})
            self._hold(component, [draw_test_set(component, n, examples, seed) for n in trained])

    @classmethod
    def from_tests(cls, tests: Iterable[tuple[Component, Sequence[TestSet]]]) -> HeldOut:
        """What test sets hold out that are drawn already, those of trained lengths alone."""
        held_out = cls.__new__(cls)
        held_out._components, held_out._hashes, held_out.beyond = {}, {}, {}
        for component, sets in tests:
            held_out._hold(component, sets)
        return held_out

    def _hold(self, component: Component, tests: Sequence[TestSet]) -> None:
        hashes = [prompt_hashes(test.examples.prompt[: test.held_out]) for test in tests]
        self._components[component.key] = component
        self._hashes[component.key] = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *hashes]))

    def component(self, like: Component) -> Component | None:
        """The component of the training mixture with the same task and options."""
        return self._components.get(like.key)

    def trains(self, task: str) -> bool:
        """Whether the training mixture has this task, with whatever options."""
        return any(component.task == task for component in self._components.values())

    def contains(self, component: Component, prompts: Codes) -> NDArray[np.bool_]:
        """Which of these prompts are held out from training on the component, bool [n]."""
        known, asked = self._hashes[component.key], prompt_hashes(prompts)
        if not len(known):
            return np.zeros(len(asked), dtype=np.bool_)
        places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        found: NDArray[np.bool_] = known[places] == asked
        return found


@dataclass(frozen=True)
class Draw:
    """The training examples of one step, grouped by component.

    Together the rows of all groups are 0..batch_size-1: the place of each example in the batch.
    """

    component: NDArray[np.int64]
    """int64 [batch], index into the mixture"""
    length: NDArray[np.int64]
    """int64 [batch]"""
    groups: list[tuple[NDArray[np.int64], Sample]]
    """for each component: rows of the batch, and their examples"""


def draw_batch(
    mixture: Mixture,
    step: int,
    batch_size: int,
    seed: int,
    held_out: HeldOut | None = None,
    growing: int = 0,
) -> Draw:
    """The training batch of a step: a pure function of its arguments.

    Component and length are drawn example by example (paper: uniform tasks, uniform lengths); an
    example with a held-out prompt is drawn again at the same length.

    Args:
        mixture: what to draw from.
        step: training step, from 0.
        batch_size: examples of the global batch.
        seed: the data seed.
        held_out: test prompts to avoid.
        growing: first steps over which lengths grow: in the k-th of them each component's longest one is the
            k/growing-th part of the way from its smallest to its largest.
    """
    rng = stream(seed, "train", step)
    part_of_lengths = min((step + 1) / growing, 1.0) if growing else 1.0
    component, length = _draw_places(rng, mixture, batch_size, part_of_lengths)
    groups = []
    for index, part in enumerate(mixture.components):
        rows = np.flatnonzero(component == index)
        groups.append((rows, _draw_free(rng, part, length[rows], held_out)))
    return Draw(component, length, groups)


def draw_chunk(
    mixture: Mixture, index: int, seed: int, held_out: HeldOut | None = None, task: str | None = None
) -> Draw:
    """Chunk `index` of a corpus, `CORPUS_CHUNK` rows: a pure function of its arguments.

    Each component has a stream of its own, so that one can be drawn without the others.

    Args:
        mixture: what to draw from, as `draw_batch` does.
        index: place of the chunk in the corpus, from 0.
        seed: the data seed.
        held_out: test prompts to avoid.
        task: the only component for which there is a group; None: all. It has the same rows either way.
    """
    component, length = _draw_places(stream(seed, "corpus", index), mixture, CORPUS_CHUNK)
    groups = []
    for place, part in enumerate(mixture.components):
        if task in (None, part.task):
            rows = np.flatnonzero(component == place)
            rng = stream(seed, "corpus", index, part.key)
            groups.append((rows, _draw_free(rng, part, length[rows], held_out)))
    return Draw(component, length, groups)


def _draw_places(
    rng: np.random.Generator, mixture: Mixture, n: int, part_of_lengths: float = 1.0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Component and length of n examples, from a part of each component's lengths, the short ones."""
    component = rng.choice(len(mixture.components), size=n, p=mixture.shares)
    bounds = np.array([c.lengths for c in mixture.components])
    longest = bounds[:, 0] + np.ceil(part_of_lengths * (bounds[:, 1] - bounds[:, 0])).astype(np.int64)
    return component, rng.integers(bounds[component, 0], longest[component] + 1)


def _draw_free(
    rng: np.random.Generator,
    component: Component,
    lengths: NDArray[np.int64],
    held_out: HeldOut | None,
) -> Sample:
    """Draw one example a length, none with a held-out prompt."""
    task = component.definition
    sample = task.sample(rng, lengths, len(lengths), **component.options)
    while held_out is not None:
        taken = np.flatnonzero(held_out.contains(component, sample.prompt))
        if not len(taken):
            break
        again = task.sample(rng, lengths[taken], len(taken), **component.options)
        sample = sample.replace(taken, again)
    return sample


assert PAD == 0, "padding must not change a prompt's hash"
