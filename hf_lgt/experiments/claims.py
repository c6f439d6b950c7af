"""What an experiment is to show, said in its file before it runs::

    claims:
      - {more: {arm: transfer}, than: {arm: target_alone}}
      - {more: {arm: unrelated}, than: {arm: target_alone}, expected: false}

A claim is about every setting that ``more`` names and another one that differs from it as ``than`` says:
their keys are ``group``, ``arm``, ``checkpoint`` and the axes of the grid. What comes of it is judged by the
rule of `hf_lgt.experiments.verdicts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_builders.registry import unknown
from hf_lgt.config.schema import short

KEYS = ("more", "than", "measure", "expected")
PLACES = ("group", "arm", "checkpoint")
MEASURES = {
    "reach": "exact match in the transfer region",
    "gap": "the generalization gap",
    "instability": "the change of exact match between evaluations, in the transfer region beyond that on "
    "trained lengths",
}
"""name -> what is compared"""


@dataclass(frozen=True)
class Claim:
    """That one setting has more of something than another, or that it has not."""

    more: Mapping[str, str]
    """places of the settings that it is about"""
    than: Mapping[str, str]
    """where those that they are compared with differ; empty: with 0"""
    measure: str = "reach"
    expected: bool = True
    """false: the experiment is to show that there is no such difference"""

    @property
    def words(self) -> str:
        """``arm transfer above arm target_alone``."""
        first, second = (
            ", ".join(f"{key} {value}" for key, value in at.items()) for at in (self.more, self.than)
        )
        return f"{first or 'every setting'} {'above' if self.expected else 'not above'} {second or '0'}"


def read_claims(given: Any, axes: Sequence[str], faults: list[str]) -> tuple[Claim, ...]:
    """The claims of an experiment's file.

    Args:
        given: the value of its key ``claims``.
        axes: of its grid.
        faults: to which everything that is wrong is added.
    """
    if not isinstance(given, list):
        faults.append(
            f"claims: {short(given)} must be a list, as in [{{more: {{arm: a}}, than: {{arm: b}}}}]"
        )
        return ()
    claims = []
    for i, item in enumerate(given):
        told = [f"claims.{i}{fault}" for fault in _claim_faults(item, [*PLACES, *axes])]
        faults += told
        if not told:
            claims.append(Claim(**{"than": {}, **item}))
    return tuple(claims)


def unknown_values(claims: Sequence[Claim], known: Mapping[str, Sequence[str]]) -> list[str]:
    """Values of places that an experiment does not have, so that a claim would be about nothing.

    Args:
        claims: of the experiment.
        known: place -> its values; a place that is missing has only one.
    """
    return [
        f"claims.{i}.{key}: {unknown(place, value, known.get(place, ()))}"
        for i, claim in enumerate(claims)
        for key, at in (("more", claim.more), ("than", claim.than))
        for place, value in at.items()
        if value not in known.get(place, ())
    ]


def _claim_faults(item: Any, places: Sequence[str]) -> list[str]:
    if not isinstance(item, dict) or "more" not in item:
        return [f": {short(item)} must be a mapping with the keys more and than"]
    faults = [f": {unknown('key', key, KEYS)}" for key in item if key not in KEYS]
    for key in ("more", "than"):
        at = item.get(key, {})
        if not isinstance(at, dict) or not all(isinstance(value, str) for value in at.values()):
            faults.append(f".{key}: {short(at)} must map places to strings, as in {{arm: transfer}}")
        else:
            faults += [f".{key}: {unknown('place', place, places)}" for place in at if place not in places]
    if item.get("measure", "reach") not in list(MEASURES):  # what is no string may have no hash
        faults.append(f".measure: {unknown('measure', item['measure'], MEASURES)}")
    if not isinstance(item.get("expected", True), bool):
        faults.append(f".expected: {short(item['expected'])} must be a boolean")
    return faults
