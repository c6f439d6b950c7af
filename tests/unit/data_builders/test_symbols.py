"""The symbol table: codes and texts are two views of the same thing."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders import list_tasks, symbols

CHARACTERS = string.digits + string.ascii_letters + "+-*=:;?>"

property_test = settings(max_examples=100, deadline=None, derandomize=True, database=None)
nodes = st.integers(1, symbols.LAST_NODE)
pieces = st.one_of(st.sampled_from(CHARACTERS), nodes.map(lambda k: f"[{k}]"))


@pytest.fixture
def own_tags(monkeypatch):
    """A symbol table that forgets the tags that a test adds."""
    monkeypatch.setattr(symbols, "_tags", list(symbols._tags))
    yield
    monkeypatch.undo()
    symbols._table.cache_clear()
    symbols.base_symbols.cache_clear()


def test_every_symbol_has_one_code_and_every_code_one_text():
    table = symbols.base_symbols()
    assert len(set(table.values())) == len(table)
    assert list(table.values()) == sorted(table.values())
    for text, code in table.items():
        assert symbols.text_of(code) == text
        assert symbols.code_of(text) == code
        assert symbols.split(text) == [text]
        assert symbols.parse(text).tolist() == [code]


def test_the_table_holds_control_symbols_characters_and_a_tag_for_each_task():
    table = symbols.base_symbols()
    tags = {f"<{name}>" for name in list_tasks()}
    assert set(table) >= {"<pad>", "<bos>", "<eos>", *CHARACTERS, *tags}
    assert (table["<pad>"], table["<bos>"], table["<eos>"]) == (symbols.PAD, symbols.BOS, symbols.EOS)
    assert symbols.PAD == 0


def test_codes_of_the_four_ranges_do_not_meet():
    control = {symbols.PAD, symbols.BOS, symbols.EOS}
    characters = {symbols.char(c) for c in CHARACTERS}
    tags = {symbols.tag_code(name) for name in list_tasks()}
    assert len(control) == 3
    assert len(characters) == len(CHARACTERS) == 70
    assert len(tags) == len(list_tasks())
    assert max(control) < min(characters)
    assert max(characters) < symbols.FIRST_TAG <= min(tags)
    assert max(tags) < symbols.FIRST_NODE < symbols.node(1)
    assert symbols.node(symbols.LAST_NODE) == np.iinfo(np.int16).max


def test_digits_and_letters_are_in_order():
    assert [symbols.char(c) - symbols.DIGIT_ZERO for c in string.digits] == list(range(10))
    assert [symbols.char(c) - symbols.LETTER_A for c in string.ascii_letters] == list(range(52))


@property_test
@given(k=nodes)
def test_nodes_are_one_symbol_each(k):
    text = f"[{k}]"
    assert symbols.text_of(symbols.node(k)) == text
    assert symbols.code_of(text) == symbols.node(k)
    assert symbols.split(text) == [text]
    assert symbols.parse(text).tolist() == [symbols.node(k)]


@pytest.mark.parametrize("k", [0, -1, symbols.LAST_NODE + 1])
def test_nodes_outside_the_range_are_refused(k):
    with pytest.raises(ValueError, match=f"{k} is outside 1"):
        symbols.node(k)


def test_split_cuts_tags_and_nodes_in_one_piece():
    assert symbols.split("<copy>a[12]") == ["<copy>", "a", "[12]"]
    assert symbols.split("[2]:[1][3];?[1]>[3]=") == [
        "[2]", ":", "[1]", "[3]", ";", "?", "[1]", ">", "[3]", "=",
    ]  # fmt: skip
    assert symbols.split("75+86=") == list("75+86=")
    assert symbols.split("") == []
    assert symbols.split("<reverse_add>75+86=521<eos>") == ["<reverse_add>", *"75+86=521", "<eos>"]


@property_test
@given(texts=st.lists(st.lists(pieces, max_size=20), min_size=1, max_size=5))
def test_render_undoes_parse(texts):
    rows = [symbols.parse("".join(text)) for text in texts]
    assert [len(row) for row in rows] == [len(text) for text in texts]
    assert all(row.dtype == np.int16 for row in rows)
    codes = np.zeros((len(rows), max(map(len, rows)) + 1), dtype=np.int16)
    for target, row in zip(codes, rows, strict=True):
        target[: len(row)] = row
    assert symbols.render(codes) == ["".join(text) for text in texts]


@property_test
@given(text=st.text(CHARACTERS, max_size=30))
def test_text_of_characters_and_its_mixture_with_nodes_render_alike(text):
    row = symbols.parse(text)
    with_node = np.append(row, symbols.node(5)).astype(np.int16)
    assert symbols.render(row[None]) == [text]
    assert symbols.render(with_node[None]) == [text + "[5]"]


def test_render_leaves_out_control_symbols_and_tags():
    row = symbols.parse("<bos><reverse_add>75+86=521<eos><pad><pad>")
    assert symbols.render(row[None]) == ["75+86=521"]
    mazes = symbols.parse("<bos><mqar>[12]>[3]=<eos><pad>")
    assert symbols.render(np.stack([mazes, np.resize(row, len(mazes))])) == ["[12]>[3]=", "75+86="]


def test_render_takes_views_and_empty_arrays():
    codes = np.stack([symbols.parse("abcdef"), symbols.parse("123456")])
    assert symbols.render(codes[:, ::2]) == ["ace", "135"]
    assert symbols.render(codes[:, ::-1]) == ["fedcba", "654321"]
    assert symbols.render(codes[:0]) == []
    assert symbols.render(codes[:, :0]) == ["", ""]
    assert symbols.render(np.asfortranarray(codes)) == ["abcdef", "123456"]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "ab", "é", "<no_such_task>", "[", "[]", "[a]", "<", "12"),
        *("[0]", "[01]", "[40000]", "[²]"),
    ],
)
def test_what_is_no_symbol_is_refused(text):
    with pytest.raises(KeyError, match="not a symbol"):
        symbols.code_of(text)


@pytest.mark.parametrize("text", ["a b", "7_5", "<no_such_task>", "[12", "aé"])
def test_text_with_a_piece_that_is_no_symbol_does_not_parse(text):
    with pytest.raises(KeyError, match="not a symbol"):
        symbols.parse(text)


def test_codes_without_a_symbol_are_refused():
    for code in (-1, 200, symbols.FIRST_NODE - 1, symbols.FIRST_NODE):
        with pytest.raises(KeyError):
            symbols.text_of(code)


def test_a_new_tag_is_added_at_the_end_and_once(own_tags):
    before = symbols.base_symbols()
    code = symbols.add_tag("tag_of_a_test")
    assert symbols.add_tag("tag_of_a_test") == symbols.tag_code("tag_of_a_test") == code
    assert list(symbols.base_symbols().items()) == [*before.items(), ("<tag_of_a_test>", code)]
    assert symbols.text_of(code) == "<tag_of_a_test>"
    assert symbols.parse("<tag_of_a_test>a").tolist() == [code, symbols.char("a")]
    assert symbols.add_tag("reverse_add") == before["<reverse_add>"]


def test_tags_stop_before_the_nodes(own_tags):
    room = symbols.FIRST_NODE - symbols.FIRST_TAG - len(symbols._tags)
    codes = [symbols.add_tag(f"tag_{i}_of_a_test") for i in range(room)]
    assert codes[-1] == symbols.FIRST_NODE - 1
    with pytest.raises(ValueError, match="one_too_many"):
        symbols.add_tag("one_too_many")
    assert symbols.add_tag("tag_0_of_a_test") == codes[0]


def test_tasks_without_a_tag_are_unknown():
    with pytest.raises(KeyError):
        symbols.tag_code("tag_of_a_test")
