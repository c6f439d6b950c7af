"""The real clients push to the test Hub and load from it, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub import Faults, Hub
from tests.support.hub.faults import KINDS

ROOT = Path(__file__).parents[3]
FAULTS = (  # method, path, kind, options: what `clients.faulty` meets
    ("POST", "/api/repos/create", 409, {}),
    ("POST", "/faulty/commit/", 412, {}),
    ("POST", "/faulty/commit/", "cut", {}),
    ("POST", "/faulty/commit/", "cut", {"after": True}),
    ("POST", "/faulty/commit/", 500, {"after": True}),
    ("POST", "/faulty/preupload/", 503, {"skip": 4}),
    ("PUT", "/lfs/", "cut", {"times": 2}),
    ("PUT", "/lfs/", 429, {}),
    ("GET", "/faulty/resolve/", "cut", {}),
    ("GET", "/faulty/tree/", "slow", {}),
)


def run_client(hub, name, home):
    environment = {**os.environ, **hub.environment(home)}
    command = [sys.executable, "-m", "tests.support.hub.clients", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + "\n".join(hub.log[-20:])
    assert hub.errors == []
    assert hub.token not in "\n".join(map(str, [*hub.log, *hub.requests]))


@pytest.mark.parametrize("page_size", [1000, 2])
def test_huggingface_hub_handles_files_and_refs(tmp_path, page_size):
    with Hub() as hub:
        hub.page_size = page_size
        run_client(hub, "files_and_refs", tmp_path)
        assert hub.count("PUT", "/lfs/", 200) == 1  # the second upload of the folder sends no blob again


def test_huggingface_hub_gets_the_errors_of_a_hub(tmp_path):
    with Hub() as hub:
        hub.store.create_repo("model", "other/theirs")
        run_client(hub, "refusals", tmp_path)
        assert hub.store.repo("model", "other/theirs").files() == {}


def test_huggingface_hub_meets_faults(tmp_path):
    with Hub() as hub:
        for method, path, kind, options in FAULTS:
            hub.fail_next(method, path, kind, **options)
        run_client(hub, "faulty", tmp_path)
        assert hub.script.pending == 0
        assert hub.count("GET", "/resolve/", 206) == 1  # resumed where it was cut
        assert len(hub.store.repo("model", "org/faulty").history()) == 4


def test_datasets_pushes_and_loads(tmp_path):
    with Hub() as hub:
        hub.faults = Faults(11, 0.3, only="org/weather|/api/repos/create")
        run_client(hub, "data", tmp_path)
        assert len(hub.faults.injected) >= 5
        assert len({kind for _, _, kind in hub.faults.injected}) >= 3
        sent = [path for method, path, _ in hub.requests if method == "PUT" and "numbers" in path]
        assert len(sent) == len(set(sent))  # no blob twice
        assert hub.count("GET", r"/numbers/resolve/.*\.parquet", 206) > 0  # streamed in parts
        assert "train-00000-of-00001.parquet" in str(list(hub.store.repo("dataset", "org/weather").files()))


def test_transformers_pushes_and_loads(tmp_path):
    with Hub() as hub:
        run_client(hub, "model", tmp_path)
        assert {"model.safetensors", "tokenizer.json"} <= set(hub.store.repo("model", "org/tiny").files())


def test_drawn_faults_depend_on_the_request_and_not_on_the_order():
    requests = [(method, f"/p{i}") for method in ("GET", "PUT") for i in range(300)]
    one, two = Faults(1, 0.25), Faults(1, 0.25)
    found = {request: one.draw(*request) for request in requests}
    assert {request: two.draw(*request) for request in reversed(requests)} == found
    assert 0.15 < sum(fault is not None for fault in found.values()) / 600 < 0.35
    # 409 and 412 are for commits.
    assert {fault.kind for fault in found.values() if fault} == set(KINDS) - {"409", "412"}
    assert one.draw(*requests[0]) != found[requests[0]] or one.draw(*requests[1]) != found[requests[1]]
    commits = Faults(1, 1, kinds=("409", "412"), limit=3)
    assert [bool(commits.draw("POST", "/x/commit/main")) for _ in range(5)] == [True] * 3 + [False] * 2
    assert Faults(1, 1, only="PUT").draw("GET", "/lfs/x") is None
    with pytest.raises(ValueError, match="unknown"):
        Faults(1, 1, kinds=("418",))
