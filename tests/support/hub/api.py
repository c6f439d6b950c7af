"""Requests, answers, routes and rights of the test Hub, and the calls about accounts, repositories, refs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .store import HubError, Repo

if TYPE_CHECKING:
    from .server import Hub

USER = "org"
NAMESPACES = ("org", "team")


@dataclass
class Request:
    """A request that was read whole. `path` is still quoted; `token` is the bearer token it came with."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    token: str | None

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HubError(400, "The body is not JSON") from error

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in {"true", "1"}


@dataclass
class Answer:
    """Status, headers and body; Content-Length is added when it is sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        return cls(
            status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode()
        )

    @classmethod
    def error(cls, error: HubError, headers: Mapping[str, str] | None = None) -> Answer:
        told = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
        return cls.json({"error": error.message, **error.extra}, error.status, {**told, **(headers or {})})


Handler = Callable[["Hub", Request, dict[str, Any]], Answer]
_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
_PARTS = {
    "{repo}": r"(?P<kind>model|dataset)s/(?P<id>[^/]+(?:/[^/]+)?)",
    "{page}": r"(?P<prefix>datasets/)?(?P<id>[^/]+(?:/[^/]+)?)",
}


def route(methods: str, pattern: str) -> Callable[[Handler], Handler]:
    """Registers a handler; the first route that fits a path as a whole wins."""
    for name, part in _PARTS.items():
        pattern = pattern.replace(name, part)

    def register(handler: Handler) -> Handler:
        _ROUTES.extend((method, re.compile(pattern), handler) for method in methods.split("|"))
        return handler

    return register


def dispatch(hub: Hub, request: Request) -> Answer:
    """The answer to a request; what is refused is an answer too."""
    try:
        for method, pattern, handler in _ROUTES:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                found = {name: unquote(text) for name, text in match.groupdict("").items()}
                found.setdefault("kind", "dataset" if found.get("prefix") else "model")
                return handler(hub, request, found)
        raise HubError(404, "Sorry, we can't find the page you are looking for.")
    except HubError as error:
        return Answer.error(error)


def signed_in(hub: Hub, request: Request) -> bool:
    if request.token is not None and request.token != hub.token:
        raise HubError(401, "Invalid credentials in Authorization header")
    return request.token is not None


def may_write(hub: Hub, request: Request, namespace: str) -> None:
    if not signed_in(hub, request):
        raise HubError(401, "Invalid username or password.", "RepoNotFound")
    if namespace not in NAMESPACES:
        raise HubError(403, f'You don\'t have the rights to write under the namespace "{namespace}"')


def repo_of(hub: Hub, request: Request, found: dict[str, Any], write: bool = False) -> Repo:
    """The repository a request is about, if it may see it or, with `write`, change it."""
    known = signed_in(hub, request)
    namespace = found["id"].split("/")[0]
    repo = hub.store.find(found["kind"], found["id"])
    if repo is None or (repo.private and not (known and namespace in NAMESPACES)):
        # The Hub does not tell strangers which private repositories there are.
        if known:
            raise HubError(404, "Repository not found", "RepoNotFound")
        raise HubError(401, "Invalid username or password.", "RepoNotFound")
    if write:
        may_write(hub, request, namespace)
    return repo


def url_of(hub: Hub, repo: Repo) -> str:
    return f"{hub.endpoint}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}"


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    if not signed_in(hub, request):
        raise HubError(401, "Invalid username or password.")
    orgs = [
        {"type": "org", "id": name, "name": name, "fullname": name} for name in NAMESPACES if name != USER
    ]
    token = {"displayName": "tests", "role": hub.role}
    auth = {"type": "access_token", "accessToken": token}
    return Answer.json(
        {"type": "user", "id": USER, "name": USER, "fullname": USER, "orgs": orgs, "auth": auth}
    )


@route("POST", "/api/repos/create")
def create_repo(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    asked = request.json()
    namespace = asked.get("organization") or USER
    may_write(hub, request, namespace)
    kind, repo_id = asked.get("type") or "model", f"{namespace}/{asked['name']}"
    if kind not in {"model", "dataset"}:
        raise HubError(400, f"The test Hub has no {kind}s")
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    try:
        repo = hub.store.create_repo(kind, repo_id, private)
    except HubError as error:
        # Clients that were told `exist_ok` read the url of this answer.
        error.extra["url"] = url_of(hub, hub.store.repo(kind, repo_id))
        raise
    return Answer.json({"url": url_of(hub, repo), "name": repo_id, "id": repo_id})


@route("DELETE", "/api/repos/delete")
def delete_repo(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    asked = request.json()
    target = {
        "kind": asked.get("type") or "model",
        "id": f"{asked.get('organization') or USER}/{asked['name']}",
    }
    repo = repo_of(hub, request, target, write=True)
    hub.store.delete_repo(repo.kind, repo.id)
    return Answer.json({})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    try:
        card_data(request.json()["content"])
    except ValueError as error:
        return Answer.json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return Answer.json({"errors": [], "warnings": []})


def card_data(card: str) -> dict[str, Any] | None:
    """The metadata at the head of a card; None where there is none or PyYAML is not installed.

    Raises:
        ValueError: if it is not YAML or not a mapping.
    """
    block = re.match(r"---\r?\n(.*?)\r?\n---(\r?\n|$)", card, re.DOTALL)
    try:
        import yaml
    except ImportError:
        return None
    try:
        data = yaml.safe_load(block[1]) if block else None
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata is not YAML: {error}") from error
    if data is not None and not isinstance(data, dict):
        raise ValueError("the metadata is not a mapping")
    return data


@route("GET", "/api/{repo}/refs")
def refs(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo = repo_of(hub, request, found)

    def listed(table: dict[str, str], prefix: str) -> list[dict[str, str]]:
        with repo.lock:
            items = list(table.items())
        return [{"name": name, "ref": prefix + name, "targetCommit": sha} for name, sha in items]

    return Answer.json(
        {
            "branches": listed(repo.branches, "refs/heads/"),
            "tags": listed(repo.tags, "refs/tags/"),
            "converts": [],
            "pullRequests": [],
        }
    )


@route("POST|DELETE", "/api/{repo}/(?P<what>branch|tag)/(?P<name>[^/]+)")
def change_ref(hub: Hub, request: Request, found: dict[str, Any]) -> Answer:
    repo = repo_of(hub, request, found, write=True)
    table = repo.branches if found["what"] == "branch" else repo.tags
    if request.method == "DELETE":
        repo.drop_ref(table, found["name"])
    elif found["what"] == "branch":
        repo.put_ref(table, found["name"], (request.json() or {}).get("startingPoint") or "main")
    else:
        # For a tag, the address names the revision and the body the tag.
        repo.put_ref(table, request.json()["tag"], found["name"])
    return Answer.json({})
