"""The symbol table: every symbol is one integer code, and every code one piece of text.

Tasks emit codes; text and token ids are two views of them. A symbol never depends on its
neighbours, so a prompt and its target cannot merge at their boundary, whatever the tokenizer.

Codes fall in four ranges: control symbols (padding, beginning, end), single characters, task tags
(``<reverse_add>``, one for each registered task) and maze nodes (``[1]``, ``[2]``, ...).
"""

from __future__ import annotations

import re
import string
from functools import cache

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int16]

PAD, BOS, EOS = 0, 1, 2
CONTROL_TEXT = ("<pad>", "<bos>", "<eos>")

CHARACTERS = string.digits + string.ascii_lowercase + string.ascii_uppercase + "+-*=:;?>"
FIRST_CHARACTER = len(CONTROL_TEXT)
DIGIT_ZERO = FIRST_CHARACTER + CHARACTERS.index("0")
LETTER_A = FIRST_CHARACTER + CHARACTERS.index("a")

FIRST_TAG = 256
FIRST_NODE = 1024  # the code of node k is FIRST_NODE + k
LAST_NODE = 2**15 - 1 - FIRST_NODE

TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""names of tasks that can have a tag"""
_SYMBOL = re.compile(r"<[A-Za-z_][A-Za-z0-9_]*>|\[[0-9]+\]|.", re.DOTALL)
_NODE = re.compile(r"\[[1-9][0-9]{0,4}\]")
_tags: list[str] = []


def add_tag(task_name: str) -> int:
    """Give a task its tag symbol (once) and return the code."""
    text = f"<{task_name}>"
    if text not in _tags:
        if FIRST_TAG + len(_tags) >= FIRST_NODE:
            raise ValueError(f"no room for the tag of task {task_name!r}: {len(_tags)} tasks exist")
        _tags.append(text)
        _table.cache_clear()
        base_symbols.cache_clear()
    return FIRST_TAG + _tags.index(text)


def tag_code(task_name: str) -> int:
    """Code of a registered task's tag.

    Raises:
        KeyError: the task has no tag.
    """
    return code_of(f"<{task_name}>")


def char(character: str) -> int:
    """Code of a single character."""
    return FIRST_CHARACTER + CHARACTERS.index(character)


def node(k: int) -> int:
    """Code of maze node ``[k]``, k >= 1."""
    if not 1 <= k <= LAST_NODE:
        raise ValueError(f"maze node {k} is outside 1..{LAST_NODE}")
    return FIRST_NODE + k


@cache
def _table() -> dict[int, str]:
    """Every code that is not a node, with its text."""
    table = dict(enumerate(CONTROL_TEXT))
    table.update(enumerate(CHARACTERS, FIRST_CHARACTER))
    table.update(enumerate(_tags, FIRST_TAG))
    return table


def text_of(code: int) -> str:
    """Text of one code: ``text_of(char("a")) == "a"``, ``text_of(node(3)) == "[3]"``.

    Raises:
        KeyError: no symbol has this code.
    """
    return f"[{code - FIRST_NODE}]" if code > FIRST_NODE else _table()[code]


def is_node(text: str) -> bool:
    """Whether a text is a maze node's: ``[1]`` to ``[LAST_NODE]``."""
    return bool(_NODE.fullmatch(text)) and int(text[1:-1]) <= LAST_NODE


def code_of(text: str) -> int:
    """Code of one symbol's text, the inverse of `text_of`.

    Raises:
        KeyError: the text is no symbol.
    """
    known = base_symbols()
    if is_node(text):
        return node(int(text[1:-1]))
    if text not in known:
        raise KeyError(f"{text!r} is not a symbol")
    return known[text]


@cache
def base_symbols() -> dict[str, int]:
    """Text and code of every symbol but the nodes, in code order."""
    return {text: code for code, text in _table().items()}


def split(text: str) -> list[str]:
    """Cut a text into symbols: ``split("<copy>a[12]") == ["<copy>", "a", "[12]"]``."""
    return _SYMBOL.findall(text)


SYMBOL_PATTERN = _SYMBOL.pattern


def parse(text: str) -> Codes:
    """Codes of a text, int16 [number of symbols].

    Raises:
        KeyError: a piece of the text is no symbol.
    """
    return np.array([code_of(symbol) for symbol in split(text)], dtype=np.int16)


def render(codes: Codes) -> list[str]:
    """Text of each row of a code array, without padding, BOS, EOS or tags.

    Args:
        codes: int16 [n, width], right-padded with `PAD`.

    Returns:
        n strings.
    """
    codes = np.ascontiguousarray(codes)
    characters = (codes >= FIRST_CHARACTER) & (codes < FIRST_TAG)
    if codes.size and (characters | (codes == PAD)).all():
        # One character a symbol: the rows are reinterpreted as UTF-32 text in one pass. NumPy drops
        # trailing NULs, which is what padding becomes.
        points = np.zeros(FIRST_TAG, dtype=np.uint32)
        points[FIRST_CHARACTER : FIRST_CHARACTER + len(CHARACTERS)] = [ord(c) for c in CHARACTERS]
        rows = points[codes].view(f"<U{codes.shape[1]}")[:, 0]
        return [str(row) for row in rows.tolist()]
    keep = characters | (codes > FIRST_NODE)
    return ["".join(text_of(int(c)) for c in row[mask]) for row, mask in zip(codes, keep, strict=True)]
