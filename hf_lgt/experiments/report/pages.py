"""Results in a Markdown page, made from the files of numbers that lie beside it.

Between marks such as these, in which the text below a mark is replaced::

    <!-- verdict cpu.json -->
    <!-- end -->
    <!-- results cpu.json: summary curves lengths differences -->
    <!-- end -->
    <!-- overview cpu.json -->
    <!-- end -->

``verdict`` gives what came of the claims; ``results`` the named tables and figures, in their order;
``overview`` a table of the pages in the folders below, with the verdict of each one's own file of that name.
Figures are drawn beside the page, as ``cpu_curves.png``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from data_builders.texts import escaped, line, plain
from hf_lgt.experiments.report.comparison_figures import comparison_pictures
from hf_lgt.experiments.report.stored import Results, read_results
from hf_lgt.experiments.report.sweep_figures import sweep_pictures
from hf_lgt.experiments.report.verdict_tables import result_tables
from hf_lgt.experiments.verdicts import UNDERPOWERED, Finding, judge_claims, overall
from hf_lgt.report.blocks import STYLE, Number, Picture
from hf_lgt.report.figures import save_figure
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.errors import ConfigError

MARK = re.compile(
    r"^(<!-- (verdict|results|overview) ([\w.-]+\.json)(?:: ([a-z0-9 -]+))? -->\n)"
    r"(?:(?!<!-- ).)*?(<!-- end -->)",
    re.DOTALL | re.MULTILINE,
)
BEGIN = re.compile(r"^<!-- (?:verdict|results|overview)\b.*", re.MULTILINE)
MOST_PANELS = 6
USUAL = ("summary", "curves", "lengths", "differences")
"""what a mark without names stands for, as far as there is each"""


def write_page(page: Path) -> list[Path]:
    """Bring a page up to date with its files of numbers, and draw its figures; gives their paths.

    Raises:
        ConfigError: it has no marks, or a file that they name cannot be read or lacks a table or figure.
    """
    text = _read(page)
    fresh = page_text(page)
    drawn = []
    for _, kind, file, names, _ in MARK.findall(text):
        if kind != "results":
            continue
        results, wanted = read_results(page.parent / file), _wanted(names)
        for name, picture in _pictures(results).items():
            if name in wanted:
                drawn.append(save_figure(picture.figure, page.parent / _figure(file, name)))
    if fresh != text:
        write_text(page, fresh)
    return drawn


def page_text(page: Path) -> str:
    """The page as it should be; see `write_page`."""
    text = _read(page)
    begun, whole = BEGIN.findall(text), [match[1].rstrip() for match in MARK.finditer(text)]
    if not begun:
        raise ConfigError([f"{page}: has no mark such as <!-- results cpu.json --> ... <!-- end -->"])
    if broken := Counter(begun) - Counter(whole):
        raise ConfigError(
            [
                f"{page}: {line(mark)} is not as in <!-- results cpu.json: summary --> or has no <!-- end -->"
                for mark in broken
            ]
        )

    def fill(match: re.Match[str]) -> str:
        begin, kind, file, names, end = match.groups()
        if kind == "overview":
            blocks = iter([_overview(page.parent, file)])
        elif kind == "verdict":
            blocks = _verdict(read_results(page.parent / file), page, file)
        else:
            blocks = _results(read_results(page.parent / file), page, file, names)
        return begin + "\n\n".join(blocks) + f"\n{end}"

    return MARK.sub(fill, text)


def _read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{page}: {getattr(error, 'strerror', None) or 'is no text in UTF-8'}"]) from None


def _wanted(names: str | None) -> list[str]:
    return names.split() if names else list(USUAL)


def _figure(file: str, name: str) -> str:
    return f"{Path(file).stem}_{name}.png"


def _pictures(results: Results) -> dict[str, Picture]:
    """What a page can show, by name: ``comparison`` is a panel an arm, where there are few."""
    found = [*sweep_pictures(results.manifest, results.cells)]
    if len(results.cells) <= MOST_PANELS:
        found.append(next(comparison_pictures(results.manifest, results.cells)))
    return {picture.name: picture for picture in found}


def _results(results: Results, page: Path, file: str, names: str | None) -> Iterator[str]:
    tables = {table.name: table for table in result_tables(results)}
    pictures = _pictures(results)
    if results.kept:
        yield f"These runs are kept from an earlier version: {escaped(line(results.kept))}."
    for name in _wanted(names):
        if name in tables:
            yield tables[name].markdown()
        elif name in pictures:
            yield f"![{pictures[name].title}]({_figure(file, name)})"
        elif names:
            known = ", ".join([*tables, *pictures])
            raise ConfigError([f"{page}: {file} has no table or figure {name!r} (known: {known})"])


def _verdict(results: Results, page: Path, file: str) -> Iterator[str]:
    if not results.claims:
        raise ConfigError([f"{page}: {file} has no claims, so there is no verdict"])
    findings = judge_claims(results.claims, results.cells)
    if not findings:
        yield f"**Verdict: {UNDERPOWERED}.** No finished runs have what the claims compare."
        return
    yield f"**Verdict: {overall(findings)}.**"
    yield "\n".join(f"- {_line(finding)}" for finding in findings)


def _overview(folder: Path, file: str) -> str:
    rows = []
    for path in sorted(folder.glob(f"*/{file}")):
        results, page = read_results(path), path.parent / "README.md"
        title = re.search(r"^# (.+)", _read(page), re.MULTILINE)
        seeds = sorted({len(cell.results) for cell in results.cells})
        findings = judge_claims(results.claims, results.cells)
        rows.append(
            (
                f"[{title[1] if title else plain(path.parent.name)}]({path.parent.name}/README.md)",
                "–".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1]))),
                "an earlier version" if results.kept else "this version",
                overall(findings) if findings else UNDERPOWERED,
            )
        )
    return tabulate(rows, ("page", "seeds", "runs of", "verdict"), tablefmt=STYLE)


def _line(f: Finding) -> str:
    difference = Number(f.difference, *f.interval)
    return (
        f"{plain(f.setting)}: {escaped(line(f.claim.words))}? {Number(f.higher)} against {Number(f.lower)}, "
        f"a difference of {difference} over {f.seeds} seeds: {f.verdict}."
    )
