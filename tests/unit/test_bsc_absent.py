"""A build without libbsc knows its columns, and says what to do about them."""

from __future__ import annotations

import numpy as np
import pytest

from ddstore import _native
from ddstore.bounds import Absolute
from ddstore.codec import paper
from ddstore.codec.format import Coder, Mode
from ddstore.codec.segment import decode_column, needs
from ddstore.errors import CorruptSegment, NotInstalled
from fix_bsc import FROZEN

pytestmark = pytest.mark.usefixtures("without_bsc")


def test_it_is_known_but_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    info = _native.peek_column(FROZEN)
    assert (info["mode"], info["coder"], info["n"], info["escapes"]) == (Mode.LATTICE, Coder.BSC, 600, 1)
    assert needs(FROZEN) == ()
    monkeypatch.setenv("DDSTORE_TRUST_BSC", "1")
    with pytest.raises(NotInstalled, match=r"coded by libbsc.*operations.md.*ddstore release"):
        decode_column(FROZEN, None, None, "float8", 600)
    for trusting in (False, True):
        with pytest.raises(_native.CorruptError, match="coded by libbsc"):
            _native.decode_column(FROZEN, None, None, 5, 600, -1, None, trusting)


def test_damage_comes_first() -> None:
    with pytest.raises(CorruptSegment, match="checksum"):
        decode_column(FROZEN[:-1] + b"x", None, None, "float8", 600)


def test_nothing_is_encoded() -> None:
    with pytest.raises(NotInstalled, match=r"operations\.md"):
        paper.encode_column(np.arange(9.0), None, type="float8", bound=Absolute(1))
