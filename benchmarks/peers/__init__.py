"""Compressors that we compare with: each file has one function, (values, eps) -> (bytes, worst error)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from benchmarks.peers.delta_bsc import delta_bsc
from benchmarks.peers.sz3 import sz3

__all__ = ["PEERS", "Peer"]

Peer = Callable[[NDArray[Any], float], tuple[int, float]]

PEERS: dict[str, Peer] = {"SZ3": sz3, "delta+bsc": delta_bsc}
