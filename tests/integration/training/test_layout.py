import json

import pytest
import torch

from hf_lgt import ConfigError, train
from hf_lgt.utils.distributed import LOST, told_of_others
from hf_lgt.utils.variables import launch_faults
from tests.conftest import ROOT, TINY
from tests.support.launching import free_port


def in_a_launch(folder, monkeypatch, work, **settings):
    """What `work(make)` gives in a process as `accelerate launch` starts it, its only one, on a CPU."""
    from accelerate.state import AcceleratorState, PartialState

    from hf_lgt import ConfigError, load_config
    from hf_lgt.training.accelerator import make_accelerator

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


def test_what_is_not_supported_is_reported(tmp_path, monkeypatch):
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
def test_errors_between_processes_are_reported_for_what_they_are(error, told):
    found = told_of_others(error)
    assert found is None if told is None else told in found


def test_variables_that_the_config_has_a_key_for_change_nothing(tiny, monkeypatch):
    """Accelerate would divide the loss, so that another gradient is clipped, and compile the model."""
    steps = ("train.steps=2", "train.log_every=1", "train.eval_every=null", "train.save_every=null")
    plain = train(tiny(*steps, "name=plain"), progress=False).run_dir
    for name, value in {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "8",
        "ACCELERATE_DYNAMO_BACKEND": "eager",
        "ACCELERATE_DYNAMO_USE_FULLGRAPH": "maybe",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    again = train(tiny(*steps, "name=again"), progress=False).run_dir
    weights = "model/model.safetensors"
    assert (again / weights).read_bytes() == (plain / weights).read_bytes()
    assert json.loads((again / "environment.json").read_text())["variables"] == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed is not supported"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "Megatron-LM is not supported"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "1", "are not supported"),
        ("ACCELERATE_DEBUG_MODE", "abc", "abc"),
        ("ACCELERATE_USE_CPU", "perhaps", "perhaps"),
        ("NVIDIA_TF32_OVERRIDE", "1", "unset it"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16", "unset it"),
        ("WORLD_SIZE", "two", "to an integer"),
    ],
)
def test_variables_that_would_change_the_numbers_are_refused_by_name(tiny, monkeypatch, name, value, reason):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv(name, value)
    config = tiny()
    with pytest.raises(ConfigError) as caught:
        train(config, progress=False)
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(f"environment variable {name}={value!r}: ")
    assert reason in caught.value.faults[0]
    assert not config.run_dir.exists()


@pytest.mark.parametrize("value", ["0", "false", "STRICT", ""])
def test_variables_that_change_nothing_are_fine(value):
    assert launch_faults({"ONEDNN_DEFAULT_FPMATH_MODE": value, "FSDP_OFFLOAD_PARAMS": "true"}) == []
