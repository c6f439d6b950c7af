"""The training loop: plain Accelerate, to be read in a sitting.

The batch of a step is a pure function of the step, so the loop needs no data loader: every process
makes the global batch and takes its share. The loss is the sum over answer tokens divided by the
answer tokens of the *global* batch; neither processes, buckets nor accumulation change it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hf_lgt.checkpointing.checkpoints import CheckpointWriter, LoopState, load_checkpoint, reading
from hf_lgt.config.load import Trained
from hf_lgt.config.schema import TrainConfig
from hf_lgt.data.batch_sources import Source
from hf_lgt.data.batching import Batch, Pass, even_split, pass_tokens, pinned
from hf_lgt.data.codec import TextCodec
from hf_lgt.models.causal_attention import NAME as CAUSAL
from hf_lgt.models.causal_attention import attention_named, causal_fault
from hf_lgt.models.forward import answer_loss
from hf_lgt.models.packing import (
    MOST_TOKENS,
    PackedPass,
    choose_layout,
    pack_split,
    packed_loss,
    wants_packing,
)
from hf_lgt.training.accelerator import compiling
from hf_lgt.training.nonfinite_guard import FiniteWatch
from hf_lgt.training.optimizers import make_optimizer, make_schedule
from hf_lgt.training.train_log import TrainLog
from hf_lgt.utils import prefetch as ahead
from hf_lgt.utils.allocator import keep_freed_memory
from hf_lgt.utils.distributed import lost_process
from hf_lgt.utils.fsdp import full_optimizer, full_weights, is_sharded, load_optimizer, whole
from hf_lgt.utils.jsonl import count_lines
from hf_lgt.utils.prefetch import Ahead
from hf_lgt.utils.progress import bar
from hf_lgt.utils.seeding import dropout_seed, seed_generators
from hf_lgt.utils.signals import Interrupted, Signals

Passes = Sequence[Pass | PackedPass]
Evaluate = Callable[[torch.nn.Module, int], None]
"""called with the bare model and the steps taken"""


def fit(
    config: Trained,
    model: Any,
    codec: TextCodec,
    source: Source,
    accelerator: Accelerator,
    *,
    evaluate: Evaluate,
    evaluate_first: bool = False,
    resume_from: Path | None = None,
    keep_last: int | None = None,
    progress: bool = True,
) -> Any:
    """Train a model in place.

    Writes ``train.jsonl`` and the checkpoints of the run's folder, and calls `evaluate` every
    ``train.eval_every`` steps and after the last. A checkpoint comes before the evaluation of its step,
    which a run that is resumed from it makes again.

    Args:
        config: the run's config.
        model: a causal language model of transformers, or one with adapters.
        codec: saved beside each checkpoint.
        source: gives the batch of a step.
        accelerator: device, processes, precision and trackers.
        evaluate: called on all processes.
        evaluate_first: evaluate before the first step too, as step 0.
        resume_from: a checkpoint to continue from.
        keep_last: checkpoints to keep; None: what ``train.keep_last`` says.
        progress: show a bar.

    Returns:
        The bare trained model.

    Raises:
        TrainingError: the loss or a gradient is not finite, or a log cannot be written.
        CheckpointError: `resume_from` is damaged, or a checkpoint cannot be written.
        Interrupted: SIGTERM or SIGINT came; a checkpoint of the last step was written.
    """
    loop = Loop(config, model, codec, source, accelerator, evaluate, resume_from, keep_last)
    state, train = loop.state, config.train
    steps = bar(
        visible=progress and accelerator.is_main_process,
        total=train.steps,
        initial=state.step,
        desc=config.name,
        unit="step",
    )
    with Signals() as signals, steps, closing(loop), compiling() if train.compile else nullcontext():
        if resume_from or evaluate_first:
            loop.evaluate_if_due(signals)
        while state.step < train.steps:
            rate, loss = loop.take_step()
            steps.update()
            if state.step in (1, train.steps) or state.step % train.log_every == 0:
                steps.set_postfix(loss=f"{loop.log.write(loss, rate):.4f}", refresh=False)
            stop = signals.agreed(accelerator)
            if stop or (train.save_every and state.step % train.save_every == 0):
                loop.save()
            if stop:
                raise Interrupted(stop, loop.stopped)
            loop.evaluate_if_due(signals)
    return loop.bare


class Loop:
    """What the steps of a training change, and the single things that are done with it."""

    def __init__(
        self,
        config: Trained,
        model: Any,
        codec: TextCodec,
        source: Source,
        accelerator: Accelerator,
        evaluate: Evaluate,
        resume_from: Path | None,
        keep_last: int | None,
    ) -> None:
        train = config.train
        if train.gradient_checkpointing:
            _save_activations(model)
        self.config, self.source = config, source
        self.accelerator, self.evaluate = accelerator, evaluate
        if not accelerator.is_fsdp2:  # which shares the weights out before a device must hold them
            model.to(accelerator.device)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        self.packed = choose_layout(train, model, accelerator.device)
        self.asynchronous = ahead.asynchronous(accelerator.device)
        # a pass would ask the device whether it needs a mask, and a compiled one would always make it
        self.causal = (self.asynchronous or train.compile) and causal_fault(model) is None
        self._prepared = Ahead(self._prepare, train.steps) if self.asynchronous else None
        optimizer = make_optimizer(model, train)
        self.state, kept = load_checkpoint(resume_from, model) if resume_from else (LoopState(), {})
        wrapped = torch.compile(model, dynamic=True) if train.compile else model
        self.wrapped, self.optimizer = accelerator.prepare(wrapped, optimizer)
        if resume_from:
            with reading(resume_from):
                load_optimizer(self.optimizer, kept)
        self.schedule = make_schedule(optimizer, train, self.state.step)
        self.bare = accelerator.unwrap_model(self.wrapped, keep_torch_compile=False)
        self.wrapped.train()
        # with fp16, gradients overflow now and then: the scaler skips such a step and goes on
        self.watch = FiniteWatch(accelerator.device, [source], gradients=train.precision != "fp16")
        self.log = TrainLog(config.run_dir / "train.jsonl", accelerator, self.state, self.watch.check)
        kept_last = keep_last or train.keep_last
        self.checkpoints = CheckpointWriter(config.run_dir, codec, kept_last, resume_from)

    def take_step(self) -> tuple[float, torch.Tensor]:
        """One optimizer step; gives its learning rate and this process's part of the loss."""
        state, train, accelerator = self.state, self.config.train, self.accelerator
        batch, passes = (self._prepared or self._prepare)(state.step)
        # dropout, where a model has it, depends on the step alone too
        seed = dropout_seed(self.config.seed.data, state.step, accelerator.process_index)
        seed_generators(seed, accelerator.device)
        rate = self.optimizer.param_groups[0]["lr"]
        with attention_named(self.bare, CAUSAL) if self.causal else nullcontext():
            loss = backward(self.wrapped, batch, train, accelerator, self.packed, passes)
        # without a limit nothing is clipped, but the norm is known
        norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), train.max_grad_norm or math.inf)
        self.watch.see(state.step + 1, loss, whole(norm))
        if self.watch.eager:
            self.watch.check()
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        state.step += 1
        state.examples += len(batch.lengths)
        state.tokens += batch.tokens
        return rate, loss

    def _prepare(self, step: int) -> tuple[Batch, Passes]:
        """The batch of a step and this process's passes, where the device can fetch them."""
        batch = self.source.batch(step)
        passes = make_passes(batch, self.config.train, self.accelerator, self.packed)
        return batch, [pinned(work, self.accelerator.device) for work in passes]

    def close(self) -> None:
        """Prepare no more batches."""
        if self._prepared:
            self._prepared.close()

    def evaluate_if_due(self, signals: Signals) -> None:
        """Evaluate where the last step's turn has come, or before the first.

        Raises:
            Interrupted: a signal came meanwhile; the evaluation is put off to the resumed run.
        """
        train, step = self.config.train, self.state.step
        if step not in (0, train.steps) and not (train.eval_every and step % train.eval_every == 0):
            return
        self.state.logs = self._count_logs()  # as they are without this evaluation
        self.watch.check()
        with self.log.paused():
            try:
                # processes that need each other's weights cannot put an evaluation down apart
                at_once = nullcontext() if is_sharded(self.bare) else signals.at_once()
                # the bare model of a compiled one has no autocast of its own
                with at_once, self.accelerator.autocast():
                    self.evaluate(self.bare, step)
            except (Interrupted, RuntimeError) as error:
                # processes get a signal one after another: the first to stop leaves the others waiting
                if not signals.received or not (isinstance(error, Interrupted) or lost_process(error)):
                    raise
                if step == 0 or is_sharded(self.bare):
                    raise Interrupted(signals.received) from None
                self.save(recount=False)
                raise Interrupted(signals.received, self.stopped) from None

    def save(self, recount: bool = True) -> None:
        """Write a checkpoint, and remove those that are too many; on all processes."""
        self.watch.check()
        if recount:
            self.state.logs = self._count_logs()
        main = self.accelerator.is_main_process
        with self.log.paused():
            weights, optimizer = full_weights(self.bare, main), full_optimizer(self.optimizer, main)
            if main:
                self.checkpoints.write(self.bare, optimizer, self.state, weights)

    def _count_logs(self) -> dict[str, int]:
        return count_lines(self.config.run_dir) if self.accelerator.is_main_process else {}

    @property
    def stopped(self) -> str:
        """What a user is told of a training that was stopped."""
        state, steps = self.state, self.config.train.steps
        return f"stopped after step {state.step} of {steps}, with a checkpoint; the same command goes on"


