"""Self-improvement: rounds in which a model answers longer prompts of its targets itself, and trains on some
of the answers (``train.self_improvement``; Lee et al. 2025, arXiv 2502.01612).

In the r-th round the prompts are longer than the trained lengths by r times ``lengths``; none is a test
prompt. Which answers are kept is decided by a rule that sees no right answer: those about as long as most, or
those that the model gave half a round before too (there the paper votes over several models). All answers
stand in ``self_improvement.jsonl``, from which an interrupted run takes them again.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_builders.arrays import Sample
from data_builders.mixture import Component
from data_builders.priming import Priming, joined
from data_builders.sampling import stream
from data_builders.symbols import PAD, parse
from hf_lgt.config.schema import Config
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import Batch
from hf_lgt.data.build import RunData
from hf_lgt.data.codec import Codec
from hf_lgt.data.filler import FilledSource
from hf_lgt.evaluation.generation import generate_answers
from hf_lgt.models.forward import inference
from hf_lgt.utils.distributed import gathered
from hf_lgt.utils.errors import CheckpointError
from hf_lgt.utils.jsonl import append_lines

LOG = "self_improvement.jsonl"

_log = logging.getLogger(__name__)


class SelfImprovement:
    """The rounds of a run, called before each of its steps.

    Args:
        config: of the run, with rounds.
        data: of the run.
        main: whether this process writes the log.
    """

    def __init__(self, config: Config, data: RunData, *, main: bool) -> None:
        source = data.source.source if isinstance(data.source, FilledSource) else data.source
        assert isinstance(source, GeneratedSource), "checked with the config"
        assert isinstance(data.codec, Codec), "checked with the config"
        self.config, self.source, self.codec, self.main = config, source, data.codec, main
        self.own = config.train.self_improvement
        self.path = config.run_dir / LOG
        self.targets = config.build_mixture().with_role("target")
        self.prompts = data.rounds
        self.rounds = {step: (index, True) for index, step in enumerate(round_steps(config))}
        if self.own.keep == "agreement":
            self.rounds |= {step: (index, False) for index, step in enumerate(draft_steps(config))}
        self.drafts: dict[str, list[str]] = {}
        """task -> the answers of half a round before"""

    def resume(self, step: int) -> None:
        """Take the answers of an interrupted run that resumes at a step from its log.

        Raises:
            CheckpointError: it is damaged.
        """
        if not step or not self.path.is_file():
            return
        try:
            lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            for at in sorted({line["step"] for line in lines}):
                index, final = self.rounds[at]
                for component in self.targets:
                    here = [line for line in lines if (line["step"], line["task"]) == (at, component.task)]
                    answers, kept = ([line[key] for line in here] for key in ("answer", "kept"))
                    if len(here) != self.own.examples or not all(isinstance(own, str) for own in answers):
                        raise ValueError(f"{len(here)} answers of step {at}")
                    self._use(component, index, answers, kept if final else None)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.path} is damaged: {type(error).__name__}: {error}") from None

    def due(self, step: int) -> bool:
        """Whether the model answers before this step."""
        return step in self.rounds

    def __call__(self, model: Any, step: int) -> None:
        """Let a model, which has taken `step` steps, answer the prompts of its round; on all processes."""
        index, final = self.rounds[step]
        for component in self.targets:
            drawn = self.prompts[component.task, index]
            answers: list[str] = gathered(self._answer(model, component, drawn, step))[0]
            kept = self._kept(component.task, answers) if final else None
            self._note(component, drawn, step, answers, kept)
            self._use(component, index, answers, kept)

    def _answer(self, model: Any, component: Component, drawn: Priming, step: int) -> list[str]:
        """What the model writes; nothing where its answer has no end."""
        encoded = self.codec.encode(drawn.examples, component.task)
        if numbering := self.source.policies.numbering:
            rng = stream(self.config.seed.data, "positions of self-improvement", step, component.key)
            encoded = numbering.sample(encoded, drawn.examples, component.task, rng, tags=self.codec.tags)
        batch = Batch.of(encoded, self.source.policies.half(component.role))
        rows = np.arange(len(drawn.lengths))
        with inference(model):
            written = generate_answers(model, batch, rows, self.codec, slack=2)
        texts = self.codec.decode(written)
        end = self.codec.eos_id
        return [text if ids[-1:] == [end] else "" for text, ids in zip(texts, written, strict=True)]

    def _kept(self, task: str, answers: Sequence[str]) -> list[bool]:
        """Which answers are trained on."""
        formed = [_well_formed(answer) for answer in answers]
        if self.own.keep == "agreement":
            before = self.drafts[task]
            return [ok and answer == draft for ok, answer, draft in zip(formed, answers, before, strict=True)]
        if self.own.keep == "length":
            sizes = [len(answer) for answer, ok in zip(answers, formed, strict=True) if ok]
            usual = float(np.median(sizes)) if sizes else 0.0
            return [ok and abs(len(answer) - usual) <= 1 for ok, answer in zip(formed, answers, strict=True)]
        return formed

    def _note(
        self,
        component: Component,
        drawn: Priming,
        step: int,
        answers: Sequence[str],
        kept: Sequence[bool] | None,
    ) -> None:
        """Log each answer with the right one, and say how many were kept."""
        if not self.main:
            return
        task, length = component.task, int(drawn.lengths[0])
        texts = drawn.examples.text()
        right = [answer == target for answer, (_, target) in zip(answers, texts, strict=True)]
        rows = zip(texts, answers, kept or [False] * len(answers), right, strict=True)
        lines = [
            {"step": step, "task": task, "length": length, "prompt": prompt, "answer": answer}
            | {"kept": keeps, "right": correct}
            for (prompt, _), answer, keeps, correct in rows
        ]
        append_lines(self.path, [json.dumps(line) for line in lines])
        if kept is not None:
            good = sum(keeps and correct for keeps, correct in zip(kept, right, strict=True))
            _log.info(
                f"step {step}: {sum(kept)} of {len(kept)} answers of {task} at length {length} are kept, "
                f"{good} of them right"
            )

    def _use(self, component: Component, index: int, answers: list[str], kept: Sequence[bool] | None) -> None:
        """Train on the kept answers from now on, or remember answers to compare with."""
        if kept is None:
            self.drafts[component.task] = answers
            return
        rows = np.flatnonzero(kept)
        if not len(rows):
            return
        drawn = self.prompts[component.task, index]
        codes = [parse(answers[row]) for row in rows.tolist()]
        target = np.full((len(rows), max(map(len, codes))), PAD, dtype=np.int16)
        for row, own in enumerate(codes):
            target[row, : len(own)] = own
        examples = Sample(drawn.examples.prompt[rows], target)
        learned = dataclasses.replace(drawn, examples=examples, lengths=drawn.lengths[rows])
        before = self.source.priming.get(component.task)
        now = learned if before is None else joined(before, learned)
        self.source.priming = {**self.source.priming, component.task: now}


def _well_formed(text: str) -> bool:
    """Whether an answer is there and all of it symbols."""
    try:
        return len(parse(text)) > 0
    except KeyError:
        return False


def round_steps(config: Config) -> list[int]:
    """The steps before which a model answers, evenly spread over what follows the first part."""
    own, steps = config.train.self_improvement, config.train.steps
    first = own.begin * steps
    return [round(first + (steps - first) * index / own.rounds) for index in range(own.rounds)]


def draft_steps(config: Config) -> list[int]:
    """The steps, half a round before each round, before which a model answers its prompts a first time."""
    own, steps = config.train.self_improvement, config.train.steps
    half = (1 - own.begin) * steps / own.rounds / 2
    return [round(step - half) for step in round_steps(config)]
