"""What a corpus is made of, checked, and the fingerprint of it and of the code that draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from data_builders import code_fingerprint as code
from data_builders.mixture import Component, Mixture
from data_builders.registry import TaskError
from data_builders.sampling import LONGEST_PROMPT, stream
from data_builders.symbols import PAD, TAG

MIXTURE = "mixture"
"""name of the configuration that holds all tasks"""


@dataclass(frozen=True)
class CorpusPlan:
    """What a corpus is made of; equal plans and equal code give equal rows.

    Raises:
        TaskError: a setting is wrong; the message names every wrong one.
    """

    mixture: Mixture
    train_examples: int
    """rows of the train split, of all tasks together"""
    test_examples: int
    """test rows wanted of each task and length"""
    test_lengths: Sequence[int]
    """lengths of the test split; a task takes those that it has"""
    seed: int = 0
    """draws the train split"""
    test_seed: int = 1234
    """draws the test split"""

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {getattr(self, name)!r}; it must be an integer from 1"
            for name in ("train_examples", "test_examples")
            if not _is_whole(getattr(self, name)) or getattr(self, name) < 1
        ]
        faults += [
            f"{name} is {getattr(self, name)!r}; it must be an integer"
            for name in ("seed", "test_seed")
            if not _is_whole(getattr(self, name))
        ]
        lengths, fault = _lengths(self.test_lengths)
        if not faults and not fault:
            object.__setattr__(self, "test_lengths", lengths)
            if not any(self.lengths_of(component) for component in self.mixture.components):
                fault = f"test_lengths {_shown(lengths)}: no task of the mixture has any of them"
        faults += [fault] if fault else [f for c in self.mixture.components for f in self._faults_of(c)]
        if faults:
            raise TaskError("; ".join(faults))
        code.remember(*_parts(self.mixture))  # and what they loaded when they were drawn from

    def _faults_of(self, component: Component) -> Iterator[str]:
        """What is wrong with a component's examples, found on a few of the longest."""
        if component.task == MIXTURE or not TAG.fullmatch(component.task):
            yield (
                f"task {component.task!r} cannot name a configuration; choose letters, digits and '_', "
                f"at most 64, and not {MIXTURE!r}"
            )
        longest = max(component.lengths[1], *self.lengths_of(component), 0)
        width = longest
        if longest <= LONGEST_PROMPT:
            try:
                sample = component.definition.sample(stream(0, "check"), longest, 4, **component.options)
            except TaskError as error:
                yield str(error)
                return
            width = sample.prompt.shape[1]
            if sample.scores_eos and (sample.loss_mask != (sample.target != PAD)).any():
                yield (
                    f"task {component.task!r} counts EOS, but not every symbol of its target, which the "
                    "column loss_mask cannot tell; let it return Sample(..., scores_eos=False)"
                )
        if width > LONGEST_PROMPT:
            yield (
                f"length {longest} of {component.task} makes a prompt of more than {LONGEST_PROMPT} symbols; "
                "use smaller lengths"
            )

    @property
    def configurations(self) -> list[str]:
        """Names of the configurations: the mixture, then every task of it."""
        return [MIXTURE, *(component.task for component in self.mixture.components)]

    def lengths_of(self, component: Component) -> list[int]:
        """The test lengths that a component has."""
        task = component.definition
        return [n for n in self.test_lengths if task.length_fault(n, component.options) is None]

    def settings(self) -> dict[str, Any]:
        """Everything that a user chose, as plain data, with all options of the tasks."""
        components = [
            {
                **asdict(c),
                "lengths": list(c.lengths),
                "weight": float(c.weight),
                "options": c.definition.resolve(c.options),
            }
            for c in self.mixture.components
        ]
        counts = {name: int(getattr(self, name)) for name in ("train_examples", "test_examples")}
        seeds = {name: int(getattr(self, name)) for name in ("seed", "test_seed")}
        return {"mixture": components, **counts, "test_lengths": list(self.test_lengths), **seeds}

    def fingerprint(self) -> str:
        """Changes with every setting and with the code that draws, 32 hexadecimal digits.

        Where that code is not known for sure, no two are equal: see `data_builders.code_fingerprint`.
        """
        seen = {"numpy": np.__version__, **generator_sources(self.mixture)}
        return code.fingerprint(self.settings(), seen)


def generator_sources(mixture: Mixture) -> dict[str, str | None]:
    """Name and hash of all code that draws a mixture, None for what is not known."""
    return code.sources(_parts(mixture))


def _parts(mixture: Mixture) -> list[Callable[..., Any]]:
    """The functions that draw."""
    tasks = [component.definition for component in mixture.components]
    return [part for task in tasks for part in (task.rule, task._family.draw)]


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _lengths(given: Iterable[int]) -> tuple[tuple[int, ...], str | None]:
    """The lengths, each once and in order, and what is wrong with them."""
    wanted = f"it must be integers from 1 to {LONGEST_PROMPT}, such as range(1, 41)"
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        return (), f"test_lengths is {given!r}; {wanted}"
    listed = list(islice(given, LONGEST_PROMPT + 1))
    if not listed or not all(_is_whole(n) and 1 <= n <= LONGEST_PROMPT for n in listed):
        return (), f"test_lengths is {_shown(listed)}; {wanted}"
    return tuple(sorted({int(n) for n in listed})), None


def _shown(lengths: Sequence[object]) -> str:
    return f"[{', '.join(map(repr, lengths[:8]))}{', ...' if len(lengths) > 8 else ''}]"
