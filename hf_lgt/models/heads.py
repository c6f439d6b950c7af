"""Where the attention heads of a model write, and hooks that read or change what they write.

What a head writes is its slice of the input to its layer's output projection, which mixes the heads. One
`HeadPaths` tells where that projection lies; a new family of models is one line in `FAMILIES`, or one call of
`register_family`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from hf_lgt.config.schema import HALVES
from hf_lgt.utils.errors import ConfigError

Change: TypeAlias = Callable[[int, torch.Tensor], torch.Tensor | None]
"""(layer, what its heads write [b, w, heads, size]) -> what they shall have written; None: as it was"""


@dataclass(frozen=True)
class HeadPaths:
    """Where models of one family keep what this needs, as paths of attributes."""

    layers: str
    """from the model to its list of layers"""
    projection: str
    """from a layer to the projection of its heads' outputs, side by side in the order of the heads"""


_LIKE_LLAMA = HeadPaths("model.layers", "self_attn.o_proj")
FAMILIES: dict[str, HeadPaths] = {
    **dict.fromkeys(
        ("gemma", "gemma2", "granite", "llama", "mistral", "olmo", "olmo2", "phi3", "qwen2", "qwen3",
         "smollm3", "starcoder2"),
        _LIKE_LLAMA,
    ),
    "bloom": HeadPaths("transformer.h", "self_attention.dense"),
    "gpt2": HeadPaths("transformer.h", "attn.c_proj"),
    "gpt_neo": HeadPaths("transformer.h", "attn.attention.out_proj"),
    "gpt_neox": HeadPaths("gpt_neox.layers", "attention.dense"),
    "opt": HeadPaths("model.decoder.layers", "self_attn.out_proj"),
    "phi": HeadPaths("model.layers", "self_attn.dense"),
}  # fmt: skip
"""``config.model_type`` -> where its heads are"""


def register_family(model_type: str, layers: str, projection: str) -> None:
    """Tell where the heads of another family are.

    Args:
        model_type: as ``config.model_type`` says.
        layers: path from the model to its list of layers, such as ``model.layers``.
        projection: path from a layer to the projection of its heads' outputs, such as ``self_attn.o_proj``.
    """
    FAMILIES[model_type] = HeadPaths(layers, projection)


@dataclass(frozen=True)
class Heads:
    """The heads of a model."""

    projections: tuple[torch.nn.Module, ...]
    """of the layers, in order"""
    blocks: tuple[torch.nn.Module, ...]
    """the layers themselves"""
    count: int
    """heads a layer"""

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.projections)

    @property
    def every(self) -> list[tuple[int, int]]:
        """(layer, head) of all heads, layer by layer."""
        return [(layer, head) for layer in range(self.layers) for head in range(self.count)]


def find_heads(model: Any) -> Heads:
    """The heads of a causal language model of transformers, with adapters or without.

    Raises:
        ConfigError: its family is not known, or is not built as `FAMILIES` says.
    """
    base = bare_model(model)
    kind = base.config.model_type
    how = (
        f'hf_lgt.models.heads.register_family("{kind}", layers=..., projection=...) adds it: the paths to '
        "the list of layers, and from a layer to the projection of its heads' outputs"
    )
    family = FAMILIES.get(kind)
    if family is None:
        raise ConfigError([f"model: the heads of {kind!r} models are not known; known: {_known()}. {how}"])
    count = base.config.num_attention_heads
    try:
        layers = tuple(_follow(base, family.layers))
        found = tuple(_follow(layer, family.projection) for layer in layers)
    except AttributeError as error:
        raise ConfigError([f"model: this {kind!r} model is not built as expected ({error}); {how}"]) from None
    return Heads(found, layers, int(count))


def bare_model(model: Any) -> Any:
    """The model of transformers within what wraps it for several processes or adapters."""
    while isinstance(getattr(model, "module", None), torch.nn.Module):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def is_looped(model: Any) -> bool:
    """Whether a model works longer on longer prompts, see `hf_lgt.models.looped`."""
    return hasattr(getattr(bare_model(model), "config", None), "loops_per_token")


def _known() -> str:
    return ", ".join(sorted(FAMILIES))


def _follow(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


@contextmanager
def changed(heads: Heads, change: Change, layers: Sequence[int] | None = None) -> Iterator[None]:
    """Let what the heads write pass through `change`; the model is as before afterwards.

    Args:
        heads: of the model.
        change: gets what all heads of a layer write, of which it must not change anything in place.
        layers: where, all without.
    """
    handles = []

    def hook(layer: int) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], Any]:
        def before(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> Any:
            flat = given[0]
            wrote = change(layer, flat.view(*flat.shape[:-1], heads.count, -1))
            return None if wrote is None else (wrote.flatten(-2), *given[1:])

        return before

    try:
        for layer in range(heads.layers) if layers is None else layers:
            handles.append(heads.projections[layer].register_forward_pre_hook(hook(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def usable(count: int, halves: torch.Tensor) -> torch.Tensor:
    """Which heads of a layer each example may use.

    A half is ``count // 2`` heads: the first ones are half 0, the next as many half 1; where the count is
    odd, the last head is in neither.

    Args:
        count: heads a layer, at least 2.
        halves: int64 [b], 0 or 1.

    Returns:
        bool [b, count].
    """
    own = torch.arange(count, device=halves.device)[None] // (count // 2)
    return own == halves[:, None]


@contextmanager
def within_halves(model: Any, halves: torch.Tensor | None) -> Iterator[None]:
    """Let the other heads of each example write nothing; the model is as before afterwards.

    Args:
        model: a causal language model whose family is known.
        halves: int64 [b], which half each example of the pass may use; None: all heads write.

    Raises:
        ConfigError: see `find_heads`.
    """
    if halves is None:
        yield
        return
    heads = find_heads(model)
    kept = usable(heads.count, halves)[:, None, :, None]
    with changed(heads, lambda _, wrote: wrote * kept.to(wrote.dtype)):
        yield


def require_halves(role_heads: str, model: Any) -> None:
    """Refuse a model whose heads cannot be divided among roles.

    Args:
        role_heads: as ``model.role_heads``.
        model: a causal language model.

    Raises:
        ConfigError: its family is not known, or it has one head a layer.
    """
    if HALVES[role_heads] is not None and (count := find_heads(model).count) < 2:
        fault = f"{role_heads!r} takes two heads a layer; the model has {count}"
        raise ConfigError([f"model.role_heads: {fault}"])
