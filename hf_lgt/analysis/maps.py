"""Maps of one model: for each task and length, what the task needs of each head and where each head looks.

Two tasks are compared by how far their maps differ (the paper's figures 18 and 19).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_lgt.analysis.ablation import AblationMap, ablation_map
from hf_lgt.analysis.attention import attention_difference, attention_means
from hf_lgt.data.eval_sets import EvalCell, TestSets

MEASURES = {
    "attention": "attention-matrix difference",
    "ablation": "ablation-map difference",
    "ablation_tokens": "ablation-map difference, by tokens",
}
"""how far two tasks' maps differ: name -> what it is called"""


@dataclass(frozen=True)
class TaskMaps:
    """What one task needs of each head at one length, and where each looks."""

    cell: EvalCell
    examples: int
    """B of the test set"""
    ablation: AblationMap
    attention: NDArray[np.float32]
    """[L, H, W, W], see `attention_means`"""


def task_maps(model: Any, tests: TestSets, cell: EvalCell, *, batch_tokens: int = 65_536) -> TaskMaps:
    """The maps of one task at one length.

    Args:
        model: a causal language model whose family `hf_lgt.models.heads` knows.
        tests: its test sets.
        cell: one of theirs.
        batch_tokens: tokens a pass.

    Raises:
        ConfigError: the model's family is not known.
    """
    batch = tests.examples(cell).batch
    return TaskMaps(
        cell,
        len(batch.lengths),
        ablation_map(model, batch, batch_tokens=batch_tokens),
        attention_means(model, batch, batch_tokens=batch_tokens // 4),
    )


def map_differences(target: TaskMaps, auxiliary: TaskMaps) -> dict[str, float]:
    """How far two tasks' maps differ, by each of `MEASURES`: means over the heads.

    The attention matrices' difference of a head is the sum over their entries, the ablation maps' the
    absolute difference of what the two tasks lose.
    """
    pairs = {
        "ablation": (target.ablation.exact_lost, auxiliary.ablation.exact_lost),
        "ablation_tokens": (target.ablation.tokens_lost, auxiliary.ablation.tokens_lost),
    }
    attention = attention_difference(target.attention, auxiliary.attention)
    return {
        "attention": float(attention.mean()),
        **{name: float(np.abs(a - b).mean()) for name, (a, b) in pairs.items()},
    }


def target_differences(maps: Sequence[TaskMaps]) -> Mapping[int, dict[str, float]]:
    """Length -> how far the first target's maps differ from its auxiliaries', the mean over these.

    Lengths at which there is no target or no auxiliary are left out.
    """
    found = {}
    for length in dict.fromkeys(own.cell.length for own in maps):
        here = [own for own in maps if own.cell.length == length]
        target = next((own for own in here if own.cell.role == "target"), None)
        others = [own for own in here if own.cell.role == "auxiliary"]
        if target is not None and others:
            each = [map_differences(target, other) for other in others]
            found[length] = {name: fmean(one[name] for one in each) for name in MEASURES}
    return found
