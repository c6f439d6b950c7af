"""The task registry: a task is one decorated function, and this is all that knows about it.

A task *family* draws inputs (operands, strings, mazes) and declares their options; a *rule* turns
drawn inputs into prompts and targets. `register_task` joins the two::

    @register_task(STRINGS)
    def string_copy(strings: Strings) -> Sample:
        ...
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_builders import code_fingerprint as code
from data_builders.arrays import Counts, Sample
from data_builders.symbols import CHARACTERS, add_tag

Rule = TypeVar("Rule", bound=Callable[[Any], Sample])


@dataclass(frozen=True)
class Option:
    """One option of a task: its default, what it means, and a check of a user's value."""

    default: Any
    doc: str
    check: Callable[[Any], str | None]
    """None for a value that is fine, else what would be, e.g. ``"an integer from 2 to 10"``"""


def one_of(*choices: Any) -> Callable[[Any], str | None]:
    """A check that admits exactly these values (True is not 1 here)."""

    def check(value: Any) -> str | None:
        fine = any(value == c and type(value) is type(c) for c in choices)
        return None if fine else "one of " + ", ".join(map(repr, choices))

    return check


def whole_number(smallest: int, largest: int = 2**31) -> Callable[[Any], str | None]:
    """A check that admits integers from `smallest` to `largest`."""
    wanted = f"an integer from {smallest} to {largest}"

    def check(value: Any) -> str | None:
        fine = isinstance(value, int) and not isinstance(value, bool)
        return None if fine and smallest <= value <= largest else wanted

    return check


@dataclass(frozen=True)
class Family:
    """What the tasks of one kind share: how inputs are drawn, and which options steer it."""

    name: str
    length_unit: str
    """what a length counts, e.g. ``"digits of the longer operand"``"""
    draw: Callable[..., Any]
    """``draw(rng, lengths, **options)``, lengths int64 [n] -> whatever the family's rules take"""
    options: Mapping[str, Option]
    min_length: Callable[[Mapping[str, Any]], int] = lambda options: 1
    max_length: Callable[[Mapping[str, Any]], int | None] = lambda options: None
    nodes: Callable[[Mapping[str, Any]], int] = lambda options: 0
    """how many of the symbols ``[1]``, ``[2]``, ... the tasks write"""


@dataclass(frozen=True)
class Theory:
    """Whether theory expects transformers that are trained on short inputs of a task to do long ones."""

    predicted: Literal["yes", "no", "open"] = "open"
    source: str = ""
    """a paper, or how the prediction follows from one; empty: none speaks of it"""

    def __str__(self) -> str:
        words = {"yes": "predicted", "no": "predicted not to", "open": "open"}[self.predicted]
        return f"{words} ({self.source})" if self.source else words


class TaskError(ValueError):
    """A task was asked for something it cannot give; the message names what and what would do."""


