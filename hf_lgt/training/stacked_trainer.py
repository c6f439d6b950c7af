"""Training several runs whose models are stacked, in the loop of `hf_lgt.training.loop`.

The runs share steps, passes and the schedule. Losses, clipping, logs, evaluations and checkpoints are each
run's own, as if it had been alone; what goes wrong in one leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from hf_lgt.data.batching import Batch
from hf_lgt.models.packing import wants_packing
from hf_lgt.training.loop import Loop
from hf_lgt.training.optimizers import make_optimizer
from hf_lgt.training.stacked_batches import join_batches, packed_passes, padded_passes, run_losses
from hf_lgt.training.stacking import stack, unstack
from hf_lgt.training.step import Passes, TrainingRun
from hf_lgt.utils.errors import RunError


def fit_together(
    runs: Sequence[TrainingRun],
    accelerator: Accelerator,
    *,
    evaluate_first: bool = False,
    progress: bool = True,
) -> list[RunError | None]:
    """Train the models of several runs in place, as `hf_lgt.training.trainer.fit` trains one.

    Args:
        runs: whose configs agree in sections model, train and peft.
        accelerator: device and precision, of this process alone.
        evaluate_first: evaluate before the first step too, as step 0.
        progress: show a bar.

    Returns:
        For each run what went wrong in it, None where nothing did: its model is trained.

    Raises:
        CheckpointError: a checkpoint to resume from is damaged.
        TrainingError: a log cannot be written.
        Interrupted: SIGTERM or SIGINT came; a checkpoint of each run's last step was written.
    """
    return Loop(runs, accelerator, StackedStep).run(evaluate_first=evaluate_first, progress=progress)


class StackedStep:
    """The step of several runs at once; see `hf_lgt.training.step.Step`."""

    isolated = True

    def __init__(self, runs: Sequence[TrainingRun], accelerator: Accelerator, packed: bool) -> None:
        self.train, self.accelerator, self.packed = runs[0].config.train, accelerator, packed
        self.models = [run.model for run in runs]
        stacked: Any = stack(self.models)
        optimizer = make_optimizer(stacked, self.train, stacked=1)
        self.stacked, self.optimizer = accelerator.prepare(stacked, optimizer)
        self.stacked.train()
        self.bare = accelerator.unwrap_model(self.stacked, keep_torch_compile=False)

    def passes(self, batches: Sequence[Batch]) -> Passes:
        joined = join_batches(batches)
        device, pieces = self.accelerator.device, self.train.gradient_accumulation_steps
        if self.packed and wants_packing(joined):
            return packed_passes(joined, pieces, device)
        return padded_passes(joined, pieces, self.train.length_buckets, device)

    def backward(self, batches: Sequence[Batch], passes: Passes) -> torch.Tensor:
        device, runs = self.accelerator.device, len(self.models)
        answer_tokens = torch.tensor([batch.answer_tokens for batch in batches])
        share = 1 / answer_tokens.to(device, torch.float32, non_blocking=True)
        total = torch.zeros(runs, device=device)
        for work in passes:
            losses = run_losses(self.stacked, work.to(device), runs) * share
            self.accelerator.backward(losses.sum())
            total += losses.detach()
        return total

    def clip(self, most: float) -> torch.Tensor:
        return clip_each(self.bare, len(self.models), most)

    def load_optimizer(self, states: Sequence[dict[str, Any]]) -> None:
        self.optimizer.load_state_dict(_joined_states(states))

    def optimizer_of(self, state: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        moments = {
            number: {
                name: (value if value.ndim == 0 else value[index]).clone() for name, value in own.items()
            }
            for number, own in state["state"].items()
        }
        return {**state, "state": moments}

    def model_of(self, index: int) -> Any:
        return unstack(self.bare, index, self.models[index])


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
