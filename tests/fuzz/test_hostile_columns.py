"""Promise: no bytes crash the decoder, make it read or write out of bounds, or invoke undefined behaviour.

Seeds of every kind are mutated and their checksums mended, as someone who knows the format would; the decoder runs
under AddressSanitizer and UndefinedBehaviorSanitizer. A longer run: ``python tests/fuzz/run.py --seconds 3600``.
"""

from __future__ import annotations

import subprocess

import numpy as np

from columns import cases, encode, record
from fix_native import SANITIZE, BuildDriver
from mutate import mutations


def run(program: object, records: bytes) -> str:
    """Decode mutated records; the sanitizers end the program with an error at the first fault."""
    done = subprocess.run([str(program), "mend"], input=records, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout.decode()


def test_mutated_columns_do_no_harm(build_driver: BuildDriver) -> None:
    program = build_driver("column_driver.c", *SANITIZE)
    rng = np.random.default_rng(1)
    records = []
    for case in cases(120):
        residual = encode(case).residual
        n = len(case.values)
        records += [record(case.type, n, bad, want=int(rng.integers(0, n + 1))) for bad in mutations(residual, 60, rng)]
    said = run(program, b"".join(records))
    assert "ok=0 " not in said, "mutations that never get past the header test nothing"
    assert "corrupt=0 " not in said


def test_mutated_models_and_latents_do_no_harm(
    build_driver: BuildDriver, btae_case: tuple[bytes, bytes, bytes, int]
) -> None:
    residual, latents, model, n = btae_case
    program = build_driver("column_driver.c", *SANITIZE)
    rng = np.random.default_rng(2)
    records = [record("float8", n, residual, latents, bad) for bad in mutations(model, 150, rng)]
    records += [record("float8", n, bad, latents, model) for bad in mutations(residual, 150, rng)]
    records += [record("float8", n, residual, bad, model) for bad in mutations(latents, 50, rng)]
    run(program, b"".join(records))
