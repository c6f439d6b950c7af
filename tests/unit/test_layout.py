import json

import pytest
import torch

from hf_lgt.processes import LOST, told_of_others
from tests.conftest import ROOT, TINY
from tests.launching import free_port


def in_a_launch(folder, monkeypatch, work, **settings):
    """What `work(make)` gives in a process as `accelerate launch` starts it, its only one, on a CPU."""
    from accelerate.state import AcceleratorState, PartialState

    from hf_lgt import ConfigError, load_config
    from hf_lgt.layout import make_accelerator

    def make(*overrides):
        config = load_config(ROOT / "recipes/demo/transfer.yaml", [*TINY, f"output_dir={folder}", *overrides])
        try:
            made = make_accelerator(config)
        except ConfigError as error:
            return error.faults
        return [made.distributed_type.value, made.mixed_precision, made.num_processes]

    def one(rank):
        AcceleratorState._reset_state(reset_partial_state=True)
        (folder / "found.json").write_text(json.dumps(work(make)))
        PartialState().destroy_process_group()

    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "CUDA_VISIBLE_DEVICES": ""}
    for name, value in (place | settings).items():
        monkeypatch.setenv(name, value)
    # a process of its own, since Accelerate's state is that of a whole process; forked to be quick
    torch.multiprocessing.start_processes(one, nprocs=1, start_method="fork")
    return json.loads((folder / "found.json").read_text())


pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def test_a_launched_process_without_a_gpu_sees_the_others(tmp_path, monkeypatch):
    assert in_a_launch(tmp_path, monkeypatch, lambda make: make()) == ["MULTI_CPU", "no", 1]


def test_fsdp_works_on_cpus_for_each_run_of_a_process(tmp_path, monkeypatch):
    found = in_a_launch(
        tmp_path, monkeypatch, lambda make: [make(), make("train.precision=bf16"), make()], **FSDP2
    )
    assert found == [["FSDP", "no", 1], ["FSDP", "bf16", 1], ["FSDP", "no", 1]]


def test_what_is_not_supported_is_told(tmp_path, monkeypatch):
    found = in_a_launch(tmp_path, monkeypatch, lambda make: make("train.compile=true"), **FSDP2)
    assert found == ["train.compile: is not for FSDP"]
    one = {**FSDP2, "FSDP_VERSION": "1"}
    (fault,) = in_a_launch(tmp_path, monkeypatch, lambda make: make(), **one)
    assert "FSDP version 1 is not supported" in fault


def test_processes_that_do_not_see_each_other_are_refused(tmp_path, monkeypatch):
    (fault,) = in_a_launch(tmp_path, monkeypatch, lambda make: make(), WORLD_SIZE="2", LOCAL_RANK="-1")
    assert "2 processes were launched that do not see each other" in fault


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), LOST),
        (
            torch.distributed.DistBackendError("NCCL error: remote process exited or there was a network"),
            LOST,
        ),
        (torch.distributed.DistBackendError("Duplicate GPU detected"), "cannot work together: Duplicate GPU"),
        (
            torch.distributed.DistStoreError("Timed out, 1/2 clients joined"),
            "cannot work together: Timed out",
        ),
        (RuntimeError("shape mismatch"), None),
    ],
)
def test_errors_between_processes_are_told_for_what_they_are(error, told):
    found = told_of_others(error)
    assert found is None if told is None else told in found
