"""The runs of a sweep on this machine, or handed to Slurm; what is finished is never run again."""

from __future__ import annotations

from collections.abc import Sequence

from hf_lgt.experiments.bundles import write_config
from hf_lgt.experiments.expand import SweepRun, distinct, manifest_of
from hf_lgt.experiments.manifest import write_manifest
from hf_lgt.experiments.spec import SweepSpec


def todo(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """The runs that are not finished, each once."""
    return [run for run in distinct(runs) if not run.finished]


def prepare(spec: SweepSpec, runs: Sequence[SweepRun]) -> None:
    """Write the manifest and the configs of a sweep.

    What is there already and says the same is not touched.
    """
    folder = runs[0].folder
    for run in distinct(runs):
        # the name says what it holds, but for where the run lies: the folder may have been moved
        write_config(run.config_file, run.config)
    write_manifest(manifest_of(spec, runs), folder)
