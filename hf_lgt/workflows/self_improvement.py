"""Self-improvement: rounds in which a model answers longer prompts of its targets itself, and trains on some
of the answers (``train.self_improvement``; Lee et al. 2025, arXiv 2502.01612).

In the r-th round the prompts are longer than the trained lengths by r times ``lengths``; none is a test
prompt. An answer may have `LONGER` symbols more than the longest right one, else it has no end; beyond that
the rule by which answers are kept sees no right ones: it takes those about as long as most, or those that the
model gave half a round before too (there the paper votes over several models). All answers stand in
``self_improvement.jsonl``, from which an interrupted run takes them again. They are written by the weights as
they are, not by their average.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_builders.arrays import Sample
from data_builders.mixture import Component
from data_builders.priming import Priming, joined
from data_builders.reading import LARGEST_LOG, read_bytes
from data_builders.sampling import stream
from data_builders.symbols import FIRST_CHARACTER, FIRST_NODE, FIRST_TAG, PAD, Codes, parse
from hf_lgt.config.schema import LONGER, Config
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
_AGAIN = "restore it, or begin the run anew with --overwrite"

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
            CheckpointError: it is not as it was written.
        """
        before = sorted(at for at in self.rounds if at < step)
        if not before:
            return
        try:
            text = read_bytes(self.path, LARGEST_LOG).decode("utf-8")
            lines = iter([json.loads(line) for line in text.splitlines()])
            for at in before:
                index, final = self.rounds[at]
                for component in self.targets:
                    drawn = self.prompts[component.task, index]
                    self._use(component, index, *self._logged(at, component.task, drawn, final, lines))
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror}; {_AGAIN}") from None
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            told = f"{self.path} is damaged: {type(error).__name__}: {error}; {_AGAIN}"
            raise CheckpointError(told) from None

    def _logged(
        self, step: int, task: str, drawn: Priming, final: bool, lines: Iterator[Any]
    ) -> tuple[list[str], list[bool] | None]:
        """The answers of a step and which were kept, from the next lines of the log."""
        answers: list[str] = []
        kept: list[bool] = []
        for prompt, _ in drawn.examples.text():
            line = next(lines)
            answer, keeps = line["answer"], line["kept"]
            if (line["step"], line["task"], line["prompt"]) != (step, task, prompt):
                raise ValueError(f"a line of step {step} is of another prompt")
            if not isinstance(answer, str) or type(keeps) is not (bool if final else type(None)):
                raise ValueError(f"a line of step {step} has no answer, or does not say whether it was kept")
            if keeps and not self._can_be_learned(answer, drawn):
                raise ValueError(f"a line of step {step} has an answer that no model could give")
            answers.append(answer)
            kept.append(bool(keeps))
        return answers, kept if final else None

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
        """What the model writes; nothing where its answer has no end, or is not of the tasks' symbols."""
        encoded = self.codec.encode(drawn.examples, component.task)
        if numbering := self.source.policies.numbering:
            rng = stream(self.config.seed.data, "positions of self-improvement", step, component.key)
            encoded = numbering.sample(encoded, drawn.examples, component.task, rng, tags=self.codec.tags)
        batch = Batch.of(encoded, self.source.policies.half(component.role))
        at_once = max(1, self.config.eval.batch_tokens // batch.ids.shape[1])
        written: list[list[int]] = []
        with inference(model):
            for start in range(0, len(drawn.lengths), at_once):
                rows = np.arange(start, min(start + at_once, len(drawn.lengths)))
                written += generate_answers(model, batch, rows, self.codec, slack=LONGER)
        return [self._text(ids) for ids in written]

    def _text(self, ids: list[int]) -> str:
        """An answer as text, empty where it has no end or cannot be written in the tasks' symbols."""
        if ids[-1:] != [self.codec.eos_id]:
            return ""
        text = self.codec.decode([ids[:-1]])[0]
        codes = _codes(text)
        return text if codes is not None and self.codec.ids_of(codes).tolist() == ids[:-1] else ""

    def _can_be_learned(self, answer: str, drawn: Priming) -> bool:
        """Whether an answer is one of the tasks' symbols that the model has, and not too long."""
        codes = _codes(answer)
        most = drawn.examples.target.shape[1] + LONGER
        return codes is not None and 0 < len(codes) <= most and bool((self.codec.ids_of(codes) >= 0).all())

    def _kept(self, task: str, answers: Sequence[str]) -> list[bool]:
        """Which answers are trained on."""
        if self.own.keep == "agreement":
            before = self.drafts[task]
            return [bool(answer) and answer == draft for answer, draft in zip(answers, before, strict=True)]
        if self.own.keep == "length":
            sizes = [len(parse(answer)) for answer in answers]
            usual = float(np.median([size for size in sizes if size] or [0]))
            return [size > 0 and abs(size - usual) <= 1 for size in sizes]
        return [bool(answer) for answer in answers]

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
        rows = zip(texts, answers, [None] * len(answers) if kept is None else kept, right, strict=True)
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


def _codes(text: str) -> Codes | None:
    """Characters and maze nodes of a text, None where it has anything else."""
    try:
        codes = parse(text)
    except KeyError:
        return None
    characters = (codes >= FIRST_CHARACTER) & (codes < FIRST_TAG)
    return codes if (characters | (codes > FIRST_NODE)).all() else None


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
