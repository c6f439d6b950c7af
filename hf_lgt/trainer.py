"""The training loop: plain Accelerate, to be read in a sitting.

The batch of a step is a pure function of the step, so the loop needs no data loader: every process
makes the global batch and takes its share. The loss is the sum over answer tokens divided by the
answer tokens of the *global* batch; neither processes, buckets nor accumulation change it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import get_wsd_schedule

from data_builders.sampling import stream
from hf_lgt.batching import Batch, answer_loss, even_split
from hf_lgt.checkpoints import LoopState, load_checkpoint, save_checkpoint
from hf_lgt.codec import TextCodec
from hf_lgt.config import TrainConfig, Trained
from hf_lgt.errors import TrainingError
from hf_lgt.progress import bar
from hf_lgt.sources import Source

Evaluate = Callable[[torch.nn.Module, int], None]
"""called with the bare model and the steps taken"""


def make_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, not on norms and biases."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def make_schedule(optimizer: Any, config: TrainConfig, taken: int = 0) -> Any:
    """Linear warm-up, constant, cosine decay; stands at `taken` steps.

    It is not handed to Accelerate, whose prepared schedulers step once for each process.
    """
    warmup, decay = round(config.warmup * config.steps), round(config.decay * config.steps)
    for group in optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    return get_wsd_schedule(
        optimizer,
        num_warmup_steps=warmup,
        num_stable_steps=max(config.steps - warmup - decay, 0),
        num_decay_steps=decay,
        decay_type="cosine",
        min_lr_ratio=config.min_lr_ratio,
        last_epoch=taken - 1,
    )


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
    progress: bool = True,
) -> Any:
    """Train a model in place.

    Writes ``train.jsonl`` and the checkpoints of the run's folder, and calls `evaluate` every
    ``train.eval_every`` steps and after the last.

    Args:
        config: the run's config.
        model: a causal language model of transformers, or one with adapters.
        codec: saved beside each checkpoint.
        source: gives the batch of a step.
        accelerator: device, processes, precision and trackers.
        evaluate: called on all processes.
        evaluate_first: evaluate before the first step too, as step 0.
        resume_from: a checkpoint to continue from.
        progress: show a bar.

    Returns:
        The bare trained model.

    Raises:
        TrainingError: the loss is not finite.
        CheckpointError: `resume_from` is damaged.
    """
    train = config.train
    if train.gradient_checkpointing:
        _save_activations(model)
    optimizer = make_optimizer(model.to(accelerator.device), train)
    state = load_checkpoint(resume_from, model, optimizer) if resume_from else LoopState()
    schedule = make_schedule(optimizer, train, state.step)
    wrapped = torch.compile(model, dynamic=True) if train.compile else model
    wrapped, optimizer = accelerator.prepare(wrapped, optimizer)
    bare = accelerator.unwrap_model(wrapped, keep_torch_compile=False)

    log = TrainLog(config.run_dir / "train.jsonl", accelerator, state)
    steps = bar(
        visible=progress and accelerator.is_main_process,
        total=train.steps,
        initial=state.step,
        desc=config.name,
        unit="step",
    )
    if evaluate_first and state.step == 0:
        with log.paused():
            evaluate(bare, 0)
    wrapped.train()
    while state.step < train.steps:
        batch = source.batch(state.step)
        # dropout, where a model has it, depends on the step alone too
        torch.manual_seed(dropout_seed(config.seed.data, state.step, accelerator.process_index))
        rate = optimizer.param_groups[0]["lr"]
        loss = backward(wrapped, batch, train, accelerator)
        if train.max_grad_norm is not None:
            accelerator.clip_grad_norm_(wrapped.parameters(), train.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        state.step += 1
        state.examples += len(batch.lengths)
        state.tokens += batch.tokens
        steps.update()

        last = state.step == train.steps
        if last or state.step == 1 or state.step % train.log_every == 0:
            steps.set_postfix(loss=f"{log.write(loss, rate):.4f}", refresh=False)
        with log.paused():
            if last or (train.eval_every and state.step % train.eval_every == 0):
                evaluate(bare, state.step)
            if train.save_every and state.step % train.save_every == 0 and accelerator.is_main_process:
                _require_finite(bare, state.step)
                save_checkpoint(config.run_dir, bare, optimizer, codec, state)
    steps.close()
    return bare


def _save_activations(model: Any) -> None:
    """Compute activations again in the backward pass, in the way that torch advises (not reentrant)."""
    for name in ("activation_checkpointing", "gradient_checkpointing"):  # new and old name in transformers
        if hasattr(model, f"{name}_enable"):
            getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
            return


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's global generator in a step of one process."""
    return int(stream(seed, "dropout", step, rank).integers(2**63))


def _require_finite(model: torch.nn.Module, step: int) -> None:
    """Keep weights that went wrong out of the checkpoints: a run could not go on from them."""
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise TrainingError(
            f"the weights are not finite after step {step}; a lower train.learning_rate may help; the "
            "last checkpoint is unharmed"
        )


def backward(model: Any, batch: Batch, config: TrainConfig, accelerator: Accelerator) -> torch.Tensor:
    """Add a batch's gradient; gives this process's part of the loss, a scalar."""
    rank, world = accelerator.process_index, accelerator.num_processes
    passes = even_split(batch, config.gradient_accumulation_steps, config.length_buckets, rank, world)
    total = torch.zeros((), device=accelerator.device)
    for i, work in enumerate(passes):
        final = i == len(passes) - 1
        with nullcontext() if final else accelerator.no_sync(model):
            loss = answer_loss(model, work.to(accelerator.device)) / batch.answer_tokens
            # data-parallel wrappers average gradients over processes; the sum is wanted
            accelerator.backward(loss * world)
        total += loss.detach()
    return total


class TrainLog:
    """Appends to ``train.jsonl`` and to the trackers."""

    def __init__(self, path: Path, accelerator: Accelerator, state: LoopState) -> None:
        self.path = path
        self.accelerator = accelerator
        self.state = state
        self._examples = state.examples
        self._clock = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time that evaluating and saving take out of the speed."""
        start = time.perf_counter()
        yield
        self._clock += time.perf_counter() - start

    def write(self, loss: torch.Tensor, rate: float) -> float:
        """Log the step just taken; gives its loss, summed over processes.

        Raises:
            TrainingError: the loss is not finite.
        """
        state, value = self.state, float(self.accelerator.reduce(loss, "sum"))
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {state.step}; a lower train.learning_rate or "
                "train.max_grad_norm may help; the last checkpoint is unharmed"
            )
        now = time.perf_counter()
        line = {
            "step": state.step,
            "loss": value,
            "learning_rate": rate,
            "examples": state.examples,
            "tokens": state.tokens,
            "examples_per_second": round((state.examples - self._examples) / (now - self._clock), 1),
        }
        self._examples, self._clock = state.examples, now
        if self.accelerator.is_main_process:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self.accelerator.log({k: v for k, v in line.items() if k != "step"}, step=state.step)
        return value
