"""What a report is made of, whatever it is written as: tables of values and pictures with their words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tabulate import tabulate

from data_builders.texts import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = "github"
DASH = "–"


@dataclass(frozen=True)
class Number:
    """A measured value, perhaps with its interval."""

    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 3

    def __str__(self) -> str:
        text = f"{self.value:.{self.digits}f}"
        if self.low is None or self.high is None:
            return text
        between = "–" if self.low >= 0 else " to "  # a dash beside a minus sign cannot be read
        return f"{text} ({self.low:.{self.digits}f}{between}{self.high:.{self.digits}f})"


Value: TypeAlias = "Number | str | int | None"
"""what stands in a table; None is a dash"""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    values: tuple[Value, ...]
    runs: tuple[str, ...] = ()
    """ids of the runs that its numbers come from"""


@dataclass(frozen=True)
class Table:
    """Rows of values under headers."""

    name: str
    """letters, digits and ``-``"""
    title: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    def markdown(self) -> str:
        """The table as Markdown, its notes below."""
        rows = [
            [plain(value) if isinstance(value, str) else shown(value) for value in row.values]
            for row in self.rows
        ]
        text = tabulate(rows, [plain(h) for h in self.headers], tablefmt=STYLE, disable_numparse=True)
        return "\n\n".join([f"**{plain(self.title)}**", text, *map(plain, self.notes)])


def shown(value: Value) -> str:
    """A value as text."""
    return DASH if value is None else str(value)


@dataclass(frozen=True)
class Picture:
    """A figure and what it says in words."""

    name: str
    """of its files, without their endings"""
    title: str
    alt: str
    """what there is to see, for those who cannot see it: the numbers that matter"""
    figure: Figure
