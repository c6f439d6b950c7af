"""Runs that begin with a GGUF file: trained, recorded, resumed, evaluated, and read from the Hub."""

import json
import shutil

import pytest

pytest.importorskip("gguf", reason="the package gguf is not installed")

import huggingface_hub
from huggingface_hub import constants

from hf_lgt import train
from hf_lgt.evaluation.trained_model import find_model, load_trained_model
from hf_lgt.models import gguf
from hf_lgt.models.gguf import model_folder
from hf_lgt.utils import yaml
from tests.e2e.test_pretrained_runs import interrupt, logits, same
from tests.support import checkpoints, gguf_files

LORA = "peft={method: lora, rank: 4}"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for module in (huggingface_hub._snapshot_download, huggingface_hub.file_download):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)


@pytest.fixture
def file(tmp_path):
    gguf_files.write(tmp_path / "tiny.gguf", "qwen2")
    return tmp_path / "tiny.gguf"


@pytest.mark.parametrize("overrides", [[], [LORA], ["model.init=random"]], ids=["full", "lora", "twin"])
def test_a_run_is_that_of_a_model_folder_and_resumes_to_the_same_bits(file, tmp_path, news, overrides):
    of_file = train(checkpoints.config(file, tmp_path / "a", *overrides), progress=False)
    of_folder = train(checkpoints.config(model_folder(file), tmp_path / "b", *overrides), progress=False)
    same(of_file.run_dir, of_folder.run_dir)
    again = tmp_path / "c" / "tiny" / "seed-0"
    shutil.copytree(of_file.run_dir, again)
    interrupt(again, 2)
    train(checkpoints.config(file, tmp_path / "c", *overrides), progress=False)
    assert any("resumes from step 2" in line for line in news)
    same(again, of_file.run_dir)


def test_adapters_are_read_back_on_the_base_in_the_file(file, tmp_path):
    run = train(checkpoints.config(file, tmp_path / "runs", LORA), progress=False).run_dir
    merged, codec = load_trained_model(find_model(run, None, []))
    apart, _ = load_trained_model(find_model(run / "adapter", None, []))
    assert (logits(merged, codec) - logits(apart, codec)).abs().max() < 1e-4


def test_the_card_and_the_record_name_the_file_its_quantisation_and_hash(file, tmp_path):
    run = train(checkpoints.config(file, tmp_path / "runs"), progress=False).run_dir
    card = (run / "model/README.md").read_text(encoding="utf-8")
    found = json.loads((run / "checkpoint.json").read_text(encoding="utf-8"))["gguf"]
    assert found["file"] == "tiny.gguf"
    assert f"`tiny.gguf`, quantised as `Q8_0`, SHA-256 `{found['sha256']}`" in card
    assert str(tmp_path) not in card
    config = yaml.load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["model"]["name_or_path"] == str(file)


def test_a_file_on_the_hub_is_fetched_alone_at_its_commit(hub, file, tmp_path):
    repo = hub.store.create_repo("model", "org/tiny-gguf")
    repo.add({"q/tiny.gguf": file.read_bytes(), "config.json": b"{broken", "other.gguf": b"x"})
    overrides = ["model.gguf_file=q/tiny.gguf"]
    of_hub = train(checkpoints.config("org/tiny-gguf", tmp_path / "a", *overrides), progress=False)
    about = json.loads((of_hub.run_dir / "checkpoint.json").read_text(encoding="utf-8"))
    assert (about["commit"], about["on_hub"]) == (repo.resolve("main").sha, True)
    assert about["gguf"]["file"] == "tiny.gguf"
    assert not any("other.gguf" in path or "config.json" in path for _, path, _ in hub.requests)
    of_file = train(checkpoints.config(file, tmp_path / "b"), progress=False)
    same(of_hub.run_dir, of_file.run_dir)
