"""The test Hub's HTTP side: connections, bodies, faults, and what tests look at afterwards."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import reads, writes  # noqa: F401  (they register their routes)
from .api import Answer, Request, dispatch
from .faults import Fault, Faults, Script
from .store import Store

TOKEN = "hf_" + "testsOnLoopbackOnly" * 2


class _CutError(Exception):
    """The connection ended, or is to end, before the request or its answer was whole."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; with Nagle's algorithm the second waits 40 ms for the first.
    disable_nagle_algorithm = True
    hub: Hub

    def setup(self) -> None:
        super().setup()
        self.hub.opened(self.connection)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.hub.closed(self.connection)

    def serve(self) -> None:
        target = urlsplit(self.path)
        fault = self.hub.draw(self.command, target.path)
        cut = fault is not None and fault.kind == "cut"
        try:
            body = self._read_body(cut=cut and not fault.after)
        except (_CutError, OSError):
            self.hub.record(self.command, self.path, 0, fault)
            self._hang_up()
            return
        answer = self._answer(target.path, target.query, body, fault)
        self.hub.record(self.command, self.path, 0 if cut else answer.status, fault)
        try:
            self._send(answer, cut)
        except OSError:
            self._hang_up()  # the client left

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def _answer(self, path: str, query: str, body: bytes, fault: Fault | None) -> Answer:
        if fault and fault.kind == "slow":
            self.hub.stopping.wait(fault.seconds)
        if fault and fault.status and not fault.after:
            return Answer(*fault.answer(path))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip() or None
        headers = {name.lower(): text for name, text in self.headers.items()}
        request = Request(self.command, path, parse_qs(query), headers, body, token)
        try:
            answer = dispatch(self.hub, request)
        except Exception:
            # A mistake in this server: the test that looks at `errors` finds it, the client a 500.
            self.hub.errors.append(f"{self.command} {path}\n{traceback.format_exc()}")
            answer = Answer.json({"error": "the test Hub failed, see its errors"}, 500)
        return Answer(*fault.answer(path)) if fault and fault.status else answer

    def _read_body(self, cut: bool) -> bytes:
        """The whole body, so that the connection can be used again; with `cut`, half of it and the end."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self._line().split(b";")[0], 16):
                if cut:
                    self._exactly(size // 2)
                    raise _CutError
                parts.append(self._exactly(size))
                self._line()
            while self._line():
                pass  # trailers
            return b"".join(parts)
        size = int(self.headers.get("Content-Length") or 0)
        if cut and size:
            self._exactly(size // 2)
            raise _CutError
        return self._exactly(size)

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise _CutError
        return line.strip()

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) != size:
            raise _CutError
        return data

    def _send(self, answer: Answer, cut: bool) -> None:
        self.send_response(answer.status)
        for name, text in answer.headers.items():
            self.send_header(name, re.sub(r"[^\x20-\x7e]+", " ", text))
        self.send_header("X-Request-Id", secrets.token_hex(4))
        self.send_header("Content-Length", str(len(answer.body)))
        body = b"" if self.command == "HEAD" else answer.body
        if cut and not body:
            self._hang_up()
            return
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        _shut(self.connection)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on stderr; `Hub.record` keeps the log."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # thread pools of clients connect all at once
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that was killed
            self.hub.errors.append(traceback.format_exc())


class Hub:
    """A Hugging Face Hub on 127.0.0.1, its state in memory. The user is "org", who may write to "team" too.

    Clients read HF_ENDPOINT when they are imported: set it before, or run them with `environment`.

    Args:
        port: 0 for one that is free.
        token: The token that signs in as "org"; any other is refused.

    Attributes:
        store: The repositories, to look at and to change behind the clients' back.
        requests: (method, path without query, status) of each request; status 0 where the connection
            was cut. In the order in which they were answered.
        log: The same as lines of text, with faults; never with a token in it.
        errors: Tracebacks of this server's own mistakes; tests may assert that there are none.
        page_size: Entries on a page of a tree listing.
        role: What the token may do, as `whoami` tells: "write" or "read".
    """

    def __init__(self, port: int = 0, token: str = TOKEN):
        self.port, self.token = port, token
        self.store = Store()
        self.faults: Faults | None = None
        self.script = Script()
        self.requests: list[tuple[str, str, int]] = []
        self.log: list[str] = []
        self.errors: list[str] = []
        self.page_size = 1000
        self.role = "write"
        self.secret = secrets.token_bytes(16)
        self.stopping = threading.Event()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be; known once started, or if a port was given."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Hub:
        """Listens from when this returns."""
        if self._server is not None:
            raise RuntimeError("the hub runs already")
        self.stopping.clear()
        self._server = _Server(("127.0.0.1", self.port), type("Handler", (_Handler,), {"hub": self}))
        self._server.hub = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends all connections and their threads and frees the port; the store stays as it is."""
        if self._server is None or self._thread is None:
            return
        self.stopping.set()  # wakes who is slow
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            left = dict(self._connections)
        for connection in left:
            _shut(connection)
        for thread in left.values():
            thread.join(5)
        self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Hub:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reset(self) -> None:
        """As new: no repositories, faults, requests, log and errors."""
        self.clear_faults()
        self.store.clear()
        self.role = "write"
        for kept in (self.requests, self.log, self.errors):
            kept.clear()

    def fail_next(
        self,
        method: str,
        pattern: str,
        kind: int | str,
        *,
        times: int = 1,
        skip: int = 0,
        after: bool = False,
        seconds: float = 0.05,
        retry_after: int = 0,
        message: str | None = None,
    ) -> None:
        """Scripts a fault for the next `times` requests that match, after letting `skip` of them pass.

        Args:
            method: GET, HEAD, POST, PUT, DELETE or * for any.
            pattern: A regular expression, searched in the path.
            kind: An HTTP status, "slow" or "cut".
            times: Requests to fail.
            skip: Matching requests to leave alone first.
            after: Carry the request out and lose or replace its answer only.
            seconds: How long "slow" takes.
            retry_after: For 429, in seconds.
            message: What the answer of an HTTP status says.
        """
        fault = Fault(str(kind), after, seconds, retry_after, message)
        self.script.add(method, pattern, fault, times, skip)

    def clear_faults(self) -> None:
        """No more faults, drawn or scripted."""
        self.faults = None
        self.script.clear()

    def environment(self, home: Path | str, token: bool = True) -> dict[str, str]:
        """Variables for a client process: this Hub, caches below `home`, plain LFS, no telemetry."""
        values = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return values | ({"HF_TOKEN": self.token} if token else {})

    def draw(self, method: str, path: str) -> Fault | None:
        """The fault that meets a request: a scripted one before a drawn one."""
        faults = self.faults
        return self.script.draw(method, path) or (faults.draw(method, path) if faults else None)

    def record(self, method: str, target: str, status: int, fault: Fault | None) -> None:
        """Notes a request before its answer leaves, so that a client that has it finds it noted."""
        line = f"{method} {target} {status}" + (f" fault={fault.kind}" if fault else "")
        line = re.sub(r"hf_[A-Za-z0-9]{20,}|(?<=signature=)\w+", "***", line.replace(self.token, "***"))
        with self._lock:
            self.requests.append((method, target.split("?")[0], status))
            self.log.append(line)

    def count(self, method: str, pattern: str, status: int | None = None) -> int:
        """Requests so far with this method, a matching path and, if given, this status."""
        with self._lock:
            seen = list(self.requests)
        return sum(m == method and bool(re.search(pattern, p)) and status in {None, s} for m, p, s in seen)

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections[connection] = threading.current_thread()
        if self.stopping.is_set():
            _shut(connection)  # accepted just before the end, too late for `stop` to see

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.pop(connection, None)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed by the client before
        connection.shutdown(socket.SHUT_RDWR)
