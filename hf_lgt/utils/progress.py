"""Progress bars: lively on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

LOG_SECONDS = 30.0


def bar(*, visible: bool = True, **settings: Any) -> Any:
    """A tqdm bar."""
    quiet = sys.stderr is None or not sys.stderr.isatty()
    visible = visible and sys.stderr is not None
    return tqdm(disable=not visible, mininterval=LOG_SECONDS if quiet else 0.1, maxinterval=60, **settings)
