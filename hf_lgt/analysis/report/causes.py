"""What the causal tests of heads leave behind: numbers, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_lgt.analysis.necessity import Necessity
from hf_lgt.analysis.patching import PatchMap
from hf_lgt.evaluation.statistics import mean_interval, permutation_test
from hf_lgt.report.blocks import Number, Row, Table
from hf_lgt.report.canvas import AGAIN, empty_figure, optional
from hf_lgt.report.figures import COLORS, TARGET_COLOR, literal, save_figure
from hf_lgt.utils.atomic_io import atomic_directory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NECESSITY_FILES = {"necessity.json", "necessity.md"}
PATCHING_FILES = {"patching.json", "patching.md"}
"""what is written, beside figures"""


@dataclass(frozen=True)
class Needed:
    """A run's answer: without k heads, what is lost."""

    run: str
    lengths: tuple[int, ...]
    by_k: Mapping[int, Necessity]


@dataclass(frozen=True)
class Patched:
    """A pair of runs, and the length at which heads were moved from the one into the other."""

    donor: str
    receiver: str
    task: str
    by_length: Mapping[int, PatchMap]


def mean_with_interval(values: Sequence[float], *, least: float = 0.0) -> Number:
    """Mean over runs of what is from `least` to 1, with its interval where there are several."""
    if len(values) < 2:
        return Number(values[0])
    return Number(fmean(values), *mean_interval(values, bounds=(least, 1.0)))


def write_necessity(found: Sequence[Needed], folder: Path, *, replace: bool = False) -> list[Table]:
    """Write ``necessity.json``, ``necessity.md`` and ``necessity.png``, whole or not at all."""
    tables = [_necessity_table(found), _chosen_table(found)]
    data = [
        {
            "run": own.run,
            "lengths": own.lengths,
            "by_k": {
                str(k): {**asdict(result), "effect": result.effect, "p": result.p}
                for k, result in own.by_k.items()
            },
        }
        for own in found
    ]
    title = "Heads that the auxiliaries need"
    return _write(folder, "necessity", title, tables, data, lambda: _necessity_figure(found), replace)


def write_patching(found: Sequence[Patched], folder: Path, *, replace: bool = False) -> list[Table]:
    """Write ``patching.json``, ``patching.md`` and ``patching.png``, whole or not at all."""
    tables = [_patching_table(found), _head_table(found)]
    data = [
        {
            "donor": own.donor,
            "receiver": own.receiver,
            "task": own.task,
            "by_length": {
                str(length): {
                    "receiver": m.receiver,
                    "donor": m.donor,
                    "by_head": m.by_head.tolist(),
                    "by_layer": m.by_layer.tolist(),
                    "together": m.together,
                }
                for length, m in own.by_length.items()
            },
        }
        for own in found
    ]
    title = "Heads moved between models"
    return _write(folder, "patching", title, tables, data, lambda: _patching_figure(found), replace)


