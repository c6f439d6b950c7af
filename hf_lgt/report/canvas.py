"""Figures that need no display, whatever matplotlib is set to, and that nothing else depends on."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from data_builders.hub.retry import reason
from data_builders.texts import printable
from hf_lgt.utils.errors import RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGAIN = "the same command with --overwrite draws it"
"""what makes an evaluation or analysis anew, for a warning"""
_log = logging.getLogger(__name__)


def empty_figure(width: float, height: float) -> Figure:
    """A figure of some inches, on a canvas of its own."""
    _import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _import_matplotlib() -> None:
    """Import matplotlib without a user's backend, and without a file of settings that it cannot read.

    A notebook names its own backend to every program that it starts, also to those of another environment,
    where the import fails over it.
    """
    names = ("MPLBACKEND", "MATPLOTLIBRC")
    before = {name: os.environ.get(name) for name in names}
    os.environ["MPLBACKEND"] = "agg"
    try:
        import matplotlib
    except (OSError, ValueError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # what the import got to
        os.environ["MATPLOTLIBRC"] = os.devnull
        import matplotlib  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def optional(what: str, again: str) -> Iterator[None]:
    """Go without a figure that cannot be made within the block; a warning on the log says so.

    Args:
        what: the figure, for the warning.
        again: what makes it once the cause is put right.
    """
    try:
        yield
    except Exception as error:  # fonts, settings, a full disk: no result may be lost for any of them
        _log.warning("%s could not be made: %s; %s", what, printable(reason(error)), again)


@contextmanager
def drawing(what: str) -> Iterator[None]:
    """Turn whatever a library raises over a figure within the block into one message.

    Raises:
        RunError: in its place.
    """
    try:
        yield
    except (OSError, RunError):
        raise
    except Exception as error:
        raise RunError(f"{what} could not be drawn: {reason(error)}") from None
