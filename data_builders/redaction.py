"""Secrets: found in texts and environment, and kept out of what is written or shown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from data_builders.reading import read_text

_SIGNS_IN = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")


_SECRET_NAME = re.compile(r"(?i)(_TOKEN|_API_KEY|_SECRET|PASSWORD|SECRET(_ACCESS)?_KEY)$")
"""names of variables of the environment that hold a secret"""


SHORTEST_SECRET = 8
"""characters; shorter values, as of HF_TOKEN=no, hold none, and stand everywhere"""


SURE_SECRET = 16
"""characters from which even letters alone are no word"""


_KEYS = r"\blocal-[0-9A-Za-z]{40}\b|\bwandb_v[0-9]+_[0-9A-Za-z_]{20,}"


_SIGNED = r"[?&#](?:[a-z_]*token|api[_-]?key|password|secret|sig(?:nature)?|key-pair-id|x-amz-[a-z-]+)="


_LOGIN = r"//(?:[^/\s:@]*:[^/\s@]+|[^/\s:@]{20,})@"


_CERTAIN = re.compile(rf"\bhf_[A-Za-z0-9]{{30,}}|{_KEYS}|{_LOGIN}|(?i:{_SIGNED})[^&\s]")


def redact(text: str) -> str:
    """The text without access tokens, passwords in addresses, signatures and the environment's secrets."""
    text = redact_tokens(text)
    for secret in _environment_secrets():
        text = secret.sub("***", text)
    text = re.sub(r"(?i)(bearer\s+)[^\s'\",}]+", r"\1***", text)
    text = re.sub(_LOGIN, "//***@", text)
    return re.sub(rf"(?i)({_SIGNED})[^&\s'\"]+", r"\1***", text)


def redact_tokens(text: str) -> str:
    """The text without the token of this user's login, and what is a token of the Hub or of wandb."""
    token = _stored_token()
    if len(token) >= SHORTEST_SECRET:
        text = text.replace(token, "***")
    return re.sub(rf"\bhf_[A-Za-z0-9]{{20,}}|{_KEYS}", "***", text)


def _stored_token() -> str:
    """The token that ``hf auth login`` keeps, empty where there is none that can be read.

    Not by `huggingface_hub.get_token`, which raises there, and may ask the network.
    """
    from huggingface_hub import constants

    try:
        return read_text(constants.HF_TOKEN_PATH).strip()
    except OSError:
        return ""


def holds_secret(text: str) -> bool:
    """Whether a setting surely holds a secret.

    Narrower than `redact`, which takes what only looks like one, as after ``bearer``.
    """
    return secret_finder()(text)


def known_secret(text: str) -> bool:
    """Whether a text that is to be published holds a token, or a secret of the environment.

    Narrower than `holds_secret`: a vocabulary may hold pieces of addresses that only look like a secret.
    """
    known = _environment_secrets(words=False)
    return redact_tokens(text) != text or any(secret.search(text) for secret in known)


def secret_finder() -> Callable[[str], bool]:
    """`holds_secret` for many texts, as the environment is now, which is looked at once."""
    known = _environment_secrets(words=False)
    return lambda text: bool(_CERTAIN.search(text)) or any(secret.search(text) for secret in known)


def _environment_secrets(words: bool = True) -> list[re.Pattern[str]]:
    """What finds the secrets of the environment, with or without those that could be words."""
    values = {
        value.strip() for key, value in os.environ.items() if key in _SIGNS_IN or _SECRET_NAME.search(key)
    }
    found = []
    # the longest first, as one may be a part of another
    for value in sorted(values, key=lambda value: (-len(value), value)):
        # a password that is a word must not eat longer words, and may stand in a config for other reasons
        part = len(value) >= SURE_SECRET or not value.isalpha()
        if len(value) >= SHORTEST_SECRET and (words or part):
            pattern = re.escape(value)
            found.append(re.compile(pattern if part else rf"(?<!\w){pattern}(?!\w)"))
    return found
