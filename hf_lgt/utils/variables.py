"""Environment variables that would change a run's numbers behind its config: refused by name, or recorded.

What Accelerate reads and the config has a key for is overruled, see `hf_lgt.training.accelerator`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

OFF = {"", "0", "false", "no", "off", "n", "f"}

ARITHMETIC = {
    "NVIDIA_TF32_OVERRIDE": "float32 is multiplied in TensorFloat-32",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "float32 is multiplied in TensorFloat-32",
    "ONEDNN_DEFAULT_FPMATH_MODE": "float32 is multiplied in another type",
    "DNNL_DEFAULT_FPMATH_MODE": "float32 is multiplied in another type",
    "XLA_USE_BF16": "float32 becomes bfloat16",
    "XLA_DOWNCAST_BF16": "float32 becomes bfloat16",
}
"""name -> what the libraries would compute, whatever train.precision says"""

LAUNCH = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed is not supported",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM is not supported",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context and sequence parallelism are not supported",
    "ACCELERATE_DOWNCAST_BF16": "train.precision decides",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "each process reads the weights itself; set it to false",
    "FSDP_ACTIVATION_CHECKPOINTING": "train.gradient_checkpointing decides; set it to false",
    "FSDP_OFFLOAD_PARAMS": "offloading to the CPU is not supported",
}
"""name -> why a training refuses it"""

KERNELS = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_MAX_CPU_ISA", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA",
    "TORCH_BLAS_PREFER_CUBLASLT", "TRANSFORMERS_SDPA_FORCE_GQA",
)  # fmt: skip
"""choose among kernels that differ in rounding, as another machine would; `environment.json` records them"""

INTEGERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def arithmetic_faults(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables under which the libraries compute in another precision than the config says."""
    neutral = {*OFF, "strict"}
    return [
        f"environment variable {name}={environment[name]!r}: {effect}, whatever the config says; unset it"
        for name, effect in ARITHMETIC.items()
        if environment.get(name, "").lower() not in neutral
    ]


def launch_faults(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables under which Accelerate would train in another way than the config says."""
    faults = arithmetic_faults(environment)
    for name, reason in LAUNCH.items():
        if name.startswith("FSDP_") and environment.get("ACCELERATE_USE_FSDP", "").lower() in OFF:
            continue  # not read
        if environment.get(name, "").lower() not in OFF:
            faults.append(f"environment variable {name}={environment[name]!r}: {reason}")
    for name in INTEGERS:
        value = environment.get(name)
        if value is not None and not value.removeprefix("-").isdecimal():
            faults.append(f"environment variable {name}={value!r}: a launcher sets it to an integer")
    return faults


def blamed(error: str, environment: Mapping[str, str] = os.environ) -> str:
    """What Accelerate raised, with the name of the variable whose value it quotes."""
    # no type says which variable: it raises plain errors of several kinds, and none names it
    prefixes = ("ACCELERATE_", "FSDP_", "MASTER_", "PARALLELISM_CONFIG_")
    for name, value in environment.items():
        if name.startswith(prefixes) and value and value in error:
            return f"environment variable {name}={value!r}: {error}"
    return f"accelerate: {error}"


def kernel_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Those of `KERNELS` that are set."""
    return {name: environment[name] for name in KERNELS if name in environment}
