"""What the test Hub keeps: repositories, their commits and refs, and the uploaded LFS objects."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatch
from functools import cached_property
from typing import Any

# What the Hub puts into a new repository; it decides which uploads go through LFS.
LFS_SUFFIXES = "7z arrow bin bz2 ckpt gz h5 model msgpack npy npz onnx parquet pickle pkl pt pth safetensors"
GITATTRIBUTES = "".join(f"*.{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LFS_SUFFIXES.split())
LFS_FROM_BYTES = 10 * 2**20

Operations = Iterable[tuple[str, Mapping[str, Any]]]


class HubError(Exception):
    """An answer other than success: HTTP `status`, text for people, `code` for the X-Error-Code header."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: str):
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, extra


def git_oid(kind: str, data: bytes) -> str:
    """The id that git gives to an object."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


@dataclass(frozen=True)
class Blob:
    """A file's content, kept by git itself or through LFS."""

    data: bytes
    lfs: bool = False

    @property
    def size(self) -> int:
        return len(self.data)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git holds in place of an LFS object."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return text.encode()

    @cached_property
    def oid(self) -> str:
        return git_oid("blob", self.pointer if self.lfs else self.data)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """One state of a repository; never changed once made."""

    sha: str
    parent: str | None
    title: str
    description: str
    tree: Mapping[str, Blob]
    date: str

    @property
    def message(self) -> str:
        return "\n\n".join(filter(None, (self.title, self.description)))

    @cached_property
    def folders(self) -> dict[str, str]:
        """Every folder's path -> its id."""
        lines: dict[str, list[str]] = {}
        for path, blob in sorted(self.tree.items()):
            parts = path.split("/")
            for depth in range(1, len(parts)):
                lines.setdefault("/".join(parts[:depth]), []).append(f"{blob.oid} {path}")
        return {path: git_oid("tree", "\n".join(held).encode()) for path, held in lines.items()}


