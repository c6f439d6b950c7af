import os

import pytest

from hf_lgt.utils import threads
from hf_lgt.utils.threads import available_cores, chosen_threads

LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}
"""what `accelerate launch` sets"""


@pytest.fixture(autouse=True)
def six_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        (None, {}, 6),
        (None, LAUNCHED, 6),
        (None, {"TORCHELASTIC_RUN_ID": "x", "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, 3),
        (None, {**LAUNCHED, "WORLD_SIZE": "4"}, 1),
        (None, {**LAUNCHED, "LOCAL_WORLD_SIZE": "100"}, 1),
        (None, {**LAUNCHED, "LOCAL_WORLD_SIZE": "many"}, 6),
        (None, {**LAUNCHED, "SLURM_CPUS_PER_TASK": "4"}, 4),
        (None, {"OMP_NUM_THREADS": "1"}, None),
        (None, {**LAUNCHED, "OMP_NUM_THREADS": "3"}, None),
        (None, {**LAUNCHED, "MKL_NUM_THREADS": "1"}, None),
        (2, LAUNCHED, 2),
        (9, {"OMP_NUM_THREADS": "1"}, 9),
    ],
)
def test_all_cores_are_taken_unless_somebody_said_otherwise(asked, environment, expected):
    assert chosen_threads(asked, environment) == expected


@pytest.mark.parametrize(
    ("given", "expected"), [("4", 4), ("64", 6), ("0", 6), ("-1", 6), ("many", 6), ("", 6)]
)
def test_a_cluster_may_give_fewer_cores_than_there_are(given, expected):
    assert available_cores({"SLURM_CPUS_PER_TASK": given}) == expected


def test_the_number_is_set_and_logged(monkeypatch, caplog):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    try:
        threads.use_threads(2)
        assert torch.get_num_threads() == 2
        with caplog.at_level("INFO"):
            threads.log_threads()
        assert caplog.messages == ["threads: 2 of 6 cores (--threads N sets another number)"]
    finally:
        torch.set_num_threads(before)
