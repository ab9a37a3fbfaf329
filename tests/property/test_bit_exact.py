"""Promise: the same bytes decode to the same values at every optimisation level and by every compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from coded import coded_columns
from columns import cases, encode, record
from fix_native import BuildDriver

BUILDS = [
    ("gcc", "-O0"),
    ("gcc", "-O1"),
    ("gcc", "-O2"),
    ("gcc", "-O3 -march=native -funroll-loops"),
    ("gcc", "-O3 -march=haswell"),  # has fused multiply-add, which nothing may use
    ("clang", "-O0"),
    ("clang", "-O2"),
    ("clang", "-O3 -march=native"),
    ("clang", "-O3 -march=haswell"),
    ("aarch64-linux-gnu-gcc", "-O2 -static"),
]


@pytest.fixture(scope="module")
def records(btae_case: tuple[bytes, bytes, bytes, int]) -> bytes:
    residual, latents, model, n = btae_case
    chosen = [record(c.type, len(c.values), encode(c).residual) for c in cases()]
    coded = [
        record(c.type, c.n, c.residual, model=c.model, sides=c.sides) for rows in (7, 600) for c in coded_columns(rows)
    ]
    return b"".join([*chosen, *coded, record("float8", n, residual, latents, model)])


def emulator_of(compiler: str, flags: str) -> list[str]:
    """What runs such a program here; skips where nothing does."""
    if "haswell" in flags and not {"avx2", "fma"} <= set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this CPU is none of that architecture")
    if not compiler.startswith("aarch64"):
        return []
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    return ["qemu-aarch64"]


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
    done = subprocess.run([*emulator_of(compiler, flags), str(program)], input=records, capture_output=True, check=True)
    assert done.stdout == reference
