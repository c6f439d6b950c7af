"""A folder that holds several versions of a model, as huggingface_hub keeps a repository with branches.

::

    refs/<revision>       the commit that a branch or tag names, 40 hexadecimal digits
    snapshots/<commit>/   all files of that version

So what is written here is what a cache of the Hub holds, and a folder of such a cache reads the same.
A commit written here is a hash of the snapshot's files: the same files are the same commit anywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from data_builders.reading import read_text
from data_builders.registry import unknown
from hf_lgt.utils.atomic_io import atomic_directory, scratch_folder, sha256, write_text
from hf_lgt.utils.errors import ConfigError

MAIN = "main"
_COMMIT = re.compile("[0-9a-f]{40}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def is_repository(path: Path) -> bool:
    """Whether a folder is laid out so; one that was begun and holds no revision yet counts."""
    return (path / "refs").is_dir() and (path / "snapshots").is_dir()


def list_revisions(repository: Path) -> dict[str, str]:
    """Branch or tag -> commit, of all whose files are there; ``step-20`` comes before ``step-100``."""
    refs = repository / "refs"
    found = {}
    for file in refs.rglob("*"):
        name = file.relative_to(refs).as_posix()
        if not file.is_file() or any(part.startswith(".") for part in name.split("/")):
            continue  # a folder, or a file that is being written
        commit = _commit_of(file)
        if _COMMIT.fullmatch(commit) and (repository / "snapshots" / commit).is_dir():
            found[name] = commit
    return dict(sorted(found.items(), key=lambda item: natural_order(item[0])))


def _commit_of(ref: Path) -> str:
    """What a branch's file says, empty where it cannot be read."""
    try:
        return read_text(ref).strip()
    except OSError:
        return ""


def snapshot(repository: Path, revision: str | None = None, *, key: str = "model.revision") -> Path:
    """The folder with the files of one revision.

    Args:
        repository: a folder for which `is_repository` holds.
        revision: branch, tag or whole commit; None: the main branch.
        key: the setting that names the revision, for the message.

    Raises:
        ConfigError: there is no such revision; the message names those that are there.
    """
    found = list_revisions(repository)
    commit = found.get(revision or MAIN)
    if commit is not None:
        return repository / "snapshots" / commit
    if revision is not None and _COMMIT.fullmatch(revision):
        folder = repository / "snapshots" / revision
        if folder.is_dir():
            return folder
    if revision in (None, MAIN):
        # it is written last
        raise ConfigError(
            [f"{key}: {repository} has no 'main' (known: {', '.join(found) or 'none'}); is it unfinished?"]
        )
    raise ConfigError([f"{key}: {repository}: {unknown('revision', revision, found)}"])


def write_revision(
    repository: Path, revision: str, fill: Callable[[Path], None], *, move: bool = False
) -> str:
    """Add a revision, whole or not at all; one that is there with the same files stays as it is.

    Args:
        repository: made if it is not there.
        revision: name of the branch.
        fill: writes the files into the folder that it is given.
        move: let a name that is there name other files from now on.

    Returns:
        The commit, a hash of the files.

    Raises:
        FileExistsError: the name is there with other files, and `move` is not set.
        ValueError: it can be no name of a branch.
    """
    if _COMMIT.fullmatch(revision) or not all(_PART.fullmatch(part) for part in revision.split("/")):
        raise ValueError(f"{revision!r} can be no name of a branch")
    ref = repository / "refs" / revision
    for folder in (ref.parent, repository / "snapshots"):
        folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(repository) as draft:
        fill(draft)
        commit = folder_hash(draft)
        before = _commit_of(ref) if ref.is_file() else commit
        if before != commit and not move:
            raise FileExistsError(f"{ref} names {before}; the new files are {commit}")
        _keep(draft, repository / "snapshots" / commit)
    if not ref.is_file() or before != commit:
        write_text(ref, commit)  # clients of the Hub read it as it is, with no line's end
    return commit


def folder_hash(folder: Path) -> str:
    """SHA-1 over the paths and contents of a folder's files, 40 hexadecimal digits."""
    digest = hashlib.sha1(usedforsecurity=False)
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, content = file.relative_to(folder).as_posix().encode(), bytes.fromhex(sha256(file))
        digest.update(b"%d %s %s" % (len(name), name, content))
    return digest.hexdigest()


def _keep(draft: Path, place: Path) -> None:
    """Move a filled folder's files to where their commit lies, unless they are there and whole."""
    if place.is_dir() and folder_hash(place) == place.name:
        return
    with atomic_directory(place, replace=True) as folder:
        for file in draft.iterdir():
            file.rename(folder / file.name)


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorts names by the numbers within them: ``step-20`` comes before ``step-100``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
