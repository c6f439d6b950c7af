"""Which tasks a model is trained on, at which lengths, in which shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.registry import Task, TaskError, get_task

ROLES = ("target", "auxiliary")


@dataclass(frozen=True)
class Component:
    """One task of a mixture.

    Raises:
        TaskError: a field is wrong; the message names every wrong field.
    """

    task: str
    role: str
    """``target`` (the paper's main task) or ``auxiliary``"""
    lengths: tuple[int, int]
    """smallest and largest training length, both included; a length is drawn uniformly"""
    weight: float = 1.0
    """share of the mixture's examples, relative to the other components"""
    options: Mapping[str, Any] = field(default_factory=dict)
    """the task's own options, see `Task.options`"""

    def __post_init__(self) -> None:
        if isinstance(self.lengths, Sequence):
            object.__setattr__(self, "lengths", tuple(self.lengths))
        faults = component_faults(self.task, self.role, self.lengths, self.weight, self.options)
        if faults:
            raise TaskError("; ".join(f"{where}: {fault}" for where, fault in faults))

    @property
    def definition(self) -> Task:
        """The registered task."""
        return get_task(self.task)

    @property
    def key(self) -> str:
        """Names the task with its resolved options; equal keys have equal test sets."""
        return self.definition.key(self.options)


def component_faults(
    task: str, role: str, lengths: Sequence[int], weight: float, options: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What is wrong with a component, as (field, words); empty if nothing is."""
    faults = []
    if role not in ROLES:
        faults.append(("role", f"{role!r} is neither 'target' nor 'auxiliary'"))
    if not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
        faults.append(("weight", f"{weight!r} must be a number above 0"))
    pair = isinstance(lengths, Sequence) and len(lengths) == 2 and all(type(n) is int for n in lengths)
    low, high = lengths if pair else (0, -1)
    if low > high:
        shown = list(lengths) if isinstance(lengths, Sequence) else lengths
        faults.append(("lengths", f"{shown} must be [smallest, largest], two integers"))
    try:
        definition = get_task(task)
    except TaskError as error:
        return [*faults, ("task", str(error))]
    option_faults = definition.option_faults(options)
    faults += [("options", fault) for fault in option_faults]
    if not option_faults and low <= high:
        outside = [definition.length_fault(length, options) for length in (low, high)]
        faults += [("lengths", fault) for fault in dict.fromkeys(outside) if fault]
    return faults


@dataclass(frozen=True)
class Mixture:
    """Target and auxiliary tasks, drawn example by example in proportion to their weights.

    Raises:
        TaskError: there is no component, none is a target, or a task occurs twice.
    """

    components: Sequence[Component]

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", tuple(self.components))
        if not self.components:
            raise TaskError("the mixture is empty; it needs at least one component")
        names = [c.task for c in self.components]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            # test prompts are held out, and results told apart, by task
            raise TaskError(f"task {name!r} stands in the mixture {names.count(name)} times; once is right")
        if not any(c.role == "target" for c in self.components):
            raise TaskError("the mixture has no component with role 'target'")

    @property
    def shares(self) -> NDArray[np.float64]:
        """Expected share of each component, float64 [components], sums to 1."""
        weights = np.array([c.weight for c in self.components], dtype=np.float64)
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def with_role(self, role: str) -> list[Component]:
        """The components of one role."""
        return [c for c in self.components if c.role == role]
