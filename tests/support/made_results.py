"""Results of runs, made without training and without files."""

from __future__ import annotations

import functools

from hf_lgt import load_config
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import Regimes
from hf_lgt.evaluation.measures import Summary
from hf_lgt.experiments.manifest import Entry
from hf_lgt.experiments.results import SeedResult
from tests.conftest import ROOT

DEMO = ROOT / "recipes" / "demo"
LONG = "mixture=[{task: capitalize_reverse, role: target, lengths: [1, 16], options: {alphabet: abcd}}]"


@functools.cache
def config_of(arm: str) -> Config:
    """Of an arm of the demo, of ``target_long``, else of its transfer arm."""
    if arm == "target_long":
        return load_config(DEMO / "target_alone.yaml", [LONG])
    return load_config(DEMO / f"{arm if (DEMO / f'{arm}.yaml').is_file() else 'transfer'}.yaml")


def made(arm, seed=0, reach=0.0, *, gap=None, changes=(), group="", point=None, checkpoint=""):
    """One run, right within its lengths.

    Args:
        arm: its name.
        seed: its seed.
        reach: exact match in the transfer region.
        gap: the generalization gap.
        changes: the transfer region's exact match in evaluations, from step 100 on.
        group: of the sweep.
        point: on its axes.
        checkpoint: its start.
    """
    regimes = Regimes(1.0, reach, 0.0)
    by_step = {100 + i: Regimes(1.0, value, 0.0) for i, value in enumerate(changes)}
    return SeedResult(
        entry=Entry(f"{arm}/seed-{seed}", group, arm, seed, f"../{arm}/seed-{seed}", point or {}, checkpoint),
        config=config_of(arm),
        records=(),
        summary=Summary(
            target="capitalize_reverse",
            target_length=8,
            auxiliary_length=16,
            curve={8: 1.0, 16: reach, 20: 0.0},
            regimes=regimes,
            effective_length_90=16 if reach >= 0.9 else 8,
            effective_length_50=16 if reach >= 0.5 else 8,
            errors=None,
            auxiliaries={"capitalize": 1.0, "reverse": 1.0},
            gap=gap,
            normalized_gap=None if gap is None else gap / 0.5,
            gap_reason=None if gap is not None else "there is none",
        ),
        auxiliary_curve={8: 1.0, 16: 1.0, 20: 0.5} if config_of(arm) is config_of("transfer") else {},
        by_step=by_step or {200: regimes},
    )
