"""What stands on a report's page: runs, tables and figures, in the form that its template writes down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from hf_lgt.experiments.manifest import grouped
from hf_lgt.experiments.report.experiments import Run
from hf_lgt.report.blocks import Number, Row, Table, Value, shown

MOST_LINKS = 8
"""runs of a row that are linked in sight; more are folded away"""
LONG = 15
"""rows, from which a table scrolls in a region of its own height"""


@dataclass(frozen=True)
class RunView:
    """A run's entry on the page."""

    anchor: str
    id: str
    label: str
    """its setting in words"""
    seed: int
    state: str
    lines: Sequence[tuple[str, str]]
    links: Sequence[tuple[str, str]]
    """(words, relative URL)"""
    config: str
    """YAML, empty before the run was begun"""
    like: RunView | None
    """an earlier run whose config differs in its seeds alone"""


@dataclass(frozen=True)
class CellView:
    """A value of a table."""

    text: str
    interval: str = ""
    sort: str | None = None
    """number to sort by, None for words"""
    missing: bool = False


@dataclass(frozen=True)
class RowView:
    """A row with links to its runs."""

    cells: Sequence[CellView]
    runs: Sequence[tuple[str, Sequence[RunView]]]
    """by setting: (its words, its runs)"""
    count: int
    """of its runs"""
    folded: bool
    """whether they are too many, or of too many settings, to be linked in sight"""


@dataclass(frozen=True)
class TableView:
    """A table as the page shows it."""

    id: str
    title: str
    headers: Sequence[tuple[str, bool]]
    """(words, whether numbers stand below)"""
    rows: Sequence[RowView]
    linked: bool
    """whether any row has runs"""
    notes: Sequence[str]
    long: bool


@dataclass(frozen=True)
class FigureView:
    """A figure as the page shows it."""

    id: str
    title: str
    alt: str
    png: str
    svg: str
    """relative URLs"""
    markup: Markup
    """an ``svg`` or ``img`` element, empty where the figure is only linked"""
    wide: bool


@dataclass(frozen=True)
class ExperimentView:
    """An experiment as the page shows it."""

    id: str
    name: str
    file: str
    summary: str
    facts: Sequence[tuple[str, Sequence[str]]]
    settings: TableView
    figures: Sequence[FigureView]
    tables: Sequence[TableView]
    groups: Sequence[tuple[str, str, Sequence[RunView]]]
    """(anchor, setting in words, its runs)"""


def table_view(own: str, table: Table, runs: Mapping[str, RunView]) -> TableView:
    """A table without columns of words that are all empty, its rows linked to their runs.

    Args:
        own: id in the page.
        table: as anybody made it.
        runs: id of a run in its experiment -> its entry.
    """
    kept = [
        i for i in range(len(table.headers)) if any(row.values[i] not in ("", None) for row in table.rows)
    ]
    rows = [_row(row, kept, runs) for row in table.rows]
    numeric = [any(row.cells[i].sort is not None for row in rows) for i in range(len(kept))]
    return TableView(
        id=own,
        title=table.title,
        headers=list(zip((table.headers[i] for i in kept), numeric, strict=True)),
        rows=rows,
        linked=any(row.runs for row in rows),
        notes=table.notes,
        long=len(rows) > LONG,
    )


def _row(row: Row, kept: Sequence[int], runs: Mapping[str, RunView]) -> RowView:
    views = {runs[i].anchor: runs[i] for i in row.runs if i in runs}.values()
    by_setting = grouped(views, lambda view: view.label)
    count = sum(map(len, by_setting.values()))
    folded = len(by_setting) > 1 or count > MOST_LINKS
    return RowView([_cell(row.values[i]) for i in kept], list(by_setting.items()), count, folded)


def _cell(value: Value) -> CellView:
    if value is None or value == "":
        return CellView(shown(None), missing=True)
    if isinstance(value, Number):
        sort = repr(value.value) if math.isfinite(value.value) else None
        interval = ""
        if value.low is not None and value.high is not None:
            low, high = (_decimal(end, value.digits) for end in (value.low, value.high))
            # a dash between would be taken for a sign
            interval = f"({low} to {high})" if min(value.low, value.high) < 0 else f"({low}–{high})"
        return CellView(_decimal(value.value, value.digits), interval, sort, missing=sort is None)
    if isinstance(value, int):
        return CellView(f"{value:,}", sort=str(value))
    return CellView(value)


def _decimal(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def state(run: Run) -> str:
    """How far a run is."""
    if run.config is None:
        return "not begun"
    steps = f"{run.config.train.steps:,} steps"
    if run.result is not None:
        return f"finished, {run.step or run.config.train.steps:,} steps"
    where = "no evaluation yet" if run.step is None else f"evaluated at step {run.step:,}"
    return f"unfinished, {where} of {steps}"


@dataclass(frozen=True)
class Saved:
    """A figure that was written, in the forms that it can have in the page."""

    view: FigureView
    raster: Markup


def smaller_ways(figures: Sequence[Saved]) -> list[dict[str, FigureView]]:
    """The figures for the page, from all as SVG to all only linked, the largest giving way first."""
    fitted = {figure.view.id: figure.view for figure in figures}
    ways = [dict(fitted)]
    by_size = sorted(figures, key=lambda f: -len(f.view.markup))
    for figure in by_size:
        if len(figure.raster) < len(figure.view.markup):
            fitted[figure.view.id] = replace(figure.view, markup=figure.raster)
            ways.append(dict(fitted))
    for figure in by_size:
        fitted[figure.view.id] = replace(figure.view, markup=Markup(""))
        ways.append(dict(fitted))
    return ways


def size(figures: Mapping[str, FigureView]) -> int:
    """Bytes that figures take in the page."""
    return sum(len(figure.markup.encode("utf-8")) for figure in figures.values())
