"""The recipe files that come with the project: those of a clone, or of the installed package.

A recipe is named by its place below ``recipes/``: ``demo`` is a folder, of which each command takes its own
file; ``paper/fig04_strings/cpu`` is one file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

CONFIG, COMPARISON, SWEEP = ("transfer.yaml",), ("compare.yaml",), ("cpu.yaml",)
"""files of a folder that a command takes, the first that is there"""


def shipped_recipes() -> Path:
    """Folder of the recipe files."""
    package = Path(__file__).resolve().parents[1]
    clone = package.parent / "recipes"
    return clone if (clone / "demo").is_dir() else package / "recipes"


def recipe_file(given: str, kind: tuple[str, ...]) -> str:
    """A user's path, or where nothing is there, the shipped recipe of that name; else what was given.

    Args:
        given: a path, or the name of a recipe.
        kind: names of the file that is taken of a folder.
    """
    path = Path(given)
    if os.path.lexists(path) or path.is_absolute() or ".." in path.parts or path.suffix in (".yaml", ".yml"):
        return given
    place = shipped_recipes() / path
    files = (place.with_name(f"{place.name}.yaml"), *(place / name for name in kind))
    # a name may be too long for a file, which `Path.is_file` raises
    return str(next((file for file in files if os.path.isfile(file)), given))  # noqa: PTH113


def recipe_names() -> Iterator[tuple[str, str]]:
    """(name, the first sentence of its first comment) of every shipped recipe file."""
    root = shipped_recipes()
    for file in sorted(root.rglob("*.yaml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        comment = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
        told = re.split(r"(?<=[.?:]) |: python ", comment)[0].rstrip(".:")
        yield file.relative_to(root).with_suffix("").as_posix(), told
