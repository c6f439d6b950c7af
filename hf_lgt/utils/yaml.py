"""YAML as people expect it: the core schema of YAML 1.2, and no duplicate keys in a mapping.

ruamel.yaml parses and emits; values are made here of its events, as its own make more of text than the core
schema does, such as dates. Keys are always text, and nothing is shared: what an alias repeats is a copy.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.docinfo import DocInfo
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tag import Tag

from data_builders.reading import read_text

__all__ = ["LARGEST", "NULLS", "YAMLError", "dump", "load", "read"]

LARGEST = 1 << 20
"""bytes of a file; ruamel.yaml takes some seconds for so many"""
LONGEST_NUMBER = 1000
"""digits; longer integers cannot even be printed"""
MOST_VALUES, MOST_CHARACTERS = 100_000, 1 << 20
"""of a document, each alias counted with all that it repeats"""
DEEPEST = 100
"""values within values"""

NULLS = ("~", "null", "Null", "NULL")
_HALF = re.compile("[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
_PLAIN = re.compile(
    rf"(?P<null>{'|'.join(map(re.escape, NULLS))}|)"
    r"|(?P<bool>true|True|TRUE|false|False|FALSE)"
    r"|(?P<int>[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)


def _int(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"has more than {LONGEST_NUMBER} digits")
    # base 0 would refuse 007, which YAML 1.2 reads as 7
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


_CONVERT: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _int,
    "float": lambda text: float(re.sub(r"\.(inf|nan)", r"\1", text.lower())),
    "str": lambda text: text,
}


def _kind(text: str) -> str:
    """What text without quotes or a tag stands for: a key of `_CONVERT`."""
    found = _PLAIN.fullmatch(text)
    return (found and found.lastgroup) or "str"


def _fits(text: str, kind: str) -> bool:
    """Whether a tag may stand before a text."""
    return kind == "str" or _kind(text) == kind or (kind == "float" and _kind(text) == "int")


def _error(event: events.Event, problem: str) -> YAMLError:
    return YAMLError(f"line {event.start_mark.line + 1}: {problem}")


@dataclass
class _Open:
    """A list or dict that is not at its end."""

    values: Any
    key: str | None = None
    """of a dict, whose value comes next"""


class _Document:
    """The value of a document, put together from a parser's events."""

    def __init__(self) -> None:
        self.root: list[Any] = []
        self._open = [_Open(self.root)]
        self._anchors: dict[str, Any] = {}
        self._values_left, self._characters_left = MOST_VALUES, MOST_CHARACTERS

    def take(self, event: events.Event) -> None:
        """Add what an event says.

        Raises:
            YAMLError: the document says what it may not, or too much.
        """
        if isinstance(event, events.AliasEvent):
            self._repeat(event)
        elif isinstance(event, events.ScalarEvent):
            self._add_scalar(event)
        elif isinstance(event, events.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, events.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, events.DocumentStartEvent) and self.root:
            raise _error(event, "another document begins")
        if isinstance(event, (events.ScalarEvent, events.CollectionStartEvent)) and event.anchor:
            is_scalar = isinstance(event, events.ScalarEvent)
            self._anchors[event.anchor] = event if is_scalar else self._open[-1].values

    def _add_scalar(self, event: events.ScalarEvent) -> None:
        text = event.value
        if _HALF.search(text):
            raise _error(event, f"{text[:60]!r} is no valid text")
        place = self._open[-1]
        if isinstance(place.values, dict) and place.key is None:
            if text in place.values:
                raise _error(event, f"duplicate key {text!r}")
            self._count(text)
            place.key = text
        else:
            self._add(event, self._value(event))

    def _value(self, event: events.ScalarEvent) -> Any:
        text = event.value
        if event.tag in (None, "!"):
            kind = _kind(text) if event.implicit[0] else "str"
        else:
            kind = _known(event, _CONVERT)
            if not _fits(text, kind):
                raise _error(event, f"{text!r} does not fit the tag {event.tag!r}")
        try:
            return _CONVERT[kind](text)
        except ValueError as error:
            raise _error(event, f"the {kind} {error}") from None

    def _begin(self, event: events.CollectionStartEvent) -> None:
        kind = "map" if isinstance(event, events.MappingStartEvent) else "seq"
        if event.tag not in (None, "!"):
            _known(event, (kind,))
        if len(self._open) > DEEPEST:
            raise _error(event, "it is nested too deeply")
        values: Any = {} if kind == "map" else []
        self._add(event, values)
        self._open.append(_Open(values))

    def _add(self, event: events.Event, value: Any) -> None:
        self._count(value)
        place = self._open[-1]
        if isinstance(place.values, list):
            place.values.append(value)
        elif place.key is None:
            raise _error(event, "a key must be a word")
        else:
            place.values[place.key] = value
            place.key = None

    def _repeat(self, event: events.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            raise _error(event, f"undefined alias {event.anchor!r}")
        repeated = self._anchors[event.anchor]
        if isinstance(repeated, events.ScalarEvent):
            self._add_scalar(repeated)
        elif any(place.values is repeated for place in self._open):
            raise _error(event, f"the alias {event.anchor!r} is recursive")
        else:
            self._add(event, self._copy(repeated, len(self._open)))

    def _copy(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise YAMLError("it is nested too deeply")
        if isinstance(value, dict):
            return {self._count(key): self._copy(self._count(item), depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copy(self._count(item), depth + 1) for item in value]
        return value

    def _count(self, value: Any) -> Any:
        self._values_left -= 1
        self._characters_left -= len(value) if isinstance(value, str) else 0
        if self._values_left < 0:
            raise YAMLError(f"it holds more than {MOST_VALUES} values")
        if self._characters_left < 0:
            raise YAMLError(f"its values have more than {MOST_CHARACTERS} characters together")
        return value


def _known(event: Any, kinds: Any) -> str:
    """The kind that a tag names, one of those."""
    kind: str = event.tag.removeprefix(_TAG)
    if kind not in (*_CONVERT, "map", "seq"):
        raise _error(event, f"the tag {event.tag!r} is not known here")
    if kind not in kinds:
        raise _error(event, f"the tag {event.tag!r} is that of another kind of value")
    return kind


def load(text: str) -> Any:
    """Parse one YAML document into dicts with text keys, lists, text, numbers, booleans and None.

    Raises:
        YAMLError: not YAML, a duplicate key, or a tag that asks for a Python object; the message is one line
            that says where.
    """
    return _copied(_parsed(text))


def read(path: Path) -> Any:
    """As `load`, of a file.

    Raises:
        OSError: it cannot be read, see `data_builders.reading`.
        YAMLError: as `load`.
    """
    return load(read_text(path, LARGEST))


@functools.lru_cache(maxsize=128)
def _parsed(text: str) -> Any:
    """What a text holds, not to be changed; a sweep reads the same files for each of its runs."""
    yaml, document = YAML(typ="safe", pure=True, plug_ins=[]), _Document()
    yaml.Scanner = _Scanner
    yaml.doc_infos.append(DocInfo())  # as its `load` does: it takes %YAML and %TAG
    try:
        _, parser = yaml.get_constructor_parser(text)
        while parser.check_event():
            document.take(parser.get_event())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YAMLError(where + ", ".join(filter(None, (error.context, error.problem)))) from None
    except ReaderError as error:
        raise YAMLError(f"character {error.position + 1} is not allowed in YAML") from None
    except (ValueError, OverflowError):
        # ruamel.yaml looks neither at the numbers of escapes, as "\UFFFFFFFF", nor at those of %YAML
        mark = yaml.reader.get_mark()
        place = f"line {mark.line + 1}, column {mark.column + 1}"
        raise YAMLError(f"{place}: the number of a character or of a version is out of range") from None
    return document.root[0] if document.root else None


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


class _Scanner(Scanner):
    def fetch_flow_collection_start(self, *args: Any, **kwargs: Any) -> None:
        if self.flow_level > DEEPEST:  # here, as each bracket is looked for among the open ones
            raise YAMLError("it is nested too deeply")
        super().fetch_flow_collection_start(*args, **kwargs)


@functools.cache
def _tag(kind: str) -> Tag:
    return Tag(suffix=_TAG + kind)


class _Resolver(VersionedResolver):
    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode and implicit[0]:
            return _tag(_kind(value))
        return super().resolve(kind, value, implicit)


class _Representer(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(representer: _Representer, text: str) -> ScalarNode:
    # other styles lose some line breaks, such as U+0085
    style = None if text.isprintable() else '"'
    return representer.represent_scalar(_tag("str"), text, style=style)


def _represent_float(representer: _Representer, number: float) -> ScalarNode:
    node = representer.represent_float(number)
    if "." not in node.value:
        node.value = node.value.replace("e", ".0e")  # as YAML 1.1 needs it: others may read our files by that
    return node


_Representer.add_representer(str, _represent_text)
_Representer.add_representer(float, _represent_float)


def dump(data: Any) -> str:
    """Write plain data as YAML that `load` reads back as the same data, keys in their order."""
    yaml, text = YAML(typ="safe", pure=True, plug_ins=[]), io.StringIO()
    yaml.Resolver, yaml.Representer = _Resolver, _Representer
    yaml.default_flow_style, yaml.width = False, 100
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(data, text)
    return text.getvalue()
