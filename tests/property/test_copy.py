"""The native COPY codec: columns -> rows -> columns is the identity, and damaged streams are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddstore import _native

HEADER, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_DTYPES = {"1": np.uint8, "2": np.int16, "4": np.int32, "8": np.int64}


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, list[tuple[str, Any, Any, Any]]]:
    """A row count and columns of every kind, with and without NULLs."""
    rows = draw(st.integers(0, 40))
    columns: list[tuple[str, Any, Any, Any]] = []
    for kind in draw(st.lists(st.sampled_from("1248uvjc"), min_size=1, max_size=6)):
        flags = draw(st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows))
        valid = None if flags is None else np.array(flags, dtype=np.bool_)
        if kind in _DTYPES:
            bits = draw(st.binary(min_size=int(kind) * rows, max_size=int(kind) * rows))
            columns.append((kind, np.frombuffer(bits, dtype=_DTYPES[kind]), valid, None))
        elif kind == "u":
            columns.append((kind, draw(st.binary(min_size=16 * rows, max_size=16 * rows)), valid, None))
        elif kind == "c":
            columns.append((kind, draw(st.binary(max_size=9)), valid, None))
        else:
            parts = draw(st.lists(st.binary(max_size=9), min_size=rows, max_size=rows))
            offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
            columns.append((kind, b"".join(parts), valid, offsets))
    return rows, columns


def field(column: tuple[str, Any, Any, Any], row: int) -> bytes | None:
    """What PostgreSQL's documentation says one field looks like."""
    kind, data, valid, offsets = column
    if valid is not None and not valid[row]:
        return None
    if kind in _DTYPES:
        return struct.pack(">" + {"1": "B", "2": "h", "4": "i", "8": "q"}[kind], int(data[row]))
    if kind == "u":
        return bytes(data[16 * row : 16 * row + 16])
    if kind == "c":
        return bytes(data)
    return (b"\x01" if kind == "j" else b"") + bytes(data[offsets[row] : offsets[row + 1]])


def reference(rows: int, columns: list[tuple[str, Any, Any, Any]]) -> bytes:
    """The rows, written the slow way."""
    out = b""
    for row in range(rows):
        out += struct.pack(">h", len(columns))
        for column in columns:
            value = field(column, row)
            out += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return out


@given(tables())
def test_rows_are_what_the_documentation_says(table: tuple[int, list[tuple[str, Any, Any, Any]]]) -> None:
    rows, columns = table
    whole = _native.copy_encode(columns, 0, rows)
    assert whole == reference(rows, columns)
    half = rows // 2
    assert _native.copy_encode(columns, 0, half) + _native.copy_encode(columns, half, rows) == whole


@given(tables())
def test_columns_come_back(table: tuple[int, list[tuple[str, Any, Any, Any]]]) -> None:
    rows, columns = table
    widths = [int(kind) if kind in _DTYPES else 16 if kind == "u" else -1 for kind, *_ in columns]
    stream = HEADER + _native.copy_encode(columns, 0, rows) + TRAILER
    blocks, masks = _native.copy_decode(stream, widths)
    for column, block, mask in zip(columns, blocks, masks, strict=True):
        kind, data, valid, _ = column
        expected = np.ones(rows, np.bool_) if valid is None else valid
        assert (mask is None) == bool(expected.all())
        if mask is not None:
            assert mask == expected.tobytes()
        if isinstance(block, tuple):
            texts, at = bytes(block[0]), np.frombuffer(block[1], np.int64)
            assert [texts[at[i] : at[i + 1]] for i in range(rows)] == [field(column, i) or b"" for i in range(rows)]
        elif kind == "u":
            assert bytes(block) == b"".join(field(column, i) or bytes(16) for i in range(rows))
        else:
            assert np.array_equal(np.frombuffer(block, _DTYPES[kind]), np.where(expected, data, 0))


def _stream() -> bytes:
    columns: list[tuple[str, Any, Any, Any]] = [
        ("8", np.arange(3), np.array([True, False, True]), None),
        ("v", b"abc", None, np.array([0, 1, 1, 3])),
    ]
    return HEADER + _native.copy_encode(columns, 0, 3) + TRAILER


def test_every_truncation_is_refused() -> None:
    stream = _stream()
    for length in range(len(stream)):
        with pytest.raises(ValueError, match=r"COPY|row|field"):
            _native.copy_decode(stream[:length], [8, -1])


def test_flipped_bits_never_crash() -> None:
    stream = _stream()
    for position in range(len(stream)):
        for bit in range(8):
            damaged = bytearray(stream)
            damaged[position] ^= 1 << bit
            try:
                blocks, _ = _native.copy_decode(bytes(damaged), [8, -1])
            except ValueError:
                continue
            assert len(blocks) == 2


@pytest.mark.parametrize(
    ("stream", "widths", "said"),
    [
        (_stream() + b"\0", [8, -1], "follow the trailer"),
        (_stream(), [4, -1], "another width"),
        (_stream(), [8], "another number of fields"),
        (_stream(), [8, 0], "width"),
        (_stream(), [8, -2], "width"),
        (_stream(), [8, 65], "width"),
        (_stream(), [8, "x"], "width"),
        (_stream(), [], "1 to 1664"),
        (b"PGCOPY\n\xff\r\n\0\0\1\0\0\0\0\0\0\xff\xff", [8], "not a binary COPY"),
        (b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x09\xff\xff", [8], "not a binary COPY"),
    ],
)
def test_what_does_not_fit_is_refused(stream: bytes, widths: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _native.copy_decode(stream, widths)


@pytest.mark.parametrize(
    ("column", "error"),
    [
        (("8", np.arange(2), None, None), ValueError),  # fewer rows than asked for
        (("9", np.arange(3), None, None), ValueError),
        (("88", np.arange(3), None, None), ValueError),
        (("8", np.arange(6)[::2], None, None), (ValueError, BufferError)),  # not contiguous
        (("8", np.arange(3), np.array([True]), None), ValueError),
        (("v", b"abc", None, None), ValueError),
        (("v", b"abc", None, np.array([0, 1])), ValueError),
        (("v", b"abc", None, np.array([0, 1, 2, 9])), ValueError),
        (("v", b"abc", None, np.array([0, 2, 1, 3])), ValueError),
        (("v", b"abc", None, np.array([-1, 1, 2, 3])), ValueError),
        (("v", b"abc", None, np.array([0, 1, 2, 3], np.int32)), ValueError),
        ((8, np.arange(3), None, None), TypeError),
        (("8", None, None, None), TypeError),
        (("8", np.arange(3), None), TypeError),
        ("8", TypeError),
    ],
)
def test_columns_that_cannot_feed_the_rows_are_refused(column: Any, error: Any) -> None:
    with pytest.raises(error):
        _native.copy_encode([column], 0, 3)


def test_row_ranges_are_checked() -> None:
    column = ("8", np.arange(3), None, None)
    assert _native.copy_encode([column], 3, 3) == b""
    for start, stop in [(-1, 2), (2, 1), (0, 4)]:
        with pytest.raises(ValueError, match="row"):
            _native.copy_encode([column], start, stop)
    with pytest.raises(ValueError, match="column"):
        _native.copy_encode([], 0, 1)
