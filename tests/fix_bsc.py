"""libbsc, where tools/get-libbsc has put it, and a core built with it."""

from __future__ import annotations

import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ddstore import _native

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def libbsc() -> Path:
    """The folder of libbsc's sources, or a skip that says how to get them."""
    folder = ROOT / "build" / "libbsc"
    if not (folder / "libbsc.h").exists():
        pytest.skip("libbsc is not here: tools/get-libbsc PIP fetches it")
    return folder


@pytest.fixture(scope="session")
def bsc_module(libbsc: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The core's Python module, built with libbsc."""
    from fix_native import CORE, FLAGS  # another plugin: pytest wants to load it by itself

    folder = tmp_path_factory.mktemp("bsc")
    library = [*libbsc.glob("*/**/*.cpp"), *libbsc.glob("*/**/*.c")]
    own = [*CORE.glob("*.c"), *(ROOT / "ddstore" / "_native" / "python").glob("*.c")]
    includes = [f"-I{CORE}", f"-I{libbsc}", f"-I{sysconfig.get_path('include')}"]

    def compile_(source: Path) -> Path:
        target = folder / f"{source.parent.name}_{source.name}.o"
        flags = [*FLAGS, "-O1", "-DDD_WITH_BSC", *includes]
        if source in library:
            flags = ["-O2", "-w", "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti"]
        output = ["-fPIC", "-fvisibility=hidden", "-c", str(source), "-o", str(target)]
        subprocess.run(["gcc", *flags, *output], check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_, [*library, *own]))
    path = folder / "_ddcore.so"
    subprocess.run(["gcc", "-shared", *map(str, objects), "-lpthread", "-o", str(path)], check=True)
    loader = ExtensionFileLoader("with_bsc._ddcore", str(path))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def with_bsc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec on a core that has libbsc."""
    if not _native.WITH_BSC:
        module = request.getfixturevalue("bsc_module")
        for name in ("WITH_BSC", "CorruptError", "encode_column", "decode_column", "peek_column"):
            monkeypatch.setattr(_native, name, getattr(module, name))


@pytest.fixture
def without_bsc() -> None:
    """Skips the test where the core has libbsc."""
    if _native.WITH_BSC:
        pytest.skip("this ddstore is built with libbsc")


FROZEN = bytes.fromhex(
    "01310503d804010100000000000000f03f0000000000000000000021280288010403b80a21900c21900c9c7500883ce4377e02420000008c"
    "040000410000009a000000f31bb845be0c2de79705272f01000000006704f6a0cf1501276fb5a82d44b0863055666c25ba2032b9a26cc807"
    "0aac3e2a00ad347d62"
)
"""A float8 column of 600 rows as format version 1 has it, coded by libbsc: :func:`frozen_rows`."""


def frozen_rows() -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Values (0 where NULL) and validity of the rows of ``FROZEN``."""
    row = np.arange(600)
    values = (row // 40 % 7 * 5 + (row % 40 == 3) * 400).astype(np.float64)
    values[[11, 30, 31]] = np.nan, 1e300, -0.0
    valid = row % 200 > 4
    return np.where(valid, values, 0), valid
