"""YAML as people expect it: the core schema of YAML 1.2, and no key twice in a mapping.

PyYAML follows YAML 1.1, in which ``no`` is False, ``1e5`` a string and a second key wins silently.
Keys are always text here, and nothing is shared: what an alias repeats is a copy.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from data_builders.reading import read_text

YAMLError = yaml.YAMLError

LARGEST = 1 << 20
"""bytes of a file; PyYAML takes some seconds for so many"""
LONGEST_NUMBER = 1000
"""digits; longer integers cannot even be printed"""
MOST_VALUES, MOST_CHARACTERS = 100_000, 1 << 20
"""of a document, each alias counted with all that it repeats"""

NULLS = ("~", "null", "Null", "NULL")
_HALF = re.compile("[\ud800-\udfff]")


class _Budget:
    """What a document may still hold."""

    def __init__(self) -> None:
        self._values, self._characters = MOST_VALUES, MOST_CHARACTERS

    def take(self, value: Any) -> None:
        """Count a value.

        Raises:
            yaml.YAMLError: there are too many, or they are too long together.
        """
        self._values -= 1
        self._characters -= len(value) if isinstance(value, str) else 0
        if self._values < 0:
            raise YAMLError(f"it holds more than {MOST_VALUES} values")
        if self._characters < 0:
            raise YAMLError(f"its values have more than {MOST_CHARACTERS} characters together")


def _int(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"has more than {LONGEST_NUMBER} digits")
    # base 0 would refuse 007, which YAML 1.2 reads as 7
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))


_SCALARS: list[tuple[str, str, list[str], Callable[[str], Any]]] = [
    ("null", "|".join([*map(re.escape, NULLS), ""]), ["~", "n", "N", ""], lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"), _int),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
        _float,
    ),
]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._budget = _Budget()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._budget.take(None)  # here too, so that a long document is refused before it is read to its end
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML's other styles lose some line breaks, such as U+0085
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _error(node: yaml.Node, problem: str) -> YAMLError:
    return YAMLError(f"line {node.start_mark.line + 1}: {problem}")


def _mapping(loader: _Loader, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise _error(node, "is no mapping")
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(key, "a key must be a word")
        if key.value in found:
            raise _error(key, f"duplicate key {key.value!r}")
        found[key.value] = loader.construct_object(value, deep=True)
    return found


def _scalar(kind: str, pattern: re.Pattern[str], convert: Callable[[str], Any]) -> Callable[..., Any]:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        if not pattern.fullmatch(text):  # a tag may stand before anything
            raise _error(node, f"{text!r} is no {kind}")
        try:
            return convert(text)
        except ValueError as error:
            raise _error(node, f"the {kind} {error}") from None

    return construct


def _text(loader: _Loader, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _unknown_tag(loader: _Loader, node: yaml.Node) -> None:
    raise _error(node, f"the tag {node.tag!r} is not known here")


for _kind, _pattern, _first, _convert in _SCALARS:
    _compiled = re.compile(rf"(?:{_pattern})\Z")
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _compiled, _first)
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _scalar(_kind, _compiled, _convert))
_Dumper.add_representer(str, _quoted)
_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor("tag:yaml.org,2002:seq", _sequence)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor(None, _unknown_tag)


def load(text: str) -> Any:
    """Parse one YAML document into dicts with text keys, lists, text, numbers, booleans and None.

    Raises:
        yaml.YAMLError: not YAML, a key twice, or a tag that asks for a Python object; the message is
            one line that says where.
    """
    try:
        return _own(_parsed(text), _Budget())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YAMLError(where + ", ".join(filter(None, (error.context, error.problem)))) from None
    except yaml.reader.ReaderError as error:
        raise YAMLError(f"character {error.position + 1} is not allowed in YAML") from None
    except RecursionError:
        raise YAMLError("it is nested too deeply") from None


def read(path: Path) -> Any:
    """As `load`, of a file.

    Raises:
        OSError: it cannot be read, see `data_builders.reading`.
        yaml.YAMLError: as `load`.
    """
    return load(read_text(path, LARGEST))


@functools.lru_cache(maxsize=128)
def _parsed(text: str) -> Any:
    """What a text holds, not to be changed; a sweep reads the same files for each of its runs."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (ValueError, OverflowError):
        # PyYAML looks neither at the numbers of escapes, as "\UFFFFFFFF", nor at those of %YAML
        mark = loader.get_mark()
        place = f"line {mark.line + 1}, column {mark.column + 1}"
        raise YAMLError(f"{place}: the number of a character or of a version is out of range") from None
    finally:
        loader.dispose()


def _own(value: Any, budget: _Budget) -> Any:
    """A copy that shares nothing, so that a change in one place stays there."""
    budget.take(value)
    if isinstance(value, dict):
        return {_own(key, budget): _own(item, budget) for key, item in value.items()}
    if isinstance(value, list):
        return [_own(item, budget) for item in value]
    if isinstance(value, str) and _HALF.search(value):
        raise YAMLError(f"{value[:60]!r} is no valid text")
    return value


def dump(data: Any) -> str:
    """Write plain data as YAML that `load` reads back as the same data, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
