"""A report of experiments: one HTML page that needs nothing else, and its figures as PNG and SVG."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from data_builders.reading import beginning
from data_builders.texts import printable
from hf_lgt.checkpointing.run_folder import check_place, recorded_checkpoint, recorded_data
from hf_lgt.experiments.report.experiments import Experiment, ReportedFolder, Run, find_experiments
from hf_lgt.experiments.report.sweep_figures import sweep_pictures
from hf_lgt.experiments.report.sweep_tables import sweep_tables
from hf_lgt.experiments.report.trained import facts, result_lines, settings_table
from hf_lgt.experiments.report.views import (
    ExperimentView,
    FigureView,
    RunView,
    Saved,
    TableView,
    size,
    smaller_ways,
    state,
    table_view,
)
from hf_lgt.report.blocks import Picture, Table
from hf_lgt.report.canvas import drawing
from hf_lgt.report.figures import save_figure
from hf_lgt.report.model_card import public_config
from hf_lgt.report.svg import color_rules, inline, svg_of
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import atomic_directory, write_text
from hf_lgt.utils.errors import ConfigError

INDEX = "index.html"
FIGURES = "figures"
GENERATOR = '<meta name="generator" content="hf_lgt report">'
"""tells a report from what is not ours to replace"""
LARGEST = 3_000_000
"""bytes of a page; figures that do not fit are PNGs in it, or only linked"""
FILES = ("config.yaml", "eval.jsonl", "train.jsonl", "environment.json", "curves.png", "mistakes.png")
"""of a run's folder, linked where they are"""


def check_output(output: Path) -> None:
    """Refuse to put a report in the place of anything but an earlier report.

    Raises:
        ConfigError: `output` is a file, or a folder with something else in it.
    """
    check_place(output)
    if not os.path.lexists(output):
        return
    if not output.is_dir():
        raise ConfigError([f"--output: {output} is a file; name a folder"])
    names = sorted(path.name for path in output.iterdir())
    others = [name for name in names if name not in (INDEX, FIGURES)]
    if names and not others:
        index = output / INDEX
        ours = index.is_file() and GENERATOR.encode() in beginning(index, 2000)
        others = [] if ours else names
        figures = output / FIGURES
        if figures.is_dir():
            kinds = (".png", ".svg")
            others += [f"{FIGURES}/{p.name}" for p in sorted(figures.iterdir()) if p.suffix not in kinds]
    if others:
        listed = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        raise ConfigError(
            [f"--output: {output} holds what is no report ({listed}); name another folder, or remove it"]
        )


def write_report(
    folder: Path,
    output: Path | None = None,
    lead: tuple[Sequence[Table], Sequence[Picture]] = ((), ()),
) -> tuple[Path, ReportedFolder]:
    """Write the report of all experiments and runs at or below a folder.

    An earlier report is replaced as a whole.

    Args:
        folder: of runs, of experiments, or one of these.
        output: a folder; None: ``report`` in `folder`.
        lead: tables and figures that come first in the first experiment.

    Returns:
        Path of the page, and what it is about.

    Raises:
        ConfigError: as `find_experiments` and `check_output`.
    """
    output = Path(os.path.realpath(output if output is not None else folder / "report"))
    if folder.is_dir():
        check_output(output)
    found = find_experiments(folder)
    with atomic_directory(output, replace=True) as draft:
        page = _Page(Path(os.path.realpath(folder)), output, draft / FIGURES, lead)
        write_text(draft / INDEX, page.render(found))
    return output / INDEX, found


