"""Task corpora for length generalization: tasks, mixtures and their draws.

Needs NumPy alone, but for corpora: `build_corpus` and `write_corpus` are loaded when first used, for
they load `datasets`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from data_builders.arrays import Sample
from data_builders.mixture import Component, Mixture
from data_builders.registry import Task, TaskError, get_task, list_tasks, register_task
from data_builders.symbols import render

# last: a new module of tasks may import the names above from here
from data_builders import tasks as _tasks  # isort: skip

if TYPE_CHECKING:
    from data_builders.corpus.build import CorpusBuilder, build_corpus
    from data_builders.corpus.folder import write_corpus
    from data_builders.corpus.plan import CorpusPlan

_HOME = {
    "CorpusBuilder": "corpus.build",
    "CorpusPlan": "corpus.plan",
    "build_corpus": "corpus.build",
    "write_corpus": "corpus.folder",
}

__all__ = [
    "Component",
    "CorpusBuilder",
    "CorpusPlan",
    "Mixture",
    "Sample",
    "Task",
    "TaskError",
    "build_corpus",
    "get_task",
    "list_tasks",
    "register_task",
    "render",
    "write_corpus",
]
del _tasks


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'data_builders' has no attribute {name!r}")
    return getattr(importlib.import_module(f"data_builders.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
