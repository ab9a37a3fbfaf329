"""Freeze columns of the current format version: run it when columns.py has new cases.

``python tests/compat/freeze.py`` writes the cases that are not frozen yet into a new file and never touches an old
one: what is frozen must decode for ever.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from coded import Side, coded_columns
from columns import cases
from ddstore import _native
from ddstore.bounds import Absolute
from ddstore.codec.format import NATIVE_TYPES
from ddstore.codec.segment import decode_column, encode_column
from ddstore.profiles import Profile
from fix_model import periodic, train_small

LONG = ("walk-absolute", "walk-lossless", "spike-lossless", "noise-relative", "nulls-lossy")
FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / f"v{_native.FORMAT_VERSION}"


def line(
    name: str, type_name: str, n: int, residual: bytes, latents: bytes, model: bytes, sides: Sequence[Side] = ()
) -> str:
    """One frozen column: its bytes, those it is conditioned on, and the hash of what they decode to."""
    others = [values for _, _, values in sides]
    values, valid = decode_column(residual, latents or None, model or None, type_name, n, others)
    digest = hashlib.sha256(values.tobytes() + (b"" if valid is None else valid.tobytes())).hexdigest()
    parts = {
        key: base64.b64encode(part).decode()
        for key, part in (("residual", residual), ("latents", latents), ("model", model))
    }
    given = [(NATIVE_TYPES[code - 1], base64.b64encode(values.tobytes()).decode()) for _, code, values in sides]
    return json.dumps({"name": name, "type": type_name, "n": n, "sha256": digest, **parts, "sides": given})


def main() -> None:
    """Freeze the cases of columns.py in every profile, every way of coding, and columns with a model."""
    files = sorted(FOLDER.glob("*.jsonl"))
    frozen = {json.loads(text)["name"] for file in files for text in file.read_text().splitlines()}
    columns = [(c.name, c, Profile.BALANCED) for c in cases(200)]
    columns += [(f"fast-{c.name}", c, Profile.FAST) for c in cases(200)]
    columns += [(f"archive-{c.name}", c, Profile.ARCHIVE) for c in cases(200)]
    # Many rows: long lanes, many contexts, words that run on.
    columns += [(f"fast-long-{c.name}", c, Profile.FAST) for c in cases(5000) if c.name.endswith(LONG)]
    lines = []
    for name, case, profile in columns:
        if name not in frozen:
            coded = encode_column(case.values, case.valid, type=case.type, bound=case.bound, profile=profile)
            lines.append(line(name, case.type, coded.n, coded.residual, b"", b""))
    # Long enough for several pieces of a level, for all groups of tables, and for a cascade's past to come round.
    parts = ("rans-interp-float8-plain", "cm-adaptive-float8-plain-cascade")
    many = [way for way in coded_columns(3000) if any(part in way.name for part in parts)]
    long = [replace(way, name=f"long-{way.name}") for way in many]
    ways = [way for way in (*coded_columns(), *long) if way.name not in frozen]
    lines += [line(way.name, way.type, way.n, way.residual, b"", way.model, way.sides) for way in ways]
    for type_name, dtype in (("float4", "f4"), ("float8", "f8")):
        if f"{type_name}-btae" in frozen:
            continue
        model = train_small()
        values = periodic(128 * 3 + 17, seed=1).astype(dtype)
        coded = encode_column(values, None, type=type_name, bound=Absolute(1.0), model=model)
        assert coded.mode == "btae"
        lines.append(line(f"{type_name}-btae", type_name, coded.n, coded.residual, coded.latents or b"", model.data))
    if lines:
        FOLDER.mkdir(parents=True, exist_ok=True)
        target = FOLDER / f"columns-{len(files) + 1}.jsonl"
        with target.open("x") as file:
            file.write("\n".join(lines) + "\n")
        print(f"{len(lines)} columns frozen in {target.name}")


if __name__ == "__main__":
    main()
