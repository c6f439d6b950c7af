"""What a run ran on: versions, device, commit. Nothing secret."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from hf_lgt.utils.variables import kernel_variables

PACKAGES = ("hf-lgt", "torch", "transformers", "accelerate", "datasets", "tokenizers", "peft", "numpy")


def describe_environment(device: str, processes: int, layout: str = "NO", runs: int = 1) -> dict[str, Any]:
    """Plain data for ``environment.json``.

    Args:
        device: of this process.
        processes: that train together.
        layout: how they share the work out, as Accelerate names it: ``MULTI_GPU``, ``FSDP``, ...
        runs: that one process trains together, see `hf_lgt.training.stacked_trainer`.
    """
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _commit(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "processes": processes,
        "layout": layout,
        "runs_together": runs,
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "variables": kernel_variables(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of this source tree, with ``+changes`` where it was edited; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+changes" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10,
    )  # fmt: skip
    return done.stdout.strip()
