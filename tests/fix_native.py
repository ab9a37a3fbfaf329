"""Fixtures that build the C core into small drivers: at any optimisation level, by any compiler, with sanitizers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "ddstore" / "_native" / "core"

# What every build of the core must have (CMakeLists.txt and the extension's Makefile have them too).
FLAGS = ("-std=gnu11", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror")
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")

BuildDriver = Callable[..., Path]


@pytest.fixture(scope="session")
def build_driver(tmp_path_factory: pytest.TempPathFactory) -> BuildDriver:
    """``build_driver("column_driver.c", "-O3", compiler="clang")`` -> path of the program, built once a session."""
    folder = tmp_path_factory.mktemp("native")

    def build(source: str, *flags: str, compiler: str = "gcc") -> Path:
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        name = hashlib.sha256(" ".join((source, compiler, *flags)).encode()).hexdigest()[:16]
        program = folder / name
        if not program.exists():
            files = [str(ROOT / "tests" / "native" / source), *map(str, sorted(CORE.glob("*.c")))]
            subprocess.run(
                [compiler, *FLAGS, *flags, "-I", str(CORE), *files, "-o", str(program)],
                check=True,
                capture_output=True,
                text=True,
            )
        return program

    return build
