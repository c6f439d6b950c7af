"""Does the target, beyond its training length, need the heads that its auxiliaries need there?

The k heads that the auxiliaries need most at the long lengths are ablated together, and the target is
scored there; as a control, as many heads of the same layers are.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np

from data_builders.sampling import stream
from hf_lgt.analysis.ablation import AblationMap, head_means, score, score_without
from hf_lgt.data.batching import Batch
from hf_lgt.models.heads import Heads, find_heads

HeadSet: TypeAlias = tuple[tuple[int, int], ...]
"""(layer, head) of each, in ascending order"""


@dataclass(frozen=True)
class Necessity:
    """What the target loses at the long lengths without some heads."""

    chosen: HeadSet
    """that the auxiliaries need most"""
    exact_match: float
    """of the target with all heads, mean over the long lengths"""
    lost: float
    """without the chosen heads"""
    lost_matched: tuple[float, ...]
    """without as many heads of the same layers, one of each set"""

    @property
    def effect(self) -> float:
        """What is lost more than with the matched sets, on the mean."""
        return self.lost - fmean(self.lost_matched)

    @property
    def p(self) -> float:
        """Share of sets, the chosen one among them, that cost as much: one-sided, at least 1/(1 + sets)."""
        return (1 + sum(own >= self.lost for own in self.lost_matched)) / (1 + len(self.lost_matched))


def most_needed(maps: Sequence[AblationMap], k: int) -> HeadSet:
    """The k heads whose ablation costs most exact match, the mean over maps; ties by token accuracy.

    Args:
        maps: of one model, as of several auxiliaries and lengths.
        k: how many.

    Raises:
        ValueError: the model has no more heads than that, so that none would be left to compare with.
    """
    exact = np.mean([m.exact_lost for m in maps], axis=0)
    tokens = np.mean([m.tokens_lost for m in maps], axis=0)
    if not 1 <= k < exact.size:
        raise ValueError(f"k is {k}; it must be at least 1 and less than the model's {exact.size} heads")
    order = np.lexsort((-tokens.ravel(), -exact.ravel()))[:k]
    return tuple(sorted((int(i) // exact.shape[1], int(i) % exact.shape[1]) for i in order))


def matched_sets(heads: Heads, chosen: HeadSet, most: int, seed: int = 0) -> list[HeadSet]:
    """Other sets of as many heads in each layer.

    Args:
        heads: of the model.
        chosen: the set to match, which is not among them.
        most: sets at most; all there are where these are fewer, else drawn without repetition.
        seed: draws them.

    Returns:
        As many sets as there are; none where all heads of the layers are chosen.
    """
    per_layer = Counter(layer for layer, _ in chosen)
    total = math.prod(math.comb(heads.count, count) for count in per_layer.values()) - 1
    if total <= most:
        each = [
            [[(layer, head) for head in own] for own in itertools.combinations(range(heads.count), count)]
            for layer, count in sorted(per_layer.items())
        ]
        sets = {tuple(itertools.chain(*parts)) for parts in itertools.product(*each)}
        return sorted(sets - {chosen})
    rng, found = stream(seed, "matched heads", len(chosen)), set[HeadSet]()
    while len(found) < most:
        drawn = [
            (layer, int(head))
            for layer, count in sorted(per_layer.items())
            for head in np.sort(rng.choice(heads.count, count, replace=False))
        ]
        if tuple(drawn) != chosen:
            found.add(tuple(drawn))
    return sorted(found)


def necessity(
    model: Any, targets: Sequence[Batch], chosen: HeadSet, *, most: int = 64, batch_tokens: int = 65_536
) -> Necessity:
    """Ablate the chosen heads, and matched ones, and score the target.

    Args:
        model: a causal language model whose family `hf_lgt.models.heads` knows.
        targets: the target's test examples at each long length.
        chosen: the heads, as of `most_needed`.
        most: matched sets at most.
        batch_tokens: tokens a pass.

    Raises:
        ValueError: there is no other set to compare with.
    """
    heads = find_heads(model)
    others = matched_sets(heads, chosen, most)
    if not others:
        raise ValueError("all heads of these layers are chosen: there is no matched set to compare with")
    means = [head_means(model, batch, batch_tokens=batch_tokens) for batch in targets]
    whole = fmean(score(model, batch, batch_tokens=batch_tokens)[0] for batch in targets)

    def lost(own: HeadSet) -> float:
        left = fmean(
            score_without(model, batch, own, means=mean, batch_tokens=batch_tokens)[0]
            for batch, mean in zip(targets, means, strict=True)
        )
        return whole - left

    return Necessity(chosen, whole, lost(chosen), tuple(map(lost, others)))
