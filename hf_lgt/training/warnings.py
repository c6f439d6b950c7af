"""What a user should know before a run with suspicious settings."""

from __future__ import annotations

from hf_lgt.config.schema import Config
from hf_lgt.data.batch_sources import DatasetSource, Source
from hf_lgt.data.filler import FilledSource


def start_warnings(config: Config, source: Source) -> list[str]:
    """Lines about settings by which a run shows nothing; they do not stop it."""
    return [*_rate(config), *_drawn(config, source), *_lengths(config)]


def _rate(config: Config) -> list[str]:
    train = config.train
    if train.learning_rate == 0:
        return ["train.learning_rate: is 0; the weights stay as they are"]
    # the first step of a warm-up has the rate 0
    if train.steps == 1 and round(train.warmup) == 1:
        return ["train.warmup: takes the only step, whose rate is 0; the weights stay as they are"]
    return []


def _drawn(config: Config, source: Source) -> list[str]:
    """Components that the run will hardly draw an example of."""
    source = source.source if isinstance(source, FilledSource) else source
    examples = config.train.steps * config.train.batch_size
    total = sum(c.weight for c in config.mixture)
    lines = []
    for i, c in enumerate(config.mixture):
        expected = examples * c.weight / total
        never = (
            int(source.drawn(config.train.steps)[i]) == 0
            if isinstance(source, DatasetSource)
            else expected < 1
        )
        if never:
            lines.append(
                f"mixture.{i}.weight: {c.role} {c.task} is never drawn, or hardly: {expected:.2g} of the "
                f"{examples:,} examples of {config.train.steps} steps are expected to be of it"
            )
    return lines


def _lengths(config: Config) -> list[str]:
    """Targets that are evaluated at no length beyond those that they are trained on."""
    return [
        f"eval.lengths: {list(config.eval.lengths)} has none beyond those that {c.task} is trained on, "
        f"{list(c.lengths)}; nothing will be said of extrapolation"
        for c in config.mixture
        if c.role == "target" and config.eval.lengths[1] <= c.lengths[1]
    ]
