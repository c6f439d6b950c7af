import json
import os
import subprocess
import sys

import pytest

from data_builders import Component, Mixture, build_corpus
from hf_lgt.utils import yaml
from tests.conftest import ROOT, TINY
from tests.support import checkpoints

LAUNCH = ["accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no", "--main_process_port", "0"]
SIDE = {"side": 4}


def train(output, processes, *overrides, config=None):
    """Train the tiny model, or that of a config, on some processes; gives the lines of its logs."""
    many = ["--multi_gpu"] if processes > 1 else []
    sizes = ["config=" + str(config)] if config else TINY
    options = [f"--{override}" for override in [*sizes, *overrides, f"output_dir={output}"]]
    done = subprocess.run(
        [sys.executable, "-m", *LAUNCH, *many, "--num_processes", str(processes),
         str(ROOT / "recipes/finetune.py"), *options],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [
        [json.loads(line) for line in (output / "tiny/seed-0" / name).read_text().splitlines()]
        for name in ("train.jsonl", "eval.jsonl")
    ]


def test_two_processes_read_the_rows_and_sort_the_mistakes_of_one(tmp_path):
    mixture = Mixture([Component("shortest_path", "target", (2, 4), options=SIDE)])
    corpus = build_corpus(mixture, 200, 7, range(3, 7), cache_dir=tmp_path / "cache")
    corpus.save_to_disk(tmp_path / "mazes")
    overrides = [
        "data.source=dataset",
        f"data.path={tmp_path / 'mazes'}",
        "mixture=[{task: shortest_path, role: target, lengths: [2, 4]}]",
        "eval.lengths=[3,6]",
        "eval.mistakes=3",
        "train.eval_every=null",
    ]
    one, two = (train(tmp_path / str(n), n, *overrides) for n in (1, 2))
    assert [r["loss"] for r in two[0]] == pytest.approx([r["loss"] for r in one[0]], rel=1e-5)
    # a model that has learned nothing is wrong throughout: 3 of 7 are looked at, however they are divided
    assert [sum(r["mistakes"].values()) for r in one[1]] == [3, 3, 3, 3]
    keys = ("task", "length", "n", "exact_match", "overlap", "mistakes")
    assert [[r[k] for k in keys] for r in two[1]] == [[r[k] for k in keys] for r in one[1]]


def test_two_processes_adapt_one_checkpoint_of_the_hub_as_one_does(hub, tmp_path):
    folder = checkpoints.write(tmp_path / "made", "pythia")
    repository = hub.store.create_repo("model", "org/two-ranks")
    repository.add({file.name: file.read_bytes() for file in folder.iterdir()})
    settings = checkpoints.settings("org/two-ranks", tmp_path, "peft.method=lora", "peft.rank=4")
    (tmp_path / "config.yaml").write_text(yaml.dump(settings))
    one, two = (train(tmp_path / str(n), n, config=tmp_path / "config.yaml") for n in (1, 2))
    assert [r["loss"] for r in two[0]] == pytest.approx([r["loss"] for r in one[0]], rel=1e-5)
    assert two[1][0]["step"] == 0, "evaluated before the first step too"
    assert [(r["step"], r["task"], r["length"], r["n"]) for r in two[1]] == [
        (r["step"], r["task"], r["length"], r["n"]) for r in one[1]
    ]
    loaded = json.loads((tmp_path / "2/tiny/seed-0/checkpoint.json").read_text())
    assert loaded["commit"] == repository.resolve("main").sha
    assert (tmp_path / "2/tiny/seed-0/adapter/adapter_model.safetensors").is_file()
    # the second run and the second process found everything in the cache
    assert hub.count("GET", r"model\.safetensors") == 1


def test_two_processes_end_at_the_criterion_at_one_step(tmp_path):
    until = [
        "train.steps=40",
        "train.eval_every=4",
        "train.log_every=1",
        "train.learning_rate=0.01",
        "train.until.exact_match=0.001",
        "train.until.cooldown=3",
        "mixture=[{task: string_copy, role: target, lengths: [1, 1]}]",
        "eval.lengths=[1, 2]",
    ]
    one, two = (train(tmp_path / str(n), n, *until) for n in (1, 2))
    assert [line["step"] for line in two[0]] == [line["step"] for line in one[0]]
    last = one[0][-1]["step"]
    assert last < 40
    assert two[1][-1]["step"] == last
    assert [line["learning_rate"] for line in two[0]] == [line["learning_rate"] for line in one[0]]
