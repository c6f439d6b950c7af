"""Probe models with a battery: write its corpora, train what was chosen, answer."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_builders.corpus.language import write_language
from data_builders.corpus.marker import FolderError, is_there
from hf_lgt.commands.experiment import Execution, Failed, complete_runs, execute_runs
from hf_lgt.commands.probe_plan import Chosen, Wanted, choose_runs, models_of
from hf_lgt.config.schema import Config
from hf_lgt.experiments.folder_lock import experiment_lock
from hf_lgt.experiments.launch import last_error
from hf_lgt.experiments.plan import manifest_of, record_plan, todo
from hf_lgt.experiments.probe.answers import Missing, Probe, probe_of, with_references, write_data
from hf_lgt.experiments.probe.report import card_section, markdown_of, picture_of, short_table
from hf_lgt.experiments.probe.subjects import JOINT, MODEL
from hf_lgt.experiments.probe.tables import tables_of
from hf_lgt.experiments.report.outputs import write_results
from hf_lgt.experiments.report.page import write_report
from hf_lgt.experiments.report.stored import Results
from hf_lgt.experiments.results import collect
from hf_lgt.report.canvas import optional
from hf_lgt.report.figures import save_figure
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import atomic_directory, clear_drafts, write_text
from hf_lgt.utils.environment import describe_environment
from hf_lgt.utils.errors import ConfigError

ANSWERS, NEXT, CARDS = "probe.json", "next", "cards"
LONGEST_START = 30.0
"""seconds in which a process has imported everything"""
AGAIN = "the same command draws it"
References = Sequence[tuple[Path, Probe]]


def run_probe(wanted: Wanted, references: References) -> int:
    """Do all of it; gives the command's exit status.

    Args:
        wanted: what was asked for.
        references: answers of other models, with their files.

    Raises:
        ConfigError: no model can be probed; or something is wrong with the battery or a folder.
    """
    import psutil  # type: ignore[import-untyped,unused-ignore]

    # a training starts as this process did, unless this one is a program that had begun long before
    startup = min(time.time() - psutil.Process().create_time(), LONGEST_START)
    models, refused = models_of(wanted)
    try:
        wanted.folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError([f"--output_dir: {wanted.output_dir} is a file; name a folder"]) from None
    with experiment_lock(wanted.folder):
        _write_corpora(wanted)
        chosen = choose_runs(wanted, models, refused, startup)
        record_plan(chosen.spec, chosen.runs)
        title = wanted.battery.name
        failed = execute_runs(
            chosen.spec, todo(chosen.runs), wanted.folder, Execution(chosen.jobs, retries=1), title
        )
        for log in dict.fromkeys(log for _, log in failed):
            print(f"a training failed; see {log}\n{last_error(log)}", file=sys.stderr)
        complete_runs(chosen.runs)
        _answer(wanted, chosen, failed, references)
    return 1 if failed else 0


def _write_corpora(wanted: Wanted) -> None:
    """The rows of the families in English; those that are there stay.

    Raises:
        ConfigError: a folder holds something else.
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    for family in wanted.battery.families:
        if (corpus := family.corpus) is None:
            continue
        place = wanted.corpora / family.name
        place.parent.mkdir(parents=True, exist_ok=True)
        clear_drafts(place.parent, place.name)
        try:
            if is_there(place, corpus.fingerprint, overwrite=False, push=True):
                continue
        except FolderError:
            told = (
                f"output_dir: {place} holds no corpus of this battery and this code, or not the whole of it"
            )
            raise ConfigError([f"{told}; remove the folder, or name another --output_dir"]) from None
        with atomic_directory(place) as draft:
            write_language(draft, corpus, f"hf-lgt probe, family {family.name}")


def _answer(wanted: Wanted, chosen: Chosen, failed: Failed, references: References) -> None:
    """Write and show what the finished trainings say."""
    folder, manifest = wanted.folder, manifest_of(chosen.spec, chosen.runs)
    if not (cells := collect(manifest, folder)):
        return
    write_results("sweep", Results(manifest, cells, ()), folder)
    made_with = {key: describe_environment("cpu", 1)[key] for key in ("python", "packages")}
    words = [f"{run.label}, seed {run.seed}" for run, _ in failed]
    missing = Missing(tuple(chosen.not_run), chosen.refused, tuple(words))
    battery = dataclasses.replace(wanted.battery, digest=wanted.identity[2])
    own = probe_of(battery, chosen.subjects, cells, missing, made_with, wanted.changes)
    write_text(folder / ANSWERS, write_data(own))
    probe, notes = with_references(own, references)
    text = markdown_of(probe, notes)
    write_text(folder / "probe.md", text)
    print(f"\n{text}")
    _write_next(wanted, chosen)
    (folder / CARDS).mkdir(exist_ok=True)
    names = _file_names([model.label for model in own.models if not model.twin])
    for label, name in names.items():
        write_text(folder / CARDS / f"{name}.md", card_section(own, label))
    with optional("probe.png", AGAIN):
        picture = picture_of(probe)
        print(f"figure: {save_figure(picture.figure, folder / 'probe.png')}")
    with optional("the page", AGAIN):
        page, _ = write_report(
            folder, lead=([short_table(probe), *tables_of(probe, notes)], [picture_of(probe)])
        )
        print(f"page:   {page}")
    print(f"answers: {folder / ANSWERS}")


def _write_next(wanted: Wanted, chosen: Chosen) -> None:
    """A config of each family and model that a longer training can go on from."""
    folder = wanted.folder / NEXT
    folder.mkdir(exist_ok=True)
    first = [r for r in chosen.runs if r.arm == JOINT and r.seed == wanted.battery.seeds[0]]
    own = {f"{r.point[MODEL]}-{r.group}": r.config for r in first if r.config.model.init == "pretrained"}
    files = _file_names(list(own))
    for label, name in files.items():
        write_text(folder / f"{name}.yaml", _next_config(own[label], name))
    for name in files.values():
        print(f"to go on: hf-lgt finetune --config {shlex.quote(str(folder / name))}.yaml")


def _next_config(config: Config, name: str) -> str:
    """The joint training with four times the steps, to the last, on a whole evaluation."""
    data = dataclasses.replace(config, name=name).to_dict()
    data["train"]["steps"] *= 4
    data["train"]["until"] = {}
    data["eval"] |= {"examples": 4 * config.eval.examples, "during": "all"}
    return yaml.dump(data)


def _file_names(labels: Sequence[str]) -> dict[str, str]:
    """Label -> a name for its file and run, each its own."""
    found: dict[str, str] = {}
    for label in labels:
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", label).strip("-.")[:80] or "model"
        while name in found.values():
            name += "-2"
        found[label] = name
    return found
