"""The ``slurm:`` mapping of a sweep's file, read and checked without any Slurm."""

from __future__ import annotations

import pytest

from hf_lgt.experiments.slurm import settings as slurm_settings
from hf_lgt.experiments.slurm.settings import check_slurm, read_settings, sbatch_refusal
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT


def faults_of(given):
    with pytest.raises(ConfigError) as caught:
        read_settings(given)
    return caught.value.faults


def test_what_is_not_given_has_a_default():
    settings = read_settings({})
    assert settings.options == {"time": 240, "cpus-per-task": 2}
    assert (settings.runs_per_job, settings.jobs_at_a_time, settings.parallel) == (1, 1, 256)
    assert settings.grace == 120


def test_the_options_of_sbatch():
    given = {"partition": "gpu", "account": "lab", "qos": "low", "constraint": "a100|h100", "minutes": 4}
    given |= {"cpus": 8, "gpus": 1, "memory_gb": 1.5, "extra": {"exclude": "node[1-3]", "exclusive": True}}
    settings = read_settings(given)
    assert settings.options == {
        "partition": "gpu",
        "account": "lab",
        "qos": "low",
        "constraint": "a100|h100",
        "time": 4,
        "cpus-per-task": 8,
        "gpus-per-node": 1,
        "mem": "1536M",
        "exclude": "node[1-3]",
        "exclusive": True,
    }
    assert settings.grace == 60, "a short task is not told of its end at its beginning"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"partitoin": "gpu"}, "slurm.partitoin: unknown key 'partitoin'; did you mean 'partition'?"),
        ({"partition": 3}, "slurm.partition: 3 must be a string"),
        ({"partition": " "}, "slurm.partition: ' ' must be printable text that is not empty"),
        ({"account": "a\n#SBATCH --x"}, "slurm.account: 'a\\n#SBATCH --x' must be printable text"),
        ({"minutes": 0}, "slurm.minutes: 0 must be at least 1"),
        ({"minutes": "4:00:00"}, "slurm.minutes: '4:00:00' must be an integer"),
        ({"cpus": 1.5}, "slurm.cpus: 1.5 must be an integer"),
        ({"gpus": 2}, "slurm.gpus: 2 must be at most 1"),
        ({"memory_gb": 0.0}, "slurm.memory_gb: 0.0 must be above 0"),
        ({"runs_per_job": -1}, "slurm.runs_per_job: -1 must be at least 1"),
        (
            {"runs_per_job": 2, "jobs_at_a_time": 3},
            "slurm.jobs_at_a_time: 3 is more than slurm.runs_per_job, 2",
        ),
        ({"setup": "module load x"}, "slurm.setup: 'module load x' must be a list"),
        ({"setup": ["a\nb"]}, "slurm.setup.0: 'a\\nb' must be one line of shell"),
        ({"extra": ["a"]}, "slurm.extra: ['a'] must be a mapping of keys"),
        (
            {"extra": {"--exclude": "a"}},
            "slurm.extra.--exclude: must be the long name of an option of sbatch",
        ),
        ({"extra": {"time": 3}}, "slurm.extra.time: has a key of its own, slurm.minutes"),
        ({"extra": {"array": "0-3"}}, "slurm.extra.array: is set by the sweep itself"),
        ({"extra": {"exclusive": False}}, "slurm.extra.exclusive: false must be a string, a number, or true"),
        ({"extra": {"comment": "a\nb"}}, "slurm.extra.comment: 'a\\nb' must be printable text"),
    ],
)
def test_a_fault_names_its_key(given, told):
    assert len(faults := faults_of(given)) == 1
    assert faults[0].startswith(told)


def test_all_faults_are_reported_at_once():
    faults = faults_of({"gpu": 1, "minutes": -5, "runs_per_job": "x", "jobs_at_a_time": 4, "qos": ""})
    assert [fault.split(":")[0] for fault in sorted(faults)] == [
        "slurm.gpu",
        "slurm.minutes",
        "slurm.qos",
        "slurm.runs_per_job",
    ]


def test_a_secret_is_not_repeated():
    token = "hf_" + "a" * 34
    assert "holds a secret" in faults_of({"setup": [f"export HF_TOKEN={token}"]})[0]
    assert token not in faults_of({"setup": [f"export HF_TOKEN={token}"]})[0]


def test_what_is_not_installed_is_reported_with_the_faults(monkeypatch):
    monkeypatch.setattr(slurm_settings.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(slurm_settings.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        check_slurm({"gpus": 4})
    submitit, programs, gpus = caught.value.faults
    assert "submitit is not installed; pip install 'hf-lgt[slurm]', or use --executor local" in submitit
    assert "sbatch, squeue, srun, scontrol cannot be found" in programs
    assert programs.endswith("or use --executor local")
    assert gpus.startswith("slurm.gpus:")


def test_the_recipe_refuses_before_anything_is_written(tmp_path, monkeypatch, call_recipe):
    (tmp_path / "sweep.yaml").write_text(
        f"{{name: x, config: {ROOT}/recipes/demo/transfer.yaml, seeds: [0], slurm: {{gpuss: 1, minutes: 0}}}}"
    )
    monkeypatch.chdir(tmp_path)
    done = call_recipe("sweep.py", "sweep.yaml", "--executor", "slurm")
    assert done.returncode == 2
    assert "slurm.gpuss: unknown key 'gpuss'; did you mean 'gpus'?" in done.stderr
    assert "slurm.minutes: 0 must be at least 1" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("sbatch: error: invalid partition specified: x\nallocation failure: ...", "partition"),
        ("allocation failure: Invalid account or account/partition combination specified", "account"),
        ("allocation failure: Invalid qos specification", "qos"),
        ("allocation failure: Invalid feature specification", "constraint"),
        ("allocation failure: Requested time limit is invalid (missing or exceeds some limit)", "minutes"),
        ("sbatch: error: Invalid generic resource (gres) specification", "gpus"),
        ("allocation failure: Memory required by task is not available", "memory_gb"),
        ("allocation failure: Requested node configuration is not available", "cpus, slurm.gpus"),
        ("sbatch: unrecognized option '--blah=1'", "extra"),
        ("allocation failure: Invalid node name specified", "extra"),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller", None),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", None),
    ],
)
def test_what_sbatch_refuses_names_a_key(said, key):
    told = sbatch_refusal(said)
    assert told is None if key is None else told.startswith(f"slurm.{key}")
