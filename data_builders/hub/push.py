"""Push a folder to the Hugging Face Hub in one commit: all of it is visible, or nothing is.

Files go up first; only the commit that names them changes what others see. A push that failed or was
killed before it leaves the repository as it was, and a rerun uploads only what the Hub lacks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.hub.retry import ASKING_ATTEMPTS, ATTEMPTS, again, quiet, reason
from data_builders.redaction import known_secret

if TYPE_CHECKING:
    from huggingface_hub import HfApi

IGNORED = (".git", ".cache")
"""folders that tools leave in a folder and that are no part of it"""


class DestinationError(ValueError):
    """A repository that cannot be pushed to; the message says why and what to do."""


class PushError(RuntimeError):
    """A push that did not go through; nothing of it is visible, or all of it."""


def check_destination(repo_id: str, revision: str | None, repo_type: str) -> None:
    """Find out, before any work, whether a repository could be pushed to.

    Args:
        repo_id: ``namespace/name``.
        revision: branch to push to, None for the main one.
        repo_type: ``dataset`` or ``model``.

    Raises:
        DestinationError: the name is none, there is no valid token, it may not write there, or the
            repository holds something that this project did not push.
        PushError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    where = f"--push_to_hub: {repo_id!r}"
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise DestinationError(f"{where} is no name of a repository, such as my-org/my-corpus") from None
    if repo_id.count("/") != 1:
        raise DestinationError(f"{where} must name whose it is, as in my-org/{repo_id}")
    if revision is not None and not _names_branch(revision):
        raise DestinationError(f"--revision: {revision!r} must be the name of a branch")
    try:
        token = get_token()
    except Exception as error:  # the file that keeps it, or who gives it for a while
        raise DestinationError(f"{where}: the access token cannot be read: {reason(error)}") from None
    if not token:
        raise DestinationError(f"{where} needs a token that may write: run 'hf auth login', or set HF_TOKEN")
    try:
        user: Any = again(lambda: HfApi().whoami(), where, ASKING_ATTEMPTS)
    except Exception as error:  # HTTP, connection, offline mode: each raises its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise DestinationError(f"{where}: the Hub does not accept the token (status {status})") from None
        raise PushError(f"{where}: the Hub cannot be asked who you are: {reason(error)}") from None
    try:  # a proxy may answer with something else
        role = user.get("auth", {}).get("accessToken", {}).get("role")
        names = [str(known["name"]) for known in (user, *user.get("orgs", []))]
    except (AttributeError, KeyError, TypeError):
        raise PushError(f"{where}: the Hub's answer does not say who you are; is there a proxy?") from None
    if role == "read":
        raise DestinationError(f"{where} needs a token that may write; this one may only read")
    if repo_id.split("/")[0] not in names:
        raise DestinationError(f"{where} is not yours; the token writes to {', '.join(names)}")
    try:
        there = again(lambda: _listed(repo_id, repo_type, revision), where, ASKING_ATTEMPTS)
    except Exception as error:
        raise PushError(f"{where}: the Hub cannot be asked what is there: {reason(error)}") from None
    if fault := _foreign(repo_type, there):
        raise DestinationError(f"{where} {fault}")


