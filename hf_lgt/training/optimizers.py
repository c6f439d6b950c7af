"""AdamW and its schedule, as the paper has them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import get_wsd_schedule

from hf_lgt.config.schema import TrainConfig


def make_optimizer(model: torch.nn.Module, config: TrainConfig, stacked: int = 0) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, not on norms and biases.

    Args:
        model: whose parameters are trained.
        config: rate, averaging and decay.
        stacked: leading dimensions of every parameter that are not its own.
    """
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1 + stacked]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1 + stacked]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def make_schedule(optimizer: Any, config: TrainConfig, taken: int = 0, last: int | None = None) -> Any:
    """Linear warm-up, constant, cosine decay; stands at `taken` steps.

    It is not handed to Accelerate, whose prepared schedulers step once for each process.

    Args:
        optimizer: whose rate is set.
        config: rate, steps and their shares.
        taken: steps taken.
        last: the last step, where ``train.until`` ends the training; None: ``train.steps``.
    """
    steps = config.steps if last is None else last
    warmup, decay = round(config.warmup * config.steps), round(config.decay * config.steps)
    if config.until.exact_match is not None:
        decay = config.until.cooldown
    for group in optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    return get_wsd_schedule(
        optimizer,
        num_warmup_steps=warmup,
        num_stable_steps=max(steps - warmup - decay, 0),
        num_decay_steps=decay,
        decay_type="cosine",
        min_lr_ratio=config.min_lr_ratio,
        last_epoch=taken - 1,
    )
