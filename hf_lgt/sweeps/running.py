"""The runs of a sweep on this machine, or handed to Slurm; what is finished is never run again."""

from __future__ import annotations

from collections.abc import Sequence

from hf_lgt import yaml12
from hf_lgt.comparison.manifest import write_manifest
from hf_lgt.files import write_text
from hf_lgt.folders import is_finished
from hf_lgt.sweeps.expand import CONFIGS, SweepRun, distinct, manifest_of
from hf_lgt.sweeps.spec import SweepSpec

LOGS = "logs"


def todo(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """The runs that are not finished, each once."""
    return [run for run in distinct(runs) if not is_finished(run.run_dir)]


def prepare(spec: SweepSpec, runs: Sequence[SweepRun]) -> None:
    """Write the manifest and the configs of a sweep.

    What is there already and says the same is not touched.
    """
    folder = runs[0].folder
    (folder / CONFIGS).mkdir(parents=True, exist_ok=True)
    for run in distinct(runs):
        text = yaml12.dump(run.config.to_dict())
        # the name says what it holds, but for where the run lies: the folder may have been moved
        if not run.config_file.is_file() or run.config_file.read_text(encoding="utf-8") != text:
            write_text(run.config_file, text)
    write_manifest(manifest_of(spec, runs), folder)
