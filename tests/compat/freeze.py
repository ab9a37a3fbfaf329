"""Write the frozen columns of the current format version: run once per version, then never again.

``python tests/compat/freeze.py`` refuses to touch a file that exists: what is frozen must decode for ever.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from columns import cases, encode
from fix_model import periodic, train_small

from ddstore import _native
from ddstore.bounds import Absolute
from ddstore.codec.segment import decode_column, encode_column

TARGET = Path(__file__).resolve().parent.parent / "fixtures" / f"v{_native.FORMAT_VERSION}" / "columns.jsonl"


def line(name: str, type_name: str, n: int, residual: bytes, latents: bytes, model: bytes) -> str:
    """One frozen column: its bytes and the hash of what they decode to."""
    values, valid = decode_column(residual, latents or None, model or None, type_name, n)
    digest = hashlib.sha256(values.tobytes() + (b"" if valid is None else valid.tobytes())).hexdigest()
    parts = {
        key: base64.b64encode(part).decode()
        for key, part in (("residual", residual), ("latents", latents), ("model", model))
    }
    return json.dumps({"name": name, "type": type_name, "n": n, "sha256": digest, **parts})


def main() -> None:
    """Freeze every case of columns.py, and two columns coded with a model."""
    lines = [line(c.name, c.type, len(c.values), encode(c).residual, b"", b"") for c in cases(200)]
    model = train_small()
    for type_name, dtype in (("float4", "f4"), ("float8", "f8")):
        values = periodic(128 * 3 + 17, seed=1).astype(dtype)
        coded = encode_column(values, None, type=type_name, bound=Absolute(1.0), model=model)
        assert coded.mode == "btae"
        lines.append(line(f"{type_name}-btae", type_name, coded.n, coded.residual, coded.latents or b"", model.data))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with TARGET.open("x") as file:
        file.write("\n".join(lines) + "\n")
    print(f"{len(lines)} columns frozen in {TARGET.name}")


if __name__ == "__main__":
    main()
