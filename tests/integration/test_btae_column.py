"""A column coded around the BTAE's prediction: smaller, within the bound, and bound to its very model."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest

from ddstore import _native
from ddstore.bounds import Absolute
from ddstore.codec.model import Model
from ddstore.codec.segment import EncodedColumn, decode_column, encode_column
from ddstore.errors import CorruptSegment

Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def test_selection_takes_it_where_it_is_smaller(btae_column: tuple[Values, EncodedColumn]) -> None:
    values, coded = btae_column
    without = encode_column(values, None, type="float8", bound=Absolute(1.0))
    assert coded.size < without.size


def test_bound_and_prefixes(btae_column: tuple[Values, EncodedColumn], small_model: Model) -> None:
    values, coded = btae_column
    read, valid = decode_column(coded.residual, coded.latents, small_model.data, "float8", coded.n)
    assert valid is None
    assert np.abs(read - values).max() <= 1.0
    for want in (0, 1, 127, 128, 129, coded.n):
        part, _ = _native.decode_column(coded.residual, coded.latents, small_model.data, 5, coded.n, want)
        assert part == read[:want].tobytes()


def test_threads_agree(btae_column: tuple[Values, EncodedColumn], small_model: Model) -> None:
    _, coded = btae_column
    sums: set[str] = set()

    def decode() -> None:
        for _ in range(5):
            read, _ = decode_column(coded.residual, coded.latents, small_model.data, "float8", coded.n)
            sums.add(hashlib.sha256(read.tobytes()).hexdigest())

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sums) == 1


def test_wrong_or_missing_parts_are_refused(btae_column: tuple[Values, EncodedColumn], small_model: Model) -> None:
    _, coded = btae_column
    assert coded.latents is not None
    damaged = bytes([coded.latents[0] ^ 1]) + coded.latents[1:]
    with pytest.raises(CorruptSegment, match="latents"):
        decode_column(coded.residual, damaged, small_model.data, "float8", coded.n)
    with pytest.raises(CorruptSegment, match="checksum"):
        decode_column(coded.residual, coded.latents, small_model.data[:-1] + b"x", "float8", coded.n)
    with pytest.raises(CorruptSegment, match="model"):
        decode_column(coded.residual, coded.latents, None, "float8", coded.n)
