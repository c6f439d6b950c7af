"""Progress bars: lively on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm.auto import tqdm

LOG_SECONDS = 30.0
FEW, SOME = 5, 20
"""steps between which one is timed: the first take longer"""
WORTH_TELLING = 60.0
"""seconds"""


class Estimate:
    """How long a training takes, from a few of its steps."""

    def __init__(self, taken: int, last: int) -> None:
        self.taken, self.last = taken, last
        self.begin = 0.0

    def after(self, step: int) -> str:
        """What to tell after a step, nothing but once."""
        if step == self.taken + FEW:
            self.begin = time.monotonic()
        if step != self.taken + SOME:
            return ""
        seconds = (time.monotonic() - self.begin) / (SOME - FEW) * (self.last - step)
        return f"about {seconds / 60:.0f} minutes, evaluations aside" if seconds > WORTH_TELLING else ""


def bar(*, visible: bool = True, **settings: Any) -> Any:
    """A tqdm bar."""
    quiet = sys.stderr is None or not sys.stderr.isatty()
    visible = visible and sys.stderr is not None
    return tqdm(disable=not visible, mininterval=LOG_SECONDS if quiet else 0.1, maxinterval=60, **settings)