def _save_activations(model: Any) -> None:
    """Compute activations again in the backward pass, in the way that torch advises (not reentrant)."""
    for name in ("activation_checkpointing", "gradient_checkpointing"):  # new and old name in transformers
        if hasattr(model, f"{name}_enable"):
            getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
            return


def make_passes(batch: Batch, config: TrainConfig, accelerator: Accelerator, packed: bool = False) -> Passes:
    """A process's passes of a step.

    With `packed` in rows without padding, see `hf_lgt.models.packing`, where the batch would have any.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    pieces = config.gradient_accumulation_steps
    if packed and wants_packing(batch):
        most = pass_tokens(MOST_TOKENS, accelerator.device)
        return pack_split(batch, pieces, rank, world, most)
    return even_split(batch, pieces, config.length_buckets, rank, world)


def backward(
    model: Any,
    batch: Batch,
    config: TrainConfig,
    accelerator: Accelerator,
    packed: bool = False,
    passes: Passes | None = None,
) -> torch.Tensor:
    """Add a batch's gradient; gives this process's part of the loss, a scalar.

    Args:
        model: as Accelerate prepared it.
        batch: of all processes.
        config: how it is cut.
        accelerator: tells the processes.
        packed: see `make_passes`.
        passes: this process's, where they are made already.
    """
    world = accelerator.num_processes
    passes = make_passes(batch, config, accelerator, packed) if passes is None else passes
    total = torch.zeros((), device=accelerator.device)
    for i, work in enumerate(passes):
        summed_loss: Any = answer_loss if isinstance(work, Pass) else packed_loss
        final = i == len(passes) - 1
        with nullcontext() if final else accelerator.no_sync(model):
            loss = summed_loss(model, work.to(accelerator.device)) / batch.answer_tokens
            # data-parallel wrappers average gradients over processes; the sum is wanted
            accelerator.backward(loss * world)
        total += loss.detach()
    return total
