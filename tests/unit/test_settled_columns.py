"""Trials of a model cost what the segments will: columns encoded before are there to be conditioned on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ddstore import Absolute, Lossless, Profile
from ddstore.codec.segment import encode_column
from ddstore.compact import train
from ddstore.compact.train import Sample, SettledColumns


def test_a_trial_is_conditioned_on_the_columns_before(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    walk = np.round(rng.normal(0, 1, 8000).cumsum(), 2)
    like, whole = np.round(walk + rng.normal(0, 0.02, 8000), 2), np.ones(8000, bool)
    encoded: list[int] = []

    def counted(values: Any, *rest: Any, **named: Any) -> Any:
        encoded.append(len(named["sides"]))
        return encode_column(values, *rest, **named)

    monkeypatch.setattr(train, "encode_column", counted)
    settled = SettledColumns(Profile.ARCHIVE)
    settled.add(walk, whole, "float8", Lossless(), None)
    settled.add(walk.astype(np.int32), whole, "int4", Absolute(1.0), None)
    sample = Sample(like, whole, "float8", Lossless(), Profile.ARCHIVE, 4000, settled)
    bits, used = sample.bits_per_sample(None)
    again, _ = sample.bits_per_sample(None)
    assert encoded == [0, 1, 2] * 2 + [2, 2], "the columns before are encoded once"
    assert (again, used) == (bits, False)
    size = alone = 0
    for part in (slice(0, 4000), slice(4000, 8000)):
        options: dict[str, Any] = {"profile": Profile.ARCHIVE, "bound": Lossless(), "type": "float8"}
        first = encode_column(walk[part], None, **options)
        second = encode_column(
            walk[part].astype(np.int32), None, **options | {"type": "int4", "bound": Absolute(1.0)}, sides=[first.side]
        )
        size += encode_column(like[part], None, **options, sides=[first.side, second.side]).size
        alone += encode_column(like[part], None, **options).size
    assert bits == 8 * size / 8000 < 0.9 * 8 * alone / 8000
