"""Working folders of commands: made, and compared file by file."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from tests.faults import runs

DRAFT = re.compile(r"\..+\.\d+-[0-9a-f]+(\.old)?(\.\w+)?")


def make_place(place: Path, inputs: Path | None = None) -> Path:
    """A working folder, with what a command reads."""
    shutil.rmtree(place, ignore_errors=True)
    if inputs:
        shutil.copytree(inputs, place)
    (place / "tmp").mkdir(parents=True, exist_ok=True)
    return place


def drafts(place: Path) -> set[str]:
    """Names of what is being written below a folder, or was when its writer was killed."""
    names = (name for _, *parts in os.walk(place) for part in parts for name in part)
    return {name for name in names if DRAFT.fullmatch(name) and ".lock" not in name}


def snapshot(place: Path) -> dict[str, bytes]:
    """All that is below a folder: path -> content, without times and speeds; of a folder nothing."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix() + "/" * path.is_dir()
        if not name.startswith("tmp/torchelastic_"):  # which each launch leaves
            found[name] = b"" if path.is_dir() else _content(path)
    return found


def _content(path: Path) -> bytes:
    if path.suffix == ".log" or not path.is_file():
        return b""  # each attempt adds to a log
    if path.name == "train.jsonl":
        lines = runs.lines(path)
        for line in lines:
            line.pop("examples_per_second")
        return json.dumps(lines).encode()
    if path.name == "plan.json":  # what a probe measured
        plan = json.loads(path.read_bytes())
        return json.dumps({**plan, "costs": sorted(plan["costs"])}).encode()
    if path.name == "environment.json":  # the code may be edited meanwhile
        return json.dumps({**json.loads(path.read_bytes()), "git_commit": ""}).encode()
    return path.read_bytes()


def differences(expected: dict[str, bytes], place: Path, below: str = "") -> list[str]:
    """In what a working folder differs from that of an undisturbed command; empty: in nothing."""
    try:
        found = snapshot(place)
    except ValueError as error:
        return [str(error)]
    wrong = []
    for name in sorted({*expected, *found}):
        if not name.startswith(below):
            continue
        if name not in found:
            wrong.append(f"{name} is missing")
        elif name not in expected:
            wrong.append(f"left behind: {name}")
        elif found[name] != expected[name]:
            wrong.append(f"{name} differs")
    return wrong


def names(folder: Path) -> set[str]:
    """Of all that is below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