@dataclass(frozen=True)
class Task:
    """A registered task."""

    name: str
    family: str
    length_unit: str
    options: Mapping[str, Option]
    rule: Callable[[Any], Sample]
    _family: Family
    classify: Callable[[str, str], str | None] | None = None
    """``classify(prompt, answer)``: the kind of mistake that a wrong answer is, None for the right one"""
    restarts: str = ""
    """signs of the prompt at which coupled positions begin again, see `register_task`"""
    theory: Theory = Theory()

    @property
    def min_length(self) -> int:
        """Smallest length under default options."""
        return self.smallest_length({})

    @property
    def summary(self) -> str:
        """First line of the rule's docstring."""
        return (inspect.getdoc(self.rule) or "").split("\n")[0]

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options, defaults filled in.

        Raises:
            TaskError: an option is unknown or its value is not admitted; names all such options.
        """
        faults = self.option_faults(options)
        if faults:
            raise TaskError("; ".join(f"{self.name}: {fault}" for fault in faults))
        return {name: options.get(name, option.default) for name, option in self.options.items()}

    def option_faults(self, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with these options, in words; empty if nothing is."""
        faults = []
        for name, value in options.items():
            if name not in self.options:
                faults.append(unknown("option", name, self.options))
            elif wanted := self.options[name].check(value):
                faults.append(f"option {name!r} is {value!r}; it must be {wanted}")
        return faults

    def smallest_length(self, options: Mapping[str, Any]) -> int:
        """Smallest length that these options allow."""
        return self._family.min_length(self.resolve(options))

    def largest_length(self, options: Mapping[str, Any]) -> int | None:
        """Largest length that these options allow, None where there is no limit."""
        return self._family.max_length(self.resolve(options))

    def nodes(self, options: Mapping[str, Any]) -> int:
        """How many of the symbols ``[1]``, ``[2]``, ... these options need."""
        return self._family.nodes(self.resolve(options))

    def length_fault(self, length: int, options: Mapping[str, Any]) -> str | None:
        """Why there is no example of this length, if there is none."""
        smallest, largest = self.smallest_length(options), self.largest_length(options)
        if length < smallest:
            return f"{length} is below {smallest}, the smallest length of {self.name}"
        if largest is not None and length > largest:
            return (
                f"{length} is above {largest}, the largest length of {self.name} with the options "
                f"{self.resolve(options)}"
            )
        return None

    def key(self, options: Mapping[str, Any]) -> str:
        """A text that is the same for the same task and resolved options: names random streams."""
        return f"{self.name} {json.dumps(self.resolve(options), sort_keys=True)}"

    def sample(self, rng: np.random.Generator, length: int | NDArray[Any], n: int, **options: Any) -> Sample:
        """Draw n examples.

        Args:
            rng: the generator to draw from.
            length: one length for all examples, or an array [n] with each one's own.
            n: number of examples, >= 0.
            **options: see `Task.options`.

        Returns:
            `Sample` with arrays as wide as the longest length allows.

        Raises:
            TaskError: unknown option, a value that is not admitted, a length that is too small.
        """
        resolved = self.resolve(options)
        given, smallest = np.asarray(length), self._family.min_length(resolved)
        if n < 0 or given.dtype.kind not in "iu" or given.shape not in ((), (n,)):
            raise TaskError(f"{self.name}: length {length!r} for n={n} must be an integer, or n={n} of them")
        if n == 0:
            # one example says how wide the arrays are
            one = np.random.Generator(np.random.Philox(0))
            length = int(given) if given.shape == () else smallest
            return self.sample(one, length, 1, **options).take(np.arange(0))
        lengths: Counts = np.broadcast_to(given.astype(np.int64), (n,))
        for extreme in (lengths.min(), lengths.max()):
            if fault := self.length_fault(int(extreme), options):
                raise TaskError(f"{self.name}: length {fault}")
        return self.rule(self._family.draw(rng, lengths, **resolved))

    def __call__(self, inputs: Any) -> Sample:
        return self.rule(inputs)


_tasks: dict[str, Task] = {}


def register_task(
    family: Family,
    *,
    classify: Callable[[str, str], str | None] | None = None,
    restarts: str = "",
    theory: Theory = Theory(),
) -> Callable[[Rule], Rule]:
    """Decorator: make a rule a task that configs can name by the function's name.

    Args:
        family: draws the inputs that the rule takes.
        classify: ``classify(prompt, answer)`` names the kind of a wrong answer, for the evaluation.
        restarts: for a task whose symbols have places that belong together, as digits of one significance
            in ``75+86=521``: the signs of its prompt that end such a row of places, here ``"+="``. Coupled
            positions are then numbered anew from the beginning of the prompt and from each of these signs;
            those of the target follow on from the prompt's last. Empty: the task has no coupling.
        theory: whether it is predicted to length-generalize, and by whom.

    Raises:
        ValueError: another function already has this name, or `restarts` holds what is no symbol.
    """
    if lacking := [sign for sign in restarts if sign not in CHARACTERS]:
        raise ValueError(f"restarts {restarts!r} holds {lacking[0]!r}, which is no symbol")

    def register(rule: Rule) -> Rule:
        name = getattr(rule, "__name__", repr(rule))
        known = _tasks.get(name)
        # Reloading a module registers the same function anew; anything else is a collision.
        if known and (known.rule.__module__, known.rule.__qualname__) != (
            rule.__module__,
            getattr(rule, "__qualname__", name),
        ):
            raise ValueError(f"task {name!r} exists already, in {known.rule.__module__}; choose another name")
        add_tag(name)
        code.remember(rule, family.draw)
        _tasks[name] = Task(
            name, family.name, family.length_unit, dict(family.options), rule, family,
            classify, restarts, theory,
        )  # fmt: skip
        return rule

    return register


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """``unknown task 'revers_add'; did you mean 'reverse_add'? (known: ...)``."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(names) or 'none'})"


def get_task(name: str) -> Task:
    """The task of this name.

    Raises:
        TaskError: there is none; the message names the closest one.
    """
    if name not in _tasks:
        raise TaskError(unknown("task", name, _tasks))
    return _tasks[name]


def coupled_tasks() -> list[str]:
    """Names of the tasks whose positions can be coupled, in the order of registration."""
    return [t.name for t in _tasks.values() if t.restarts]


def list_tasks(family: str | None = None) -> list[str]:
    """Names of all tasks, or of one family's, in the order of registration."""
    return [t.name for t in _tasks.values() if family in (None, t.family)]
