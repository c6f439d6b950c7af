"""Several arms, over several seeds and perhaps several pretraining checkpoints: plan, run, collect.

A comparison is a YAML file that names its arms, each a config file beside it::

    name: demo
    arms: [transfer.yaml, target_alone.yaml, control.yaml]
    seeds: [0, 1, 2, 3, 4]

With ``checkpoints`` every arm is trained from each of them, see `hf_lgt.comparison.checkpoints`.
"""

from hf_lgt.comparison.arms import ArmResult, collect
from hf_lgt.comparison.checkpoints import Checkpoint, CheckpointList, choose
from hf_lgt.comparison.planning import Comparison, Planned, load_comparison, plan, seed_faults
from hf_lgt.comparison.running import check_checkpoints, check_data, last_error, run_all, usual_jobs
from hf_lgt.comparison.sweeps import CheckpointResult, Point, Sweep, collect_checkpoints, sweeps

__all__ = [
    "ArmResult",
    "Checkpoint",
    "CheckpointList",
    "CheckpointResult",
    "Comparison",
    "Planned",
    "Point",
    "Sweep",
    "check_checkpoints",
    "check_data",
    "choose",
    "collect",
    "collect_checkpoints",
    "last_error",
    "load_comparison",
    "plan",
    "run_all",
    "seed_faults",
    "sweeps",
    "usual_jobs",
]
