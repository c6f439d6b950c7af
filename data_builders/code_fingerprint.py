"""The code that draws, as it was when it was loaded: what fingerprints of corpora stand on.

A file tells what code is only until somebody edits it, for a process keeps what it loaded. So the
contents are hashed when code is loaded (this package's with the package, a user's when a task is
registered) and again when a fingerprint is asked for. Where the two differ, or there is no file, nobody
can say what draws the rows, and the fingerprint is one that no other is equal to.

Times of files play no part: a copy may keep an older one, and clocks of two machines differ.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
DRAWS_NOTHING = (
    "corpus/lm_eval.py",
    "corpus/language.py",
    "hub/__init__.py",
    "hub/push.py",
    "hub/retry.py",
    "language.py",
    "nouns.py",
    "reading.py",
    "redaction.py",
)
"""modules of this package that no row of a mixture depends on: an edit there leaves a corpus what it is"""
STANDARD = str(Path(os.__file__).parent) + os.sep
INSTALLED = tuple(f"{os.sep}{folder}{os.sep}" for folder in ("site-packages", "dist-packages"))
MADE_BY_TOOLS = ("cython_runtime", "_cython_", "_remote_module_non_scriptable")
"""beginnings of modules without a file that installed packages make, Cython's and torch's"""


def digest(path: Path) -> str | None:
    """SHA-256 of a file, None where there is none."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(2**20):
                found.update(part)
    except OSError:
        return None
    return found.hexdigest()


LOADED = {path.relative_to(PACKAGE).as_posix(): digest(path) for path in sorted(PACKAGE.rglob("*.py"))}
"""this package, hashed before its other modules are read; one that is edited in between differs later"""

_families: set[str] = set()
"""packages that hold tasks, and count even where they are installed"""
_modules: dict[str, tuple[object, str | None]] = {}
"""module of a user's -> its specification, which a reload replaces, and the hash of its file then"""


def remember(*parts: Callable[..., Any]) -> None:
    """Hash a user's code that is loaded now; for code of this package there is nothing to do.

    Helpers of a task count as the task does, and which modules those are is not known: all that are
    neither of the standard library nor installed are taken.

    Args:
        *parts: functions of the task.
    """
    own = {top for top in map(_top, map(_module, parts)) if top != "data_builders"}
    if not own:
        return
    _families.update(own)
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if _counts(name, module) and (name not in _modules or _modules[name][0] is not spec):
            _modules[name] = spec, _digest_of(module)


def package(names: Iterable[str] | None = None) -> dict[str, str | None]:
    """Module of this package -> hash of what is loaded, None if its file is another by now.

    Args:
        names: which, None: all that rows of a mixture may depend on.
    """
    wanted = [name for name in LOADED if name not in DRAWS_NOTHING] if names is None else names
    return {name: _if_equal(LOADED[name], digest(PACKAGE / name)) for name in wanted}


def sources(parts: Iterable[Callable[..., Any]]) -> dict[str, str | None]:
    """All code that draws: this package and, for tasks defined elsewhere, a user's loaded modules.

    Args:
        parts: functions of the tasks.

    Returns:
        Name -> hash of what is loaded, None where it is not known.
    """
    parts, found = list(parts), dict(package())
    remember(*parts)
    own = {name for name in map(_module, parts) if _top(name) != "data_builders"}
    if own:
        found |= {f"module {name}": None for name in own}  # unless it is found below
        for name, module in list(sys.modules.items()):
            if name in _modules and (name != "__main__" or name in own or _file(module)):
                found[f"module {name}"] = _if_equal(_modules[name][1], _digest_of(module))
    return found


def fingerprint(settings: object, code: Mapping[str, str | None]) -> str:
    """Changes with every setting and with the code, 32 hexadecimal digits; none is equal to another
    where the code is not known.
    """
    known = {name: seen or uuid.uuid4().hex for name, seen in code.items()}
    text = json.dumps([settings, known], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _counts(name: str, module: object) -> bool:
    """Whether a module is a user's."""
    top = _top(name)
    if top in ("data_builders", "hf_lgt"):
        return False
    file = _file(module)
    if file is None and hasattr(module, "__path__"):
        return False  # a namespace package holds no code
    if top in _families:
        return True
    if file is None or not file.startswith(os.sep):  # made by a package, as torch does, or in a notebook
        file = _file(sys.modules.get(top))
    if file is None:
        return top not in sys.stdlib_module_names and not name.startswith(MADE_BY_TOOLS)
    return not _is_installed(file)


def _is_installed(file: str) -> bool:
    return file.startswith(STANDARD) or any(folder in file for folder in INSTALLED)


def _file(module: object) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None


def _digest_of(module: object) -> str | None:
    file = _file(module)
    return digest(Path(file)) if file else None


def _if_equal(loaded: str | None, now: str | None) -> str | None:
    return loaded if loaded == now else None


def _module(part: Callable[..., Any]) -> str:
    return getattr(part, "__module__", None) or type(part).__module__


def _top(name: str) -> str:
    return name.partition(".")[0]
