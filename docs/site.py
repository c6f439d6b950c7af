"""Hook of mkdocs.yml: pages made from the code, and the pages beside the recipes as a part of the site.

A link of a page is relative to its file, so that it works on any host of the repository; on the site `docs/`
is the root and everything else stands at its place in the repository.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("recipes/**/*.md", "recipes/**/*.png", "recipes/**/*.yaml", "recipes/**/*.json", "benchmarks/*.md",
         "benchmarks/*.json", "benchmarks/*.png", "*.md", "LICENSE", "CITATION.cff")  # fmt: skip
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository and those that are made from the code."""
    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            # the site's own first page
            name = "about.md" if name == "README.md" else name
            files.append(File.generated(config, name, abs_src_path=str(path)))
    made = {"reference/config.md": _config(), "reference/tasks.md": _tasks(), "own-task.md": _notebook()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    site = page.file.src_uri
    here = "README.md" if site == "about.md" else site if (ROOT / site).is_file() else f"docs/{site}"

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2]))
        if (ROOT / target).is_dir():
            target = posixpath.join(target, "README.md")
        target = "about.md" if target == "README.md" else target.removeprefix("docs/")
        return f"{match[1]}{os.path.relpath(target, posixpath.dirname(site) or '.')}{match[3]}"

    return LINK.sub(link, markdown)


def _notebook() -> str:
    """The notebook as a page."""
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    parts.append("This page is the notebook [notebook.ipynb](notebook.ipynb).")
    return "\n\n".join(parts) + "\n"


def _config() -> str:
    """Every key of a run's config, from the schema."""
    from hf_lgt.config.schema import describe_keys

    rows, section = [], None
    for key, meaning in describe_keys():
        name, told = key.removeprefix("--"), meaning.rsplit(" [", 1)
        own = name.rpartition(".")[0]
        if own != section:
            section = own
            rows.append(f"\n## {own or 'The run'}\n\n| key | default | meaning |\n|---|---|---|")
        meant = told[0].replace("|", "\\|").replace("<", "&lt;")
        rows.append(f"| `{name}` | `{told[1].removesuffix(']')}` | {meant} |")
    about = (
        "A config is a YAML file; every key is also an option, `--section.key VALUE`. `base: other.yaml` "
        "takes another file's keys first. This page is made from the schema."
    )
    return f"# Config keys\n\n{about}\n" + "\n".join(rows) + "\n"


def _tasks() -> str:
    """Every task, from the registry."""
    from data_builders import get_task, list_tasks
    from data_builders.sampling import stream

    english = "[recipes/language](../../recipes/language/README.md)"
    about = f"Tasks that are generated; those in English are in {english}. Made from the registry."
    parts = [f"# Tasks\n\n{about}"]
    for name in list_tasks():
        task = get_task(name)
        length = max(task.min_length, 4)
        examples = task.sample(stream(0, "docs"), length, 2).text()
        about = f"Family {task.family}; length: {task.length_unit}; examples of length {length}:"
        theory = f"Length generalization by theory: {task.theory}."
        parts.append(f"## {name}\n\n{task.summary} {theory}\n\n*{about}*")
        parts.append("\n".join(f"- `{prompt}` → `{answer}`" for prompt, answer in examples))
        if task.options:
            parts.append("| option | default | meaning |\n|---|---|---|\n" + "\n".join(
                f"| `{key}` | `{option.default!r}` | {option.doc} |" for key, option in task.options.items()
            ))  # fmt: skip
    return "\n\n".join(parts) + "\n"
