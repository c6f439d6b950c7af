import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_lgt.utils import yaml
from tests.conftest import TINY
from tests.support.launching import CONFIGS, free_port, launch, log, ranks, start

STEPS = 48
"""so many that a launch can be stopped before the last"""
# mazes, whose mistakes are sorted by generating; fewer test examples than there are processes
OPTIONS = [
    *TINY,
    "mixture=[{task: shortest_path, role: target, lengths: [2, 4], options: {side: 4}}]",
    f"train.steps={STEPS}",
    "train.log_every=1",
    "train.save_every=8",
    "train.eval_every=16",
    "train.gradient_accumulation_steps=2",
    "eval.lengths=[3,6]",
    "eval.examples=3",
    "eval.mistakes=2",
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run that all others must equal: one process, by one_cpu.yaml."""
    output = tmp_path_factory.mktemp("launches") / "alone"
    launch("one_cpu", options=OPTIONS, output=output)
    return output


def environment(output):
    return json.loads((output / "tiny/seed-0/environment.json").read_text())


def assert_same(output, alone, processes, layout=None):
    """Logs, records and model are those of one process; so many processes wrote the end of them."""
    about = environment(output)
    assert about["processes"] == processes
    assert about["layout"] == (layout or ("NO" if processes == 1 else "MULTI_CPU"))
    mine, theirs = (log(folder, "train.jsonl") for folder in (output, alone))
    assert [line["step"] for line in mine] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in mine] == pytest.approx([line["loss"] for line in theirs], rel=1e-5)
    for key in ("learning_rate", "examples", "tokens"):
        assert [line[key] for line in mine] == [line[key] for line in theirs]
    records = log(alone, "eval.jsonl")
    assert {record["n"] for record in records} == {3}
    wrong = [round(3 * (1 - record["exact_match"])) for record in records[-4:]]
    assert [sum(record["mistakes"].values()) for record in records[-4:]] == [min(2, n) for n in wrong]
    assert max(wrong) == 3, "more than are looked at"
    assert log(output, "eval.jsonl") == records
    models = [load_file(folder / "tiny/seed-0/model/model.safetensors") for folder in (output, alone)]
    torch.testing.assert_close(*models, rtol=1e-4, atol=1e-6)


def test_four_processes_train_as_one_does(alone, tmp_path):
    launch("many_cpus", "--num_processes", "4", options=OPTIONS, output=tmp_path / "run")
    assert_same(tmp_path / "run", alone, 4)


def test_two_launches_are_two_nodes_of_one_run(alone, tmp_path):
    port = free_port()
    nodes = [
        start(
            "several_nodes", "--num_processes", "2", "--machine_rank", str(rank), "--main_process_port", port,
            options=OPTIONS, output=tmp_path / "run",
        )
        for rank in (0, 1)
    ]  # fmt: skip
    assert [node.wait(timeout=300) for node in nodes] == [0, 0], (tmp_path / "run.err").read_text()
    assert_same(tmp_path / "run", alone, 2)


def started(layout, output):
    """A launch that is past its first checkpoint."""
    process = start(layout, options=OPTIONS, output=output)
    end = time.monotonic() + 300
    while not (output / "tiny/seed-0/checkpoints/step-000008").is_dir():
        if time.monotonic() > end:
            process.kill()
        assert process.poll() is None, "ended before it could be stopped"
        time.sleep(0.01)
    return process


def resumed(output, layout, *flags):
    """A copy of a run that was stopped, brought to its end."""
    copy = output.parent / layout
    shutil.copytree(output, copy)
    launch(layout, *flags, options=OPTIONS, output=copy)
    return copy


def test_a_rank_that_dies_ends_the_launch_and_other_numbers_of_ranks_go_on(alone, tmp_path):
    process = started("ddp", tmp_path / "run")
    assert environment(tmp_path / "run")["layout"] == "MULTI_CPU"
    os.kill(ranks(process)[1], signal.SIGKILL)
    assert process.wait(timeout=30) != 0
    told = (tmp_path / "run.err").read_text()
    assert told.count("another process of this launch ended") == 1
    assert "hf_lgt/training/" not in told, "no traceback of ours"
    assert len(log(tmp_path / "run", "train.jsonl")) < STEPS
    assert_same(resumed(tmp_path / "run", "one_cpu"), alone, 1)
    # what a process had whole is divided among four
    assert_same(resumed(tmp_path / "run", "fsdp2", "--num_processes", "4"), alone, 4, "FSDP")


def test_weights_that_were_shared_out_go_on_in_one_process(alone, tmp_path):
    process = started("fsdp2", tmp_path / "run")
    assert environment(tmp_path / "run")["layout"] == "FSDP"
    process.terminate()
    assert process.wait(timeout=60) != 0
    assert "with a checkpoint; the same command resumes it" in (tmp_path / "run.err").read_text()
    assert len(log(tmp_path / "run", "train.jsonl")) < STEPS
    assert_same(resumed(tmp_path / "run", "one_gpu"), alone, 1)


def test_every_config_is_in_the_table_and_launched_above():
    source = Path(__file__).read_text(encoding="utf-8")
    readme = (CONFIGS / "README.md").read_text(encoding="utf-8")
    paths = sorted(CONFIGS.glob("*.yaml"))
    assert len(paths) == 6
    for path in paths:
        assert f'"{path.stem}"' in source
        assert f"[{path.name}]({path.name})" in readme
        # what a run's precision is stands in its own config
        assert yaml.load(path.read_text(encoding="utf-8"))["mixed_precision"] == "no"
