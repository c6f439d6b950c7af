"""What a sweep asks of Slurm: the keys of its ``slurm:`` mapping, checked before anything is written."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictFloat, StrictInt, StrictStr
from pydantic.dataclasses import dataclass

from data_builders.texts import CONTROLS, line
from hf_lgt.config.load import ConfigSpec, from_dict
from hf_lgt.config.schema import Positive, short
from hf_lgt.config.validate_model import Fault
from hf_lgt.utils.errors import ConfigError

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
GRACE_SECONDS = 120
"""between the signal to write checkpoints and the end of a task's time"""
COMMAND_SECONDS = 60.0
"""that a command of Slurm may take"""


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class SlurmSettings:
    """The keys of ``slurm:`` in a sweep's file."""

    partition: StrictStr | None = Field(default=None, description="partition; null: the cluster's default")
    account: StrictStr | None = Field(default=None, description="account that is charged")
    qos: StrictStr | None = Field(default=None, description="quality of service")
    constraint: StrictStr | None = Field(default=None, description="features that a node must have")
    minutes: Positive = Field(
        default=240,
        description="time limit of a task; it is queued again and resumes where its runs are not finished",
    )
    cpus: Positive = Field(default=2, description="cores of a task")
    gpus: Annotated[StrictInt, Field(ge=0, le=1)] = Field(
        default=0, description="GPUs of a task, which all its runs share; a run trains on one"
    )
    memory_gb: StrictFloat | None = Field(
        default=None, gt=0, description="memory of a task in GB; null: the cluster's default"
    )
    runs_per_job: Positive = Field(default=1, description="runs that a task does")
    jobs_at_a_time: Positive = Field(default=1, description="runs that a task does at the same time")
    parallel: Positive = Field(default=256, description="tasks of a sweep that run at the same time")
    setup: list[StrictStr] = Field(
        default_factory=list, description="lines of shell before a task, as [module load cuda]"
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further options of sbatch, as {exclude: node7, reservation: mine}"
    )

    @property
    def options(self) -> dict[str, str | int | bool]:
        """The options of sbatch that say what a task gets, without their leading ``--``."""
        own: dict[str, str | int | bool | None] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "time": self.minutes,
            "cpus-per-task": self.cpus,
            "gpus-per-node": self.gpus or None,
            "mem": None if self.memory_gb is None else f"{max(1, round(self.memory_gb * 1024))}M",
        }
        return {**{key: value for key, value in own.items() if value is not None}, **self.extra}

    @property
    def grace(self) -> int:
        """Seconds between the signal to write checkpoints and the end of a task's time."""
        return min(GRACE_SECONDS, self.minutes * 60 // 4)


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class _File:
    """The part of a sweep's file that is read here."""

    slurm: SlurmSettings = Field(default_factory=SlurmSettings)


_TEXTS = ("partition", "account", "qos", "constraint")
_OWN = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "time": "minutes",
    "cpus-per-task": "cpus",
    "mem": "memory_gb",
}
"""option of sbatch -> the key that sets it"""
_FIXED = (
    "array", "batch", "chdir", "error", "input", "job-name", "no-requeue", "nodes", "ntasks",
    "ntasks-per-node", "open-mode", "output", "parsable", "requeue", "signal", "test-only", "wait", "wrap",
)  # fmt: skip
"""options of sbatch that a sweep sets itself, or that would take away what it goes by"""


