"""Symbol codes as Arrow columns: the same text as render, the same marks as the loss mask."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_builders import get_task, list_tasks, render, symbols
from data_builders.corpus.arrow import mask_array, text_array

CODES = [*range(3), *(symbols.char(c) for c in symbols.CHARACTERS), symbols.tag_code("reverse_add")]
CODES += [symbols.node(k) for k in (1, 9, 10, 99, 100, 12345, symbols.LAST_NODE)]


def array(*rows):
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[0] * (width - len(row))] for row in rows], dtype=np.int16).reshape(
        len(rows), width
    )


@pytest.mark.parametrize("task", list_tasks())
def test_the_text_is_that_of_render(task):
    lengths = np.random.default_rng(0).integers(4, 12, size=200)
    sample = get_task(task).sample(np.random.default_rng(1), lengths, 200)
    for codes in (sample.prompt, sample.target):
        column = text_array(codes)
        column.validate(full=True)
        assert column.type == pa.string()
        assert column.null_count == 0
        assert column.to_pylist() == render(codes)


@given(st.lists(st.lists(st.sampled_from(CODES), max_size=6), max_size=5))
def test_any_symbols_in_any_order(rows):
    codes = array(*rows)
    assert text_array(codes).to_pylist() == ["".join(text_of(c) for c in row) for row in rows]


def text_of(code):
    return "" if code < 3 or 256 <= code < 1024 else symbols.text_of(code)


def test_every_node_is_written():
    numbers = np.arange(1, symbols.LAST_NODE + 1)
    assert text_array((numbers + symbols.FIRST_NODE).astype(np.int16)[:, None]).to_pylist() == [
        f"[{k}]" for k in numbers
    ]


def test_columns_of_a_wider_array_and_negative_codes_are_read_right():
    wide = array([symbols.char("a"), symbols.node(12), symbols.char("b"), -5])
    assert text_array(wide[:, ::2]).to_pylist() == ["ab"]
    assert text_array(wide[:, 1:]).to_pylist() == ["[12]b"]


def test_a_code_of_no_symbol_is_refused():
    with pytest.raises(KeyError, match="200 is the code of no symbol"):
        text_array(array([symbols.char("a"), 200]))


def test_no_rows_make_empty_columns():
    sample = get_task("mqar").sample(np.random.default_rng(0), 5, 0)
    assert text_array(sample.prompt).to_pylist() == []
    assert mask_array(sample.target, sample.loss_mask, False).to_pylist() == []


def test_masks_are_null_where_everything_counts():
    target = array([5, 6], [symbols.node(3)])
    masks = mask_array(target, target != 0, True)
    assert masks.type == pa.list_(pa.bool_())
    assert masks.to_pylist() == [None, None]


def test_masks_have_one_mark_a_symbol():
    target = array([5, 6, 7], [symbols.node(123)], [5, 6])
    marked = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    masks = mask_array(target, marked, False)
    masks.validate(full=True)
    assert masks.to_pylist() == [[False, True, False], [True], [False, False]]


def test_what_the_column_cannot_tell_is_refused():
    with pytest.raises(ValueError, match="EOS counts, but not every symbol"):
        mask_array(array([5, 6]), np.array([[True, False]]), True)


def test_rows_too_large_for_an_arrow_array_are_refused():
    from data_builders.corpus.arrow import _offsets

    with pytest.raises(OverflowError, match="2 rows of 2147483648 bytes"):
        _offsets(np.array([2**31 - 1, 1]))
