"""Promise: every decoder withstands what a fuzzer makes of the kept corpus. ``make fuzz`` looks for more."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
TARGETS = sorted(folder.name for folder in CORPUS.iterdir())
RUNS = 3000  # a few seconds; the seed is fixed, so that a failure comes again


@pytest.fixture(scope="module")
def libfuzzer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where clang is missing or comes without libFuzzer."""
    source = tmp_path_factory.mktemp("libfuzzer") / "nothing.c"
    source.write_text(
        "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n ? 0 : 0; }\n"
    )
    command = ["clang", "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(source.with_suffix(""))]
    if shutil.which("clang") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("clang with libFuzzer (compiler-rt) is not installed")


@pytest.mark.parametrize("target", TARGETS)
def test_target(libfuzzer: None, target: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / "fuzz"), target, "--runs", str(RUNS), "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    executed = re.search(r"(\d+) executions", done.stdout)
    assert executed is not None
    assert int(executed[1]) >= RUNS


def test_every_target_has_a_corpus_that_reaches_it() -> None:
    """Inputs that the encoder made are among the kept ones."""
    told = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "fuzz"), "--help"], capture_output=True, text=True, check=True
    )
    assert all(target in told.stdout for target in TARGETS)
    assert len(TARGETS) == 13
    assert all(sum(1 for _ in (CORPUS / target).iterdir()) >= 20 for target in TARGETS)