def _cross_faults(file: _File) -> Iterator[Fault]:
    settings = file.slurm
    for key in _TEXTS:
        value = getattr(settings, key)
        if value is not None and (not value.strip() or CONTROLS.search(value)):
            yield (f"slurm.{key}",), f"slurm.{key}: {short(value)} must be printable text that is not empty"
    for i, text in enumerate(settings.setup):
        if CONTROLS.search(text.replace("\t", "")):
            yield ("slurm.setup",), f"slurm.setup.{i}: {short(text)} must be one line of shell"
    if settings.jobs_at_a_time > settings.runs_per_job:
        yield (
            ("slurm.jobs_at_a_time", "slurm.runs_per_job"),
            f"slurm.jobs_at_a_time: {settings.jobs_at_a_time} is more than slurm.runs_per_job, "
            f"{settings.runs_per_job}: a task has no more runs",
        )
    for key, value in settings.extra.items():
        if told := _extra_fault(key, value):
            yield ("slurm.extra",), f"slurm.extra.{key}: {told}"


def _extra_fault(key: str, value: Any) -> str | None:
    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", key):
        return "must be the long name of an option of sbatch without its leading --, as mail-type"
    if key in _OWN:
        return f"has a key of its own, slurm.{_OWN[key]}"
    if key in _FIXED:
        return "is set by the sweep itself; leave it out"
    if value is False or not isinstance(value, (str, int, float)):
        return f"{short(value)} must be a string, a number, or true for an option without a value"
    if isinstance(value, str) and (not value.strip() or CONTROLS.search(value)):
        return f"{short(value)} must be printable text that is not empty"
    return None


FORM: ConfigSpec[Any] = ConfigSpec(
    root=_File, sections={"slurm": SlurmSettings}, cross_faults=_cross_faults, required={}
)


def read_settings(given: Mapping[str, Any]) -> SlurmSettings:
    """The settings of a sweep's ``slurm:`` mapping.

    Raises:
        ConfigError: with every fault, each naming its key.
    """
    settings: SlurmSettings = from_dict(FORM, {"slurm": dict(given)}).slurm
    return settings


def check_slurm(given: Mapping[str, Any]) -> SlurmSettings:
    """Read the settings and find out whether jobs can be submitted with them here; writes nothing.

    Raises:
        ConfigError: with every fault, each naming its key or what is missing.
    """
    faults = []
    if importlib.util.find_spec("submitit") is None:
        faults.append(
            "--executor slurm: submitit is not installed; pip install 'hf-lgt[slurm]', or use "
            "--executor local"
        )
    if absent := [name for name in ("sbatch", "squeue", "srun", "scontrol") if shutil.which(name) is None]:
        faults.append(
            f"--executor slurm: {', '.join(absent)} cannot be found; call this where jobs are submitted, or "
            "use --executor local"
        )
    try:
        settings = read_settings(given)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from None
    if faults:
        raise ConfigError(faults)
    if told := sbatch_refusal(_test(settings)):
        raise ConfigError([told])
    return settings


def _test(settings: SlurmSettings) -> str:
    """What sbatch says against these settings, without submitting anything."""
    flags = [f"--{key}" if value is True else f"--{key}={value}" for key, value in settings.options.items()]
    try:
        done = subprocess.run(
            ["sbatch", "--test-only", *flags],
            input="#!/bin/bash\ntrue\n",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stderr if done.returncode else ""


_REFUSALS = {
    "partition": "invalid partition|partition.*(access|not available|not specified|inactive)",
    "account": "invalid account|account/partition",
    "qos": r"invalid qos|\bqos\b",
    "constraint": "invalid feature|feature specification",
    "minutes": "time limit",
    "gpus": r"generic resource|\bgres\b|\bgpus?\b",
    "memory_gb": r"\bmemory\b",
    "cpus": "cpu count|more processors",
    "cpus, slurm.gpus, slurm.memory_gb": "node configuration is not available",
    "extra": "unrecognized option|unknown option|ambiguous|invalid|^.?reservation",
}
"""key -> what sbatch says where its value cannot be; no type does, as submitit has one error for all"""


def sbatch_refusal(said: str) -> str | None:
    """The fault that an error of sbatch tells of, None where it is not one of the settings."""
    text = line(said.replace("sbatch: ", ""))
    for key, pattern in _REFUSALS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return f"slurm.{key}: sbatch refuses the settings: {text}"
    return None
