"""Text that a user or a dataset gives, made inert where it is shown: on a terminal, in Markdown, in code."""

from __future__ import annotations

import re

# Controls, among them those that begin an escape sequence, line ends of odd kinds, overrides of the
# writing direction, which show a text as another, and halves of characters, which cannot be encoded.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""characters that change how what stands around them is shown"""


def printable(text: str) -> str:
    r"""Text for a terminal or a log: controls as escapes, but for line ends and tabs.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return CONTROLS.sub(lambda found: found[0] if found[0] in "\n\t" else ascii(found[0])[1:-1], text)


def line(text: str) -> str:
    """Text on one line, without controls."""
    return printable(" ".join(text.split()))


def escaped(text: str) -> str:
    """A piece of a line in which nothing is Markdown or HTML, wherever it stands but at the beginning."""
    text = re.sub("&(?=#?[0-9A-Za-z]+;)", "&amp;", text).replace("<", "&lt;")
    # names as they should be stay as they are: an underscore within a word means nothing
    return re.sub(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)


def plain(text: str) -> str:
    """Text on one line in which nothing is Markdown or HTML, also as a cell of a table."""
    return begun(escaped(line(text)))


def begun(text: str) -> str:
    """The beginning of a line of Markdown that begins no heading, list, quotation or rule."""
    return re.sub(
        r"^(?:[#>+=-]|[0-9]{1,9}(?=[.)]))",
        lambda found: f"{found[0]}\\" if found[0].isdecimal() else f"\\{found[0]}",
        text,
    )


def code(text: str) -> str:
    """Text as inline code on one line, whatever it holds."""
    text = line(text)
    fence = "`" * (1 + _longest_run(text))
    edge = " " if "`" in (text[:1], text[-1:]) or not text else ""
    return f"{fence}{edge}{text}{edge}{fence}"


def fenced(text: str, language: str) -> str:
    """Text as a block of code, whatever it holds."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language}\n{printable(text)}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
