"""Push a folder to the Hugging Face Hub in one commit: all of it is visible, or nothing is.

Files go up first; only the commit that names them changes what others see. A push that failed or was
killed before it leaves the repository as it was, and a rerun uploads only what the Hub lacks.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

TRANSIENT = {408, 409, 412, 425, 429, 500, 502, 503, 504}
"""HTTP statuses after which the same push may go well"""
ATTEMPTS = 8
LONGEST_WAIT_S = 30.0


class DestinationError(ValueError):
    """A repository that cannot be pushed to; the message says why and what to do."""


class PushError(RuntimeError):
    """A push that did not go through; the repository is as it was before."""


def redact(text: str) -> str:
    """The text without access tokens, passwords in addresses and signatures."""
    from huggingface_hub import get_token

    for secret in (get_token(), *(os.environ.get(key) for key in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))):
        if secret:
            text = text.replace(secret, "***")
    text = re.sub(r"\bhf_[A-Za-z0-9]{8,}", "***", text)
    text = re.sub(r"(?i)(bearer\s+)[^\s'\",}]+", r"\1***", text)
    text = re.sub(r"//[^/\s:@]+:[^/\s@]+@", "//***@", text)
    return re.sub(r"(?i)([?&](?:token|signature|x-amz-[a-z-]+)=)[^&\s'\"]+", r"\1***", text)


def check_destination(repo_id: str, revision: str | None = None) -> None:
    """Find out, before any work, whether a repository could be pushed to.

    Args:
        repo_id: ``namespace/name``.
        revision: branch to push to, None for the main one.

    Raises:
        DestinationError: the name is none, there is no valid token, or it may not write there.
        PushError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    where = f"--push_to_hub: {repo_id!r}"
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise DestinationError(f"{where} is no name of a repository, such as my-org/my-corpus") from None
    if repo_id.count("/") != 1:
        raise DestinationError(f"{where} must name whose it is, as in my-org/{repo_id}")
    if revision is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", revision):
        raise DestinationError(f"--revision: {revision!r} must be the name of a branch")
    if not get_token():
        raise DestinationError(f"{where} needs a token that may write: run 'hf auth login', or set HF_TOKEN")
    try:
        user: Any = _again(lambda: HfApi().whoami(), lambda line: None, "asking the Hub who you are")
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise DestinationError(f"{where}: the Hub does not accept the token (status {status})") from None
        raise PushError(f"{where}: {_reason(error)}") from None
    names = [user["name"], *(org["name"] for org in user.get("orgs", []))]
    if repo_id.split("/")[0] not in names:
        raise DestinationError(f"{where} is not yours; the token writes to {', '.join(names)}")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: str,
    private: bool | None = None,
    revision: str | None = None,
    message: str,
    replaces: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> str:
    """Make a repository (if it is not there) hold a folder's files.

    Args:
        folder: what to push, whole.
        repo_id: ``namespace/name``.
        repo_type: ``dataset`` or ``model``.
        private: of a new repository; None: as the namespace has it.
        revision: branch, made if it is not there; None: the main one.
        message: of the commit.
        replaces: patterns of files that go if the folder does not have them, such as the shards of an
            earlier corpus; other files in the repository stay.
        say: takes a line about each attempt that failed.

    Returns:
        The address of the commit.

    Raises:
        PushError: it did not go through after several attempts, or the Hub refused it.
    """
    from huggingface_hub import HfApi

    api = HfApi()

    def attempt() -> str:
        api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
        head = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
        done = api.upload_folder(
            repo_id=repo_id,
            repo_type=repo_type,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            delete_patterns=list(replaces) or None,
            # what is replaced was looked up in this commit; another push in between is met by a retry
            parent_commit=head,
        )
        return str(done.commit_url)

    try:
        return _again(attempt, say, f"pushing to {repo_id}")
    except Exception as error:  # HTTP, file system, checks of the client: each library raises its own
        raise PushError(
            f"pushing {folder} to {repo_id} did not go through: {_reason(error)}; the repository is as it "
            "was, and the same command tries again"
        ) from None


def _again(work: Callable[[], Result], say: Callable[[str], None], what: str) -> Result:
    """Do it, and again after what may pass."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except Exception as error:
            if attempt == ATTEMPTS or not _may_pass(error):
                raise
            wait = _wait(error, attempt)
            say(f"{what}: {_reason(error)}; attempt {attempt + 1} of {ATTEMPTS} in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may go well."""
    response = getattr(error, "response", None)
    if response is not None:
        return getattr(response, "status_code", None) in TRANSIENT
    # whichever HTTP library is in use, what it raises over a connection has such a name
    names = {cls.__name__ for cls in type(error).__mro__}
    connection = {"TransportError", "ConnectionError", "RequestError", "TimeoutException", "TimeoutError"}
    return bool(names & connection)


def _wait(error: Exception, attempt: int) -> float:
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        asked = float(headers.get("Retry-After", 0))
    except ValueError:
        asked = 0.0
    return min(max(asked, 0.5 * 2.0 ** (attempt - 1)), LONGEST_WAIT_S)


def _reason(error: Exception) -> str:
    """An error in one line, without secrets."""
    return redact(f"{type(error).__name__}: {' '.join(str(error).split())}")[:300]
