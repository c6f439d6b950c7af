"""The test Hub's calls that read a revision: its files, their content, its commits."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from .api import USER, Answer, Request, card_data, repo_of, route
from .store import Blob, Commit, HubError, Repo

if TYPE_CHECKING:
    from .server import Hub


def _lfs(blob: Blob, name: str) -> dict[str, Any]:
    return {name: blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}


def _entry(commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    if path in commit.tree:
        blob = commit.tree[path]
        entry = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
        if blob.lfs:
            entry["lfs"] = _lfs(blob, "oid")
    else:
        entry = {"type": "directory", "oid": commit.folders[path], "size": 0, "path": path}
    if expand:
        entry["lastCommit"] = {"id": commit.sha, "title": commit.title, "date": commit.date}
    return entry


@route("GET", "/api/{repo}/tree/(?P<rev>[^/]+)(?:/(?P<path>.*))?")
def tree(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    commit = repo_of(hub, request, found).resolve(found["rev"])
    base = found["path"].strip("/")
    if base and base not in commit.folders:
        raise HubError(404, f"{base} does not exist on {found['rev']}", "EntryNotFound")
    prefix = base + "/" if base else ""
    below = [path for path in sorted([*commit.tree, *commit.folders]) if path.startswith(prefix)]
    if not request.flag("recursive"):
        below = [path for path in below if "/" not in path[len(prefix) :]]
    first = int(request.query.get("cursor", ["0"])[0])
    last = first + hub.page_size
    answer = Answer.json([_entry(commit, path, request.flag("expand")) for path in below[first:last]])
    if last < len(below):
        kept = "&".join(f"{name}={request.query[name][0]}" for name in request.query if name != "cursor")
        answer.headers["Link"] = f'<{hub.endpoint}{request.path}?{kept}&cursor={last}>; rel="next"'
    return answer


@route("POST", "/api/{repo}/paths-info/(?P<rev>[^/]+)")
def paths_info(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    commit = repo_of(hub, request, found).resolve(found["rev"])
    if "json" in request.headers.get("content-type", ""):
        paths, expand = request.json()["paths"], bool(request.json().get("expand"))
    else:
        form = parse_qs(request.body.decode())
        paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() == "true"
    paths = [path.strip("/") for path in paths]
    return Answer.json([_entry(commit, p, expand) for p in paths if p in commit.tree or p in commit.folders])


@route("GET", "/api/{repo}/commits/(?P<rev>[^/]+)")
def commits(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    history = repo_of(hub, request, found).history(found["rev"])
    authors = [{"user": USER}]
    return Answer.json(
        [
            {
                "id": c.sha,
                "title": c.title,
                "message": c.description,
                "date": c.date,
                "authors": authors,
                "parents": [c.parent] if c.parent else [],
            }
            for c in history
        ]
    )


def _sibling(path: str, blob: Blob, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    held = {"rfilename": path, "size": blob.size, "blobId": blob.oid}
    return held | ({"lfs": _lfs(blob, "sha256")} if blob.lfs else {})


def _info(repo: Repo, commit: Commit, blobs: bool) -> dict[str, Any]:
    info: dict[str, Any] = {
        "_id": repo.id,
        "id": repo.id,
        "author": repo.id.split("/")[0],
        "sha": commit.sha,
        "createdAt": repo.history()[-1].date,
        "lastModified": commit.date,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [_sibling(path, blob, blobs) for path, blob in sorted(commit.tree.items())],
    }
    if repo.kind == "model":
        info |= {"modelId": repo.id, "library_name": None, "pipeline_tag": None}
    if "README.md" in commit.tree:
        try:
            data = card_data(commit.tree["README.md"].data.decode())
        except ValueError:
            data = None
        # Dates and the like, which YAML knows and JSON does not, become text.
        info["cardData"] = json.loads(json.dumps(data, default=str))
    return info


@route("GET", "/api/{repo}/revision/(?P<rev>[^/]+)")
def revision_info(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo = repo_of(hub, request, found)
    return Answer.json(_info(repo, repo.resolve(found["rev"]), request.flag("blobs")))


@route("GET", "/api/{repo}/auth-check")
def auth_check(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo_of(hub, request, found)
    return Answer.json({})


@route("GET", "/api/{repo}/discussions")
def discussions(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo_of(hub, request, found)
    return Answer.json({"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0})


# After the longer addresses: a name without a namespace must not swallow them.
@route("GET", "/api/{repo}")
def info(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo = repo_of(hub, request, found)
    return Answer.json(_info(repo, repo.resolve("main"), request.flag("blobs")))


@route("GET", "/api/(?P<kind>model|dataset)s")
def search(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    wanted = [text for name in ("author", "search") for text in request.query.get(name, [])]
    listed = []
    for repo in hub.store:
        target = {"kind": repo.kind, "id": repo.id}
        if repo.kind != found["kind"] or not all(text in repo.id for text in wanted):
            continue
        try:
            listed.append(_info(repo_of(hub, request, target), repo.resolve("main"), False))
        except HubError:
            continue  # private, and not theirs
    return Answer.json(listed)


@route("GET|HEAD", "/{page}/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
def resolve(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    """A file, or the part of it that a Range header asks for."""
    commit = repo_of(hub, request, found).resolve(found["rev"])
    blob = commit.tree.get(found["path"])
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    if blob is None:
        # With the commit, clients remember that it lacks this file.
        error = HubError(404, "Entry not found", "EntryNotFound")
        return Answer.error(error, headers)
    headers |= {"ETag": f'"{blob.etag}"', "Content-Type": "application/octet-stream"}
    if blob.lfs:
        headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
    return _ranged(request.headers.get("range"), blob.data, headers)


def _ranged(header: str | None, data: bytes, headers: dict[str, str]) -> Answer:
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").replace(" ", ""))
    if asked is None or not any(asked.groups()):
        return Answer(200, headers, data)
    if asked[1]:
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
    else:
        first, last = max(len(data) - int(asked[2]), 0), len(data) - 1
    if first > last:
        return Answer(416, headers | {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Answer(206, headers, data[first : last + 1])
