"""How processes divide a training: what `accelerate launch` asks for, set up or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import (
    DistributedType,
    DynamoBackend,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    ProjectConfiguration,
    TorchDynamoPlugin,
)
from transformers.utils import logging

from data_builders.redaction import redact
from hf_lgt.config.load import Trained
from hf_lgt.utils.errors import ConfigError, TrainingError
from hf_lgt.utils.variables import blamed, launch_faults

MULTI_CPU, FSDP = DistributedType.MULTI_CPU, DistributedType.FSDP


def make_accelerator(config: Trained) -> Accelerator:
    """An accelerator for this config, as the processes were launched; no bars of transformers from here on.

    Raises:
        ConfigError: the config, or the layout, does not suit this machine.
    """
    if faults := launch_faults():
        raise ConfigError(faults)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of the "writing model shards" kind
    _forget_earlier_runs()
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        accelerator = _accelerator(config)
    except (ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        # an environment variable of a launcher that cannot be read
        raise ConfigError([blamed(redact(" ".join(str(error).split()))[:300])]) from None
    _shard_on_cpus(accelerator)
    faults = _layout_faults(accelerator, compiled=config.train.compile)
    if launched > accelerator.num_processes:
        # each would take itself for the only one
        faults.append(
            f"accelerate: {launched} processes were launched that do not see each other; on CPUs set "
            "ACCELERATE_USE_CPU=1, and see recipes/accelerate for configs of every layout"
        )
    if config.train.batch_size % accelerator.num_processes:
        faults.append(
            f"train.batch_size: {config.train.batch_size} is no multiple of the "
            f"{accelerator.num_processes} processes"
        )
    if config.train.precision == "fp16" and accelerator.device.type == "cpu":
        faults.append("train.precision: 'fp16' needs a GPU; on a CPU use 'no' or 'bf16'")
    if faults:
        raise ConfigError(faults)
    if config.train.compile:
        _try_compiler(accelerator.device)
    return accelerator


def _try_compiler(device: torch.device) -> None:
    """Compile a sum, so that a compiler that does not work is found before anything is written.

    Raises:
        ConfigError: it does not.
    """
    try:
        with compiling():
            torch.compile(lambda x: x * 2 + 1)(torch.ones(3, device=device))
    except TrainingError as error:
        raise ConfigError([str(error)]) from None


@contextmanager
def compiling() -> Iterator[None]:
    """Turns what torch's compiler raises into one message.

    Raises:
        TrainingError: nothing could be compiled.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).split("\n\n")[0].split())[:300]
        raise TrainingError(
            f"train.compile: torch.compile failed ({reason}); install a C++ compiler that works, name it by "
            "the environment variable CXX, or set train.compile to false"
        ) from None


def _forget_earlier_runs() -> None:
    """Let a second run of this process ask for another precision than the first.

    Accelerate keeps it in a state that all its accelerators share, refuses another one and has no public
    way to begin anew. This is the only private name of Accelerate in use.
    """
    AcceleratorState._reset_state()


def _accelerator(config: Trained) -> Accelerator:
    return Accelerator(
        cpu=_must_use_cpu(),
        mixed_precision=config.train.precision,
        # both would be read from the environment, and change the loss and the model
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_plugin=TorchDynamoPlugin(DynamoBackend.NO, "default", False, use_regional_compilation=False),
        log_with=list(config.train.trackers) or None,
        project_config=ProjectConfiguration(
            project_dir=str(config.run_dir), logging_dir=str(config.run_dir / "trackers")
        ),
    )


def _must_use_cpu() -> bool:
    """Whether several processes share CPUs, which Accelerate must know.

    Without a GPU it would else leave each of them to itself: all would train the same run.
    """
    launched = int(os.environ.get("LOCAL_RANK", "-1")) >= 0
    return launched and not torch.accelerator.is_available()


def _shard_on_cpus(accelerator: Accelerator) -> None:
    """Let FSDP work among CPU processes as among GPUs.

    Accelerate leaves its setting aside there, and would give each process all the weights. No argument asks
    for it, so it is set on the attributes that the states document.
    """
    wanted = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    known = hasattr(accelerator.state, "fsdp_plugin")  # not so for a second run in these processes either
    if not wanted or known or accelerator.distributed_type not in (MULTI_CPU, FSDP):
        return
    plugin = FullyShardedDataParallelPlugin()
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    for state in (PartialState(), accelerator.state):
        state.distributed_type = FSDP
    accelerator.state.fsdp_plugin = plugin


def _layout_faults(accelerator: Accelerator, *, compiled: bool) -> list[str]:
    """What is wrong with how Accelerate is to divide a training.

    Args:
        accelerator: as launched.
        compiled: whether the model is to be compiled.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        return [f"accelerate: {kind.value} is not supported; recipes/accelerate has configs that are"]
    if kind != FSDP:
        return []
    if not accelerator.is_fsdp2:
        return ["accelerate: FSDP version 1 is not supported; set fsdp_version: 2 (see recipes/accelerate)"]
    return ["train.compile: is not for FSDP"] if compiled else []


def flat_settings(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``section.key``, for trackers that take plain values only."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, (int, float, str, bool))
            flat[prefix + key] = value if plain else json.dumps(value)
    return flat
