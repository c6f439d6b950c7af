"""Faults of a config that its types cannot see: values that do not fit each other, a task or a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_builders import TaskError
from data_builders.mixture import component_faults
from data_builders.registry import get_task, list_tasks
from data_builders.sampling import LONGEST_PROMPT, stream, widths
from data_builders.texts import CONTROLS
from hf_lgt.config.schema import LARGEST, LONGER, NAME, ComponentConfig, Config, short
from hf_lgt.config.validate_data import data_faults
from hf_lgt.config.validate_model import (
    RANGE_KEYS,
    Fault,
    checkpoint_faults,
    head_faults,
    model_faults,
    position_faults,
    range_fault,
)
from hf_lgt.config.validate_train import layout_faults, self_improvement_faults, train_faults, until_faults


def cross_faults(config: Config) -> Iterator[Fault]:
    """Faults that take more than a value's type to see, or concern more than one key."""
    yield from _name_faults(config)
    yield from model_faults(config.model)
    yield from checkpoint_faults(config)
    yield from position_faults(config)
    yield from head_faults(config)
    yield from layout_faults(config)
    yield from train_faults(config)
    yield from until_faults(config)
    yield from self_improvement_faults(config)
    yield from _mixture_faults(config)
    yield from _eval_faults(config)
    yield from data_faults(config)
    if config.data.source == "generated":
        yield from _length_faults(config)
        yield from _look_alike_faults(config)


def training_faults(config: Any) -> Iterator[Fault]:
    """Faults of the keys that every config has by which a model is trained.

    Args:
        config: has ``name``, ``output_dir``, ``model`` and ``train``, as `Config` has them.
    """
    yield from _name_faults(config)
    yield from model_faults(config.model)
    yield from train_faults(config)


def _name_faults(config: Config) -> Iterator[Fault]:
    if not NAME.fullmatch(config.name):
        yield (
            ("name",),
            f"name: {short(config.name)} must be letters, digits, '.', '_', '-', at most 100, no '/', "
            "and begin with a letter or digit",
        )
    folder = config.output_dir
    if (
        CONTROLS.search(folder)
        or len(folder) > 1000
        or any(len(part.encode()) > 255 for part in Path(folder).parts)
    ):
        yield (
            ("output_dir",),
            f"output_dir: {short(folder)} must be the path of a folder, without control characters",
        )


def _mixture_faults(config: Config) -> Iterator[Fault]:
    parts = config.mixture
    if not parts:
        yield ("mixture",), "mixture: is empty; it needs at least one component"
    elif not any(c.role == "target" for c in parts):
        yield ("mixture",), "mixture: no component has role 'target'"
    for i, c in enumerate(parts):
        keys = [f"mixture.{i}.{key}" for key in ("task", "options")]
        for where, fault in _component_faults(c) if config.data.source == "generated" else _rows_faults(c):
            yield (*keys, f"mixture.{i}.{where}"), f"mixture.{i}.{where}: {fault}"
        for j, other in enumerate(parts[:i]):
            if other.task == c.task:
                key = f"mixture.{i}.task"
                fault = f"{c.task!r} stands in the mixture twice, as mixture.{j} too; give it one component"
                yield (key, f"mixture.{j}.task"), f"{key}: {fault}"
                break


def _component_faults(c: ComponentConfig) -> list[tuple[str, str]]:
    """(key, fault); beside what the data builders refuse, numbers that no array can hold."""
    faults = component_faults(c.task, c.role, c.lengths, c.weight, c.options)
    if c.weight > 0 and not 1e-9 <= c.weight <= 1e9:
        faults.append(("weight", f"{c.weight!r} must be from 1e-9 to 1e9"))
    return faults


def _rows_faults(c: ComponentConfig) -> list[tuple[str, str]]:
    """(key, fault) of a component whose examples are rows of a dataset: any task has them."""
    faults = []
    if not c.task or not c.task.isprintable():
        faults.append(
            ("task", f"{short(c.task)} must be a value of the dataset's task column, printable text")
        )
    if not 0 <= c.lengths[0] <= c.lengths[1]:
        faults.append(("lengths", f"{list(c.lengths)} must be [smallest, largest], integers from 0"))
    if not 1e-9 <= c.weight <= 1e9:
        faults.append(("weight", f"{c.weight!r} must be from 1e-9 to 1e9"))
    # options of a task of ours say how a corpus was drawn, and serve an evaluation on generated examples
    if c.options and c.task in list_tasks():
        faults += [("options", fault) for fault in get_task(c.task).option_faults(c.options)]
    elif c.options:
        faults.append(
            ("options", f"{short(c.options)} are for tasks of hf_lgt, which {short(c.task)} is not")
        )
    return faults


def _eval_faults(config: Config) -> Iterator[Fault]:
    low, high = config.eval.lengths
    least = 1 if config.data.source == "generated" else 0
    if not least <= low <= high:
        yield ("eval.lengths",), f"eval.lengths: {[low, high]} must be [smallest, largest], from {least}"


