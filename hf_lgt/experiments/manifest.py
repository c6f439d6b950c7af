"""The index of an experiment's runs: what is compared, and where each run lies.

``manifest.json`` stands in the experiment's own folder, beside the tables and figures that are made of its
runs; both comparisons and sweeps write one, and whatever reads results begins with it::

    {"format": 1, "name": "fig10-gap", "file": "recipes/paper/fig10_gap/cpu.yaml",
     "axes": {"target_length": ["2", "4"]},
     "runs": [{"id": "gap-transfer-0c5f1e9a2b/seed-0", "group": "", "arm": "transfer",
               "point": {"target_length": "2"}, "seed": 0, "checkpoint": "",
               "folder": "../gap-transfer-0c5f1e9a2b/seed-0"}, ...]}
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from data_builders.reading import UnreadableFileError, holds_text, read_json
from data_builders.texts import CONTROLS
from hf_lgt.checkpointing.run_folder import is_finished
from hf_lgt.utils.atomic_io import clear_drafts, write_text
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.run_lock import clear_lock

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

FILE = "manifest.json"
CONFIGS = "configs"
"""folder below an experiment's, with configs of its runs"""
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One run of an experiment."""

    id: str
    """names the run among all of its output_dir: the run's name and ``seed-N``"""
    group: str
    """which target and auxiliaries, empty where there is only one such group"""
    arm: str
    seed: int
    """of initialisation and data"""
    folder: str
    """the run's folder, relative to that of the manifest"""
    point: Mapping[str, str] = field(default_factory=dict)
    """axis -> value, as text"""
    checkpoint: str = ""
    """pretraining checkpoint that it starts from, ``random`` for the twin, empty without one"""

    @property
    def cell(self) -> tuple[str, str, tuple[tuple[str, str], ...], str]:
        """What all seeds of one setting share."""
        return self.group, self.arm, tuple(self.point.items()), self.checkpoint

    @property
    def label(self) -> str:
        """The run in words, its seed aside."""
        words = setting_words(self.group, self.arm, self.point)
        return words + f" from {self.checkpoint}" * bool(self.checkpoint)


@dataclass(frozen=True)
class Manifest:
    """All runs of an experiment."""

    name: str
    runs: tuple[Entry, ...]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """axis -> its values, as text"""
    file: str = ""
    """the YAML file that it was made from"""

    def run_dir(self, entry: Entry, folder: Path) -> Path:
        """Folder of a run, for a manifest that lies in `folder`."""
        return Path(os.path.normpath(folder / entry.folder))

    def unfinished(self, folder: Path) -> list[Entry]:
        """Runs that have not come to their end."""
        return [entry for entry in self.runs if not is_finished(self.run_dir(entry, folder))]


def relative(run_dir: Path, folder: Path) -> str:
    """A run's folder as a manifest names it, with ``/`` everywhere."""
    return Path(os.path.relpath(run_dir, folder)).as_posix()


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    """Write ``manifest.json`` into an experiment's folder, whole or not at all.

    What killed commands left unfinished there, and locks of finished runs, are removed.
    """
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, folder / CONFIGS):
        clear_drafts(place)
    for run_dir in (manifest.run_dir(entry, folder) for entry in manifest.runs):
        if is_finished(run_dir):
            clear_lock(run_dir)
    data = {"format": FORMAT, **dataclasses.asdict(manifest)}
    text = json.dumps(data, indent=1) + "\n"
    if not holds_text(path, text):
        write_text(path, text)
    return path


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an experiment's folder.

    Raises:
        ConfigError: there is none, or it is not what `write_manifest` writes.
    """
    path = folder / FILE
    try:
        data: Any = read_json(path)
    except UnreadableFileError as error:
        raise ConfigError([f"{path} {error.strerror}; run the recipe that made it again"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if data.get("format") != FORMAT:
        raise ConfigError([f"{path} is no manifest of format {FORMAT}; run the recipe that made it again"])
    try:
        runs = tuple(_entry(item) for item in data["runs"])
        axes = {str(key): tuple(map(str, values)) for key, values in data["axes"].items()}
        places = [(entry.cell, entry.seed) for entry in runs]
        if not all(axes.values()) or len(set(places)) < len(places):
            raise ValueError("an axis without values, or a run twice")
        return Manifest(_text(data["name"]), runs, axes, _text(data["file"]))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ConfigError([f"{path} is damaged; run the recipe that made it again"]) from None


def _entry(item: Mapping[str, Any]) -> Entry:
    texts = {key: _text(item[key]) for key in ("id", "group", "arm", "folder", "checkpoint")}
    if type(item["seed"]) is not int or CONTROLS.search(texts["folder"]):
        raise ValueError("no seed, or no path of a folder")
    point = {_text(key): _text(value) for key, value in item["point"].items()}
    return Entry(**texts, seed=item["seed"], point=point)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items of one key together, keys and items in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def setting_words(group: str, arm: str, point: Mapping[str, str], checkpoint: str = "") -> str:
    """A setting of an experiment in words, what is empty left out."""
    words = [group, arm, *(f"{axis} {value}" for axis, value in point.items()), checkpoint]
    return ", ".join(word for word in words if word)
