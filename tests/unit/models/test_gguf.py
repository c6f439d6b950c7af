"""A checkpoint in a GGUF file is what a model folder with the same weights is."""

import json

import pytest
import torch

pytest.importorskip("gguf", reason="the package gguf is not installed")

from hf_lgt.config.schema import ModelConfig
from hf_lgt.data.codec import Codec
from hf_lgt.models import gguf
from hf_lgt.models.base_checkpoint import open_base_checkpoint
from hf_lgt.models.build import build_from_checkpoint
from hf_lgt.utils.errors import ConfigError
from tests.support import checkpoints, gguf_files


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def opened(name, **settings):
    model = ModelConfig(init="pretrained", name_or_path=str(name), **settings)
    return model, open_base_checkpoint(model)


@pytest.mark.parametrize(("kind", "quantization"), [("llama", "Q4_1"), ("qwen2", "Q8_0"), ("qwen2", "F16")])
def test_architecture_weights_and_tokenizer_are_those_of_the_file(tmp_path, kind, quantization):
    made = gguf_files.write(tmp_path / "tiny.gguf", kind, quantization)
    model, start = opened(tmp_path / "tiny.gguf")
    codec = start.codec(Codec, tasks=["string_copy"])
    loaded = build_from_checkpoint(model, start, codec, seed=0)
    assert type(loaded) is type(made)
    assert start.limit == checkpoints.CONTEXT
    there = loaded.state_dict()
    for name, tensor in made.state_dict().items():
        wanted = (
            tensor
            if tensor.ndim == 1
            else torch.from_numpy(gguf_files.quantized(tensor.numpy(), quantization))
        )
        found = there[name][: len(tensor)]
        assert torch.equal(found, wanted), name
    text = "reverse 75+86 of the naïve PATH"
    assert start.tokenizer(text)["input_ids"] == checkpoints.tokenizer("smollm")(text)["input_ids"]


def test_it_is_read_once_and_named_with_its_hash(tmp_path, cache, monkeypatch):
    gguf_files.write(tmp_path / "tiny.gguf")
    _, first = opened(tmp_path, gguf_file="tiny.gguf")
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("it is converted again"))
    (tmp_path / "copy.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes())
    assert opened(tmp_path / "copy.gguf")[1].checkpoint.about()["gguf"]["file"] == "copy.gguf"
    _, second = opened(tmp_path / "tiny.gguf")
    assert first.checkpoint.folder == second.checkpoint.folder
    about = second.checkpoint.about()
    assert about["gguf"]["file"] == "tiny.gguf"
    assert about["gguf"]["quantization"] == "Q8_0"
    assert about["commit"] == about["gguf"]["sha256"][:40]
    assert json.loads((first.checkpoint.folder / "gguf.json").read_text()) == about["gguf"]


def test_the_twin_has_its_architecture_and_other_weights(tmp_path):
    gguf_files.write(tmp_path / "tiny.gguf")
    model, start = opened(tmp_path / "tiny.gguf")
    codec = start.codec(Codec, tasks=["string_copy"])
    own = build_from_checkpoint(model, start, codec, seed=0)
    twin = build_from_checkpoint(
        ModelConfig(init="random", name_or_path=model.name_or_path), start, codec, seed=0
    )
    shapes = [{name: p.shape for name, p in m.named_parameters()} for m in (own, twin)]
    assert shapes[0] == shapes[1]
    assert not torch.equal(own.model.layers[0].mlp.up_proj.weight, twin.model.layers[0].mlp.up_proj.weight)


def test_a_changed_file_is_refused_where_a_run_resumes(tmp_path):
    gguf_files.write(tmp_path / "tiny.gguf")
    model, start = opened(tmp_path / "tiny.gguf")
    commit = start.checkpoint.commit
    assert open_base_checkpoint(model, commit).checkpoint.commit == commit
    gguf_files.write(tmp_path / "tiny.gguf", seed=1)
    with pytest.raises(ConfigError, match="no longer those that the run began with"):
        open_base_checkpoint(model, commit)


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        ({"architecture": "mpt"}, "architecture mpt is not supported"),
        ({"layers": 2**31}, "its config.json has num_hidden_layers 2147483648; at most 1024 are built"),
        ({"drop": "up_proj"}, "2 are missing or have another shape, as model.layers.0.mlp.up_proj.weight"),
    ],
)
def test_what_transformers_does_not_read_is_one_error_that_names_the_key(tmp_path, cache, leave, told):
    gguf_files.write(tmp_path / "odd.gguf", **leave)
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path / "odd.gguf")
    (fault,) = caught.value.faults
    assert fault.startswith("model.gguf_file: ")
    assert told in fault
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("cut", [0, 3, 200, 9000])
def test_a_damaged_file_is_one_error(tmp_path, cut):
    gguf_files.write(tmp_path / "whole.gguf")
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:cut])
    with pytest.raises(ConfigError, match=r"model.gguf_file: 'cut.gguf' cannot be loaded: \w+: "):
        opened(tmp_path / "cut.gguf")


def test_what_lies_beside_the_file_is_not_read(tmp_path):
    gguf_files.write(tmp_path / "tiny.gguf")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).write_text("{broken")
    assert opened(tmp_path / "tiny.gguf")[1].limit == checkpoints.CONTEXT


def test_a_name_that_is_not_there_is_told_with_those_that_are(tmp_path):
    gguf_files.write(tmp_path / "tiny.gguf")
    with pytest.raises(
        ConfigError, match=r"model.gguf_file: .* unknown file 'tini.gguf'; did you mean 'tiny.gguf'"
    ):
        opened(tmp_path, gguf_file="tini.gguf")
    with pytest.raises(ConfigError, match=r"no config.json; model.gguf_file can name .*: tiny.gguf"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match="no package 'no-such-package' is installed here"):
        opened("package:no-such-package")
    with pytest.raises(ConfigError, match=r"one of the GGUF files of the package 'pytest' \(none\)"):
        opened("package:pytest")


def test_a_file_beside_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"model.gguf_file: 'b.gguf' is for a folder or the Hub"):
        checkpoints.config(tmp_path / "a.gguf", tmp_path, "model.gguf_file=b.gguf")
