"""The training loop of several runs whose models are stacked; `hf_lgt.training.trainer` has that of one.

The runs share steps, passes and the schedule. Losses, clipping, logs, evaluations and checkpoints are each
run's own, as if it had been alone; what goes wrong in one leaves the others as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hf_lgt.checkpointing.checkpoints import CheckpointWriter, LoopState, load_checkpoint, reading
from hf_lgt.config.schema import Config
from hf_lgt.data.batch_sources import Source
from hf_lgt.data.batching import Pass, pinned
from hf_lgt.data.codec import TextCodec
from hf_lgt.models.causal_attention import NAME as CAUSAL
from hf_lgt.models.causal_attention import attention_named, causal_fault
from hf_lgt.models.packing import PackedPass, choose_layout
from hf_lgt.training.nonfinite_guard import FiniteWatch
from hf_lgt.training.optimizers import make_optimizer, make_schedule
from hf_lgt.training.stacked_batches import Joined, packed_passes, padded_passes, run_losses
from hf_lgt.training.stacking import stack, unstack
from hf_lgt.training.train_log import TrainLog
from hf_lgt.training.trainer import Evaluate
from hf_lgt.utils import prefetch as ahead
from hf_lgt.utils.allocator import keep_freed_memory
from hf_lgt.utils.errors import RunError
from hf_lgt.utils.jsonl import count_lines
from hf_lgt.utils.progress import bar
from hf_lgt.utils.signals import Interrupted, Signals


@dataclass(frozen=True)
class Member:
    """One of the runs, its folder made ready."""

    config: Config
    model: Any
    """with its initial weights"""
    codec: TextCodec
    source: Source
    """the same object where runs draw the same batches"""
    evaluate: Evaluate
    resume_from: Path | None = None
    """all runs go on from the same step"""


def fit_together(
    members: Sequence[Member],
    accelerator: Accelerator,
    *,
    evaluate_first: bool = False,
    progress: bool = True,
) -> list[RunError | None]:
    """Train the models of several runs in place, as `hf_lgt.training.trainer.fit` trains one.

    Args:
        members: runs whose configs agree in sections model, train and peft.
        accelerator: device and precision, of this process alone.
        evaluate_first: evaluate before the first step too, as step 0.
        progress: show a bar.

    Returns:
        For each run what went wrong in it, None where nothing did: its model is trained.

    Raises:
        CheckpointError: a checkpoint to go on from is damaged.
        TrainingError: a log cannot be written.
        Interrupted: SIGTERM or SIGINT came; a checkpoint of each run's last step was written.
    """
    loop = TogetherLoop(members, accelerator)
    train = members[0].config.train
    steps = bar(
        visible=progress, total=train.steps, initial=loop.step, desc=f"{len(members)} runs", unit="step"
    )
    with Signals() as signals, steps:
        if loop.step or evaluate_first:
            loop.evaluate_if_due(signals)
        while loop.step < train.steps and not loop.all_failed:
            rate, losses = loop.take_step()
            steps.update()
            if loop.step in (1, train.steps) or loop.step % train.log_every == 0:
                mean = loop.log(losses, rate)
                steps.set_postfix(loss=f"{mean:.4f}", refresh=False)
            stop = signals.agreed(accelerator)
            if stop or (train.save_every and loop.step % train.save_every == 0):
                loop.save()
            if stop:
                raise Interrupted(stop, loop.stopped)
            loop.evaluate_if_due(signals)
    return loop.finish()


class TogetherLoop:
    """What the steps change, and the single things that are done with it."""

    def __init__(self, members: Sequence[Member], accelerator: Accelerator) -> None:
        self.members, self.accelerator = members, accelerator
        self.train = train = members[0].config.train
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        loaded = [load_checkpoint(m.resume_from, m.model) if m.resume_from else None for m in members]
        self.states = [own[0] if own else LoopState() for own in loaded]
        assert len({state.step for state in self.states}) == 1, "the caller put them together by their step"
        for member in members:
            member.model.to(accelerator.device)
        self.packed = choose_layout(train, members[0].model, accelerator.device)
        self.asynchronous = ahead.asynchronous(accelerator.device)
        self.causal = self.asynchronous and causal_fault(members[0].model) is None
        stacked: Any = stack([m.model for m in members])
        optimizer = make_optimizer(stacked, train, stacked=1)
        self.stacked, self.optimizer = accelerator.prepare(stacked, optimizer)
        kept = [own[1] for own in loaded if own]
        if kept:
            with reading(members[0].resume_from):
                self.optimizer.load_state_dict(_joined_states(kept))
        self.schedule = make_schedule(optimizer, train, self.step)
        self.stacked.train()
        self.bare = accelerator.unwrap_model(self.stacked, keep_torch_compile=False)
        sources = [m.source for m in members]
        self.watch = FiniteWatch(accelerator.device, sources, gradients=True)
        self.failed: list[RunError | None] = [None] * len(members)
        self.logs = [
            TrainLog(m.config.run_dir / "train.jsonl", accelerator, state, lambda: None)
            for m, state in zip(members, self.states, strict=True)
        ]
        self.checkpoints = [
            CheckpointWriter(m.config.run_dir, m.codec, train.keep_last, m.resume_from) for m in members
        ]

    @property
    def step(self) -> int:
        """Steps taken, by every run."""
        return self.states[0].step

    @property
    def all_failed(self) -> bool:
        """Whether no run has anything left to train."""
        return all(self.failed)

    @property
    def _going(self) -> list[int]:
        """Runs in which nothing went wrong so far."""
        self.failed = [old or new for old, new in zip(self.failed, self.watch.errors(), strict=True)]
        return [index for index, error in enumerate(self.failed) if error is None]

    def take_step(self) -> tuple[float, torch.Tensor]:
        """One optimizer step; gives its learning rate and each run's loss, [S]."""
        drawn = {id(m.source): m.source for m in self.members}
        batches = {key: source.batch(self.step) for key, source in drawn.items()}
        own = [batches[id(m.source)] for m in self.members]
        rate = self.optimizer.param_groups[0]["lr"]
        losses = self._backward(Joined.of(own))
        norms = clip_each(self.bare, len(self.members), self.train.max_grad_norm or math.inf)
        self.watch.see(self.step + 1, losses, norms)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        for state, batch in zip(self.states, own, strict=True):
            state.step += 1
            state.examples += len(batch.lengths)
            state.tokens += batch.tokens
        return rate, losses

    def _backward(self, joined: Joined) -> torch.Tensor:
        """Add the gradients of a step; gives each run's loss, [S]."""
        device, pieces = self.accelerator.device, self.train.gradient_accumulation_steps
        varied = bool((joined.lengths != joined.lengths[0]).any())
        passes: Sequence[Pass | PackedPass]
        if self.packed and varied and joined.halves is None:
            passes = packed_passes(joined, pieces, device)
        else:
            passes = padded_passes(joined, pieces, self.train.length_buckets, device)
        share = 1 / torch.from_numpy(joined.answer_tokens).to(device, torch.float32, non_blocking=True)
        total = torch.zeros(len(self.members), device=device)
        for work in passes:
            work = pinned(work, device)
            with attention_named(self.bare, CAUSAL) if self.causal else nullcontext():
                losses = run_losses(self.stacked, work.to(device), len(self.members)) * share
            self.accelerator.backward(losses.sum())
            total += losses.detach()
        return total

    def log(self, losses: torch.Tensor, rate: float) -> float:
        """Log the step just taken; gives the mean loss of the runs that go on."""
        values = [self.logs[index].write(losses[index], rate) for index in self._going]
        return sum(values) / max(len(values), 1)

    def evaluate_if_due(self, signals: Signals) -> None:
        """As `hf_lgt.training.trainer.Loop.evaluate_if_due`, for every run.

        Raises:
            Interrupted: a signal came meanwhile; all evaluations are put off to the resumed runs.
        """
        train, step = self.train, self.step
        if step not in (0, train.steps) and not (train.eval_every and step % train.eval_every == 0):
            return
        going = self._going
        self._count_logs(going)  # as they are without this evaluation
        try:
            with self._paused(going), signals.at_once(), self.accelerator.autocast():
                for index in going:
                    member = self.members[index]
                    member.evaluate(unstack(self.bare, index, member.model), step)
        except Interrupted:
            if step == 0:
                raise Interrupted(signals.received) from None
            self.save(recount=False)
            raise Interrupted(signals.received, self.stopped) from None

    def save(self, recount: bool = True) -> None:
        """Write a checkpoint of every run that goes on, and remove those that are too many."""
        going = self._going
        if recount:
            self._count_logs(going)
        optimizer = self.optimizer.state_dict()
        with self._paused(going):
            for index in going:
                model = unstack(self.bare, index, self.members[index].model)
                try:
                    self.checkpoints[index].write(model, _state_of(optimizer, index), self.states[index])
                except RunError as error:  # the others go on
                    self.failed[index] = error

    def finish(self) -> list[RunError | None]:
        """Set the models to their trained weights; gives what went wrong in each run."""
        for index in self._going:
            unstack(self.bare, index, self.members[index].model)
        return self.failed

    @contextmanager
    def _paused(self, going: Sequence[int]) -> Iterator[None]:
        """Leave the time that evaluating and saving take out of the runs' speeds."""
        with ExitStack() as pauses:
            for index in going:
                pauses.enter_context(self.logs[index].paused())
            yield

    def _count_logs(self, going: Sequence[int]) -> None:
        for index in going:
            self.states[index].logs = count_lines(self.members[index].config.run_dir)

    @property
    def stopped(self) -> str:
        """What a user is told of a training that was stopped."""
        told = f"stopped after step {self.step} of {self.train.steps}, with a checkpoint of each run"
        return f"{told}; the same command goes on"


def clip_each(stacked: torch.nn.Module, runs: int, most: float) -> torch.Tensor:
    """Clip each run's gradient by its own norm, as `torch.nn.utils.clip_grad_norm_` does.

    Args:
        stacked: with gradients.
        runs: how many.
        most: the largest norm.

    Returns:
        The norms before, [S].
    """
    gradients = [p.grad for p in stacked.parameters() if p.grad is not None]
    norms: torch.Tensor = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]), dim=0
    )
    share = (most / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(share.view(runs, *[1] * (gradient.ndim - 1)).to(gradient.dtype))
    return norms


def _state_of(optimizer: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The optimizer's state of one run, as if it had been trained alone."""
    moments = {
        number: {name: (value if value.ndim == 0 else value[index]).clone() for name, value in own.items()}
        for number, own in optimizer["state"].items()
    }
    return {**optimizer, "state": moments}


def _joined_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of a stacked optimizer, from those of single ones."""
    first = states[0]
    moments = {
        number: {
            name: value if value.ndim == 0 else torch.stack([own["state"][number][name] for own in states])
            for name, value in of_one.items()
        }
        for number, of_one in first["state"].items()
    }
    return {**first, "state": moments}
