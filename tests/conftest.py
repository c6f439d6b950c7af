"""What the tests share: a tiny config that trains in seconds, and one trained run of it."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import logging
import os
import shutil
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Tests never reach out, whatever the machine allows: the Hub is one on loopback, which the `hub` fixture
# starts. huggingface_hub reads its address, and where caches go, when it is imported.
PORT = _free_port()
_home = tempfile.mkdtemp(prefix="hf_lgt-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
    os.environ.pop(name, None)
os.environ.update(
    HF_ENDPOINT=f"http://127.0.0.1:{PORT}",
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HOME=_home,
    TOKENIZERS_PARALLELISM="false",
    # the models are tiny: threads that wait for each other on a busy machine are all there is to gain
    OMP_NUM_THREADS="1",
)

# importing torch and transformers makes some million objects, among which nothing is garbage
gc.set_threshold(10_000, *gc.get_threshold()[1:])

ROOT = Path(__file__).parent.parent
TINY = [
    "name=tiny",
    "model.layers=1",
    "model.hidden_size=32",
    "model.heads=2",
    "model.intermediate_size=64",
    "train.steps=12",
    "train.batch_size=32",
    "train.average=0.0",
    "train.log_every=4",
    "train.eval_every=6",
    "train.save_every=6",
    "eval.lengths=[1,10]",
    "eval.examples=32",
]


SLOW = (
    "e2e/",
    "faults/",
    "integration/data/test_position_ids.py",
    "integration/data_builders/test_corpus.py",
    "integration/hub/",
    "integration/models/test_role_heads.py",
    "integration/pretraining/",
    "integration/training/",
    "integration/utils/test_asynchronous.py",
    "integration/utils/test_run_lock.py",
    "integration/workflows/",
    "unit/data_builders/test_maze.py",
)
"""what `pytest -m "not slow"` leaves out"""


def pytest_collection_modifyitems(items):
    """What takes longest begins first, so that nothing runs alone at the end."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slurm") is None)


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


@pytest.fixture
def news():
    """The lines that the project logs for its user, as they come, without those of every training."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    always = ("hf_lgt.utils.threads", "hf_lgt.workflows.announcement")
    handler.addFilter(lambda record: record.name not in always)
    loggers = [logging.getLogger(name) for name in ("hf_lgt", "data_builders")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield lines
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of the tiny config; tests must leave it as it is."""
    from hf_lgt import load_config, train

    out = tmp_path_factory.mktemp("runs")
    config = load_config(ROOT / "recipes/demo/transfer.yaml", [*TINY, f"output_dir={out}"])
    return train(config, progress=False).run_dir


@pytest.fixture(scope="session")
def _hub_server():
    from tests.support.hub import Hub

    with Hub(port=PORT) as server:
        yield server
        from huggingface_hub.utils import close_session

        close_session()


@pytest.fixture
def hub(_hub_server, monkeypatch):
    """An empty Hub on loopback that the clients of this process use, with a token that may write."""
    _hub_server.reset()
    monkeypatch.setenv("HF_TOKEN", _hub_server.token)
    yield _hub_server
    assert _hub_server.errors == []


@pytest.fixture
def call_recipe(capsys):
    """Calls the main of a recipe in this process, which spares an import of torch.

    Takes the recipe's path below ``recipes/`` and its arguments; gives returncode, stdout and stderr.
    """

    def call(recipe, *arguments):
        spec = importlib.util.spec_from_file_location(Path(recipe).stem, ROOT / "recipes" / recipe)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        capsys.readouterr()
        try:
            code = module.main([str(a) for a in arguments])
        except SystemExit as end:  # what the argument parser refuses
            code = end.code
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call


@pytest.fixture
def own_registry(monkeypatch):
    """A registry and a symbol table that forget what a test adds."""
    from data_builders import registry, symbols

    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    monkeypatch.setattr(symbols, "_tags", list(symbols._tags))
    yield
    monkeypatch.undo()
    symbols._table.cache_clear()
    symbols.base_symbols.cache_clear()
