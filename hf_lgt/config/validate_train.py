"""Faults of section train that its types cannot see."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from data_builders.registry import get_task, list_tasks
from data_builders.sampling import stream
from hf_lgt.config.schema import Config, SelfImprovementConfig, UntilConfig, short
from hf_lgt.config.validate_model import Fault


def train_faults(config: Any) -> Iterator[Fault]:
    """Faults of section train, of a run or a pretraining."""
    train = config.train
    yield from _average_faults(config)
    if train.warmup + train.decay > 1:
        yield (
            ("train.warmup", "train.decay"),
            f"train.warmup, train.decay: {train.warmup} + {train.decay} is more than 1",
        )
    if train.gradient_accumulation_steps > train.batch_size:
        yield (
            ("train.gradient_accumulation_steps", "train.batch_size"),
            f"train.gradient_accumulation_steps: {train.gradient_accumulation_steps} is more than "
            f"train.batch_size, {train.batch_size}",
        )
    for tracker in train.trackers:
        if importlib.util.find_spec(tracker) is None:
            yield (
                ("train.trackers",),
                f"train.trackers: {tracker!r} is not installed; pip install {tracker}",
            )


def _average_faults(config: Any) -> Iterator[Fault]:
    """Weights that are too coarse for a mean of many."""
    if config.train.average and config.model.dtype != "float32":
        yield (
            ("train.average", "model.dtype"),
            f"train.average: {config.train.average} is for model.dtype 'float32', not {config.model.dtype!r}",
        )


def until_faults(config: Config) -> Iterator[Fault]:
    """Settings that a training cannot have whose length is not known before it."""
    train, until = config.train, config.train.until
    if until.exact_match is None:
        for key, default in vars(UntilConfig()).items():
            if (value := getattr(until, key)) != default:
                yield (
                    (f"train.until.{key}", "train.until.exact_match"),
                    f"train.until.{key}: {short(value)} is for train.until.exact_match, which is null",
                )
        return
    place = f"train.until.exact_match: {until.exact_match}"
    if train.eval_every is None:
        yield (
            ("train.until.exact_match", "train.eval_every"),
            f"{place} is seen in evaluations; give train.eval_every the steps between them, not null",
        )
    if train.average:
        yield (
            ("train.until.exact_match", "train.average"),
            f"{place} ends a training at a step that train.average, {train.average}, would have to know "
            "before; take train.average 0",
        )
    if until.cooldown > train.steps - round(train.warmup * train.steps):
        yield (
            ("train.until.cooldown", "train.steps", "train.warmup"),
            f"train.until.cooldown: {until.cooldown} steps do not fit train.steps, {train.steps}, after the "
            f"warm-up, {round(train.warmup * train.steps)}",
        )
    warmup, every = round(train.warmup * train.steps), train.eval_every
    if every is not None:
        last = train.steps - until.cooldown
        seen = max(last // every - warmup // every, 0)
        if seen < until.evaluations:
            yield (
                ("train.until.evaluations", "train.eval_every", "train.steps", "train.warmup"),
                f"train.until.evaluations: {until.evaluations} are never made: between the warm-up, {warmup} "
                f"steps, and the cool-down, from step {last}, train.eval_every {every} makes {seen}",
            )
    if until.auxiliaries and config.eval.during == "target":
        yield (
            ("train.until.auxiliaries", "eval.during"),
            "train.until.auxiliaries: true, but eval.during 'target' evaluates no auxiliary on the way; take "
            "'trained'",
        )
    for c in config.mixture:
        if c.role == "target" or until.auxiliaries:
            low, high = c.lengths
            if not any(low <= length <= high for length in config.eval.grid_range):
                yield (
                    ("train.until.exact_match", "eval.lengths", "eval.every", "mixture"),
                    f"{place} is of the trained lengths, {low} to {high} of {c.task!r}; none of them is "
                    "among those that eval.lengths and eval.every give",
                )


def self_improvement_faults(config: Config) -> Iterator[Fault]:
    """Rounds that cannot be, or that change nothing."""
    own, steps = config.train.self_improvement, config.train.steps
    place, key = f"train.self_improvement.rounds: {own.rounds}", "train.self_improvement.rounds"
    if not own.rounds:
        if own != SelfImprovementConfig():
            yield (key,), f"{place}, so the other keys of train.self_improvement mean nothing"
        return
    if config.data.source == "dataset":
        yield (key, "data.source"), f"{place} need data.source 'generated', which can draw longer prompts"
        return
    if config.data.priming.examples:
        yield (key, "data.priming.examples"), f"{place} do not go with data.priming; take one of the two"
    if config.train.until.exact_match is not None:
        yield (
            (key, "train.until.exact_match"),
            f"{place} are spread over train.steps, which train.until.exact_match would cut",
        )
    if config.data.curriculum > own.begin:
        yield (
            (key, "data.curriculum", "train.self_improvement.begin"),
            f"data.curriculum: {config.data.curriculum} ends after train.self_improvement.begin, "
            f"{own.begin}; rounds would begin before all trained lengths were seen",
        )
    spacing = (1 - own.begin) * steps / own.rounds
    if spacing < 2 or own.begin * steps - spacing / 2 < 1:
        yield (
            (key, "train.self_improvement.begin", "train.steps"),
            f"{place} do not fit train.steps, {steps}: there must be two steps for each after "
            f"train.self_improvement.begin, {own.begin}, and half a round before the first",
        )
    for i, c in enumerate(config.mixture):
        if c.role != "target" or c.task not in list_tasks() or get_task(c.task).option_faults(c.options):
            continue
        task, longest = get_task(c.task), c.lengths[1] + own.rounds * own.lengths
        if fault := task.length_fault(longest, c.options):
            yield (key, f"mixture.{i}.lengths"), f"{place} come to length {longest}: {fault}"
        elif not task.length_fault(c.lengths[1], c.options):
            sample = task.sample(stream(0, "check"), max(task.smallest_length(c.options), 1), 4, **c.options)
            if not (sample.scores_eos and ((sample.target == 0) | sample.loss_mask).all()):
                yield (
                    (key, f"mixture.{i}.task"),
                    f"{place} need answers that a model writes alone; {c.task} gives parts of them",
                )


def layout_faults(config: Config) -> Iterator[Fault]:
    """Settings that a batch in one row cannot go with."""
    train = config.train
    if train.layout != "packed":
        return
    against = [f"train.{key}" for key in ("compile", "gradient_checkpointing") if getattr(train, key)]
    against += ["model.role_heads"] if config.model.role_heads != "all" else []
    for key in against:
        yield (("train.layout", key), f"train.layout: 'packed' does not go with {key}; take 'padded'")
