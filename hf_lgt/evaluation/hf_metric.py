"""Exact match by length as an `evaluate.Metric`: offline, a thin wrapper of this package's functions.

Importing `evaluate` takes seconds; nothing else of `hf_lgt` does it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import datasets
import evaluate

from hf_lgt.evaluation.metrics import exact_match, wilson_interval

_DESCRIPTION = "Exact match for each length, with a 95 % Wilson interval."
_INPUTS = """
Args:
    predictions (list of str): what the model wrote.
    references (list of str): what it should have written.
    lengths (list of int): length of each example.
Returns:
    exact_match (float): over all examples.
    by_length (dict): length -> {n, exact_match, ci_low, ci_high}.
"""


class LengthExactMatch(evaluate.Metric):  # type: ignore[misc]
    """``LengthExactMatch().compute(predictions=..., references=..., lengths=...)``."""

    def __init__(self, **kwargs: Any) -> None:
        # in memory: no cache files and no locks between processes
        super().__init__(**{"keep_in_memory": True, **kwargs})

    def _info(self) -> evaluate.MetricInfo:
        text, number = datasets.Value("string"), datasets.Value("int32")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text, "lengths": number}),
        )

    def _compute(self, predictions: list[str], references: list[str], lengths: list[int]) -> dict[str, Any]:
        groups: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for prediction, reference, length in zip(predictions, references, lengths, strict=True):
            groups[length].append((prediction, reference))
        by_length = {}
        for length, pairs in sorted(groups.items()):
            share = exact_match([p for p, _ in pairs], [r for _, r in pairs])
            low, high = wilson_interval(round(share * len(pairs)), len(pairs))
            by_length[length] = {"n": len(pairs), "exact_match": share, "ci_low": low, "ci_high": high}
        return {"exact_match": exact_match(predictions, references), "by_length": by_length}
