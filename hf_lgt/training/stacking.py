"""Models of one shape as a single one: each weight has a leading dimension for the models.

The layers that hold weights are replaced by ones that multiply every model's rows by its own weights, in
one call; all else of a model (attention, positions, activations) works on rows alone and stays as it is.
Rows lie model by model: those of model s are ``s * b`` to ``(s + 1) * b``. Whether it works for a model is
tried on a small example rather than looked up.

Dimensions: S models, b rows of each, V tokens of the vocabulary, D, E features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hf_lgt.models.causal_attention import CANNOT
from hf_lgt.models.heads import bare_model


class StackedLinear(nn.Module):
    """Linear layers side by side: [S * b, ..., D] to [S * b, ..., E]."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(self.weight.shape[0], -1, x.shape[-1])
        weight = self.weight.transpose(1, 2)
        if self.bias is None:
            made = torch.bmm(rows, weight)
        else:
            made = torch.baddbmm(self.bias[:, None], rows, weight)
        return made.view(*x.shape[:-1], made.shape[-1])


class StackedEmbedding(nn.Module):
    """Embeddings side by side: int64 [S * b, w] to [S * b, w, D]."""

    def __init__(self, weight: nn.Parameter, padding_idx: int | None) -> None:
        super().__init__()
        self.weight = weight
        self.padding_idx = padding_idx

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        models, rows, _ = self.weight.shape
        if len(ids) % models:
            raise ValueError("its positions have embeddings, which all rows share")
        first = torch.arange(0, models * rows, rows, device=ids.device)
        own = (ids.reshape(models, -1) + first[:, None]).view(ids.shape)
        found = F.embedding(own, self.weight.flatten(0, 1))
        if self.padding_idx is None:
            return found
        # as in torch's own layer, the row of the padding token gets no gradient
        return torch.where((ids == self.padding_idx)[..., None], found.detach(), found)


class StackedNorm(nn.Module):
    """Norms side by side, on [S * b, ..., D]: `normalize`, then each model's own weight and bias."""

    def __init__(
        self,
        weight: nn.Parameter | None,
        bias: nn.Parameter | None,
        normalize: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.normalize = normalize

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.normalize(x)
        if self.weight is not None:
            made = (self.weight[:, None] * made.reshape(len(self.weight), -1, x.shape[-1])).view(x.shape)
        if self.bias is not None:
            made = (self.bias[:, None] + made.reshape(len(self.bias), -1, x.shape[-1])).view(x.shape)
        return made


def _layer_norm(layer: nn.LayerNorm) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: F.layer_norm(x, layer.normalized_shape, eps=layer.eps)


def _rms_norm(eps: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def normalize(x: torch.Tensor) -> torch.Tensor:
        # in float32 whatever the type of x, as the models of transformers do
        exact = x.float()
        return (exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)

    return normalize


class UnstackableError(ValueError):
    """Models cannot be stacked; says why."""


def stack(models: Sequence[nn.Module]) -> nn.Module:
    """One model with the weights of several.

    Args:
        models: of one class and shape, without adapters; they stay as they are.

    Returns:
        A model that takes [S * b, w] tokens, those of model s in rows ``s * b`` to ``(s + 1) * b``, with the
        parameters of one, in their order, each [S, ...].

    Raises:
        UnstackableError: a layer is of a kind that is not known, or the models differ.
    """
    shapes = [[(name, p.shape) for name, p in model.named_parameters()] for model in models]
    if any(own != shapes[0] for own in shapes):
        raise UnstackableError("the models differ in their parameters")
    made = copy.deepcopy(models[0])
    stacked: dict[int, nn.Parameter] = {}  # a weight that layers share is shared again

    def joined(name: str, places: Sequence[nn.Module]) -> nn.Parameter | None:
        own = [getattr(place, name) for place in places]
        if own[0] is None:
            return None
        if id(own[0]) not in stacked:
            values = torch.stack([p.detach() for p in own])
            stacked[id(own[0])] = nn.Parameter(values, requires_grad=own[0].requires_grad)
        return stacked[id(own[0])]

    def fill(target: nn.Module, places: Sequence[nn.Module], path: str) -> None:
        if next(places[0].parameters(recurse=False), None) is not None:
            raise UnstackableError(f"{path} is a {type(places[0]).__name__}, which is not known")
        for name in [name for name, _ in places[0].named_children()]:
            inner = [place.get_submodule(name) for place in places]
            replaced = _replaced(inner, joined)
            if replaced is None:
                fill(target.get_submodule(name), inner, f"{path}.{name}".lstrip("."))
            else:
                setattr(target, name, replaced)

    fill(made, models, "")
    return made


def _replaced(
    layers: Sequence[nn.Module], joined: Callable[[str, Sequence[nn.Module]], nn.Parameter | None]
) -> nn.Module | None:
    """What stands for layers that hold weights; None where it is not known."""
    layer: Any = layers[0]
    kind = type(layer)
    if kind is nn.Linear:
        weight, bias = joined("weight", layers), joined("bias", layers)
        assert weight is not None
        return StackedLinear(weight, bias)
    if kind is nn.Embedding and layer.max_norm is None and not layer.scale_grad_by_freq:
        weight = joined("weight", layers)
        assert weight is not None
        return StackedEmbedding(weight, layer.padding_idx)
    if kind is nn.LayerNorm:
        return StackedNorm(joined("weight", layers), joined("bias", layers), _layer_norm(layer))
    if kind.__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
        return StackedNorm(joined("weight", layers), None, _rms_norm(layer.variance_epsilon))
    return None


@torch.no_grad()
def unstack(stacked: nn.Module, index: int, model: nn.Module) -> nn.Module:
    """Set a model's weights to those of one of the stacked models; gives it.

    Args:
        stacked: from `stack`.
        index: which of its models.
        model: of the shape of that one.
    """
    for target, source in zip(model.parameters(), stacked.parameters(), strict=True):
        target.copy_(source[index])
    return model


def stacking_fault(models: Sequence[Any]) -> str | None:
    """Why models cannot be trained stacked, None where they can; tried on two short rows of each.

    Args:
        models: causal language models, whose mode comes back.
    """
    kind = type(bare_model(models[0])).__name__
    modes = [model.training for model in models]
    device = next(models[0].parameters()).device
    ids = torch.tensor([[0, 1, 2, 1, 2], [2, 0, 1, 0, 0]], device=device)
    try:
        stacked = stack(models)
        for model in (stacked, *models):
            model.train()  # so that dropout, whose draws would be others, is seen
        with torch.no_grad(), torch.random.fork_rng():
            single = torch.stack([model(input_ids=ids, use_cache=False).logits for model in models])
            together = stacked(input_ids=ids.repeat(len(models), 1), use_cache=False).logits
    except UnstackableError as error:
        return f"{kind}: {error}"
    except CANNOT as error:
        return f"{kind} does not run that way: {type(error).__name__}: {error}"
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)
    close = 1e-4 if single.dtype == torch.float32 else 3e-2
    found, wanted = together.view_as(single).float(), single.float()
    # what is not finite is reported once the run has begun, as for one that is trained alone
    close *= float(torch.nan_to_num(wanted).std())
    if not torch.allclose(found, wanted, rtol=0, atol=close, equal_nan=True):
        return f"{kind} gives other logits that way, or has dropout"
    return None
