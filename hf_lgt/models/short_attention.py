"""Causal attention of short examples in bfloat16 on a CPU, by matrix products.

There torch's `scaled_dot_product_attention` takes two to five times as long, as its kernel works on blocks
of 512 keys whatever the length (torch 2.13). Examples of about one length are padded to the longest of them
and done together; what lies on the right of an example is never seen by it.

Dimensions: S rows, N tokens of a row, H heads, G of keys and values, d the size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

LONGEST = 256
"""tokens of an example; beyond, the scores of all pairs take more memory than they save time"""
SHARE = 0.7
"""of the longest example that the others of a bucket have at least"""


@dataclass(frozen=True)
class Bucket:
    """Examples that lie beside each other in a row, to be padded to one width."""

    begin: int
    """first token in the row"""
    end: int
    examples: int
    width: int
    padded: torch.Tensor | None
    """int64 [examples * width], token of the bucket at each place; None: they are all of one length"""
    places: torch.Tensor | None
    """int64 [end - begin], place of each token"""


def is_short(query: torch.Tensor, groups: tuple[tuple[int, int], ...], dropout: float) -> bool:
    """Whether a pass is attended this way.

    Args:
        query: of the attention.
        groups: (examples, tokens of each), ascending by tokens.
        dropout: of the scores.
    """
    on_cpu = query.device.type == "cpu"
    return on_cpu and _dtype(query) == torch.bfloat16 and dropout == 0.0 and groups[-1][1] <= LONGEST


def _dtype(query: torch.Tensor) -> torch.dtype:
    """What matrix products of it are taken in, as within autocast."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    groups: tuple[tuple[int, int], ...],
) -> torch.Tensor:
    """Causal attention within each example.

    Args:
        query: [S, H, N, d].
        key: [S, G, N, d], H a multiple of G.
        value: as `key`.
        scaling: of the scores; None: 1 / sqrt(d).
        groups: (examples, tokens of each), ascending by tokens.

    Returns:
        [S, N, H, d].
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    buckets, dtype = _buckets(groups), _dtype(query)
    sizes = [bucket.end - bucket.begin for bucket in buckets]
    # split, not sliced: its gradient is put together once and not added up bucket by bucket
    parts = [torch.split(t.to(dtype).transpose(1, 2), sizes, dim=1) for t in (query * scale, key, value)]
    wrote = [_attend(bucket, *own) for bucket, *own in zip(buckets, *parts, strict=True)]
    return torch.cat(wrote, dim=1)


def _attend(bucket: Bucket, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """[S, tokens of the bucket, heads, d] each, gives [S, tokens, H, d]."""
    rows, heads = len(query), query.shape[2]

    def padded(t: torch.Tensor) -> torch.Tensor:
        if bucket.padded is not None:
            t = t.index_select(1, bucket.padded)
        return t.reshape(rows * bucket.examples, bucket.width, *t.shape[2:]).transpose(1, 2)

    q, k, v = padded(query), padded(key), padded(value)
    each, width = len(q), bucket.width
    # heads that share keys lie one below the other, so that each product has no copies of these
    q = q.reshape(each, k.shape[1], -1, q.shape[-1])
    scores = (q @ k.transpose(-1, -2)).view(each, heads, width, width) + _later(width, q.dtype)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    out = (weights.view(*q.shape[:3], width) @ v).view(each, heads, width, -1).transpose(1, 2)
    out = out.reshape(rows, bucket.examples * width, heads, -1)
    return out if bucket.places is None else out.index_select(1, bucket.places)


@lru_cache(maxsize=LONGEST)
def _later(width: int, dtype: torch.dtype) -> torch.Tensor:
    """Minus infinity for the tokens that come after each, [width, width]."""
    with torch.inference_mode(mode=False):  # it is kept, for training too
        return torch.full((width, width), -torch.inf, dtype=dtype).triu(1)


@lru_cache(maxsize=8)
def _buckets(groups: tuple[tuple[int, int], ...]) -> tuple[Bucket, ...]:
    with torch.inference_mode(mode=False):
        return tuple(_cut(groups))


def _cut(groups: tuple[tuple[int, int], ...]) -> Iterator[Bucket]:
    """Buckets of neighbouring groups, from the longest down."""
    found: list[list[tuple[int, int]]] = []
    for group in reversed(groups):
        if found and group[1] >= SHARE * found[-1][0][1]:
            found[-1].append(group)
        else:
            found.append([group])
    begin = 0
    for own in reversed(found):
        lengths = np.repeat([length for _, length in reversed(own)], [count for count, _ in reversed(own)])
        width, tokens = int(lengths[-1]), int(lengths.sum())
        inside = np.arange(width) < lengths[:, None]
        padded = places = None
        if len(own) > 1:
            places = torch.from_numpy(np.flatnonzero(inside))
            first = (lengths.cumsum() - lengths)[:, None]  # what pads an example is its own first token
            padded = torch.from_numpy(np.where(inside, first + np.arange(width), first).ravel())
        yield Bucket(begin, begin + tokens, len(lengths), width, padded, places)
        begin += tokens
