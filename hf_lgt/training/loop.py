"""The training loop, of one run or of several whose models are stacked: plain Accelerate.

The batch of a step is a pure function of the step, so the loop needs no data loader. What differs between
one run and several is a `Step`, which the loop is given: how gradients are taken, clipped and saved.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator

from hf_lgt.checkpointing.checkpoints import CheckpointWriter, LoopState, load_checkpoint, reading
from hf_lgt.data.batching import Batch, pinned
from hf_lgt.models.causal_attention import NAME as CAUSAL
from hf_lgt.models.causal_attention import attention_named, causal_fault
from hf_lgt.models.packing import choose_layout
from hf_lgt.training.nonfinite_guard import NonfiniteGuard
from hf_lgt.training.optimizers import make_schedule
from hf_lgt.training.step import Passes, Step, TrainingRun
from hf_lgt.training.train_log import TrainLog
from hf_lgt.training.weight_average import add_to_average, average_in_place, averaged_steps, swap_average
from hf_lgt.utils import prefetch
from hf_lgt.utils.allocator import keep_freed_memory
from hf_lgt.utils.distributed import lost_process
from hf_lgt.utils.errors import RunError
from hf_lgt.utils.fsdp import full_optimizer, full_weights, is_sharded
from hf_lgt.utils.jsonl import count_lines
from hf_lgt.utils.prefetch import Prefetcher
from hf_lgt.utils.progress import Estimate, bar
from hf_lgt.utils.seeding import dropout_seed, seed_generators
from hf_lgt.utils.signals import Interrupted, Signals
from hf_lgt.utils.threads import log_threads

_log = logging.getLogger(__name__)


class Loop:
    """What the steps of a training change, and the single things that are done with it.

    Args:
        runs: of one shape: their configs agree in sections model, train and peft.
        accelerator: device, processes, precision and trackers.
        make_step: joins the runs' models, from (runs, accelerator, whether batches are packed).
        keep_last: checkpoints of each run to keep; None: what ``train.keep_last`` says.

    Raises:
        CheckpointError: a checkpoint to resume from is damaged.
    """

    def __init__(
        self,
        runs: Sequence[TrainingRun],
        accelerator: Accelerator,
        make_step: Callable[[Sequence[TrainingRun], Accelerator, bool], Step],
        keep_last: int | None = None,
    ) -> None:
        self.runs, self.accelerator = runs, accelerator
        self.train = train = runs[0].config.train
        model, device = runs[0].model, accelerator.device
        for run in () if accelerator.is_fsdp2 else runs:  # which shards before a device must hold them
            run.model.to(device)
        if device.type == "cpu":
            keep_freed_memory()
        packed = choose_layout(train, model, device)
        asynchronous = prefetch.asynchronous(device)
        # else a pass synchronises host and device to see whether it needs a mask, and a compiled one makes it
        self.causal = (asynchronous or train.compile) and causal_fault(model) is None
        loaded = [load_checkpoint(run.resume_from, run.model) if run.resume_from else None for run in runs]
        self.states = [own[0] if own else LoopState() for own in loaded]
        assert len({state.step for state in self.states}) == 1, "the caller put them together by their step"
        self.step = make_step(runs, accelerator, packed)
        if kept := [own[1] for own in loaded if own]:
            with reading(runs[0].resume_from):
                self.step.load_optimizer(kept)
        self.averaged = averaged_steps(train.steps, train.average)
        assert len(runs) == 1 or train.until.exact_match is None, "stacked runs end at one step"
        self.schedule = self._schedule()
        # with fp16, gradients overflow now and then: the scaler skips such a step
        self.guard = NonfiniteGuard(device, [run.source for run in runs], gradients=train.precision != "fp16")
        self.failed: list[RunError | None] = [None] * len(runs)
        self.logs = [
            TrainLog(run.config.run_dir / "train.jsonl", accelerator, state)
            for run, state in zip(runs, self.states, strict=True)
        ]
        self.checkpoints = [
            CheckpointWriter(run.config.run_dir, run.codec, keep_last or train.keep_last, run.resume_from)
            for run in runs
        ]
        self._prepared = Prefetcher(self._prepare, train.steps) if asynchronous else None
        for run in runs:
            if run.learner:
                run.learner.resume(self.taken)

    def run(self, *, evaluate_first: bool, progress: bool) -> list[RunError | None]:
        """Take the steps that are left, with their evaluations and checkpoints.

        Args:
            evaluate_first: evaluate before the first step too, as step 0.
            progress: show a bar.

        Returns:
            For each run what went wrong in it, None where nothing did: its model is trained.
        """
        train, count = self.train, len(self.runs)
        if self.accelerator.device.type == "cpu":
            log_threads()
        steps = bar(
            visible=progress and self.accelerator.is_main_process,
            total=self.last,
            initial=self.taken,
            desc=self.runs[0].config.name if count == 1 else f"{count} runs",
            unit="step",
        )
        estimate = Estimate(self.taken, self.last)
        with Signals() as signals, steps, closing(self):
            if self.taken or evaluate_first:
                self.evaluate_if_due(signals)
            while self.taken < self.last and not all(self.failed):
                self.let_learn()
                rate, losses = self.take_step()
                steps.update()
                if told := estimate.after(self.taken):
                    _log.info(told)
                if self.taken in (1, self.last) or self.taken % train.log_every == 0:
                    steps.set_postfix(loss=f"{self.log(losses, rate):.4f}", refresh=False)
                stop = signals.agreed(self.accelerator)
                if stop or (train.save_every and self.taken % train.save_every == 0):
                    self.save()
                if stop:
                    raise Interrupted(stop, self.stopped)
                self.evaluate_if_due(signals)
                steps.total = self.last
            swap_average(self.step.optimizer.optimizer)
            for index in self._running():
                self.step.model_of(index)
        return self.failed

    @property
    def taken(self) -> int:
        """Steps taken, by every run."""
        return self.states[0].step

    @property
    def last(self) -> int:
        """The last step: of ``train.steps``, or the end of the cool-down where ``train.until`` was met."""
        reached, most = self.states[0].reached, self.train.steps
        return most if reached is None else min(reached + self.train.until.cooldown, most)

    def _schedule(self) -> Any:
        return make_schedule(self.step.optimizer.optimizer, self.train, self.taken, self.last)

    def take_step(self) -> tuple[float, torch.Tensor]:
        """One optimizer step; gives its learning rate and this process's part of each run's loss, [runs]."""
        accelerator, optimizer = self.accelerator, self.step.optimizer
        batches, passes = (self._prepared or self._prepare)(self.taken)
        # dropout, where a model has it, depends on the step alone too; models with it are not stacked
        seed = dropout_seed(self.runs[0].config.seed.data, self.taken, accelerator.process_index)
        seed_generators(seed, accelerator.device)
        rate = optimizer.param_groups[0]["lr"]
        with attention_named(self.step.bare, CAUSAL) if self.causal else nullcontext():
            losses = self.step.backward(batches, passes)
        # without a limit nothing is clipped, but the norm is known
        norms = self.step.clip(self.train.max_grad_norm or math.inf)
        self.guard.see(self.taken + 1, losses, norms)
        if self.guard.eager:
            self._running()
        optimizer.step()
        if (count := self.taken + 1 - self.averaged.start + 1) > 0:
            add_to_average(optimizer.optimizer, count)
        self.schedule.step()
        optimizer.zero_grad()
        for state, batch in zip(self.states, batches, strict=True):
            state.step += 1
            state.examples += len(batch.lengths)
            state.tokens += batch.tokens
        return rate, losses

    def let_learn(self) -> None:
        """Let models add to their own examples where the coming step's turn has come."""
        due = [index for index, run in enumerate(self.runs) if run.learner and run.learner.due(self.taken)]
        if not due:
            return
        with self._paused(due), self.accelerator.autocast():
            for index in due:
                learner = self.runs[index].learner
                assert learner is not None
                learner(self.step.model_of(index), self.taken)
        if self._prepared:
            self._prepared.forget()  # drawn without them

    def _prepare(self, step: int) -> tuple[list[Batch], Passes]:
        """The batches of a step and this process's passes, in memory that the device can read."""
        drawn = {id(source): source for source in (run.source for run in self.runs)}
        of_source = {key: source.batch(step) for key, source in drawn.items()}
        batches = [of_source[id(run.source)] for run in self.runs]
        return batches, [pinned(work, self.accelerator.device) for work in self.step.passes(batches)]

    def close(self) -> None:
        """Prepare no more batches."""
        if self._prepared:
            self._prepared.close()

    def _running(self) -> list[int]:
        """Runs in which nothing went wrong so far."""
        for index, error in enumerate(self.guard.errors()):
            if error:
                self._fail(index, error)
        return [index for index, error in enumerate(self.failed) if error is None]

    def _fail(self, index: int, error: RunError) -> None:
        """Note what went wrong in a run, or raise it where no other run is to be left as it is."""
        if not self.step.isolated:
            raise error
        self.failed[index] = self.failed[index] or error

    def log(self, losses: torch.Tensor, rate: float) -> float:
        """Log the step just taken; gives the mean loss of the runs that are trained on."""
        values = [self.logs[index].write(losses[index], rate) for index in self._running()]
        return sum(values) / max(len(values), 1)

    def evaluate_if_due(self, signals: Signals) -> None:
        """Evaluate where the last step's turn has come, or before the first.

        Raises:
            Interrupted: a signal came meanwhile; the evaluations are put off to the resumed runs.
        """
        train, step = self.train, self.taken
        if step not in (0, self.last) and not (train.eval_every and step % train.eval_every == 0):
            return
        running, sharded = self._running(), is_sharded(self.step.bare)
        self._count_logs(running)  # as they are without this evaluation
        with self._paused(running):
            try:
                # processes that need each other's weights cannot put an evaluation down apart
                at_once = nullcontext() if sharded else signals.at_once()
                # the bare model of a compiled one has no autocast of its own
                average = average_in_place(self.step.optimizer.optimizer)
                with average, at_once, self.accelerator.autocast():
                    holds = [
                        self.runs[index].evaluate(self.step.model_of(index), step, step == self.last)
                        for index in running
                    ]
            except (Interrupted, RuntimeError) as error:
                # processes get a signal one after another: the first to stop leaves the others waiting
                if not signals.received or not (isinstance(error, Interrupted) or lost_process(error)):
                    raise
                if step == 0 or sharded:
                    raise Interrupted(signals.received) from None
                self.save(recount=False)
                raise Interrupted(signals.received, self.stopped) from None
        self._count(all(holds) and bool(holds))

    def _count(self, holds: bool) -> None:
        """Begin the cool-down once the criterion of ``train.until`` has held often enough in a row."""
        state, until = self.states[0], self.train.until
        state.held = state.held + 1 if holds else 0
        if state.reached is None and state.held >= until.evaluations:
            state.reached = state.step
            self.schedule = self._schedule()
            _log.info(
                f"exact match {until.exact_match} on the trained lengths is reached at step {state.step}; "
                f"the training ends at step {self.last}"
            )

    def save(self, recount: bool = True) -> None:
        """Write a checkpoint of each run, and remove those that are too many; on all processes."""
        running, main = self._running(), self.accelerator.is_main_process
        if recount:
            self._count_logs(running)
        with self._paused(running):
            optimizer = full_optimizer(self.step.optimizer, main)
            for index in running:
                model = self.step.model_of(index)
                weights = full_weights(model, main)
                if not main:
                    continue
                own = self.step.optimizer_of(optimizer, index)
                try:
                    self.checkpoints[index].write(model, own, self.states[index], weights)
                except RunError as error:
                    self._fail(index, error)

    @contextmanager
    def _paused(self, running: Sequence[int]) -> Iterator[None]:
        """Leave the time that evaluating and saving take out of the runs' speeds."""
        with ExitStack() as pauses:
            for index in running:
                pauses.enter_context(self.logs[index].paused())
            yield

    def _count_logs(self, running: Sequence[int]) -> None:
        main = self.accelerator.is_main_process
        for index in running:
            self.states[index].logs = count_lines(self.runs[index].config.run_dir) if main else {}

    @property
    def stopped(self) -> str:
        """The message of a training that was stopped."""
        kept, them = ("a checkpoint of each run", "them") if self.step.isolated else ("a checkpoint", "it")
        told = f"stopped after step {self.taken} of {self.last}, with {kept}"
        return f"{told}; the same command resumes {them}"
