"""The table of speed, from speed.json into benchmarks/README.md and docs/speed.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.sides import OURS

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "README.md")
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
GROWTH = "<!-- growth: begin -->", "<!-- growth: end -->"
SMOLLM = "<!-- smollm: begin -->", "<!-- smollm: end -->"


def render(measured: Mapping[str, Any]) -> str:
    """The table in Markdown, and what it was measured on."""
    return "\n".join([comparison_table(measured), "", *_told(measured)])


def comparison_table(measured: Mapping[str, Any]) -> str:
    """Ours beside the others, a row each."""
    rows = []
    for own in measured["comparisons"]:
        for peer, ratio in own["ratios"].items():
            target = own["target"].get(peer)
            rows.append((
                own["name"], peer, *(_shown(own["medians"][side], own["unit"]) for side in (OURS, peer)),
                f"{ratio:.2f}", "" if target is None else f"{target:.3g}",
            ))  # fmt: skip
    headers = ("what", "compared with", "hf_lgt", "the other", "ratio", "goal")
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def render_smollm(measured: Mapping[str, Any]) -> str:
    """What smollm.json holds, and what it was measured on."""
    peers = ", ".join(f"{name} {version}" for name, version in measured["environment"]["peers"].items())
    told = (
        f"Medians of five; ratio: the median of the rounds' ratios, above 1 where hf_lgt takes less. "
        f"{measured['threads']} threads, float32, {peers}."
    )
    return f"{comparison_table(measured)}\n\n{told}"


def _shown(value: float, unit: str) -> str:
    return f"{value:.2f} GiB" if unit == "GiB" else _seconds(value)


def _told(measured: Mapping[str, Any]) -> list[str]:
    env = measured["environment"]
    peers = ", ".join(f"{name} {version}" for name, version in env["peers"].items())
    told = [
        f"Medians; ratio: the median of the rounds' ratios, above 1 where hf_lgt is faster. "
        f"{measured['threads']} threads, float32, {peers}.",
    ]
    for own in measured["comparisons"]:
        if "share_of_peak" in own:
            told.append(
                f"{own['name']}: {own['share_of_peak']:.0%} of what matrix products alone reach at the same "
                f"shapes ({own['peak_flop_per_second'] / 1e9:.0f} GFLOP/s), counted on tokens that are no "
                "padding."
            )
        if "runs" in own:
            ours, alone = (3600 * own["runs"] / own["medians"][side] for side in (OURS, *own["ratios"]))
            told.append(f"{own['name']}: {ours:.0f} runs an hour together, {alone:.0f} one process a run.")
    copied = measured["limits"]["memory_bytes_per_second"] / 1e9
    told.append(f"A copy in memory reads and writes {copied:.0f} GB/s on this machine.")
    return told


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def render_growth(measured: Mapping[str, Any]) -> str:
    """What growth.json holds, as a table: the ends of each axis, and the last power."""
    rows = []
    for own in measured["axes"].values():
        first, last = own["rows"][0], own["rows"][-1]
        for key, power in own["last_exponents"].items():
            shown = _mebibytes if key == "memory" else _seconds
            rows.append((
                own["label"], f"{first['value']:,} to {last['value']:,}", key, shown(first[key]),
                shown(last[key]), "" if power is None else f"{power:.1f}",
            ))  # fmt: skip
    headers = ("varied", "from, to", "measured", "first", "last", "last power")
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _mebibytes(value: float) -> str:
    return f"{value:.0f} MiB"


def between(text: str, begin: str = BEGIN, end: str = END) -> str:
    """What a page has between two markers."""
    return text.split(begin)[1].split(end)[0].strip()


def write_tables(measured: Mapping[str, Any]) -> None:
    """Write the table of speed into the pages."""
    for page in PAGES:
        write_between(page, render(measured), BEGIN, END)


def write_growth(measured: Mapping[str, Any]) -> None:
    """Write the table of growth into its page."""
    write_between(PAGES[1], render_growth(measured), *GROWTH)


def write_between(page: Path, table: str, begin: str, end: str) -> None:
    """Put a table between two markers of a page."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
