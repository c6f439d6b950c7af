"""The config of a run, read from YAML with `--section.key value` overrides.

Every error of a config is found before any work starts, and all are reported at once, each naming its
key. `load_config` is the entry; `hf_lgt.config.schema` is the reference of all keys. Other files of this
kind, with keys of their own, are read by `load_spec` and a `ConfigSpec`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from data_builders.registry import unknown
from data_builders.texts import printable
from hf_lgt.config.consent import consent_faults
from hf_lgt.config.files import SecretFault, read_file, secret_faults, set_key
from hf_lgt.config.schema import (
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
    plain_data,
    short,
)
from hf_lgt.config.shipped import CONFIG, recipe_file
from hf_lgt.config.validate import cross_faults
from hf_lgt.config.validate_model import Fault
from hf_lgt.utils.errors import ConfigError

__all__ = [
    "NAME",
    "ComponentConfig",
    "Config",
    "ConfigError",
    "ConfigSpec",
    "DataConfig",
    "EvalConfig",
    "ModelConfig",
    "PeftConfig",
    "SeedConfig",
    "TrainConfig",
    "Trained",
    "config_from_dict",
    "describe_keys",
    "from_dict",
    "load_config",
    "load_spec",
]


class Trained(Protocol):
    """What every config has that something is trained by."""

    @property
    def name(self) -> str: ...
    @property
    def output_dir(self) -> str: ...
    @property
    def seed(self) -> SeedConfig: ...
    @property
    def train(self) -> TrainConfig: ...
    @property
    def run_dir(self) -> Path: ...
    def to_dict(self) -> dict[str, Any]: ...


C = TypeVar("C", bound=Trained)


@dataclasses.dataclass(frozen=True)
class ConfigSpec(Generic[C]):
    """What a kind of config is made of."""

    root: type[C]
    sections: Mapping[str, Any]
    """key -> the dataclass of what is below it"""
    cross_faults: Callable[[C], Iterator[Fault]]
    """faults that take more than a value's type to see"""
    required: Mapping[str, Any]
    """stand-ins for the root's keys without a default, used to check the others where one is faulty"""
    lists: Mapping[str, tuple[Any, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """key of a list -> the dataclass of its items, and a stand-in for one"""
    hidden: Sequence[str] = ()
    """keys that ``--help`` does not list"""

    def describe(self) -> Iterator[tuple[str, str]]:
        """(key and default, meaning) of every key, for ``--help``."""
        items = {f"{key}.N": cls for key, (cls, _) in self.lists.items()}
        rows = describe_keys({"": self.root, **items, **self.sections})
        return ((key, meaning) for key, meaning in rows if key.removeprefix("--") not in self.hidden)

    def keys_at(self, location: Sequence[Any]) -> list[str]:
        """Keys that a place of the config may hold."""
        cls: Any = self.root
        below = {**{key: item for key, (item, _) in self.lists.items()}, **self.sections}
        place = ""
        for part in location:
            place = f"{place}.{part}".removeprefix(".")
            cls = below.get(place, cls)
        return [*(() if location else ["base"]), *(f.name for f in dataclasses.fields(cls))]


# Stand-ins for faulty values, so that the other keys can still be checked against each other.
_COMPONENT: dict[str, Any] = {"task": "reverse_add", "role": "target", "lengths": [1, 1]}

RUN: ConfigSpec[Config] = ConfigSpec(
    root=Config,
    sections=SECTIONS,
    cross_faults=cross_faults,
    required={"name": "x", "mixture": [_COMPONENT]},
    lists={"mixture": (ComponentConfig, _COMPONENT)},
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read the config of a run, apply overrides, check everything.

    Args:
        path: YAML file, see `load_spec`, or the name of a recipe that comes along, as ``demo``.
        overrides: ``section.key=value``, the value in YAML; ``mixture.0.lengths=[1,4]`` reaches into
            lists.

    Raises:
        ConfigError: with every fault.
    """
    path = recipe_file(str(path), CONFIG)
    config = load_spec(RUN, path, overrides)
    if faults := consent_faults(path, overrides, config.model):
        raise ConfigError([printable(fault) for fault in faults])
    return config


def config_from_dict(data: dict[str, Any]) -> Config:
    """A checked config from plain data, as `Config.to_dict` gives.

    Raises:
        ConfigError: with every fault.
    """
    return from_dict(RUN, data)


def load_spec(form: ConfigSpec[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read a config file of some kind, apply overrides, check everything.

    A file may name another with ``base: other.yaml`` (relative to itself) and then holds only what
    differs; mappings are merged key by key, lists are replaced.

    Args:
        form: the kind.
        path: YAML file.
        overrides: ``section.key=value``, the value in YAML.

    Raises:
        ConfigError: with every fault.
    """
    with _printable():
        data = read_file(Path(path))
        faults = [fault for override in overrides if (fault := set_key(data, override))]
        return _checked(form, data, faults)


def from_dict(form: ConfigSpec[C], data: dict[str, Any]) -> C:
    """A checked config of some kind from plain data, as its `to_dict` gives.

    Raises:
        ConfigError: with every fault.
    """
    with _printable():
        return _checked(form, data, [])


@contextmanager
def _printable() -> Iterator[None]:
    """Faults quote what stands in a config, which a terminal must not take for its own signs."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([printable(fault) for fault in error.faults]) from None


def _checked(form: ConfigSpec[C], data: dict[str, Any], faults: list[str]) -> C:
    data = plain_data(data)
    if secret := [*(fault for fault in faults if isinstance(fault, SecretFault)), *secret_faults(data)]:
        raise ConfigError(secret)
    faulty: set[str] = set()
    for repaired in (False, True):
        try:
            config = TypeAdapter(form.root).validate_python(data)
            break
        except ValidationError as error:
            errors = error.errors(include_url=False)
        faults += [_describe(form, e) for e in errors]
        if repaired:
            raise ConfigError(faults)
        faulty.update([_repair(form, data, e["loc"]) for e in errors])
    for keys, fault in form.cross_faults(config):
        # what a stand-in caused is not the user's fault
        if not any(f"{key}.".startswith(f"{place}.") for key in keys for place in faulty):
            faults.append(fault)
    if faults:
        raise ConfigError(faults)
    return config


def _repair(form: ConfigSpec[C], data: Any, location: Sequence[Any]) -> str:
    """Replace a faulty value by its default or a stand-in; gives its key."""
    # pydantic names the element of a pair or list, the key is what holds it
    path = [*location]
    while len(path) > 1 and isinstance(path[-1], int) and path[-2] not in form.lists:
        path.pop()
    at = data
    for part in path[:-1]:
        at = at[part]
    items = form.lists.get(path[0])
    if isinstance(at, list):
        assert items, "an element of any other list was left above"
        at[path[-1]] = items[1]
    else:
        at.pop(path[-1], None)
        stand_ins = form.required if len(path) == 1 else items[1] if items and len(path) == 3 else {}
        if path[-1] in stand_ins:
            at[path[-1]] = stand_ins[path[-1]]
    return ".".join(map(str, path))


# What must be, for each kind of pydantic's errors that a config can have.
_MUST = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "a boolean",
    "string_type": "a string (a number or a word such as true is a string in quotes)",
    "string_unicode": "valid Unicode",
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


def _describe(form: ConfigSpec[C], error: Any) -> str:
    """One pydantic error in this project's words."""
    location: tuple[Any, ...] = error["loc"]
    key, kind, given = ".".join(map(str, location)), error["type"], short(error["input"])
    if kind == "unexpected_keyword_argument":
        return f"{key}: {unknown('key', location[-1], form.keys_at(location[:-1]))}"
    if kind == "missing":
        return f"{key}: is missing"
    if kind == "value_error":
        return f"{key}: {given} {error['ctx']['error']}"
    wanted = _MUST[kind].format(**error.get("ctx", {})).removesuffix(".0")
    return f"{key}: {given} must be {wanted}"