def _listed(repo_id: str, repo_type: str, revision: str | None) -> list[str]:
    """Files of a branch, or of the main one where it is not there yet; none without a repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    for branch in dict.fromkeys((revision, None)):
        try:
            return HfApi().list_repo_files(repo_id, repo_type=repo_type, revision=branch)
        except RepositoryNotFoundError:
            return []
        except RevisionNotFoundError:
            continue
    return []


def _names_branch(text: str) -> bool:
    """Whether git and the Hub take a text as a branch, and as nothing else."""
    parts = text.split("/")
    return (
        re.fullmatch(r"[A-Za-z0-9._/-]{1,100}", text) is not None
        and ".." not in text
        and all(part and part[0] not in ".-" and not part.endswith((".", ".lock")) for part in parts)
        and parts[0] != "refs"
        and not re.fullmatch(r"[0-9a-f]{40}", text)
    )


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: str,
    private: bool = False,
    revision: str | None = None,
    message: str,
    replaces: Sequence[str] = (),
    names: Collection[str] | None = None,
    also: Mapping[str, Path | bytes] | None = None,
) -> str:
    """Make a repository (if it is not there) hold a folder's files.

    Args:
        folder: what to push.
        repo_id: ``namespace/name``.
        repo_type: ``dataset`` or ``model``.
        private: make a new repository private, and refuse one that is not; else a new one is as the
            namespace has it.
        revision: branch, made if it is not there; None: the main one.
        message: of the commit.
        replaces: patterns of files that go if they are not pushed, such as the shards of an earlier
            corpus; ``*`` stays within a folder. Other files in the repository stay.
        names: which files of the folder, None: all of them.
        also: files beside the folder's, path in the repository -> file or content.

    Returns:
        The address of the commit.

    Raises:
        DestinationError: a file holds a secret, or is a link.
        PushError: it did not go through after several attempts, or the Hub refused it.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    found = _files(folder) if names is None else {name: folder / name for name in names}
    files = {**found, **(also or {})}
    check_public(files)
    repo: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}

    def prepare() -> None:
        api.create_repo(**repo, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(**repo, branch=revision, exist_ok=True)

    def attempt() -> str:
        return _commit(api, {**repo, "revision": revision}, files, replaces, message, private)

    try:
        with quiet():
            again(prepare, f"making {repo_id}", ATTEMPTS)
            return again(attempt, f"pushing to {repo_id}", ATTEMPTS)
    except PushError:
        raise
    except Exception as error:  # HTTP, file system, checks of the client: each library raises its own
        raise PushError(
            f"pushing {folder} to {repo_id} did not go through: {reason(error)}; the repository shows what "
            "it did before (or all of this, if only the answer was lost), and the same command tries again"
        ) from None


TEXTS = (".json", ".jsonl", ".jinja", ".md", ".txt", ".yaml")
"""ends of files in which a secret would be read by anybody"""


def check_public(files: Mapping[str, Path | bytes]) -> None:
    """Refuse to publish a secret, such as a token that became a word of the vocabulary, or a linked file.

    Raises:
        DestinationError: names the file, not the secret.
    """
    for name, source in files.items():
        if isinstance(source, Path) and source.is_symlink():
            raise DestinationError(f"--push_to_hub: {name} is a link ({source}); nothing was pushed")
        if not name.endswith(TEXTS):
            continue
        content = source if isinstance(source, bytes) else source.read_bytes()
        if known_secret(content.decode("utf-8", errors="replace")):
            raise DestinationError(
                f"--push_to_hub: {name} holds a token, or the value of a secret variable of the environment; "
                "nothing was pushed. Take it out of the data, and train anew"
            )


OURS = {"dataset": "corpus.json", "model": "run/config.yaml"}
"""a file that every push of this project has, by the kind of repository"""
CONTENT = {
    "dataset": (".parquet", ".arrow", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".zip", ".gz", ".tar"),
    "model": (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx"),
}
"""ends of files that are what a repository is for; notes and pictures beside them do no harm"""


def _foreign(repo_type: str, there: Sequence[str]) -> str | None:
    """Why a repository with these files must not be pushed to, if it must not."""
    other = [path for path in there if path.endswith(CONTENT[repo_type])]
    if not other or OURS[repo_type] in there:
        return None
    return f"holds a {repo_type} that hf_lgt did not push ({other[0]}, ...); name another repository"


def _commit(
    api: HfApi,
    branch: Mapping[str, Any],
    files: Mapping[str, Path | bytes],
    replaces: Sequence[str],
    message: str,
    private: bool,
) -> str:
    """Make the one commit, upon what is there now; gives its address."""
    head = api.repo_info(**branch)
    if private and head.private is False:
        name = branch["repo_id"]
        raise PushError(f"{name} is there and public; make it private, or push without --private")
    there = api.list_repo_files(**{**branch, "revision": head.sha})
    # not upload_folder: with hf_xet it makes several commits, between which half of it is visible
    made = api.create_commit(
        **branch,
        operations=_operations(there, files, replaces),
        commit_message=message,
        # what is replaced was looked up in this commit; another push in between is met by a retry
        parent_commit=head.sha,
    )
    return str(made.commit_url)


def _operations(
    there: Sequence[str], files: Mapping[str, Path | bytes], replaces: Sequence[str]
) -> list[Any]:
    """What makes a repository hold files: those added, and those of an earlier push deleted."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def stale(path: str) -> bool:
        return any(fnmatchcase(path, p) and path.count("/") == p.count("/") for p in replaces)

    deleted = [CommitOperationDelete(path) for path in there if path not in files and stale(path)]
    return [*deleted, *(CommitOperationAdd(path, source) for path, source in files.items())]


def _files(folder: Path) -> dict[str, Path]:
    """Path in the repository -> file."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {inside.as_posix(): path for inside, path in found.items() if inside.parts[0] not in IGNORED}
