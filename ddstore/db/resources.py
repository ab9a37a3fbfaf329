"""Finds the SQL, the migrations and the C sources, in a checkout as in an installed wheel."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from ddstore.errors import NotInstalled

__all__ = ["resource_dir"]

Resource = Literal["sql", "migrations", "core"]

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def resource_dir(name: Resource) -> Path:
    """Return the directory called ``name``.

    A checkout wins over an installed copy, so that editing a migration or a query needs no reinstallation.

    Raises:
        NotInstalled: the installation is incomplete.
    """
    checkout = _PACKAGE / "_native" / "core" if name == "core" else _PACKAGE.parent / name
    installed = _PACKAGE / "_resources" / name
    # pyproject.toml tells our own checkout from whatever else may lie beside an installed package.
    candidates = [checkout, installed] if (_PACKAGE.parent / "pyproject.toml").is_file() else [installed]
    for directory in candidates:
        if directory.is_dir():
            return directory
    raise NotInstalled(
        f"DDStore's {name!r} files are missing from this installation",
        remedy="Reinstall the package: pip install --force-reinstall ddstore.",
    )
