"""The test Hub's calls that bring content in: preupload, the LFS protocol, commits."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .api import Answer, Request, repo_of, route, url_of
from .store import HubError, Repo

if TYPE_CHECKING:
    from .server import Hub


def signature(hub: Hub, *parts: str) -> str:
    """Stands for the presigned address of a storage provider, where no token is sent."""
    return hmac.new(hub.secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()[:32]


@route("POST", "/api/{repo}/preupload/(?P<rev>[^/]+)")
def preupload(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    """How each file is to be uploaded, and what the revision holds at its path already."""
    repo = repo_of(hub, request, found, write=True)
    commit = repo.resolve(found["rev"])

    def mode(file: dict[str, Any]) -> dict[str, Any]:
        held = commit.tree.get(file["path"])
        lfs = repo.uses_lfs(file["path"], file["size"], found["rev"])
        return {
            "path": file["path"],
            "uploadMode": "lfs" if lfs else "regular",
            "shouldIgnore": False,
            "oid": held.etag if held else None,
        }

    return Answer.json({"files": [mode(file) for file in request.json()["files"]], "commitOid": commit.sha})


@route("POST", r"/{page}\.git/info/lfs/objects/batch")
def lfs_batch(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    """Where to upload each LFS object; no action for those that the repository holds."""
    repo = repo_of(hub, request, found, write=True)
    objects = []
    for wanted in request.json()["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in repo.lfs:
            entry["actions"] = _actions(hub, repo, wanted["oid"], wanted["size"])
        objects.append(entry)
    return Answer.json({"transfer": "basic", "objects": objects})


def _actions(hub: Hub, repo: Repo, oid: str, size: int) -> dict[str, Any]:
    signed = f"size={size}&signature={signature(hub, repo.kind, repo.id, oid, str(size))}"
    return {
        "upload": {"href": f"{hub.endpoint}/lfs/{repo.kind}s/{quote(repo.id)}/{oid}?{signed}", "header": {}},
        "verify": {"href": f"{url_of(hub, repo)}.git/info/lfs/verify", "header": {}},
    }


@route("PUT", "/lfs/{repo}/(?P<oid>[0-9a-f]{64})")
def lfs_put(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    """The object itself; its signed address is the right to send it, as at a storage provider."""
    size, signed = (request.query.get(name, [""])[0] for name in ("size", "signature"))
    repo = hub.store.find(found["kind"], found["id"])
    expected = signature(hub, found["kind"], found["id"], found["oid"], size)
    if repo is None or not hmac.compare_digest(signed, expected):
        raise HubError(403, "SignatureDoesNotMatch")
    if len(request.body) != int(size):
        raise HubError(400, f"IncompleteBody: {len(request.body)} bytes of {size}")
    repo.put_lfs(found["oid"], request.body)
    return Answer(200, {"ETag": f'"{found["oid"]}"'})


@route("POST", r"/{page}\.git/info/lfs/verify")
def lfs_verify(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo = repo_of(hub, request, found, write=True)
    asked = request.json()
    held = repo.lfs.get(asked["oid"])
    if held is None or len(held) != asked["size"]:
        raise HubError(404, f"LFS object {asked['oid']} does not exist")
    return Answer.json({})


@route("POST", "/api/{repo}/commit/(?P<rev>[^/]+)")
def commit(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo = repo_of(hub, request, found, write=True)
    if request.flag("create_pr"):
        raise HubError(400, "The test Hub has no pull requests")
    try:
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        operations = [(line["key"], line["value"]) for line in lines]
        head = dict(operations)["header"]
        parts = [part for part in operations if part[0] != "header"]
        title, description = head["summary"], head.get("description", "")
        made = repo.commit(found["rev"], parts, title, description, head.get("parentCommit"))
    except (KeyError, ValueError, TypeError) as error:
        raise HubError(400, f"The commit is malformed: {error!r}") from error
    url = f"{url_of(hub, repo)}/commit/{made.sha}"
    return Answer.json({"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""})


@route("PUT", "/api/{repo}/settings")
def settings(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo = repo_of(hub, request, found, write=True)
    if "visibility" in request.json():
        repo.private = request.json()["visibility"] == "private"
    return Answer.json({"private": repo.private})
