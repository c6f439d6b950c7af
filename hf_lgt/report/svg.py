"""Matplotlib's SVG made a part of an HTML page: no inline styles, ids of its own, greys that follow the page.

A strict Content-Security-Policy blocks ``style`` attributes, so they become presentation attributes. Colours
become classes too, for which `color_rules` has the CSS, so that a figure reads in light and in dark: greys
(axes, grids, words) are mixed from the page's ink and paper; hues are those of the figure, in the dark a
little lighter.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
FIXED = "fixed-colours"
"""a part whose ``gid`` begins so keeps its greys: words on cells of a heat map, which stay as they are"""
BLACK = "#000000"
"""what SVG fills with where nothing else is said"""
WIDE = 620
"""CSS pixels, above which a figure is not shrunk to a narrow window but scrolls"""
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_HUELESS = 12
"""largest difference of a grey's channels"""
MOST_HUES = 30
"""of a figure; more are a scale of colours, which stays as it is"""


@dataclass(frozen=True)
class Inline:
    """A figure as a part of a page."""

    markup: str
    """an ``svg`` element"""
    colors: frozenset[str]
    """for `color_rules`"""
    wide: bool


def svg_of(figure: Figure, name: str) -> str:
    """The SVG file of a figure, words as words; the same bytes for the same figure.

    Args:
        figure: words on heat maps in it are marked, see `FIXED`.
        name: salt of the ids.
    """
    import matplotlib

    _mark_words_on_heat_maps(figure)
    buffer = io.StringIO()
    as_words = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name})
    with as_words, warnings.catch_warnings():
        # of names in scripts that matplotlib's font lacks, of which a page's font may have the signs
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _mark_words_on_heat_maps(figure: Figure) -> None:
    from matplotlib.collections import QuadMesh

    for number, axes in enumerate(figure.axes):
        if axes.images or any(isinstance(c, QuadMesh) for c in axes.collections):
            for index, text in enumerate(axes.texts):
                text.set_gid(f"{FIXED}-{number}-{index}")


def inline(text: str, prefix: str, label: str, description: str) -> Inline:
    """A figure's SVG for a page.

    Args:
        text: as `svg_of` gives.
        prefix: of every id, its own in the page.
        label: id of the element that names the figure.
        description: what there is to see, in words.
    """
    root = ElementTree.fromstring(text)
    for place in list(root):
        if place.tag == f"{{{SVG}}}metadata":
            root.remove(place)
    for place in root.iter(f"{{{SVG}}}defs"):
        for style in place.findall(f"{{{SVG}}}style"):
            place.remove(style)
    used = {found for e in root.iter() for value in e.attrib.values() for found in _REFERENCE.findall(value)}
    used |= {e.attrib[HREF][1:] for e in root.iter() if e.attrib.get(HREF, "").startswith("#")}
    colors = {BLACK, *_HEX.findall(text.lower())}
    if sum(not _is_grey(color) for color in colors) > MOST_HUES:
        colors = {color for color in colors if _is_grey(color)}
    _rewrite(root, prefix, used, colors, fixed=False)
    width, height = (float(root.attrib[key].removesuffix("pt")) * 96 / 72 for key in ("width", "height"))
    told = ElementTree.Element(f"{{{SVG}}}desc", {"id": f"{prefix}-alt"})
    told.text = description
    root.insert(0, told)
    root.attrib.update(
        {
            "width": f"{width:.0f}",
            "height": f"{height:.0f}",
            "role": "img",
            "aria-labelledby": label,
            "aria-describedby": f"{prefix}-alt",
            # what matplotlib's own style sheet says of every element
            "stroke-linejoin": "round",
            "stroke-linecap": "butt",
        }
    )
    markup = ElementTree.tostring(_without_namespaces(root), encoding="unicode")
    return Inline(re.sub(r">\s+<", "><", markup), frozenset(colors), width > WIDE)


def _rewrite(
    element: ElementTree.Element, prefix: str, used: set[str], colors: set[str], *, fixed: bool
) -> None:
    attributes = dict(element.attrib)
    element.attrib.clear()
    own = attributes.pop("id", None)
    fixed = fixed or str(own).startswith(FIXED)
    attributes |= _declarations(attributes.pop("style", ""))
    if element.tag == f"{{{SVG}}}text":
        attributes.setdefault("fill", BLACK)
        attributes.pop("font-family", None)  # the page's
    if own in used:
        element.set("id", f"{prefix}-{own}")
    classes = []
    for key, value in attributes.items():
        if key == HREF:
            element.set("href", f"#{prefix}-{value[1:]}" if value.startswith("#") else value)
            continue
        if key in ("fill", "stroke") and not fixed and value.lower() in colors:
            classes.append(f"{key[0]}-{value[1:].lower()}")
        if key in ("d", "x", "y", "transform", "points", "width", "height"):
            value = _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value)
        if key == "d":
            value = " ".join(value.split())
        element.set(key, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))
    if classes:
        element.set("class", " ".join(classes))
    for child in element:
        _rewrite(child, prefix, used, colors, fixed=fixed)


def _declarations(style: str) -> dict[str, str]:
    """The declarations of a ``style`` attribute, as attributes of the same meaning."""
    found = {}
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # the shorthand that older matplotlib writes
            if size := re.search(r"[\d.]+px", value):
                found["font-size"] = size[0]
            if weight := re.match(r"(bold|[1-9]00)\b", value):
                found["font-weight"] = weight[0]
        elif key:
            found[key] = value
    return found


def _channels(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _is_grey(color: str) -> bool:
    channels = _channels(color)
    return max(channels) - min(channels) <= _HUELESS


def color_rules(colors: Iterable[str]) -> str:
    """CSS of the classes of `inline`."""
    rules = []
    for color in sorted(colors):
        if _is_grey(color):
            ink = round(100 - sum(_channels(color)) / 7.65)
            shown = f"color-mix(in srgb,var(--ink) {ink}%,var(--paper))"
        else:
            shown = f"light-dark({color},color-mix(in srgb,{color} 68%,#ffffff))"
        name = color[1:]
        rules.append(f".f-{name}{{fill:{shown}}}.s-{name}{{stroke:{shown}}}\n")
    return "".join(rules)


def _without_namespaces(root: ElementTree.Element) -> ElementTree.Element:
    """HTML knows what an ``svg`` element is."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
    return root
