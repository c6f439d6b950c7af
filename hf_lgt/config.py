"""The config of a run, read from YAML with `--section.key value` overrides.

Every fault of a config is found before any work starts, and all are told at once, each naming its
key. `load_config` is the entry; `hf_lgt.schema` is the reference of all keys.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data_builders.registry import unknown
from hf_lgt import yaml12
from hf_lgt.config_checks import cross_faults
from hf_lgt.errors import ConfigError
from hf_lgt.schema import (
    NAME,
    SECTIONS,
    ComponentConfig,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    PeftConfig,
    SeedConfig,
    TrainConfig,
    describe_keys,
    plain,
    short,
)

__all__ = [
    "NAME",
    "ComponentConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "EvalConfig",
    "ModelConfig",
    "PeftConfig",
    "SeedConfig",
    "TrainConfig",
    "config_from_dict",
    "describe_keys",
    "load_config",
]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, apply overrides, check everything.

    A file may name another with ``base: other.yaml`` (relative to itself) and then holds only what
    differs; mappings are merged key by key, lists are replaced.

    Args:
        path: YAML file.
        overrides: ``section.key=value``, the value in YAML; ``mixture.0.lengths=[1,4]`` reaches into
            lists.

    Raises:
        ConfigError: with every fault.
    """
    data = _read(Path(path), ())
    faults = [fault for override in overrides if (fault := _override(data, override))]
    return _checked(data, faults)


def config_from_dict(data: dict[str, Any]) -> Config:
    """A checked config from plain data, as `Config.to_dict` gives.

    Raises:
        ConfigError: with every fault.
    """
    return _checked(data, [])


# Stand-ins for faulty values, so that the other keys can still be checked against each other.
_COMPONENT: dict[str, Any] = {"task": "reverse_add", "role": "target", "lengths": [1, 1]}


def _checked(data: dict[str, Any], faults: list[str]) -> Config:
    data = plain(data)
    faulty: set[str] = set()
    for repaired in (False, True):
        try:
            config = TypeAdapter(Config).validate_python(data)
            break
        except ValidationError as error:
            errors = error.errors(include_url=False)
        faults += map(_describe, errors)
        if repaired:
            raise ConfigError(faults)
        faulty.update([_repair(data, e["loc"]) for e in errors])
    for keys, fault in cross_faults(config):
        # what a stand-in caused is not the user's fault
        if not any(f"{key}.".startswith(f"{place}.") for key in keys for place in faulty):
            faults.append(fault)
    if faults:
        raise ConfigError(faults)
    return config


def _repair(data: Any, location: Sequence[Any]) -> str:
    """Replace a faulty value by its default or a stand-in; gives its key."""
    # pydantic names the element of a pair, the key is what holds it
    path = [*location]
    while len(path) > 1 and path[-2] in ("lengths", "betas", "trackers", "target_modules"):
        path.pop()
    at = data
    for part in path[:-1]:
        at = at[part]
    if isinstance(at, list):
        at[path[-1]] = _COMPONENT
    else:
        at.pop(path[-1], None)
        stand_ins = {1: {"name": "x", "mixture": [_COMPONENT]}, 3: _COMPONENT}
        if path[-1] in stand_ins.get(len(path), {}):
            at[path[-1]] = stand_ins[len(path)][path[-1]]
    return ".".join(map(str, path))


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    file = f"base: config file {path}" if seen else f"config file {path}"
    try:
        data = yaml12.load(path.read_text(encoding="utf-8"))
        place = path.resolve()
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from None
    except ValueError as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "is no path of a file"
        raise ConfigError([f"{file} {reason}"]) from None
    except yaml12.YAMLError as error:
        raise ConfigError([f"{file} is not YAML: {error}"]) from None
    if place in seen:
        raise ConfigError([f"base: {path} is based on itself, by way of {len(seen)} file(s)"])
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds {short(data)}"
        raise ConfigError([f"{file} {what}; it must hold keys, as in 'name: my-run'"])
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError([f"base: {short(base)} must be the path of a config file"])
    return _merge(_read(path.parent / base, (*seen, place)), data)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _override(data: dict[str, Any], override: str) -> str | None:
    """Set one key in place; gives the fault, if any."""
    key, equals, text = override.removeprefix("--").partition("=")
    if not equals or not key or not key.isprintable():
        return f"override {override!r} is not of the form section.key=value"
    if key == "base":
        return f"base: {short(text)} can only stand in a config file"
    try:
        value = yaml12.load(text)
    except yaml12.YAMLError as error:
        return f"{key}: the value {short(text)} is not YAML: {error}"
    if value is None and text.strip() not in yaml12.NULLS:
        return f"{key}: the value {short(text)} is empty; for no value write null"
    at: Any = data
    parts = key.split(".")
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


# What must be, for each kind of pydantic's errors that a config can have.
_MUST = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (a number or a word such as true is text in quotes)",
    "string_unicode": "valid text",
    "string_too_short": "at least one character long",
    "list_type": "a list, as in [a, b]",
    "dict_type": "a mapping of keys, as in {{key: value}}",
    "dataclass_type": "a mapping of keys, as in {{key: value}}",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def _describe(error: Any) -> str:
    """One pydantic error in this project's words."""
    location: tuple[Any, ...] = error["loc"]
    key, kind, given = ".".join(map(str, location)), error["type"], short(error["input"])
    if kind == "unexpected_keyword_argument":
        return f"{key}: {unknown('key', location[-1], _keys_at(location[:-1]))}"
    if kind == "missing":
        return f"{key}: is missing"
    if kind == "value_error":
        return f"{key}: {given} {error['ctx']['error']}"
    wanted = _MUST[kind].format(**error.get("ctx", {})).removesuffix(".0")
    return f"{key}: {given} must be {wanted}"


def _keys_at(location: Sequence[Any]) -> list[str]:
    """Keys that a place of the config may hold."""
    cls: Any = Config
    for part in location:
        cls = {"mixture": ComponentConfig, **SECTIONS}.get(part, cls)
    return [*(() if location else ["base"]), *(f.name for f in dataclasses.fields(cls))]
