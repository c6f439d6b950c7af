"""Whatever a text holds, it is shown as text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from data_builders.texts import CONTROLS, code, fenced, plain, printable

STEADY = settings(derandomize=True, deadline=None)
# what Markdown, HTML and YAML read as more than text, beside some letters
SIGNS = "ab1 _*`~|<>[]()!#&;:-+=.\\/$\n\t\x1b{}'\"\u202e"
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a | b\n| c",
    "[x](javascript:alert(1))",
    "![x](http://b)",
    "](javascript:alert(1))",
    "`` ` ```",
    "---\n# a: b",
    "<http://a.b>",
    "&lt;b>",
    "a\\|b",
    "1. a",
    "__a__ _b_",
]


class Elements(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def rendered(markdown):
    return Elements(
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    )


def shown(text):
    """What a reader should see of a text."""
    return " ".join(printable(" ".join(text.split())).split())


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(("form", "tag"), [(plain, []), (code, ["code"])])
def test_hostile_text_is_shown_as_it_is(form, tag, text):
    page = rendered(f"x {form(text)} y")
    assert page.tags == ["p", *tag]
    assert page.text.strip() == f"x {shown(text)} y"


@given(st.text(SIGNS, max_size=25))
@STEADY
def test_plain_text_is_nothing_but_text_wherever_it_stands(text):
    inside = plain(text)
    for markdown in (inside, f"before {inside} after"):
        page = rendered(markdown)
        assert set(page.tags) <= {"p"}
        assert page.text.strip() == markdown.replace(inside, shown(text)).strip()
    table = rendered(f"| a | b |\n|---|---|\n| {inside} | 2 |")
    assert table.tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert rendered(f"- {inside}").tags in (["ul", "li"], ["ul", "li", "p"])


@given(st.text(SIGNS, max_size=25))
@STEADY
def test_code_stays_code(text):
    assert rendered(f"x {code(text)}").tags == ["p", "code"]
    assert rendered(fenced(text, "text")).tags == ["pre", "code"]


def test_names_as_they_should_be_stay_as_they_are():
    for name in ("capitalize_reverse", "step-300", "R&D", "a -> b", "org/name (main)", "é漢", "x_1_y"):
        assert plain(name) == name


@given(st.text(max_size=20))
@STEADY
def test_nothing_moves_the_cursor(text):
    told = printable(text)
    assert not set(CONTROLS.findall(told)) - {"\n", "\t"}
    told.encode()
    assert printable(told) == told


def test_controls_are_shown_as_escapes():
    assert printable("a\x1b[31m\x07\x9b\ud800\u202e\r\n\tb é漢") == (
        "a\\x1b[31m\\x07\\x9b\\ud800\\u202e\\r\n\tb é漢"
    )