def _write(
    folder: Path,
    name: str,
    title: str,
    tables: list[Table],
    data: Any,
    draw: Callable[[], Figure],
    replace: bool,
) -> list[Table]:
    with atomic_directory(folder, replace=replace) as draft:
        (draft / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        text = "\n\n".join([f"# {title}", *(table.markdown() for table in tables)])
        (draft / f"{name}.md").write_text(text + "\n", encoding="utf-8")
        with optional(f"{name}.png", AGAIN):
            save_figure(draw(), draft / f"{name}.png")
    return tables


def _necessity_table(found: Sequence[Needed]) -> Table:
    rows = []
    for k in dict.fromkeys(k for own in found for k in own.by_k):
        each = [own.by_k[k] for own in found if k in own.by_k]
        lost, matched = [n.lost for n in each], [fmean(n.lost_matched) for n in each]
        p = Number(permutation_test(lost, matched)) if len(each) > 1 else None
        whole = mean_with_interval([n.exact_match for n in each])
        differences = ([n.effect for n in each], lost, matched)
        effect, mean_lost, mean_matched = (mean_with_interval(v, least=-1.0) for v in differences)
        rows.append(Row((k, len(each), whole, mean_lost, mean_matched, effect, p)))
    return Table(
        "necessity",
        "Exact match of the target beyond its training length, lost without k heads",
        ("k", "runs", "with all heads", "lost without the auxiliaries' k", "lost without k matched",
         "difference", "p"),
        tuple(rows),
        ("Means over runs with 95 % intervals. The k heads that the auxiliaries need most at the "
         "same lengths are ablated together; matched: as many heads of the same layers, the mean over the "
         "other sets. p: two-sided paired permutation test over runs.",),
    )  # fmt: skip


def _chosen_table(found: Sequence[Needed]) -> Table:
    rows = [
        Row(
            (own.run, k, ", ".join(f"{layer}.{head}" for layer, head in n.chosen), Number(n.lost),
             Number(fmean(n.lost_matched)), len(n.lost_matched), Number(n.p))
        )
        for own in found
        for k, n in own.by_k.items()
    ]  # fmt: skip
    return Table(
        "sets",
        "Every run",
        ("run", "k", "heads (layer.head)", "lost", "lost without matched", "matched sets", "share as costly"),
        tuple(rows),
        ("Share as costly: of all sets, the chosen one among them, those that cost at least as much.",),
    )


def _necessity_figure(found: Sequence[Needed]) -> Figure:
    ks = list(dict.fromkeys(k for own in found for k in own.by_k))
    figure = empty_figure(0.8 + 2.6 * len(ks), 3.4)
    for axes, k in zip(figure.subplots(1, len(ks), squeeze=False, sharey=True)[0], ks, strict=True):
        each = [own.by_k[k] for own in found if k in own.by_k]
        for i, n in enumerate(each):
            spread = np.linspace(-0.18, 0.18, len(n.lost_matched)) if len(n.lost_matched) > 1 else [0]
            axes.plot(i + np.asarray(spread), n.lost_matched, "o", ms=3, color=COLORS[0], alpha=0.5,
                      label="k matched heads" if i == 0 else None)  # fmt: skip
            axes.plot(i, n.lost, "D", ms=7, color=TARGET_COLOR,
                      label="the auxiliaries' k" if i == 0 else None)  # fmt: skip
            axes.plot([i - 0.3, i + 0.3], [n.exact_match] * 2, color="#777777", lw=1.2,
                      label="all there is to lose" if i == 0 else None)  # fmt: skip
        runs = [literal(own.run.split("/")[-1]) for own in found]
        axes.set_xticks(range(len(each)), runs, fontsize=7, rotation=30)
        axes.set_title(f"k = {k}", fontsize=9)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if k == ks[0]:
            axes.set_ylabel("exact match lost beyond\nthe target's training length", fontsize=9)
            axes.legend(fontsize=7)
    return figure


def _patching_table(found: Sequence[Patched]) -> Table:
    rows = []
    for length in dict.fromkeys(n for own in found for n in own.by_length):
        each = [own.by_length[length] for own in found]
        layers = len(each[0].by_layer)
        values = {
            "receiver": [m.receiver for m in each],
            "donor": [m.donor for m in each],
            **{f"layer {n}": [tuple(m.by_layer[n]) for m in each] for n in range(layers)},
            "all heads": [m.together for m in each],
        }
        for name, pairs in values.items():
            exact, tokens = zip(*pairs, strict=True)
            rows.append(Row((length, name, len(each), mean_with_interval(exact), mean_with_interval(tokens))))
    return Table(
        "patching",
        "Score of the receiver with heads of the donor",
        ("length", "heads of the donor in", "pairs", "exact match", "token accuracy"),
        tuple(rows),
        ("Means over pairs of runs with 95 % intervals. receiver, donor: as they are.",),
    )


def _head_table(found: Sequence[Patched]) -> Table:
    rows = []
    for own in found:
        for length, m in own.by_length.items():
            gains = m.by_head[..., 1] - m.receiver[1]
            order = np.argsort(-gains.ravel())[:3]
            places = [divmod(int(i), gains.shape[1]) for i in order]
            best = ", ".join(f"{at}.{head} ({gains[at, head]:+.3f})" for at, head in places)
            rows.append(Row((own.donor, own.receiver, length, best)))
    return Table(
        "heads",
        "The three heads that restore most, by token accuracy",
        ("donor", "receiver", "length", "heads (layer.head)"),
        tuple(rows),
    )


def _patching_figure(found: Sequence[Patched]) -> Figure:
    lengths = list(dict.fromkeys(n for own in found for n in own.by_length))
    figure = empty_figure(1.2 + 1.9 * len(lengths), 0.8 + 1.5 * len(found))
    panels = figure.subplots(len(found), len(lengths), squeeze=False, sharex=True, sharey=True)
    gains = {(i, n): own.by_length[n].by_head[..., 1] - own.by_length[n].receiver[1]
             for i, own in enumerate(found) for n in lengths}  # fmt: skip
    reach = max(0.05, max(float(np.abs(g).max()) for g in gains.values()))
    image = None
    for (i, n), gain in gains.items():
        axes = panels[i][lengths.index(n)]
        image = axes.imshow(gain, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
        axes.set_xticks(range(gain.shape[1]), [str(h) for h in range(gain.shape[1])], fontsize=7)
        axes.set_yticks(range(gain.shape[0]), [str(m) for m in range(gain.shape[0])], fontsize=7)
        if i == 0:
            axes.set_title(f"length {n}", fontsize=9)
        if n == lengths[0]:
            axes.set_ylabel(f"{literal(found[i].receiver.split('/')[-1])}\nlayer", fontsize=8)
        if i == len(found) - 1:
            axes.set_xlabel("head", fontsize=8)
    assert image is not None, "there is a pair"
    figure.colorbar(image, ax=panels, label="token accuracy gained with the donor's head", shrink=0.9)
    return figure
