"""Training one run, on any number of processes, in the loop of `hf_lgt.training.loop`.

Every process makes the global batch and takes its share. The loss is the sum over answer tokens divided by
the answer tokens of the *global* batch; neither processes, buckets nor accumulation change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator

from hf_lgt.config.schema import TrainConfig
from hf_lgt.data.batching import Batch, Pass, even_split, pass_tokens
from hf_lgt.models.forward import answer_loss
from hf_lgt.models.packing import MOST_TOKENS, pack_split, packed_loss, wants_packing
from hf_lgt.training.accelerator import compiling
from hf_lgt.training.embedding_gradient import gradient_by_rows, prepare_tied
from hf_lgt.training.loop import Loop
from hf_lgt.training.optimizers import make_optimizer
from hf_lgt.training.step import Passes, TrainingRun
from hf_lgt.utils.fsdp import load_optimizer, whole


def fit(
    run: TrainingRun,
    accelerator: Accelerator,
    *,
    evaluate_first: bool = False,
    keep_last: int | None = None,
    progress: bool = True,
) -> Any:
    """Train a model in place.

    Writes ``train.jsonl`` and the checkpoints of the run's folder, and evaluates every ``train.eval_every``
    steps and after the last. A checkpoint comes before the evaluation of its step, which a run that is
    resumed from it makes again.

    Args:
        run: what is trained.
        accelerator: device, processes, precision and trackers.
        evaluate_first: evaluate before the first step too, as step 0.
        keep_last: checkpoints to keep; None: what ``train.keep_last`` says.
        progress: show a bar.

    Returns:
        The bare trained model.

    Raises:
        TrainingError: the loss or a gradient is not finite, or a log cannot be written.
        CheckpointError: the checkpoint to resume from is damaged, or one cannot be written.
        Interrupted: SIGTERM or SIGINT came; a checkpoint of the last step was written.
    """
    loop = Loop([run], accelerator, SingleStep, keep_last)
    with compiling() if run.config.train.compile else nullcontext():
        loop.run(evaluate_first=evaluate_first, progress=progress)
    return loop.step.bare


class SingleStep:
    """The step of one run; see `hf_lgt.training.step.Step`."""

    isolated = False

    def __init__(self, runs: Sequence[TrainingRun], accelerator: Accelerator, packed: bool) -> None:
        model, self.train = runs[0].model, runs[0].config.train
        self.accelerator, self.packed = accelerator, packed
        if self.train.gradient_checkpointing:
            _save_activations(model)
        alone = accelerator.num_processes == 1 and accelerator.device.type == "cpu"
        self.tied = prepare_tied(model) if alone and not self.train.compile else None
        optimizer = make_optimizer(model, self.train)
        wrapped = torch.compile(model, dynamic=True) if self.train.compile else model
        self.wrapped, self.optimizer = accelerator.prepare(wrapped, optimizer)
        self.wrapped.train()
        self.bare = accelerator.unwrap_model(self.wrapped, keep_torch_compile=False)

    def passes(self, batches: Sequence[Batch]) -> Passes:
        return make_passes(batches[0], self.train, self.accelerator, self.packed)

    def backward(self, batches: Sequence[Batch], passes: Passes) -> torch.Tensor:
        with gradient_by_rows(self.tied) if self.tied is not None else nullcontext():
            return backward(self.wrapped, batches[0], passes, self.accelerator).reshape(1)

    def clip(self, most: float) -> torch.Tensor:
        norm: torch.Tensor = whole(self.accelerator.clip_grad_norm_(self.wrapped.parameters(), most))
        return norm

    def load_optimizer(self, states: Sequence[dict[str, Any]]) -> None:
        load_optimizer(self.optimizer, states[0])

    def optimizer_of(self, state: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        return state

    def model_of(self, index: int) -> Any:
        return self.bare


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


def backward(model: Any, batch: Batch, passes: Passes, accelerator: Accelerator) -> torch.Tensor:
    """Add a batch's gradient; gives this process's part of the loss, a scalar.

    Args:
        model: as Accelerate prepared it.
        batch: of all processes.
        passes: this process's, from `make_passes`.
        accelerator: tells the processes.
    """
    world = accelerator.num_processes
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
