"""YAML as people expect it: the core schema of YAML 1.2, and no key twice in a mapping.

PyYAML follows YAML 1.1, in which ``no`` is False, ``1e5`` a string and a second key wins silently.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

YAMLError = yaml.YAMLError

_SCALARS = [
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if isinstance(key, (list, dict)):
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key must be a word")
        if key in seen:
            raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} stands here twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    # base 0 would refuse 007, which YAML 1.2 reads as 7
    return int(text, 16 if "x" in text else 10)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def load(text: str) -> Any:
    """Parse one YAML document.

    Raises:
        yaml.YAMLError: not YAML, a key twice, or a tag that asks for a Python object.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, RecursionError, OverflowError) as error:
        raise yaml.YAMLError(str(error)) from error


def dump(data: Any) -> str:
    """Write plain data as YAML that `load` reads back as the same data, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
