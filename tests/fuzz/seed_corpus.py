"""Inputs to start fuzzing from: frozen columns and what the encoder makes. ``python tests/fuzz/seed_corpus.py``

writes them to build/fuzz/found; ``tools/fuzz --seconds 0 --keep`` takes into the kept corpus those that it lacks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from coded import coded_columns
from ddstore.codec.format import NATIVE_TYPES, Coder, Mode

ROOT = Path(__file__).resolve().parent.parent.parent
FOUND = ROOT / "build" / "fuzz" / "found"
ALL = b"\xff"  # the first byte of an input says how many rows are wanted, and whether there is room for their validity


def target_of(residual: bytes) -> str:
    """The target whose coder and mode a column has."""
    coder, mode = Coder(residual[1] >> 4), Mode(residual[1] & 15)
    if mode is Mode.BTAE:
        return f"btae_{coder.name.lower()}"
    told_apart = coder is Coder.CM or mode is Mode.INTERP
    return f"{coder.name}_{mode.name}".lower() if told_apart else coder.name.lower()


def inputs() -> Iterator[tuple[str, bytes]]:
    """(target, input) pairs."""
    for file in sorted((ROOT / "tests" / "fixtures").glob("v*/*.jsonl")):
        for text in file.read_text().splitlines():
            column = json.loads(text)
            yield from _of_column(base64.b64decode(column["residual"]))
            model = base64.b64decode(column["model"])
            if model:
                yield "model", ALL[:1] + model[4:260]
    for n in (1, 3, 20, 60, 400):
        for coded in coded_columns(n):
            yield from _of_column(coded.residual)


def _of_column(residual: bytes) -> Iterator[tuple[str, bytes]]:
    whole = residual[:-4]
    yield "header", whole
    yield target_of(residual), ALL + whole
    if residual[2] == NATIVE_TYPES.index("int8") + 1:
        yield "times", ALL + whole


def main() -> None:
    """Write them all."""
    for target, data in inputs():
        folder = FOUND / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    main()
