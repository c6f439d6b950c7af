"""The forward pass: what a model is given, its logits at scored tokens and the loss on answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from hf_lgt.data.batching import IGNORE, Pass
from hf_lgt.models.heads import is_looped, within_halves


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the model's own mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def logits_of(model: torch.nn.Module, work: Pass) -> torch.Tensor:
    """Logits at the kept positions only, [b, K, vocabulary]."""
    logits: torch.Tensor = run_pass(model, work, logits_to_keep=work.keep).logits
    return logits


def run_pass(model: Any, work: Pass, **more: Any) -> Any:
    """What a model gives, with position IDs and within the heads that each example may use."""
    with within_halves(model, work.halves):
        own = {**_position_arguments(work), **_loop_arguments(model, work)}
        return model(input_ids=work.input_ids, use_cache=False, **own, **more)


def _position_arguments(work: Pass) -> dict[str, torch.Tensor]:
    """What a model gets of position IDs; nothing where they are the usual ones."""
    if work.position_ids is None:
        return {}
    # without a mask, transformers takes numbers that jump or begin again for several texts in one row
    return {"position_ids": work.position_ids, "attention_mask": torch.ones_like(work.input_ids)}


def _loop_arguments(model: Any, work: Pass) -> dict[str, torch.Tensor]:
    """What a model gets that works longer on longer prompts (`hf_lgt.models.looped`)."""
    given = work.prompt_tokens
    return {"prompt_tokens": given} if given is not None and is_looped(model) else {}


def check_positions(model: torch.nn.Module) -> None:
    """Refuse a model to which position IDs make no difference.

    Args:
        model: a causal language model, whose mode comes back.

    Raises:
        ValueError: it takes none, or does not use them.
    """
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 2, 1, 2]], device=device)
    logits = []
    try:
        with inference(model):
            for numbers in ([0, 1, 2, 3, 4], [0, 3, 5, 9, 14]):
                work = Pass(ids, torch.arange(5, device=device), ids, torch.tensor([numbers], device=device))
                logits.append(logits_of(model, work))
    except TypeError as error:
        raise ValueError(f"{type(model).__name__} takes no position_ids: {error}") from None
    if torch.equal(*logits):
        raise ValueError(f"{type(model).__name__} does not use position_ids: they make no difference to it")


def answer_loss(model: torch.nn.Module, work: Pass) -> torch.Tensor:
    """Cross entropy summed over the scored tokens of a pass, a float32 scalar.

    The caller divides by the answer tokens of the global batch, so that neither the number of
    passes nor that of processes changes a gradient.
    """
    logits = logits_of(model, work)
    return F.cross_entropy(
        logits.flatten(0, 1).float(), work.labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )
