"""List the recipe files that come along, or copy some here to change: `hf-lgt recipes [copy NAME]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_lgt.commands import cli


def main(argv: Sequence[str] | None = None) -> int:
    arguments = cli.parser("List the recipe files, or copy one, or a folder of them, here.", keys=False)
    arguments.add_argument("action", nargs="?", choices=("list", "copy"), default="list")
    arguments.add_argument("name", nargs="?", help="copy: a recipe, or a folder of them, as demo")
    arguments.add_argument(
        "--to", type=cli.folder, default=Path("recipes"), help="copy: folder to copy into [recipes]"
    )
    known = arguments.parse_args(argv)
    if (known.action == "copy") != bool(known.name):
        arguments.error("'copy' takes the name of a recipe, 'list' takes none")
    return cli.guard(lambda: _copy(known.name, known.to) if known.name else _list())


def _list() -> int:
    from hf_lgt.config.shipped import recipe_names

    rows = list(recipe_names())
    width = max(len(name) for name, _ in rows) + 2
    for name, told in rows:
        print(f"{name:<{width}}{told}")
    print("\nA name stands for its file: hf-lgt finetune --config demo, hf-lgt sweep paper/fig04_strings")
    return 0


def _copy(name: str, to: Path) -> int:
    """Copy a recipe and what it is based on, at the same places below another folder."""
    from hf_lgt.config.shipped import shipped_recipes
    from hf_lgt.utils.atomic_io import write_text
    from hf_lgt.utils.errors import ConfigError

    root = shipped_recipes()
    place = root / name
    wanted = sorted(place.glob("*.yaml")) if place.is_dir() else [place.with_name(f"{place.name}.yaml")]
    if (
        Path(name).is_absolute()
        or ".." in Path(name).parts
        or not wanted
        or not all(file.is_file() for file in wanted)
    ):
        raise ConfigError([f"NAME: {name!r} is no recipe; 'hf-lgt recipes' lists them"])
    files = {file: to / file.relative_to(root) for first in wanted for file in _with_bases(first)}
    if there := [str(copy) for copy in files.values() if copy.exists()]:
        raise ConfigError([f"--to: {', '.join(there)} is there already; nothing was copied"])
    for file, copy in files.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_text(copy, file.read_text(encoding="utf-8"))
        print(copy)
    return 0


def _with_bases(file: Path) -> Iterator[Path]:
    """A recipe file and the others that it names."""
    from hf_lgt.utils import yaml

    yield file
    for text in _texts(yaml.read(file)):
        other = (file.parent / text).resolve()
        if text.endswith(".yaml") and other.is_file():
            yield from _with_bases(other)


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, (list, dict)):
        for item in data.values() if isinstance(data, dict) else data:
            yield from _texts(item)


if __name__ == "__main__":
    sys.exit(main())
