"""Symbol codes to Arrow columns, without a Python loop over rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_builders.arrays import Mask
from data_builders.symbols import CHARACTERS, FIRST_CHARACTER, FIRST_NODE, LAST_NODE, Codes, text_of

_UNDEFINED = 255
"""stands for the width of a code that is no symbol"""


@cache
def _symbols() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """UTF-8 bytes of every symbol that is written, uint8 [2**15, widest], and their number, uint8 [2**16].

    Control symbols, tags, and what is negative as int16 have width 0: they are left out.
    """
    codes = [*range(FIRST_CHARACTER, FIRST_CHARACTER + len(CHARACTERS))]
    codes += range(FIRST_NODE + 1, FIRST_NODE + LAST_NODE + 1)
    texts = [text_of(code).encode() for code in codes]
    widths = np.zeros(2**16, dtype=np.uint8)
    widths[FIRST_CHARACTER + len(CHARACTERS) : 256] = _UNDEFINED
    widths[codes] = [len(text) for text in texts]
    table = np.zeros((2**15, int(widths[codes].max())), dtype=np.uint8)
    padded = b"".join(text.ljust(table.shape[1], b"\0") for text in texts)
    table[codes] = np.frombuffer(padded, dtype=np.uint8).reshape(len(codes), -1)
    return table, widths


def text_array(codes: Codes) -> pa.Array:
    """Text of each row of a code array, as `data_builders.render` gives it.

    Args:
        codes: int16 [n, width], right-padded with `PAD`.

    Returns:
        n strings without padding, BOS, EOS or tags; an Arrow string array.

    Raises:
        KeyError: a code is no symbol.
    """
    table, widths = _symbols()
    # seen as uint16, negative codes are indices too
    width = widths[np.ascontiguousarray(codes, dtype=np.int16).view(np.uint16)]
    widest = int(width.max(initial=1))
    if widest == _UNDEFINED:
        raise KeyError(f"{codes[width == _UNDEFINED][0]} is the code of no symbol")
    bytes_ = table[codes[width > 0], :widest]
    # no text has a NUL in it
    data = bytes_[:, 0] if widest == 1 else bytes_[bytes_ != 0]
    offsets = _offsets(width.sum(axis=1, dtype=np.int64))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.string(), len(codes), buffers)


def mask_array(target: Codes, loss_mask: Mask, scores_eos: bool) -> pa.Array:
    """Which symbols of each target count, as the column loss_mask has it.

    Args:
        target: int16 [n, T], right-padded with `PAD`.
        loss_mask: bool [n, T].
        scores_eos: whether the end-of-sequence symbol counts too.

    Returns:
        n lists of bool, each with an element for every symbol of the target's text; an Arrow array.
        Null where all symbols and EOS count.

    Raises:
        ValueError: EOS counts, but not every symbol does: the column cannot tell that.
    """
    kind, written = pa.list_(pa.bool_()), _symbols()[1][target.view(np.uint16)] > 0
    if scores_eos:
        if (loss_mask != written).any():
            raise ValueError("EOS counts, but not every symbol of the target")
        return pa.nulls(len(target), kind)
    offsets = pa.array(_offsets(written.sum(axis=1)), type=pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(loss_mask[written]), type=kind)


def _offsets(counts: NDArray[Any]) -> NDArray[np.int32]:
    """Where each row begins and the last one ends, int32 [n + 1], of the rows' sizes [n].

    Raises:
        OverflowError: the rows are too large together.
    """
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    if offsets[-1] >= 2**31:
        raise OverflowError(f"{len(counts)} rows of {offsets[-1]} bytes together; an Arrow array holds 2**31")
    return offsets.astype(np.int32)
