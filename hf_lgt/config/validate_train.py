"""Faults of section train that its types cannot see."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from hf_lgt.config.schema import Config, UntilConfig, short
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
    for c in config.mixture:
        if c.role == "target" or until.auxiliaries:
            low, high = c.lengths
            if not any(low <= length <= high for length in config.eval.grid_range):
                yield (
                    ("train.until.exact_match", "eval.lengths", "eval.every", "mixture"),
                    f"{place} is of the trained lengths, {low} to {high} of {c.task!r}; none of them is "
                    "among those that eval.lengths and eval.every give",
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
