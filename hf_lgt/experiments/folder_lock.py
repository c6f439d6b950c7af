"""The folder of a comparison or sweep: what may lie in its place, and one process that writes there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_lgt.experiments import manifest
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.run_lock import RunLock

LOGS = "logs"
_FOLDERS = (".", LOGS, "configs", "slurm")
_FILES = (
    manifest.FILE,
    *(f"{kind}.{end}" for kind in ("comparison", "sweep") for end in ("md", "json", "png")),
)


@contextmanager
def experiment_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of an experiment's folder, which need not exist.

    Args:
        folder: the experiment's own.

    Raises:
        ConfigError: another process writes there, or something lies where a file or folder is to be.
    """
    wrong = [path for name in _FOLDERS if os.path.lexists(path := folder / name) and not path.is_dir()]
    faults = [f"output_dir: {path} is no folder, which it should be; move it away" for path in wrong]
    wrong = [path for name in _FILES if (path := folder / name).is_dir()]
    faults += [f"output_dir: {path} is a folder, where a file should be; move it away" for path in wrong]
    if faults:
        raise ConfigError(faults)
    with RunLock.acquire(folder):
        yield
