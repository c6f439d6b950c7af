"""Faults that the test Hub injects: drawn from a seed, or scripted for the next matching requests."""

from __future__ import annotations

import json
import random
import re
import threading
from collections import Counter
from dataclasses import dataclass

KINDS = ("409", "412", "429", "500", "503", "slow", "cut")
COMMIT = r"/commit/[^/]+$"
CREATE = r"/api/repos/create$"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Args:
        kind: An HTTP status, "slow" (answered after `seconds`) or "cut" (the connection is closed, in
            the middle of the request's body if it has one, else in the middle of the answer).
        after: The request is carried out first and only its answer is lost or replaced, so that the
            client cannot know.
        retry_after: Seconds in the Retry-After header of a 429.
        message: What the answer of an HTTP status says, in its body and in a header.
    """

    kind: str
    after: bool = False
    seconds: float = 0.05
    retry_after: int = 0
    message: str | None = None

    @property
    def status(self) -> int | None:
        return int(self.kind) if self.kind.isdigit() else None

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer that replaces the real one."""
        message = f"injected {self.kind}"
        if self.kind == "409" and re.search(CREATE, path):
            # Clients read any other 409 here as "exists already" and look for its url.
            message = "Cannot create repo: another conflicting operation is in progress"
        message = self.message or message
        headers = {"Content-Type": "application/json", "X-Error-Message": message}
        if self.kind == "429":
            headers["Retry-After"] = str(self.retry_after)
        return self.status or 500, headers, json.dumps({"error": message}).encode()


class Faults:
    """Draws faults at a rate; the same requests meet the same faults, in whatever order threads send them.

    What happens to a request depends on the seed, its method, its path and how often that was asked
    before. Kinds that make no sense for a request are left out: 412 happens to commits only, 409 to
    commits and to the creation of repositories.

    Args:
        seed: Of the draws.
        rate: Probability that a request fails, 0 to 1.
        kinds: Which faults, of `KINDS`.
        only: A regular expression; other requests ("PUT /path", without the query) are left alone.
        limit: At most so many faults in total.
        slow_s: How long a "slow" answer takes, in seconds.
    """

    def __init__(
        self,
        seed: int,
        rate: float,
        kinds: tuple[str, ...] = KINDS,
        only: str | None = None,
        limit: int | None = None,
        slow_s: float = 0.05,
    ):
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise ValueError(f"unknown kinds of fault {unknown}; there are {KINDS}")
        self.seed, self.rate, self.kinds, self.slow_s = seed, rate, tuple(kinds), slow_s
        self.only = re.compile(only or "")
        self.limit = limit
        self.injected: list[tuple[str, str, str]] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def draw(self, method: str, path: str) -> Fault | None:
        """The fault that meets this request, if any; counts the request."""
        if not self.only.search(f"{method} {path}"):
            return None
        with self._lock:
            self._seen[method, path] += 1
            rng = random.Random(f"{self.seed} {method} {path} {self._seen[method, path]}")
            fits = [kind for kind in self.kinds if _fits(kind, method, path)]
            spent = self.limit is not None and len(self.injected) >= self.limit
            if rng.random() >= self.rate or not fits or spent:
                return None
            kind = rng.choice(fits)
            self.injected.append((method, path, kind))
        # A cut comes before the request is done as often as after; an error status always before.
        after = kind == "cut" and rng.random() < 0.5
        return Fault(kind, after, self.slow_s, rng.randrange(2))


def _fits(kind: str, method: str, path: str) -> bool:
    if kind == "412":
        return method == "POST" and re.search(COMMIT, path) is not None
    if kind == "409":
        return method == "POST" and re.search(f"{COMMIT}|{CREATE}", path) is not None
    return True


@dataclass
class _Scripted:
    method: str
    pattern: re.Pattern[str]
    fault: Fault
    times: int
    skip: int


class Script:
    """Faults that a test wrote down: they meet the next requests that match, then are used up."""

    def __init__(self) -> None:
        self._lines: list[_Scripted] = []
        self._lock = threading.Lock()

    def add(self, method: str, pattern: str, fault: Fault, times: int = 1, skip: int = 0) -> None:
        if fault.status is None and fault.kind not in KINDS:
            raise ValueError(f"unknown kind of fault {fault.kind!r}: an HTTP status, 'slow' or 'cut'")
        with self._lock:
            self._lines.append(_Scripted(method, re.compile(pattern), fault, times, skip))

    def draw(self, method: str, path: str) -> Fault | None:
        """The first line that matches and is not used up; counts the request."""
        with self._lock:
            for line in self._lines:
                if line.method not in {method, "*"} or not line.pattern.search(path) or line.times <= 0:
                    continue
                if line.skip > 0:
                    line.skip -= 1
                    continue
                line.times -= 1
                return line.fault
        return None

    @property
    def pending(self) -> int:
        """Faults written down that have met no request yet."""
        with self._lock:
            return sum(line.times for line in self._lines)

    def clear(self) -> None:
        with self._lock:
            self._lines.clear()