class _Page:
    """One page: its ids, its runs' entries, its figures' files."""

    def __init__(
        self,
        folder: Path,
        output: Path,
        figures: Path,
        lead: tuple[Sequence[Table], Sequence[Picture]],
    ) -> None:
        self.folder = folder
        self.output = output
        self.figures = figures
        self.lead = lead
        self.taken: set[str] = set()
        self.runs: dict[Path, RunView] = {}
        self.configs: dict[str, RunView] = {}
        """config without its seeds -> the first run that has it"""
        self.colors: set[str] = set()

    def render(self, found: ReportedFolder) -> str:
        """The HTML, at most `LARGEST` bytes where figures can make it so."""
        with drawing("the figures"):
            pictures = [
                [*(self.lead[1] if i == 0 else ()), *(sweep_pictures(e.manifest, e.cells) if e.cells else ())]
                for i, e in enumerate(found.experiments)
            ]
        slugs = [self.id(e.manifest.name) for e in found.experiments]
        saved = [
            [self.saved(slug, picture) for picture in own] for slug, own in zip(slugs, pictures, strict=True)
        ]
        views = [
            self.experiment(e, slug, own, self.lead[0] if i == 0 else ())
            for i, (e, slug, own) in enumerate(zip(found.experiments, slugs, saved, strict=True))
        ]
        ways = smaller_ways([figure for own in saved for figure in own])
        for share_configs in (False, True):
            room = LARGEST - len(self.html(views, ways[-1], found, share_configs).encode("utf-8"))
            if room > size(ways[0]):
                break
        fitted = next((way for way in ways if size(way) < room), ways[-1])
        return self.html(views, fitted, found, share_configs)

    def html(
        self,
        views: Sequence[ExperimentView],
        figures: Mapping[str, FigureView],
        found: ReportedFolder,
        share_configs: bool,
    ) -> str:
        """The template with everything in its place.

        Args:
            views: the experiments.
            figures: id of each figure -> it, in the form that fits.
            found: what else there is to tell.
            share_configs: a config that differs from an earlier one in the seed alone is only linked.
        """
        here = Path(__file__)
        css = here.with_suffix(".css").read_text(encoding="utf-8") + color_rules(self.colors)
        script = here.with_suffix(".js").read_text(encoding="utf-8")
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            # what a terminal or an editor must not see is not for a page either
            finalize=lambda v: printable(v) if type(v) is str else v,
        )
        template = environment.from_string(here.with_suffix(".html.j2").read_text(encoding="utf-8"))
        return template.render(
            generator=Markup(GENERATOR),
            title=f"Length generalization: {self.folder.name}",
            experiments=views,
            figures=figures,
            share_configs=share_configs,
            left_out=[os.path.relpath(path, self.folder) for path in found.left_out],
            css=Markup(css),
            script=Markup(script),
            css_hash=_hash(css),
            script_hash=_hash(script),
        )

    def id(self, text: str) -> str:
        """An id made of a text, its own in the page and as the name of a file."""
        ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")[:80] or "x"
        names = itertools.chain([slug], (f"{slug}-{n}" for n in itertools.count(2)))
        own = next(name for name in names if name not in self.taken)
        self.taken.add(own)
        return own

    def saved(self, slug: str, picture: Picture) -> Saved:
        """Write a figure's two files and make it a part of the page."""
        name = self.id(f"{slug}-{picture.name}")
        svg = self.figures / f"{name}.svg"
        with drawing(svg.name):
            text = svg_of(picture.figure, name)
            write_text(svg, text)
            png = save_figure(picture.figure, self.figures / f"{name}.png")
        made = inline(text, name, f"{name}-title", picture.alt)
        self.colors |= made.colors
        data = base64.b64encode(png.read_bytes()).decode()
        view = FigureView(
            name, picture.title, picture.alt, f"{FIGURES}/{png.name}", f"{FIGURES}/{svg.name}",
            Markup(made.markup), made.wide,
        )  # fmt: skip
        raster = Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, printable(picture.alt))
        return Saved(view, raster)

    def experiment(
        self, experiment: Experiment, slug: str, figures: Sequence[Saved], lead: Sequence[Table]
    ) -> ExperimentView:
        known: dict[str, RunView] = {}
        groups: dict[str, list[RunView]] = {}
        for run in experiment.runs:
            view = self.run(run)
            known.update({entry.id: view for entry in run.entries})
            groups.setdefault(view.label, []).append(view)
        manifest, done, every = experiment.manifest, experiment.finished, len(experiment.runs)
        tables = [*lead, *(sweep_tables(manifest, experiment.cells) if experiment.cells else ())]
        summary = f"{done} of {every} runs are finished."
        if done < every:
            summary += (
                " The others do not count in tables and figures; the list of runs says how far they are."
            )
        return ExperimentView(
            id=slug,
            name=manifest.name,
            file=Path(manifest.file).name if Path(manifest.file).is_absolute() else manifest.file,
            summary=summary,
            facts=facts(experiment),
            settings=self.table(slug, settings_table(experiment), known),
            figures=[figure.view for figure in figures],
            tables=[self.table(slug, table, known) for table in tables if table.rows],
            groups=[(self.id(f"runs-{slug}-{label}"), label, own) for label, own in groups.items()],
        )

    def run(self, run: Run) -> RunView:
        """The entry of a run, one however many experiments it is part of."""
        if run.run_dir in self.runs:
            return self.runs[run.run_dir]
        config, but_for_seed = _configs(run)
        view = RunView(
            anchor=self.id(f"run-{run.id}"),
            id=run.id,
            label=run.entries[0].label or run.id.rpartition("/")[0] or run.id,
            seed=run.entries[0].seed,
            state=state(run),
            lines=result_lines(run) if run.config else [],
            links=[(name, self.url(run.run_dir / name)) for name in FILES if (run.run_dir / name).is_file()],
            config=config,
            like=self.configs.get(but_for_seed),
        )
        if config:
            self.configs.setdefault(but_for_seed, view)
        self.runs[run.run_dir] = view
        return view

    def url(self, path: Path) -> str:
        """Relative to the page."""
        return quote(Path(os.path.relpath(path, self.output)).as_posix())

    def table(self, slug: str, table: Table, runs: Mapping[str, RunView]) -> TableView:
        return table_view(self.id(f"{slug}-table-{table.name}"), table, runs)


def _configs(run: Run) -> tuple[str, str]:
    """A run's config as others may see it, and the same without its seeds."""
    if run.config is None:
        return "", ""
    public = public_config(run.config, recorded_data(run.run_dir), recorded_checkpoint(run.run_dir))
    whole = yaml.dump(public)
    del public["seed"]
    return whole, yaml.dump(public)


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
