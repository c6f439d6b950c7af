"""The test Hub by plain HTTP: connections, uploads, atomic commits, faults, its own life."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.hub import Hub, HubError, Repo
from tests.support.hub.faults import KINDS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub():
    with Hub() as running:
        running.store.create_repo("dataset", "org/numbers")
        yield running
        assert running.errors == []


class Client:
    """Plain HTTP on one connection, as the user of the Hub."""

    def __init__(self, hub: Hub):
        self.hub = hub
        self.connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def ask(self, method, path, body=None, token=True, **headers):
        if token:
            headers["Authorization"] = f"Bearer {self.hub.token}"
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer, answer.read()

    def json(self, method, path, body=None, token=True):
        answer, text = self.ask(method, path, json.dumps(body) if body is not None else None, token)
        return answer.status, json.loads(text)

    def commit(self, *operations, parent=None, repo="org/numbers", branch="main"):
        head = {"summary": "a commit"} | ({"parentCommit": parent} if parent else {})
        lines = [{"key": key, "value": value} for key, value in (("header", head), *operations)]
        text = "\n".join(map(json.dumps, lines))
        answer, body = self.ask("POST", f"/api/datasets/{repo}/commit/{branch}", text)
        return answer.status, json.loads(body)

    def upload_address(self, data):
        wanted = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
        _, batch = self.json(
            "POST", "/datasets/org/numbers.git/info/lfs/objects/batch", {"objects": [wanted]}
        )
        address = batch["objects"][0].get("actions", {"upload": {"href": ""}})["upload"]["href"]
        return address.removeprefix(self.hub.endpoint)


def added(path, data=b"1"):
    return "file", {"path": path, "content": base64.b64encode(data).decode()}


@pytest.fixture
def client(hub):
    with Client(hub) as made:
        yield made


def test_a_connection_outlives_refusals(client):
    """A body that nobody wanted must not be read as the next request."""
    for token in (True, False):
        for _ in range(2):
            status, _ = client.json("POST", "/api/datasets/org/none/commit/main", ["x" * 100_000], token)
            assert status == (404 if token else 401)
    first = client.connection.sock
    assert client.ask("HEAD", "/datasets/org/numbers/resolve/main/.gitattributes")[0].status == 200
    assert client.ask("PATCH", "/api/whoami-v2")[0].status == 501
    assert client.ask("GET", "/api/none")[0].status == 404
    assert first is not None


def test_a_body_may_come_in_chunks(client):
    data = b"0123456789" * 1000
    address = client.upload_address(data)
    answer, _ = client.ask("PUT", address, iter([data[:7000], data[7000:]]), token=False)
    assert answer.status == 200
    assert client.upload_address(data) == ""  # held: no upload asked for


def test_an_lfs_object_is_taken_whole_and_signed_or_not_at_all(hub, client):
    data = b"0123456789" * 1000
    address = client.upload_address(data)
    repo = hub.store.repo("dataset", "org/numbers")
    assert client.ask("PUT", address, data[:-1])[0].status == 400
    assert client.ask("PUT", address, data[:-1] + b"x")[0].status == 400
    assert client.ask("PUT", address.split("?")[0] + "?size=10000", data)[0].status == 403
    with socket.create_connection(("127.0.0.1", hub.port)) as raw:
        raw.sendall(f"PUT {address} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        raw.sendall(data[:500])
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(100) == b""
    assert repo.lfs == {}
    oid = hashlib.sha256(data).hexdigest()
    held = {"oid": oid, "size": len(data)}
    assert client.json("POST", "/datasets/org/numbers.git/info/lfs/verify", held)[0] == 404
    assert client.ask("PUT", address, data)[0].status == 200
    assert client.json("POST", "/datasets/org/numbers.git/info/lfs/verify", held)[0] == 200


def test_a_commit_happens_whole_or_not_at_all(hub, client):
    repo = hub.store.repo("dataset", "org/numbers")
    assert client.commit(added("a"), added("deep/b"))[0] == 200
    before = repo.resolve("main").sha
    missing = {"path": "x.parquet", "algo": "sha256", "oid": "0" * 64, "size": 1}
    for status, operations in (
        (400, [added("c"), ("lfsFile", missing)]),
        (404, [added("c"), ("deletedFile", {"path": "none"})]),
        (404, [added("c"), ("deletedFolder", {"path": "a"})]),
        (400, [added("c"), added("a/b")]),
        (400, [added("c"), added("../up")]),
        (400, [added("c"), ("file", {"path": "d"})]),
        (400, [added("c"), ("unknown", {"path": "d"})]),
    ):
        assert client.commit(*operations)[0] == status, operations
    hub.fail_next("POST", "/commit/", "cut")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        client.commit(added("c"))
    client.connection.close()
    assert repo.resolve("main").sha == before
    assert set(repo.files()) == {"a", "deep/b"}
    assert client.commit(added("c"), branch="none")[0] == 404
    assert client.commit(added("c"), parent=before)[0] == 200
    assert client.commit(added("d"), parent=before)[0] == 412
    assert client.commit(("copyFile", {"path": "e", "srcPath": "c", "srcRevision": "main"}))[0] == 200
    assert set(repo.files()) == {"a", "deep/b", "c", "e"}
    assert set(repo.files(before)) == {"a", "deep/b"}


def test_of_commits_on_one_parent_one_wins(hub, monkeypatch):
    repo = hub.store.repo("dataset", "org/numbers")
    parent = repo.resolve("main").sha
    statuses = []

    def push(number):
        with Client(hub) as client:
            statuses.append(client.commit(added(f"one/{number}"), parent=parent)[0])
            for turn in range(5):
                assert client.commit(added(f"all/{number}/{turn}"))[0] == 200

    monkeypatch.setattr(repo, "_apply", lambda *args: (time.sleep(0.001), Repo._apply(repo, *args)))
    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(statuses)) == [200, 412]
    assert statuses.count(200) == 1
    assert sum(path.startswith("all/") for path in repo.files()) == 40


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        (None, 200, b"0123456789"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=-3", 206, b"789"),
        ("bytes=10-", 416, b""),
    ],
)
def test_a_file_can_be_had_in_parts(hub, client, asked, status, expected):
    repo = hub.store.repo("dataset", "org/numbers")
    sha = repo.add({"deep/a b.txt": b"0123456789"}).sha
    path = "/datasets/org/numbers/resolve/main/deep/a%20b.txt"
    headers = {"Range": asked} if asked else {}
    answer, body = client.ask("GET", path, **headers)
    assert (answer.status, body) == (status, expected)
    head, nothing = client.ask("HEAD", path)
    assert (head.headers["Content-Length"], nothing) == ("10", b"")
    assert (head.headers["X-Repo-Commit"], head.headers["X-Linked-Size"]) == (sha, None)
    assert head.headers["ETag"].strip('"') == hashlib.sha1(b"blob 10\x000123456789").hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_fault(hub, client, kind):
    path = "/api/datasets/org/numbers"
    hub.fail_next("GET", "numbers$", kind, times=2, skip=1, seconds=0.2, retry_after=1)
    assert client.json("GET", path)[0] == 200
    for _ in range(2):
        start = time.perf_counter()
        if kind == "cut":
            with pytest.raises(http.client.IncompleteRead):
                client.json("GET", path)
            client.connection.close()
            continue
        answer, _ = client.ask("GET", path)
        assert answer.status == (200 if kind == "slow" else int(kind))
        assert answer.headers["Retry-After"] == ("1" if kind == "429" else None)
        assert kind != "slow" or time.perf_counter() - start >= 0.2
    assert client.json("GET", path)[0] == 200
    assert hub.requests[1] == (
        "GET",
        path,
        {"cut": 0, "slow": 200}.get(kind) or (kind != "cut" and int(kind)),
    )
    hub.fail_next("GET", "", 500)
    hub.clear_faults()
    assert client.json("GET", path)[0] == 200


@pytest.mark.parametrize("kind", ["cut", 500])
def test_an_answer_can_be_lost_after_the_commit(hub, client, kind):
    hub.fail_next("POST", "/commit/", kind, after=True)
    try:
        assert client.commit(added("a"))[0] == 500
    except http.client.IncompleteRead:
        assert kind == "cut"
    assert hub.store.repo("dataset", "org/numbers").files() == {"a": b"1"}


def test_no_token_is_logged(hub, client):
    hub.token = "not-like-others"
    other = "hf_" + "another" * 5
    client.ask("GET", f"/api/whoami-v2?token={hub.token}", Authorization=f"Bearer {other}", token=False)
    client.ask("GET", f"/{other}")
    client.commit(added("a"))
    assert len(hub.log) == 3
    assert not any(token in line for line in hub.log for token in (hub.token, other))


def test_stop_frees_the_port_and_leaves_no_thread():
    before = set(threading.enumerate())
    hub = Hub().start()
    hub.store.create_repo("model", "org/kept")
    with Client(hub) as idle, Client(hub) as waiting:
        assert idle.json("GET", "/api/models/org/kept")[0] == 200
        hub.fail_next("GET", "", "slow", seconds=60)
        waiting.connection.request("GET", "/api/models/org/kept")
        while hub.script.pending:
            time.sleep(0.01)
        hub.stop()
        assert set(threading.enumerate()) <= before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", hub.port))
    with Hub(hub.port) as other, Client(other) as client:
        assert client.json("GET", "/api/models/org/kept")[0] == 404
    with hub, Client(hub) as client:
        assert client.json("GET", "/api/models/org/kept")[0] == 200
        hub.reset()
        assert client.json("GET", "/api/models/org/kept")[0] == 404
        assert len(hub.requests) == 1


def test_it_runs_as_a_process_of_its_own():
    command = [sys.executable, "-m", "tests.support.hub", "--port", "0", "--print-endpoint"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        endpoint = process.stdout.readline().decode().strip()
        connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=10)
        connection.request("GET", "/api/whoami-v2")
        assert connection.getresponse().status == 401
        connection.close()
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr.read() == b""


def test_the_store_speaks_for_itself(hub):
    repo = hub.store.repo("dataset", "org/numbers")
    with pytest.raises(HubError, match="already created"):
        hub.store.create_repo("dataset", "org/numbers")
    with pytest.raises(KeyError, match="org/none"):
        hub.store.repo("dataset", "org/none")
    sha = repo.add({"a": b"1"}, "theirs").sha
    assert repo.resolve(sha[:7]) is repo.resolve("refs/heads/main") is repo.history()[0]
    assert (repo.history()[0].message, len(repo.history())) == ("theirs", 2)
