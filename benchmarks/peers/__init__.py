"""Compressors that we compare with, one small file each; what cannot be imported is left out and named."""

from __future__ import annotations

from importlib import import_module

from benchmarks.peers.base import Codec, ColumnCodec, Peer, Values

__all__ = ["FILES", "Codec", "ColumnCodec", "Peer", "Values", "load_peers"]

FILES = ("sz3", "libbsc", "nlms", "critical_aperture", "zfp", "pco", "deep_dict")


def load_peers(files: tuple[str, ...] = FILES) -> tuple[list[Peer], list[str]]:
    """The peers whose packages are installed, and a line about each file whose packages are not."""
    peers: list[Peer] = []
    missing: list[str] = []
    for file in files:
        try:
            peers += import_module(f"benchmarks.peers.{file}").PEERS
        except ImportError as error:
            missing.append(f"{file} is left out: {error} (tools/install-peers installs the peers)")
    return peers, missing
