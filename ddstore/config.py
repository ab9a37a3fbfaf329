"""What the environment says: the database URL, the data directory, and whom to trust."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Config"]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings taken from the environment.

    Attributes:
        url: ``$DDSTORE_URL``, a PostgreSQL URL or conninfo string; None means the embedded server.
        data_dir: the embedded server's directory: ``$DDSTORE_HOME``, else ``ddstore`` under ``$XDG_DATA_HOME``.
        trust_bsc: ``$DDSTORE_TRUST_BSC`` is 1: whoever can write to segment tables may be trusted with this process's
            memory, so that columns coded by libbsc are decoded.
    """

    url: str | None
    data_dir: Path
    trust_bsc: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Config:
        """Read the settings from ``env`` (default: the process environment)."""
        env = os.environ if env is None else env
        return cls(
            url=env.get("DDSTORE_URL") or None, data_dir=_data_dir(env), trust_bsc=env.get("DDSTORE_TRUST_BSC") == "1"
        )


def _data_dir(env: Mapping[str, str]) -> Path:
    if home := env.get("DDSTORE_HOME"):
        return Path(home).expanduser().absolute()
    if (xdg := env.get("XDG_DATA_HOME")) and Path(xdg).is_absolute():  # the XDG specification ignores relative ones
        return Path(xdg) / "ddstore"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # PostgreSQL never runs as root, and the user it runs as cannot look into root's home directory.
        return Path("/var/lib/ddstore")
    return Path.home() / ".local" / "share" / "ddstore"
