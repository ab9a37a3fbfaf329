"""Promise: columns written by every released format version decode bit-identically, for ever."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddstore.codec.format import dtype_of
from ddstore.codec.segment import decode_column

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def frozen() -> list[Any]:
    lines = [
        (path.parent.name, line)
        for path in sorted(FIXTURES.glob("v*/*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [pytest.param(json.loads(line), id=f"{version}-{json.loads(line)['name']}") for version, line in lines]


@pytest.mark.parametrize("column", frozen())
def test_decodes_as_it_always_did(column: dict[str, Any]) -> None:
    residual, latents, model = (base64.b64decode(column[part]) for part in ("residual", "latents", "model"))
    sides = [np.frombuffer(base64.b64decode(data), dtype_of(kind)) for kind, data in column.get("sides", ())]
    values, valid = decode_column(residual, latents or None, model or None, column["type"], column["n"], sides)
    digest = hashlib.sha256(values.tobytes() + (b"" if valid is None else valid.tobytes())).hexdigest()
    assert digest == column["sha256"]
