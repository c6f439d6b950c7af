"""Files of runs, comparisons and sweeps that are damaged, of another kind, or without an end."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from data_builders.reading import LARGEST, UnreadableFileError, beginning, end, read_bytes, read_json
from hf_lgt.config.load import load_config
from hf_lgt.utils.errors import ConfigError, RunError


@pytest.fixture(autouse=True)
def _no_hang():
    """Whatever waits for a pipe is ended; a device without an end would take minutes to fill the memory."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def be_pipe(path):
    os.mkfifo(path)


def be_device(path):
    path.symlink_to("/dev/zero")


def be_sparse(path):
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)


def be(content):
    return lambda path: path.write_bytes(content)


BAD = {
    "pipe": (be_pipe, "is a pipe or a device"),
    "device": (be_device, "is a pipe or a device"),
    "folder": (Path.mkdir, "is a folder"),
    "sparse": (be_sparse, "is larger than"),
    "not UTF-8": (be(b"\xff\xfe"), "is not UTF-8"),
    "not JSON": (be(b"{]"), "is not JSON"),
    "a list": (be(b"[1]"), "holds no JSON object"),
    "a number": (be(b"1" * 5000), "is not JSON"),
    "half a character": (be(b'{"a": {"b": ["\\uD800"]}}'), "no valid Unicode"),
    "deep": (be(b'{"a":' * 100_000), "nested too deeply"),
    "empty": (be(b""), "is not JSON"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_one_error_with_its_file_and_reason(tmp_path, kind):
    make, told = BAD[kind]
    make(tmp_path / "f")
    with pytest.raises(UnreadableFileError) as caught:
        read_json(tmp_path / "f")
    assert caught.value.filename == str(tmp_path / "f")
    assert told in caught.value.strerror


def test_a_name_that_no_file_can_have_is_unreadable():
    with pytest.raises(UnreadableFileError, match="is no path of a file"):
        read_bytes("a\0b")


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert read_bytes(tmp_path / "f", 3) == b"abc"
    with pytest.raises(UnreadableFileError, match="larger"):
        read_bytes(tmp_path / "f", 2)
    assert beginning(tmp_path / "f", 2) == b"ab"
    assert end(tmp_path / "f", 2) == b"bc"
    assert end(tmp_path / "f", 9) == b"abc"
    assert LARGEST > 1 << 20


def _run_config(folder):
    from hf_lgt.checkpointing.run_folder import RUN

    RUN.read_run(folder)


def _data(folder):
    from hf_lgt.checkpointing.run_folder import RUN, other_data_faults

    if faults := other_data_faults(folder, {"fingerprint": "x", "train_rows": 1, "path": "p"}, RUN):
        raise ConfigError(faults)


def _recorded(folder):
    from hf_lgt.checkpointing.run_folder import recorded

    assert recorded(folder / "none", "environment.json") == {}
    recorded(folder, "environment.json")


def _sweep(folder):
    from hf_lgt.experiments.spec import load_sweep

    load_sweep(folder / "config.yaml")


def _comparison(folder):
    from hf_lgt.experiments.spec import load_comparison

    load_comparison(folder / "config.yaml")


def _manifest(folder):
    from hf_lgt.experiments.manifest import read_manifest

    read_manifest(folder)


def _loaded(folder):
    from hf_lgt.experiments.checkpoint_series import _read_loaded

    _read_loaded(folder / "checkpoint.json")


def _related(folder):
    from hf_lgt.analysis.report.related import read_related

    read_related(folder)


def _jobs(folder):
    from hf_lgt.experiments.slurm.jobs import Jobs

    (folder / "slurm").mkdir()
    (folder / "jobs.json").rename(folder / "slurm" / "jobs.json")
    Jobs(folder)


def _records(folder):
    from hf_lgt.evaluation.records import read_records

    read_records(folder / "eval.jsonl")


def _kept(folder):
    from hf_lgt.utils.jsonl import kept_lines

    kept_lines(folder / "eval.jsonl", 1, 1)


def _validation(folder):
    from hf_lgt.pretraining.validation import read_measurements

    read_measurements(folder)


def _verified(folder):
    from hf_lgt.checkpointing.checkpoints import verify

    verify(folder)


def _state(folder):
    from hf_lgt.checkpointing.checkpoints import read_state

    read_state(folder)


def _marker(folder):
    from data_builders.corpus.marker import read_marker

    assert read_marker(folder) is None


def _pretraining(folder):
    from hf_lgt.models.resolve import ResolvedCheckpoint

    assert isinstance(ResolvedCheckpoint("x", None, None, folder, on_hub=False).pretraining, dict | None)


def _parameters(folder):
    from hf_lgt.experiments.report.trained import parameters

    (folder / "model").mkdir()
    (folder / "w.safetensors").rename(folder / "model" / "w.safetensors")
    assert parameters(folder) is None


def _revisions(folder):
    from hf_lgt.models.local_hub import list_revisions

    (folder / "refs").mkdir()
    (folder / "main").rename(folder / "refs" / "main")
    assert list_revisions(folder) == {}


def _last_error(folder):
    from hf_lgt.experiments.launch import last_error

    assert last_error(folder / "run.log").startswith("  ") or not (folder / "run.log").stat().st_size


READERS = {
    "config.yaml": [_run_config, lambda folder: load_config(folder / "config.yaml"), _sweep, _comparison],
    "data.json": [_data],
    "environment.json": [_recorded],
    "manifest.json": [_manifest, _verified],
    "checkpoint.json": [_loaded],
    "related.json": [_related],
    "jobs.json": [_jobs],
    "eval.jsonl": [_records, _kept],
    "validation.jsonl": [_validation],
    "state.json": [_state],
    "corpus.json": [_marker],
    "pretraining.json": [_pretraining],
    "w.safetensors": [_parameters],
    "main": [_revisions],
    "run.log": [_last_error],
}
WRONG = [{}, {"format": 1}, {"runs": 3}, {"format": 1, "runs": [{"id": []}], "axes": []},
         {"step": "1"}, {"step": 1, "logs": [1]}, {"step": True}, {"no": 1}, {"runs": [{"candidate": []}]},
         {"format": 1, "submissions": [[]]}, {"format": 1, "submissions": [{"name": [], "tasks": 1}]},
         {"step": 1, "tokens": 1, "validation_loss": None, "bits_per_byte": 1},
         {"step": 1, "tokens": 1, "validation_loss": "x", "bits_per_byte": 1},
         {"pretraining": [1]}, {"fingerprint": "x", "rows": 1, "files": {"a": 1}}]  # fmt: skip
CONTENTS = [make for make, _ in BAD.values()] + [be(json.dumps(data).encode() + b"\n") for data in WRONG]


@pytest.mark.parametrize(("name", "read"), [(name, read) for name, own in READERS.items() for read in own])
def test_no_reader_of_a_run_or_experiment_fails_with_anything_but_its_error(tmp_path, name, read):
    for number, make in enumerate(CONTENTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / name)
        with suppress(ConfigError, RunError):
            read(folder)
