"""Sizes that no machine holds, or that would take minutes to build, are refused before anything is made."""

import json
import shutil
import sys

import pytest
import torch

from hf_lgt import ConfigError, train
from hf_lgt.commands import cli
from hf_lgt.utils import memory
from hf_lgt.utils.memory import check_model_folder, require, told_of_memory


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda: 10**9)


def fault(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    (told,) = caught.value.faults
    return told


def test_what_fits_is_let_through():
    require(10**9, "it")
    assert fault(require, 10**9 + 1, "a: it") == (
        "a: it takes at least 1 GB of memory; this machine has 1.0 GB"
    )
    assert "GB of memory" in fault(require, 10**9999, "it")


def test_the_limit_is_that_of_this_machine(monkeypatch):
    monkeypatch.undo()
    assert memory.limit() > 10**8


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.layers=100000000", "model.layers: 100000000 must be at most 1024"),
        (
            "model.hidden_size=1000000",
            "model: 1 layers of hidden_size 1000000 and intermediate_size 64 takes",
        ),
        ("model.intermediate_size=2147483648", "hidden_size 32 and intermediate_size 2147483648 takes"),
        ("train.batch_size=2147483648", "train.batch_size: a batch of 2147483648 examples takes"),
        ("eval.examples=2147483648", "eval.examples: 2147483648 examples of 30 tasks and lengths takes"),
    ],
)
def test_a_run_that_no_machine_holds_is_refused(tiny, tmp_path, setting, told):
    assert told in fault(lambda: train(tiny(setting), progress=False))
    assert [*tmp_path.iterdir()] == []


SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 100, "num_experts": 4, "layer_types": ["a"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"num_hidden_layers": 100_000_000},
            "x: its config.json has num_hidden_layers 100000000; at most 1024",
        ),
        ({"n_layer": 1025}, "n_layer 1025"),
        ({"num_local_experts": 10**6}, "num_local_experts 1000000"),
        ({"num_hidden_layers": 10**400}, "num_hidden_layers a number"),
        ({"text_config": {"num_layers": 10**6}}, "num_layers 1000000"),
        ({"hidden_size": 10**6}, "x: a model of the sizes in its config.json takes at least"),
        ({"vocab_size": 10**12}, "takes at least"),
        ({"text_config": {"n_embd": 10**5, "n_layer": 2}}, "takes at least"),
    ],
)
def test_a_model_folder_that_no_machine_holds_is_refused(tmp_path, changes, told):
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, **changes}))
    assert told in fault(check_model_folder, tmp_path, "x")


@pytest.mark.parametrize(
    "content",
    [json.dumps(SIZES), "{", "[]", '{"hidden_size": "a", "vocab_size": null, "num_hidden_layers": true}'],
)
def test_what_a_library_can_judge_is_left_to_it(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    check_model_folder(tmp_path, "x")


@pytest.mark.parametrize("init", ["random", "pretrained"])
def test_a_saved_model_with_such_sizes_is_built_by_no_recipe(tiny_run, tiny, call_recipe, tmp_path, init):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    file = run / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_hidden_layers": 100_000_000}))
    done = call_recipe("evaluate.py", run)
    assert done.returncode == 2
    assert f"{run / 'model'}: its config.json has num_hidden_layers 100000000" in done.stderr
    done = call_recipe("analyze.py", "heads", run, "--checkpoints", "last")
    assert "its config.json has num_hidden_layers 100000000" in done.stderr
    defaults = {"layers": 6, "hidden_size": 384, "heads": 6, "intermediate_size": 1536, "rope_theta": 1e5}
    config = tiny(
        f"model.name_or_path={run / 'model'}",
        f"model.init={init}",
        *(f"model.{k}={v}" for k, v in defaults.items()),
    )
    told = fault(lambda: train(config, progress=False))
    assert told.startswith("model.name_or_path: ")
    assert "num_hidden_layers 100000000" in told


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 16.0 GiB"), torch.OutOfMemoryError("CUDA out of memory."), None],
)
def test_too_little_memory_is_reported_in_one_line(capsys, error):
    def work():
        if error is None:
            torch.empty(2**60)
        raise error

    assert cli.guard(work) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: out of memory: ")
    assert told.endswith("a smaller train.batch_size, eval.examples, eval.batch_tokens or model takes less\n")


class OutOfMemoryError(Exception):
    """Has the name of torch's, and that is all."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("of something else"),
        ValueError("can't allocate memory"),
        NotImplementedError("can't allocate memory"),
        RuntimeError("shape mismatch"),
    ],
)
def test_other_errors_are_not_of_memory(error):
    assert told_of_memory(error) is None


def test_where_torch_is_not_loaded_its_errors_are_not_looked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would fail
    assert told_of_memory(MemoryError("16 GiB")).startswith("out of memory: 16 GiB")
    assert told_of_memory(RuntimeError("shape mismatch")) is None
