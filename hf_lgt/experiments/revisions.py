"""Checkpoints of a pretraining, as a comparison lists them.

Beside arms and seeds, a comparison may name a repository and its revisions, or a list of such::

    checkpoints:
      name_or_path: HuggingFaceTB/SmolLM2-360M-intermediate-checkpoints
      revisions: [step-160000, step-320000]
      random_twin: true

The twin has the architecture and tokenizer of the first revision and random weights, and is always
trained in full: what it reaches is owed to fine-tuning alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.registry import unknown
from hf_lgt.config.schema import short
from hf_lgt.utils import yaml
from hf_lgt.utils.errors import ConfigError

KEYS = ("name_or_path", "revisions", "random_twin")
LONGEST_NAME = 100
"""characters of a run's name"""
TWIN = "random"
"""what stands for the twin where others have their revision"""


@dataclass(frozen=True)
class ListedCheckpoint:
    """One model to fine-tune."""

    name_or_path: str
    """Hub id or local folder, relative to the current directory"""
    revision: str
    random: bool = False
    """the twin: only architecture and tokenizer are this revision's"""

    @property
    def label(self) -> str:
        """The revision, or ``random``."""
        return TWIN if self.random else self.revision

    @property
    def suffix(self) -> str:
        """What a run's name ends with, safe in a path."""
        return f"{repository_name(self.name_or_path)}-{_safe(self.label)}"

    def run_name(self, arm: str) -> str:
        """The name of an arm's runs from this checkpoint, at most 100 characters.

        A longer one loses its middle to a hash of the whole.
        """
        name = f"{arm}-{self.suffix}"
        if len(name) <= LONGEST_NAME:
            return name
        return f"{name[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{name[-35:]}"

    def overrides(self) -> list[str]:
        """What a config needs to begin from this checkpoint, its name and seeds aside."""
        settings = [
            setting("model.init", "random" if self.random else "pretrained"),
            setting("model.name_or_path", self.name_or_path),
            setting("model.revision", self.revision),
        ]
        # the whole section, because an arm's rank would be refused without adapters
        return [*settings, "peft={method: none}"] if self.random else settings


@dataclass(frozen=True)
class CheckpointList:
    """Revisions of one repository."""

    name_or_path: str
    revisions: tuple[str, ...]
    twin: str | None
    """revision whose architecture and tokenizer the random twin takes, None without a twin"""

    @property
    def checkpoints(self) -> list[ListedCheckpoint]:
        """The twin first, then the revisions in their order."""
        twins = [] if self.twin is None else [ListedCheckpoint(self.name_or_path, self.twin, random=True)]
        return [*twins, *(ListedCheckpoint(self.name_or_path, revision) for revision in self.revisions)]


def setting(key: str, value: str) -> str:
    """``key=value``, the value in quotes where YAML would not take it for the same text."""
    try:
        same = yaml.load(value) == value
    except yaml.YAMLError:
        same = False
    return f"{key}={value if same else json.dumps(value, ensure_ascii=False)}"


def repository_name(name_or_path: str) -> str:
    """The last part of a Hub id or path, safe in a path."""
    return _safe(Path(name_or_path).resolve().name)


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text) or "-"


def read_checkpoints(data: Any) -> tuple[tuple[CheckpointList, ...], list[str]]:
    """The lists of a comparison's ``checkpoints``, and every fault of theirs.

    Args:
        data: what stands there: a mapping or a list of them.
    """
    if isinstance(data, list) and data:
        items = [(f"checkpoints.{i}", item) for i, item in enumerate(data)]
    else:
        items = [("checkpoints", data)]
    faults = [fault for place, item in items for fault in _list_faults(place, item)]
    if faults:
        return (), faults
    lists = []
    for _, item in items:
        revisions = tuple(item["revisions"])
        twin = revisions[0] if item.get("random_twin", True) else None
        lists.append(CheckpointList(item["name_or_path"], revisions, twin))
    return tuple(lists), _clashes([place for place, _ in items], lists)


def _list_faults(place: str, item: Any) -> list[str]:
    if not isinstance(item, dict):
        return [f"{place}: {short(item)} must hold the keys name_or_path and revisions"]
    faults = [f"{place}.{key}: {unknown('key', key, KEYS)}" for key in item if key not in KEYS]
    name = item.get("name_or_path")
    if "name_or_path" not in item:
        faults.append(f"{place}.name_or_path: is missing; it is a Hub id or a local folder")
    elif not isinstance(name, str) or not name.strip() or not name.isprintable():
        faults.append(f"{place}.name_or_path: {short(name)} must be a Hub id or a local folder")
    revisions = item.get("revisions")
    if "revisions" not in item:
        faults.append(f"{place}.revisions: is missing; it lists branches, tags or commits")
    elif not isinstance(revisions, list) or not revisions:
        faults.append(f"{place}.revisions: {short(revisions)} must be a list of branches, tags or commits")
    else:
        faults += _revision_faults(f"{place}.revisions", revisions)
    if not isinstance(item.get("random_twin", True), bool):
        faults.append(f"{place}.random_twin: {short(item['random_twin'])} must be a boolean")
    return faults


def _revision_faults(place: str, revisions: list[Any]) -> list[str]:
    faults = []
    for i, revision in enumerate(revisions):
        if not isinstance(revision, str) or not revision.strip() or not revision.isprintable():
            faults.append(
                f"{place}.{i}: {short(revision)} must be the name of a branch, tag or commit "
                "(a number is a string in quotes)"
            )
        elif "," in revision:
            faults.append(f"{place}.{i}: {short(revision)} has a comma, which no revision can have")
        elif revision in revisions[:i]:
            faults.append(f"{place}.{i}: {short(revision)} is a duplicate")
    return faults


def _clashes(places: Sequence[str], lists: Sequence[CheckpointList]) -> list[str]:
    """Different checkpoints whose runs would share a folder."""
    faults: list[str] = []
    first: dict[str, str] = {}
    for place, own in zip(places, lists, strict=True):
        for checkpoint in own.checkpoints:
            twin = "the random twin" if checkpoint.random else short(checkpoint.revision)
            what = f"{twin} of {short(own.name_or_path)}"
            if checkpoint.suffix in first:
                faults.append(f"{place}: the runs of {what} would be those of {first[checkpoint.suffix]}")
            first.setdefault(checkpoint.suffix, what)
    return faults


def choose(lists: Sequence[CheckpointList], text: str) -> tuple[CheckpointList, ...]:
    """Only some of the revisions; the twin stays, and stays that of the first revision listed.

    Args:
        lists: of a comparison.
        text: revisions as ``step-160000,step-320000``. A repository without any of them is left out.

    Raises:
        ConfigError: with every revision that no list has, or where there are no lists.
    """
    if not lists:
        raise ConfigError(["--checkpoints: the comparison lists no checkpoints"])
    known = list(dict.fromkeys(revision for own in lists for revision in own.revisions))
    wanted = [word.strip() for word in text.split(",")]
    if faults := [f"--checkpoints: {unknown('revision', w, known)}" for w in wanted if w not in known]:
        raise ConfigError(faults)
    chosen = [
        dataclasses.replace(own, revisions=tuple(r for r in own.revisions if r in wanted)) for own in lists
    ]
    return tuple(own for own in chosen if own.revisions)
