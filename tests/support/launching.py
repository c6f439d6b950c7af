"""Real launches of recipes/finetune.py by the configs of recipes/accelerate, on CPUs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

CONFIGS = ROOT / "recipes" / "accelerate"


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(layout: str, *flags: str, options: list[str], output: Path) -> subprocess.Popen[str]:
    """Begin a launch.

    Args:
        layout: name of the config for Accelerate.
        flags: override it.
        options: overrides of the run's config, as section.key=value.
        output: folder for runs; what is printed goes to files beside it.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(CONFIGS / f"{layout}.yaml"), "--gpu_ids", "all", *flags]
    command += [str(ROOT / "recipes" / "finetune.py")]
    command += [f"--{option}" for option in [*options, f"output_dir={output}"]]
    # without a GPU in sight, the configs for GPUs take CPUs
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("ACCELERATE_USE_CPU", None)
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{output}.out", "a") as out, open(f"{output}.err", "a") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, text=True, env=environment)


def launch(layout: str, *flags: str, options: list[str], output: Path) -> None:
    """A launch from beginning to end, which must go well."""
    with start(layout, *flags, options=options, output=output) as process:
        try:
            assert process.wait(timeout=300) == 0, Path(f"{output}.err").read_text()
        finally:
            process.kill()


def log(output: Path, name: str) -> list[dict[str, object]]:
    """The lines of a log of the run."""
    return [json.loads(line) for line in (output / "tiny/seed-0" / name).read_text().splitlines()]


def ranks(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """rank -> id of its process, of those that a launcher has started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                not folder.name.isdigit()
                or f"\nPPid:\t{launcher.pid}\n" not in (folder / "status").read_text()
            ):
                continue
            words = (folder / "environ").read_bytes().decode().split("\0")
            values = dict(word.split("=", 1) for word in words if "=" in word)
            if "RANK" in values:
                found[int(values["RANK"])] = int(folder.name)
        except OSError:  # ended meanwhile
            continue
    return found