@dataclass
class Repo:
    """A repository; `kind` is "model" or "dataset". Its methods may be called from any thread."""

    kind: str
    id: str
    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _counter: Iterable[int] = field(default_factory=itertools.count, repr=False)

    def __post_init__(self) -> None:
        tree = {".gitattributes": Blob(GITATTRIBUTES.encode())}
        self.branches["main"] = self._record(None, tree, "initial commit", "").sha

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a full ref or a commit id (seven digits will do) names."""
        with self.lock:
            for refs, prefix in ((self.branches, "refs/heads/"), (self.tags, "refs/tags/")):
                name = revision.removeprefix(prefix)
                if name in refs:
                    return self.commits[refs[name]]
            if len(revision) >= 7:
                found = [commit for sha, commit in self.commits.items() if sha.startswith(revision)]
                if len(found) == 1:
                    return found[0]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path -> content, for tests to look at; without the .gitattributes of every repository."""
        tree = self.resolve(revision).tree
        return {path: blob.data for path, blob in tree.items() if path != ".gitattributes"}

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits behind a revision, the newest first."""
        commit: Commit | None = self.resolve(revision)
        found = []
        while commit:
            found.append(commit)
            commit = self.commits[commit.parent] if commit.parent else None
        return found

    def add(self, files: Mapping[str, bytes], title: str = "from elsewhere", branch: str = "main") -> Commit:
        """Commits files without any HTTP, as someone else's push would have."""
        operations = [
            ("file", {"path": path, "content": base64.b64encode(data)}) for path, data in files.items()
        ]
        return self.commit(branch, operations, title)

    def commit(
        self,
        branch: str,
        operations: Operations,
        title: str,
        description: str = "",
        parent: str | None = None,
    ) -> Commit:
        """Applies operations to a branch: all of them or none.

        Raises:
            HubError: 404 for no such branch or deleted path, 412 when `parent` is not the branch's head,
                400 for a bad path or an LFS object that nobody uploaded.
        """
        with self.lock:
            if branch not in self.branches:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            head = self.commits[self.branches[branch]]
            if parent is not None and parent != head.sha:
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(head.tree)
            for key, value in operations:
                self._apply(tree, key, value)
            folders = Commit("", None, "", "", tree, "").folders
            if clash := sorted(folders.keys() & tree.keys()):
                raise HubError(400, f"{clash[0]} would be a file and a folder")
            commit = self._record(head.sha, tree, title, description)
            self.branches[branch] = commit.sha
            return commit

    def _apply(self, tree: dict[str, Blob], key: str, value: Mapping[str, Any]) -> None:
        path = str(value.get("path", "")).removesuffix("/")
        if not path or {"", ".", "..", ".git"} & set(path.split("/")):
            raise HubError(400, f"Invalid path in repository: {path!r}")
        if key == "file":
            tree[path] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in self.lfs:
                raise HubError(
                    400,
                    "Your push was rejected because an LFS pointer pointed to a file that does not exist. "
                    f"Offending file: {path}",
                )
            tree[path] = Blob(self.lfs[value["oid"]], lfs=True)
        elif key == "copyFile":
            source = self.resolve(value["srcRevision"]).tree if value.get("srcRevision") else tree
            if value["srcPath"] not in source:
                raise HubError(404, f"{value['srcPath']} does not exist", "EntryNotFound")
            tree[path] = source[value["srcPath"]]
        elif key in {"deletedFile", "deletedFolder"}:
            gone = [path] if key == "deletedFile" else [held for held in tree if held.startswith(path + "/")]
            if not gone or gone[0] not in tree:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for held in gone:
                del tree[held]
        else:
            raise HubError(400, f"Unknown operation: {key}")

    def _record(self, parent: str | None, tree: Mapping[str, Blob], title: str, description: str) -> Commit:
        # The counter keeps two equal trees apart, as the time does in git.
        listing = "\n".join(f"{blob.oid} {path}" for path, blob in sorted(tree.items()))
        text = f"{self.kind} {self.id} {next(self._counter)} {parent} {title}\n{listing}"  # type: ignore
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        commit = Commit(git_oid("commit", text.encode()), parent, title, description, tree, date)
        self.commits[commit.sha] = commit
        return commit

    def put_ref(self, refs: dict[str, str], name: str, revision: str) -> None:
        """Makes a branch or a tag; `refs` is one of this repository's two tables."""
        with self.lock:
            if name in refs:
                raise HubError(409, f"Reference already exists: {name}")
            refs[name] = self.resolve(revision).sha

    def drop_ref(self, refs: dict[str, str], name: str) -> None:
        with self.lock:
            if refs is self.branches and name == "main":
                raise HubError(403, "The main branch cannot be deleted")
            if refs.pop(name, None) is None:
                raise HubError(404, f"Reference does not exist: {name}", "RevisionNotFound")

    def uses_lfs(self, path: str, size: int, revision: str) -> bool:
        """Whether the Hub wants a file uploaded through LFS: by .gitattributes, or for its size (bytes)."""
        attributes = self.resolve(revision).tree.get(".gitattributes", Blob(b"")).data.decode()
        patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
        names = (path, path.rsplit("/", 1)[-1])
        return size >= LFS_FROM_BYTES or any(fnmatch(name, pattern) for name in names for pattern in patterns)

    def put_lfs(self, oid: str, data: bytes) -> None:
        """Keeps an uploaded LFS object, if it is what its name says."""
        if hashlib.sha256(data).hexdigest() != oid:
            raise HubError(400, "XAmzContentSHA256Mismatch: the content is not what its sha256 says")
        with self.lock:
            self.lfs[oid] = data


class Store:
    """All repositories of a Hub; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._repos: dict[tuple[str, str], Repo] = {}

    def __iter__(self):
        with self._lock:
            return iter(list(self._repos.values()))

    def create_repo(self, kind: str, repo_id: str, private: bool = False) -> Repo:
        with self._lock:
            if (kind, repo_id) in self._repos:
                raise HubError(409, f"You already created this {kind} repo")
            return self._repos.setdefault((kind, repo_id), Repo(kind, repo_id, private))

    def find(self, kind: str, repo_id: str) -> Repo | None:
        with self._lock:
            return self._repos.get((kind, repo_id))

    def repo(self, kind: str, repo_id: str) -> Repo:
        """The repository, which must exist; `kind` is "model" or "dataset"."""
        found = self.find(kind, repo_id)
        if found is None:
            raise KeyError(f"no {kind} {repo_id}")
        return found

    def delete_repo(self, kind: str, repo_id: str) -> None:
        with self._lock:
            self._repos.pop((kind, repo_id), None)

    def clear(self) -> None:
        with self._lock:
            self._repos.clear()
