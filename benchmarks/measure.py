"""One cell of the ratio benchmark: a set at a bound, through every codec; sizes, speeds and real errors."""

from __future__ import annotations

import lzma
import time
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Codec, Peer, Values
from ddstore.codec.bound_check import violations

__all__ = ["LOSSLESS", "Cell", "Measured", "measure_codec", "measure_peer"]

LOSSLESS = "0"
"""The eps of cells in which every bit comes back."""
_WARM_UP_ROWS = 600  # enough to have everything imported and compiled before the clock runs


class Cell(NamedTuple):
    """A set at a bound."""

    set: str
    eps: str
    """Times the standard deviation ("0.1"), in the column's unit ("0.1abs"), or LOSSLESS."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a set at a bound. ``samples`` counts rows times columns."""

    set: str
    eps: str
    who: str
    """Ours by the profile's name, otherwise the peer's."""
    ours: bool
    samples: int
    bytes: int
    encode_seconds: float
    decode_seconds: float
    worst: float
    """The largest error / eps, rounded; lossless: 0, or infinite if a bit differs."""
    beyond: int
    """Values beyond the bound in exact arithmetic (float32: also as PostgreSQL subtracts); lossless: values changed."""
    codecs: str
    """Which of the peer's codecs made it, column by column, repeats left out."""
    train_seconds: float = 0.0
    """Of learned models, beside encoding."""

    @property
    def cell(self) -> Cell:
        """Where it belongs."""
        return Cell(self.set, self.eps)

    @property
    def ratio(self) -> float:
        """4 bytes x samples / stored bytes, whatever the column's type: the paper's convention."""
        return 4 * self.samples / self.bytes

    @property
    def encode_speed(self) -> float:
        """M samples/s."""
        return self.samples / self.encode_seconds / 1e6

    @property
    def decode_speed(self) -> float:
        """M samples/s."""
        return self.samples / self.decode_seconds / 1e6

    def row(self) -> list[object]:
        """For the CSV, under :meth:`header`."""
        return [*asdict(self).values(), self.ratio, self.encode_speed, self.decode_speed]

    @classmethod
    def header(cls) -> list[str]:
        """Columns of the CSV."""
        return [*(field.name for field in fields(cls)), "ratio", "encode_M/s", "decode_M/s"]


@dataclass(frozen=True, slots=True)
class _Run:
    codec: str
    bytes: int
    encode: float
    decode: float
    worst: float
    beyond: int
    train: float


def measure_codec(cell: Cell, codec: Codec, values: Values, eps: NDArray[np.float64]) -> Measured:
    """One of ours.

    Args:
        cell: what the result is called.
        codec: the profile.
        values: shape (n, C), NaN allowed.
        eps: absolute bounds, shape (C,); 0 is lossless.
    """
    _warm_up(codec, values, eps)
    return _total(cell, codec.label, [_run(codec, values, eps, mask=False)], values, ours=True)


def measure_peer(cell: Cell, peer: Peer, values: Values, eps: NDArray[np.float64]) -> Measured:
    """A peer: the smallest of its codecs for each column, or one codec over all columns where that is smaller still.

    Lossy peers get NaN filled with the value before it, and pay for the mask of where it was.
    """
    singles = [codec for codec in peer.codecs if not codec.joint]
    joints = [codec for codec in peer.codecs if codec.joint and values.shape[1] > 1]
    eps = np.zeros_like(eps) if peer.lossless else eps
    mask = not peer.lossless
    for codec in (*singles, *joints):
        _warm_up(codec, values, eps)
    candidates = [[_run(codec, values, eps, mask=mask)] for codec in joints]
    if singles:
        runs = ([_run(c, values[:, j : j + 1], eps[j : j + 1], mask=mask) for c in singles] for j in range(len(eps)))
        candidates.append([min(of_column, key=_size) for of_column in runs])
    return _total(cell, peer.name, min(candidates, key=lambda runs: sum(map(_size, runs))), values, ours=False)


def _size(run: _Run) -> int:
    return run.bytes


def _total(cell: Cell, who: str, runs: list[_Run], values: Values, *, ours: bool) -> Measured:
    return Measured(
        set=cell.set,
        eps=cell.eps,
        who=who,
        ours=ours,
        samples=values.size,
        bytes=sum(map(_size, runs)),
        encode_seconds=sum(run.encode for run in runs),
        decode_seconds=sum(run.decode for run in runs),
        worst=max(run.worst for run in runs),
        beyond=sum(run.beyond for run in runs),
        codecs=" / ".join(dict.fromkeys(run.codec for run in runs)),
        train_seconds=sum(run.train for run in runs),
    )


def _warm_up(codec: Codec, values: Values, eps: NDArray[np.float64]) -> None:
    columns = values.shape[1] if codec.joint else 1
    few = np.ascontiguousarray(_filled(values[:_WARM_UP_ROWS, :columns])[0])
    codec.unpack(codec.pack(few, eps[:columns]), few.shape, few.dtype, eps[:columns])


def _run(codec: Codec, values: Values, eps: NDArray[np.float64], *, mask: bool) -> _Run:
    """Pack, unpack, compare."""
    given, extra = _filled(values) if mask else (values, 0)
    given = np.ascontiguousarray(given)
    begun = time.perf_counter()
    codec.train(given, eps)
    started = time.perf_counter()
    parts = codec.pack(given, eps)
    packed = time.perf_counter()
    read = codec.unpack(parts, given.shape, given.dtype, eps)
    done = time.perf_counter()
    size = sum(map(len, parts)) + extra
    return _Run(codec.label, size, packed - started, done - packed, *_errors(given, read, eps), started - begun)


def _errors(values: Values, read: Values, eps: NDArray[np.float64]) -> tuple[float, int]:
    """``worst`` and ``beyond`` of :class:`Measured`."""
    if read.dtype != values.dtype or read.shape != values.shape:
        return float("inf"), values.size
    if (eps == 0).all():
        unsigned = f"u{values.itemsize}"
        changed = int((values.view(unsigned) != np.ascontiguousarray(read).view(unsigned)).sum())
        return float("inf") if changed else 0.0, changed
    there = ~np.isnan(values)
    lost = int((there == np.isnan(read)).sum())
    if lost:  # NaN where there was a number, or the reverse
        return float("inf"), lost
    columns = range(values.shape[1])
    beyond = sum(int(violations(values[there[:, j], j], read[there[:, j], j], float(eps[j])).sum()) for j in columns)
    error = np.abs(read.astype(np.float64) - values.astype(np.float64)) / eps
    return float(np.max(error, where=there, initial=0.0)), beyond


def _filled(values: Values) -> tuple[Values, int]:
    """NaN replaced with the value before (the first ones with the first that is there), and the mask's bytes."""
    absent = np.isnan(values)
    if not absent.any():
        return values, 0
    rows = np.where(absent, -1, np.arange(len(values))[:, None])
    source = np.maximum.accumulate(rows, axis=0)
    source = np.where(source < 0, np.argmin(absent, axis=0), source)
    filled = np.nan_to_num(np.take_along_axis(values, source, axis=0))  # a column of nothing but NaN is 0
    return filled, len(lzma.compress(np.packbits(absent.T).tobytes(), preset=9))
