"""What the tests share: a tiny config that trains in seconds, and one trained run of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests never reach out, whatever the machine allows.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent
TINY = [
    "name=tiny",
    "model.layers=1",
    "model.hidden_size=32",
    "model.heads=2",
    "model.intermediate_size=64",
    "train.steps=12",
    "train.batch_size=32",
    "train.log_every=4",
    "train.eval_every=6",
    "train.save_every=6",
    "eval.lengths=[1,10]",
    "eval.examples=32",
]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture
def tiny(tmp_path):
    """Makes the tiny config with overrides, its runs below the test's own folder."""
    from hf_lgt import load_config

    def make(*overrides: str, base: str = "recipes/demo/transfer.yaml"):
        return load_config(ROOT / base, [*TINY, f"output_dir={tmp_path}", *overrides])

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of the tiny config; tests must leave it as it is."""
    from hf_lgt import load_config, train

    out = tmp_path_factory.mktemp("runs")
    config = load_config(ROOT / "recipes/demo/transfer.yaml", [*TINY, f"output_dir={out}"])
    return train(config, progress=False).run_dir
