"""Without torch, ddstore works and ddstore.model says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules[{missing!r}] = None  # what an absent package looks like to import
import ddstore
from ddstore.errors import NotInstalled
assert "torch" not in sys.modules or sys.modules["torch"] is None
try:
    import ddstore.model
except NotInstalled as error:
    assert {missing!r} in str(error) and "ddstore[train]" in error.remedy, error
else:
    raise AssertionError("imported")
"""


@pytest.mark.parametrize("missing", ["torch", "cryptorandom"])
def test_says_what_to_install(missing: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(missing=missing)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
