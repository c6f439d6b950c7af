"""Try again what may pass."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from data_builders.redaction import redact

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

TRANSIENT = {408, 409, 412, 425, 429, 500, 502, 503, 504}
"""HTTP statuses after which the same push may go well"""
ATTEMPTS = 8
ASKING_ATTEMPTS = 4
"""of the check before any work, which nobody wants to wait for"""
LONGEST_WAIT_S = 30.0
LONGEST_ASKED_WAIT_S = 300.0
"""when the Hub says how long; its limits are on windows of five minutes"""
PAUSE = time.sleep
"""waits some seconds; tests put another in its place"""


class _Redacted(logging.Filter):
    """Takes secrets out of what a library logs, such as the signed address of an upload."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


@contextmanager
def quiet() -> Iterator[None]:
    """No secrets in the client's log, and no bars of its own where nobody looks at them."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    loggers = [logging.getLogger(name) for name in ("huggingface_hub.utils._http", "httpx", "httpx2")]
    filters = [(logger, _Redacted()) for logger in loggers]
    hide = (sys.stderr is None or not sys.stderr.isatty()) and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    for logger, secrets in filters:
        logger.addFilter(secrets)
    try:
        yield
    finally:
        for logger, secrets in filters:
            logger.removeFilter(secrets)
        if hide:
            enable_progress_bars()


def again(work: Callable[[], Result], what: str, attempts: int) -> Result:
    """Do it, and again after what may pass; each further attempt is logged."""
    from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

    def failed(state: RetryCallState) -> Any:
        return state.outcome and state.outcome.exception()

    def tell(state: RetryCallState) -> None:
        following = f"attempt {state.attempt_number + 1} of {attempts} in {state.upcoming_sleep:.0f} s"
        _log.warning("%s: %s; %s", what, reason(failed(state)), following)

    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_attempt(attempts),
        wait=lambda state: wait(failed(state), state.attempt_number),
        before_sleep=tell,
        sleep=PAUSE,
        reraise=True,
    )
    return retrying(work)


def may_pass(error: BaseException) -> bool:
    """Whether another attempt may go well."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined,unused-ignore]
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, LocalEntryNotFoundError):
        # the client looked into its cache after something else, which it may say
        return error.__cause__ is not None and may_pass(error.__cause__)
    response = getattr(error, "response", None)
    if response is not None:
        return getattr(response, "status_code", None) in TRANSIENT
    http: Any = sys.modules[HTTPError.__module__]  # httpx or httpx2, whichever the client uses
    if isinstance(error, (OfflineModeIsEnabled, http.LocalProtocolError, http.UnsupportedProtocol)):
        return False
    # a gateway's page of HTML where the client expected JSON
    if isinstance(error, (ConnectionError, TimeoutError, http.RequestError, json.JSONDecodeError)):
        return True
    if type(error) is not RuntimeError:
        return False
    # the client wraps what went wrong with one file of several; hf_xet has no class for all of its errors
    return may_pass(error.__cause__) if error.__cause__ is not None else is_of_upload(error)


def is_of_upload(error: BaseException) -> bool:
    """Whether it was raised where the client hands files to hf_xet."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_code.co_name == "_upload_xet_files" for frame in frames)


def wait(error: BaseException, attempt: int) -> float:
    """Seconds before the next attempt: what the Hub asks for, else more each time."""
    while getattr(error, "response", None) is None and error.__cause__ is not None:
        error = error.__cause__
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked = [
        *re.findall(r"^[0-9]{1,6}$", headers.get("Retry-After", "").strip()),
        *re.findall(r"\br=0;\s*t=([0-9]{1,6})", headers.get("RateLimit", "")),
    ]
    own = min(0.5 * 2.0 ** (attempt - 1), LONGEST_WAIT_S)
    return max(own, min(max(map(float, asked), default=0.0), LONGEST_ASKED_WAIT_S))


def reason(error: BaseException) -> str:
    """An error in one line, without secrets."""
    told = " ".join(str(error).split())
    if type(error) is RuntimeError and error.__cause__ is not None:  # which says of which file only
        return redact(f"{told} {reason(error.__cause__)}")[:300]
    return redact(f"{type(error).__name__}: {told}")[:300]
