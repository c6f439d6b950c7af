"""Attention of short examples by matrix products, against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from hf_lgt.models import packing
from hf_lgt.models.short_attention import LONGEST, SHARE, _buckets, attend, is_short


def drawn(rows, heads, groups, size, dtype):
    tokens = sum(count * length for count, length in groups)
    drawn = torch.randn(rows, heads, tokens, size, generator=torch.Generator().manual_seed(heads + rows))
    return drawn.to(dtype).requires_grad_()


def reference(query, key, value, scaling, groups):
    """Example by example."""
    out, at = [], 0
    for count, length in groups:
        for _ in range(count):
            q, k, v = (t[:, :, at : at + length] for t in (query, key, value))
            out.append(
                F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
            )
            at += length
    return torch.cat(out, dim=2).transpose(1, 2)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize(
    "groups", [((3, 5),), ((1, 1), (2, 3), (1, 4), (3, 9), (2, 10)), ((2, 7), (1, 8), (1, 30), (2, 41))]
)
def test_values_and_gradients_are_those_of_torch(rows, heads, shared, scaling, groups):
    ours, theirs = ([drawn(rows, n, groups, 8, torch.float64) for n in (heads, shared, shared)] for _ in "ab")
    one, other = attend(*ours, scaling, groups), reference(*theirs, scaling, groups)
    assert one.shape == other.shape
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)  # weights are taken in float32
    weights = torch.randn(one.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for out in (one, other):
        (out * weights).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


def test_buckets_hold_each_token_once_and_little_padding():
    groups = ((2, 3), (1, 4), (4, 10), (2, 13), (1, 14))
    found = _buckets(groups)
    assert [(b.examples, b.width) for b in found] == [(3, 4), (7, 14)]
    assert (found[0].begin, found[0].end, found[1].end) == (0, 10, 90)
    for bucket in found:
        tokens = bucket.end - bucket.begin
        assert torch.equal(bucket.padded[bucket.places], torch.arange(tokens))
        assert tokens >= SHARE * bucket.examples * bucket.width
    (even,) = _buckets(((5, 6),))
    assert even.padded is even.places is None


@pytest.mark.parametrize(
    ("dtype", "longest", "dropout", "taken"),
    [
        (torch.bfloat16, LONGEST, 0.0, True),
        (torch.bfloat16, LONGEST + 1, 0.0, False),
        (torch.bfloat16, 5, 0.1, False),
        (torch.float32, 5, 0.0, False),
    ],
)
def test_it_is_for_short_examples_in_bfloat16(dtype, longest, dropout, taken):
    groups = (1, 2), (1, longest)
    assert is_short(torch.empty(1, 1, 1, 1, dtype=dtype), groups, dropout) is taken
    with torch.autocast("cpu", torch.bfloat16):  # numbered positions leave queries in float32
        assert is_short(torch.empty(1, 1, 1, 1), groups, dropout) is (longest <= LONGEST and not dropout)


def test_a_packed_pass_takes_it_and_an_inference_before_does_no_harm(monkeypatch):
    calls = []
    monkeypatch.setattr(packing, "attend", lambda *given: calls.append(1) or attend(*given))
    groups = ((2, 11), (1, 12))
    q, k, v = (drawn(1, n, groups, 8, torch.bfloat16) for n in (4, 2, 2))
    token = packing._groups.set(groups)
    try:
        with torch.inference_mode():
            packing._attention(torch.nn.Module(), q, k, v, None)
        out, _ = packing._attention(torch.nn.Module(), q, k, v, None)
        out.float().sum().backward()
    finally:
        packing._groups.reset(token)
    assert len(calls) == 2
    torch.testing.assert_close(out, reference(q, k, v, None, groups), rtol=0.05, atol=0.05)
    assert q.grad.isfinite().all()
