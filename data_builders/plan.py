"""What a corpus is made of, checked, and the fingerprint of it and of the code that draws it."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import data_builders
from data_builders.mixture import Component, Mixture
from data_builders.registry import TaskError
from data_builders.sampling import LONGEST_PROMPT, stream
from data_builders.symbols import PAD, TAG

MIXTURE = "mixture"
"""name of the configuration that holds all tasks"""

LOADED_AT = data_builders.__loaded_at__
PACKAGE = Path(data_builders.__file__).parent


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
            f"{name} is {getattr(self, name)!r}; it must be a whole number from 1"
            for name in ("train_examples", "test_examples")
            if not _is_whole(getattr(self, name)) or getattr(self, name) < 1
        ]
        faults += [
            f"{name} is {getattr(self, name)!r}; it must be a whole number"
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

        Where that code is not known for sure, no two are equal: a task that was defined without a
        file, or a file of this package that changed since it was loaded.
        """
        seen: dict[str, str] = {"numpy": np.__version__}
        for name, path in generator_sources(self.mixture).items():
            if path is None or (path.is_relative_to(PACKAGE) and path.stat().st_mtime > LOADED_AT):
                seen[name] = uuid.uuid4().hex
            else:
                seen[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        text = json.dumps([self.settings(), seen], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


DRAWS_NOTHING = ("hub.py", "word_lists.py")
"""modules of this package that no row of a mixture depends on: an edit there leaves a corpus what it is"""


def generator_sources(mixture: Mixture) -> dict[str, Path | None]:
    """Name and file of all code that draws a mixture: this package, and tasks defined elsewhere.

    None stands for code that was read from no file, such as a notebook's.
    """
    files: dict[str, Path | None] = {
        path.relative_to(PACKAGE).as_posix(): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name not in DRAWS_NOTHING
    }
    for component in mixture.components:
        task = component.definition
        for part in (task.rule, task._family.draw):
            name = getattr(part, "__module__", None) or type(part).__module__
            if not name.startswith("data_builders."):
                file = getattr(sys.modules.get(name), "__file__", None) or _file_of(part)
                files[f"module {name}"] = Path(file) if file and Path(file).is_file() else None
    return files


def _file_of(part: Callable[..., Any]) -> str | None:
    try:
        return inspect.getsourcefile(part)
    except TypeError:
        return None


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _lengths(given: Iterable[int]) -> tuple[tuple[int, ...], str | None]:
    """The lengths, each once and in order, and what is wrong with them."""
    wanted = f"it must be whole numbers from 1 to {LONGEST_PROMPT}, such as range(1, 41)"
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        return (), f"test_lengths is {given!r}; {wanted}"
    listed = list(islice(given, LONGEST_PROMPT + 1))
    if not listed or not all(_is_whole(n) and 1 <= n <= LONGEST_PROMPT for n in listed):
        return (), f"test_lengths is {_shown(listed)}; {wanted}"
    return tuple(sorted({int(n) for n in listed})), None


def _shown(lengths: Sequence[object]) -> str:
    return f"[{', '.join(map(repr, lengths[:8]))}{', ...' if len(lengths) > 8 else ''}]"
