"""Promise: the same bytes decode to the same values at every optimisation level and by every compiler."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from columns import cases, encode, record
from fix_native import BuildDriver

BUILDS = [
    ("gcc", "-O0"),
    ("gcc", "-O1"),
    ("gcc", "-O2"),
    ("gcc", "-O3 -march=native -funroll-loops"),
    ("clang", "-O0"),
    ("clang", "-O3 -march=native"),
    ("aarch64-linux-gnu-gcc", "-O2 -static"),
]


@pytest.fixture(scope="module")
def records(btae_case: tuple[bytes, bytes, bytes, int]) -> bytes:
    residual, latents, model, n = btae_case
    plain = [record(c.type, len(c.values), encode(c).residual) for c in cases()]
    return b"".join([*plain, record("float8", n, residual, latents, model)])


@pytest.fixture(scope="module")
def reference(build_driver: BuildDriver, records: bytes) -> bytes:
    out = subprocess.run([build_driver("column_driver.c", "-O2")], input=records, capture_output=True, check=True)
    assert b"corrupt=0 unsupported=0 invalid=0" in out.stdout
    return out.stdout


@pytest.mark.parametrize(("compiler", "flags"), BUILDS)
def test_every_build_decodes_alike(
    build_driver: BuildDriver, records: bytes, reference: bytes, compiler: str, flags: str
) -> None:
    program = build_driver("column_driver.c", *flags.split(), compiler=compiler)
    emulator = []
    if compiler.startswith("aarch64"):
        if shutil.which("qemu-aarch64") is None:
            pytest.skip("qemu-aarch64 is not installed")
        emulator = ["qemu-aarch64"]
    done = subprocess.run([*emulator, str(program)], input=records, capture_output=True, check=True)
    assert done.stdout == reference
