"""Real data: where it is, or a clear skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of real data sets: ``$DDSTORE_DATA``, default ``../shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    directory = Path(os.environ.get("DDSTORE_DATA", default))
    if not directory.is_dir():
        pytest.skip(f"no real data in {directory}: set DDSTORE_DATA")
    return directory
