"""Attention without masks: plain causality, which right padding and numbered positions need no more than.

transformers looks at the position IDs of each pass to see whether several texts lie in a row,
and makes a mask of what it finds. On a GPU to look is to wait for the device; in a compiled model it cannot
look and always makes the mask, with which attention leaves its fast path. An attention function of our own
(https://huggingface.co/docs/transformers/attention_interface) is given no mask at all. Whether one works
for a model is tried on a small example rather than looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from hf_lgt.models.forward import inference

NAME = "hf_lgt_causal"
"""of the attention function, as transformers knows it"""
CANNOT = (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError)
"""what a model raises that does not run with an attention function of ours"""
_UNKNOWN = ("softcap", "position_bias", "sliding_window", "s_aux", "cache")
"""what a family may ask of its attention, that ours do not do"""


def require_plain(attention_mask: torch.Tensor | None, more: Mapping[str, Any]) -> None:
    """Refuse to take attention that is more than causal.

    Args:
        attention_mask: what an attention function is given.
        more: its further arguments.

    Raises:
        NotImplementedError: there is a mask, or a further argument that asks for more.
    """
    if attention_mask is not None or any(more.get(key) is not None for key in _UNKNOWN):
        raise NotImplementedError("an attention with more to it than causality")


@contextmanager
def attention_named(model: Any, name: str) -> Iterator[None]:
    """Let a model use an attention function that transformers knows; it is as before afterwards."""
    config = getattr(model, "module", model).config  # of what a data-parallel wrapper wraps
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def kind_fault(model: Any) -> str | None:
    """Why a model's config rules out plain causal attention, None where it does not."""
    kind, config = type(model).__name__, model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"{kind} has layers of {', '.join(sorted(kinds))}"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"{kind} runs with attention {config._attn_implementation!r}"
    return None


def causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None
) -> torch.Tensor:
    """Causal attention, [b, heads, w, d] each; keys and values may have fewer heads."""
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=grouped
    )


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention: [b, heads, w, d] each, gives [b, w, heads, d]."""
    require_plain(attention_mask, more)
    return causal(query, key, value, dropout, scaling).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)


def causal_fault(model: Any) -> str | None:
    """Why a model cannot be trained without masks, None where it can; tried on two short examples.

    Args:
        model: a causal language model, whose mode comes back.
    """
    if fault := kind_fault(model):
        return fault
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 2, 1, 2], [2, 0, 1, 0, 0]], device=device)

    def usual() -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
        return logits

    def ours() -> torch.Tensor:
        with attention_named(model, NAME):
            return usual()

    return logits_fault(model, usual, ours)


def logits_fault(
    model: Any, usual: Callable[[], torch.Tensor], ours: Callable[[], torch.Tensor]
) -> str | None:
    """Why a model cannot run in a way of ours, None where it gives the logits that it usually does."""
    kind = type(model).__name__
    try:
        with inference(model):
            wanted, found = usual(), ours()
    except CANNOT as error:
        return f"{kind} does not run that way: {type(error).__name__}: {error}"
    # what is not finite is reported once the run has begun
    if not torch.allclose(found.float(), wanted.float(), rtol=1e-3, atol=1e-3, equal_nan=True):
        return f"{kind} gives other logits that way"
    return None