def _look_alike_faults(config: Config) -> Iterator[Fault]:
    """Without tags, tasks whose prompts have one form cannot be distinguished."""
    if config.data.tags:
        return
    forms: dict[str, str] = {}
    for i, c in enumerate(config.mixture):
        if {where for where, _ in _component_faults(c)} & {"task", "options"}:
            continue
        length = max(get_task(c.task).smallest_length(c.options), 4)
        if _length_fault(c, length, config.model.position_limit):
            continue  # told already
        prompt = get_task(c.task).sample(stream(0, "check"), length, 1, **c.options).text()[0][0]
        form = re.sub("[A-Za-z]+", "a", re.sub("[0-9]+", "0", prompt))
        other = forms.setdefault(form, c.task)
        if other != c.task:
            yield (
                ("data.tags", f"mixture.{i}.task", f"mixture.{i}.options"),
                f"data.tags: false, but the prompts of {other} and {c.task} look alike; a model could not "
                "tell which is asked",
            )


def _length_faults(config: Config) -> Iterator[Fault]:
    """Lengths that do not fit the model's positions or that a task cannot draw."""
    yield from length_faults(config, config.model.position_limit, "model.max_positions is")


def length_faults(config: Config, limit: int | None, whose: str) -> Iterator[Fault]:
    """Lengths of generated tasks that do not fit some count of position IDs.

    Args:
        config: the run.
        limit: longest sequence in tokens, None: not known yet.
        whose: what has this limit, for the message.
    """
    low, high = config.eval.lengths
    for i, c in enumerate(config.mixture):
        if {where for where, _ in _component_faults(c)} & {"task", "options"}:
            continue  # told already, and there is nothing to draw
        keys = (f"mixture.{i}.task", f"mixture.{i}.options", "model.max_positions")
        task = get_task(c.task)
        least, most = task.smallest_length(c.options), task.largest_length(c.options)
        told = c.lengths[1] < c.lengths[0] or task.length_fault(c.lengths[1], c.options)
        filler = config.data.filler
        if not told and (fault := _length_fault(c, c.lengths[1], limit, whose, filler)):
            yield (*keys, "data.filler", f"mixture.{i}.lengths"), f"mixture.{i}.lengths: {fault}"
        elif not told and (fault := range_fault(config, c, c.lengths[1], limit, whose)):
            yield (*keys, *RANGE_KEYS, f"mixture.{i}.lengths"), f"mixture.{i}.lengths: {fault}"
        if longest := _longest_beyond(config, c):
            key, length, more = longest
            if not task.length_fault(length, c.options):
                far = _length_fault(c, length, limit, whose, filler, more)
                if far := far or range_fault(config, c, length, limit, whose, more):
                    yield (*keys, *RANGE_KEYS, key), f"{key}: {far}"
        if not 1 <= low <= high:
            continue
        # not `grid`: the list may be too long to make
        has = range(low, (high if most is None else min(high, most)) + 1, config.eval.every)
        if not has or has[-1] < least:
            spans = f"starts at {least}" if most is None else f"has {least} to {most}"
            fault = f"{[low, high]} has no length of {c.task}, which {spans}"
        else:
            fault = _length_fault(c, has[-1], limit, whose)
        if fault:
            yield (*keys, "eval.lengths", "eval.every"), f"eval.lengths: {fault}"
        elif fault := range_fault(config, c, has[-1], limit, whose):
            yield (*keys, *RANGE_KEYS, "eval.lengths", "eval.every"), f"eval.lengths: {fault}"


def _longest_beyond(config: Config, c: ComponentConfig) -> tuple[str, int, int] | None:
    """The key that asks for examples beyond a component's lengths, their longest length, and how many tokens
    an answer may have more than the right one.
    """
    priming, own = config.data.priming, config.train.self_improvement
    if c.role != "target":
        return None
    if priming.examples:
        return "data.priming.lengths", priming.lengths[1], 0
    if own.rounds:
        return "train.self_improvement.rounds", c.lengths[1] + own.rounds * own.lengths, LONGER
    return None


def _length_fault(
    c: ComponentConfig,
    length: int,
    limit: int | None,
    whose: str = "model.max_positions is",
    filler: int = 0,
    more: int = 0,
) -> str | None:
    """Why a component's examples of this length cannot be used, if they cannot."""
    tokens, symbols = length, length
    limit = LARGEST if limit is None else limit
    # A bound before any array is made: no task writes fewer tokens than its length.
    if length <= min(limit, LONGEST_PROMPT):
        try:
            symbols, answer = widths(get_task(c.task), length, c.options)
        except TaskError as error:
            return str(error)
        tokens = symbols + answer + 3  # BOS, tag, EOS
    tokens += filler + more
    if tokens > limit:
        told = " with data.filler" if filler else ""
        return f"length {length} of {c.task} takes at least {tokens} tokens{told}; {whose} {limit}"
    if symbols > LONGEST_PROMPT:
        return f"length {length} of {c.task} makes a prompt of more than {LONGEST_PROMPT} symbols"
    return None
