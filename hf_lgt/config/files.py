"""The files of a config, one based on another, and the overrides of single keys."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_builders.reading import UnreadableFileError, read_text
from data_builders.redaction import holds_secret, secret_finder
from hf_lgt.config.schema import short
from hf_lgt.config.shipped import CONFIG, recipe_file
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import expanded
from hf_lgt.utils.errors import ConfigError

SECRET = (
    "holds a secret, which does not belong in a config, as every run keeps a copy; take it out and give it "
    "by HF_TOKEN, 'hf auth login' or a variable of the environment"
)


class SecretFault(str):
    """A fault of something that holds a secret, beside which no other is reported: it might quote it."""


DEEPEST = 20
"""parts of a key with dots"""
MOST_BASES = 50
"""files of which each is based on the next"""


def secret_faults(data: Any, place: str = "") -> Iterator[str]:
    """A fault for each value and key that holds a token or a password; none repeats it."""
    yield from _secret_faults(data, place, secret_finder())


def _secret_faults(data: Any, place: str, secret: Callable[[str], bool]) -> Iterator[str]:
    if isinstance(data, str):
        if secret(data):
            yield f"{place}: {SECRET}"
    elif isinstance(data, list):
        for i, item in enumerate(data):
            yield from _secret_faults(item, f"{place}.{i}", secret)
    elif isinstance(data, dict):
        for key, item in data.items():
            if secret(str(key)):
                yield f"{place or 'config'}: a key here {SECRET}"
            else:
                yield from _secret_faults(item, f"{place}.{key}".removeprefix("."), secret)


CONSENT = ("trust_remote_code", "use_safetensors")
"""keys below ``model`` that let code or pickles of a model be loaded, see `hf_lgt.config.consent`"""


def read_file(path: Path, *, based: bool = False) -> dict[str, Any]:
    """The keys of a config file, merged into those of the file that it is based on.

    Args:
        path: YAML file.
        based: whether another file names it, and not the user.

    Raises:
        ConfigError: it cannot be read, is no mapping, or is based on itself.
    """
    data: dict[str, Any] = {}
    for _, own in reversed(file_chain(path, based=based)):
        data = merge(data, own)
    return data


def file_chain(path: Path, *, based: bool = False) -> list[tuple[Path, dict[str, Any]]]:
    """A config file, the file that it is based on, and so on, each with its own keys.

    A config that a run kept gives no consent to code where another file names it: the run may be a download.

    Raises:
        ConfigError: see `read_file`.
    """
    chain: list[tuple[Path, dict[str, Any]]] = []
    seen: set[Path] = set()
    while True:
        data = _read_one(path, based=bool(chain))
        if len(chain) == MOST_BASES:
            raise ConfigError([f"base: {path} is below {MOST_BASES} files that are based on one another"])
        base = data.pop("base", None)
        kept_by_a_run = any((path.parent / name).is_dir() for name in ("model", "checkpoints"))
        if based and kept_by_a_run and isinstance(model := data.get("model"), dict):
            data["model"] = {key: value for key, value in model.items() if key not in CONSENT}
        based = True
        chain.append((path, data))
        if (place := path.resolve()) in seen:
            raise ConfigError([f"base: {path} is based on itself, by way of {len(seen)} file(s)"])
        seen.add(place)
        if base is None:
            return chain
        path = _beside(path.parent, base, "base")


def _read_one(path: Path, *, based: bool) -> dict[str, Any]:
    """What stands in one config file; `based`: another one names it."""
    file = f"base: config file {path}" if based else f"config file {path}"
    if holds_secret(str(path)):
        raise ConfigError([f"{'base' if based else '--config'}: {SECRET}"])
    try:
        text = read_text(path, yaml.LARGEST)
        data = yaml.load(text)
    except UnreadableFileError as error:
        raise ConfigError([f"{file} {error.strerror}"]) from None
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{file} is not YAML: {_quoting_no_secret(error, text)}"]) from None
    if isinstance(data, dict):
        return data
    if secret := [*secret_faults(data, "config")]:
        raise ConfigError(secret)
    what = "is empty" if data is None else f"holds {short(data)}"
    raise ConfigError([f"{file} {what}; it must hold keys, as in 'name: my-run'"])


def read_mapping(data: Any, folder: Path, place: str) -> dict[str, Any]:
    """A config that stands in another file: its keys, perhaps with a ``base``, or the path of a file.

    Args:
        data: a mapping, or a path relative to `folder`.
        folder: of the file that it stands in.
        place: names the key that it stands under, for errors.

    Raises:
        ConfigError: it is neither, or a file cannot be read; see `read_file`.
    """
    if isinstance(data, str):
        data = {"base": data}
    if not isinstance(data, dict):
        raise ConfigError([f"{place}: {short(data)} must hold keys of a run's config, or be the path of one"])
    own = dict(data)
    base = own.pop("base", None)
    if base is None:
        return own
    file = _beside(folder, base, f"{place}.base")
    try:
        return merge(read_file(file, based=True), own)
    except ConfigError as error:
        raise ConfigError([f"{place}: {fault}" for fault in error.faults]) from None


def _beside(folder: Path, base: Any, key: str) -> Path:
    """The path of a config file that another one names, relative to its own folder; or a shipped recipe's.

    Raises:
        ConfigError: it is no path.
    """
    if not isinstance(base, str):
        raise ConfigError([f"{key}: {short(base)} must be the path of a config file"])
    try:
        path = folder / expanded(base)
    except ValueError as error:
        raise ConfigError([f"{key}: {short(base)} {error}"]) from None
    return path if os.path.lexists(path) else folder / recipe_file(base, CONFIG)


def _quoting_no_secret(error: yaml.YAMLError, text: str) -> str:
    """What is wrong with a text; where it holds a secret, only in which line."""
    if not holds_secret(text):
        return str(error)
    where = re.match(r"line [0-9]+", str(error))
    return f"{where[0] if where else 'it'} cannot be read. It also {SECRET}"


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both, those of `above` first; mappings key by key, all else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def set_key(data: dict[str, Any], override: str) -> str | None:
    """Set one key in place, as ``section.key=value`` says; gives the fault, if any."""
    key, equals, text = override.removeprefix("--").partition("=")
    if holds_secret(override):
        return SecretFault(f"{'an override' if holds_secret(key) or not equals else key}: {SECRET}")
    if not equals or not key or not key.isprintable():
        return f"override {override!r} is not of the form section.key=value"
    if key == "base":
        return f"base: {short(text)} can only stand in a config file"
    try:
        value = yaml.load(text)
    except yaml.YAMLError as error:
        return f"{key}: the value {short(text)} is not YAML: {error}"
    if value is None and text.strip() not in yaml.NULLS:
        return f"{key}: the value {short(text)} is empty; for no value write null"
    return set_value(data, key, value)


def set_value(data: dict[str, Any], key: str, value: Any) -> str | None:
    """Set one key in place, as ``section.key`` or ``list.0.key`` names it; gives the fault, if any."""
    at: Any = data
    parts = key.split(".")
    if len(parts) > DEEPEST:
        return f"{short(key)}: has {len(parts)} parts; no key has more than {DEEPEST}"
    for i, part in enumerate(parts):
        place: str | int = part
        if isinstance(at, list):
            # no list has a billion items, and a longer number need not be read
            place = int(part) if re.fullmatch("[0-9]{1,9}", part) else len(at)
            if place >= len(at):
                return f"{key}: {part!r} is no index of {'.'.join(parts[:i])}, a list of {len(at)}, from 0"
        elif not isinstance(at, dict):
            return f"{key}: {'.'.join(parts[:i])} is {short(at)}, which has no keys"
        if i == len(parts) - 1:
            at[place] = value
        else:
            at = at.setdefault(place, {}) if isinstance(at, dict) else at[place]
    return None
