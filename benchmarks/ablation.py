"""What each part of the codec is worth: sizes of the archive profile with all of them, and without one at a time.

The figure is the geometric mean over the cells of size without the part / size with everything; "most" is the cell that
loses most without it. Rows are the first of each set, so that segments are as long as these.

    python -m benchmarks.ablation --data DIR --rows 50000
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import common
from benchmarks.measure import Cell
from benchmarks.ours import Ours
from benchmarks.ratio import EPS, bounds_of, values_of
from ddstore import _native
from ddstore.codec import archive, choose, lattice
from ddstore.codec.format import Coder, Mode
from ddstore.profiles import Profile

Off = Callable[[], AbstractContextManager[Any]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_data_option(options)
    options.add_argument("--sets", nargs="+")
    options.add_argument("--eps", nargs="+", default=list(EPS))
    options.add_argument("--rows", type=int, default=50_000)
    options.add_argument("--without", nargs="+", choices=PARTS, default=list(PARTS))
    given = options.parse_args(arguments)
    sets = given.sets or sorted(path.stem for path in given.data.glob("*.npz"))
    cells = [Cell(set_, eps) for set_ in sets for eps in given.eps]
    whole = {cell: _size(cell, given.data, given.rows) for cell in cells}
    rows = []
    for part in given.without:
        with PARTS[part]():
            worth = {cell: _size(cell, given.data, given.rows) / whole[cell] for cell in cells}
        most = max(worth, key=lambda cell: worth[cell])
        mean = math.exp(float(np.mean(np.log(list(worth.values())))))
        rows.append(
            [part, mean, worth[most], " ".join(most), sum(share > 1.01 for share in worth.values()), len(cells)]
        )
        print(*rows[-1], file=sys.stderr, flush=True)
    common.report("ablation", ["without", "mean", "most", "cell", "cells above 1 %", "of"], rows)


def _size(cell: Cell, folder: Path, rows: int) -> int:
    values = values_of(folder, cell.set, rows)
    return sum(map(len, Ours(Profile.ARCHIVE).pack(values, bounds_of(values, cell.eps))))


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _none(*_: Any, **__: Any) -> Iterator[Any]:
    return iter(())


@contextmanager
def _without(out: Callable[[Any], bool]) -> Iterator[None]:
    """Ways to code that are out are never the cheapest."""
    coded = archive._Contender.on_part

    def dear(self: Any, which: slice) -> bytes | None:
        return None if out(self) else coded(self, which)

    with patch.object(archive._Contender, "on_part", dear):
        yield


class _Only:
    """Stands for the enumeration of coders, and has one."""

    def __init__(self, coder: Coder) -> None:
        self.MIX = self.RANS = coder


@contextmanager
def _no_sides() -> Iterator[None]:
    with patch.object(archive, "_ranked", lambda *_: ()):
        yield


PARTS: dict[str, Off] = {
    "coder cm (modes adaptive and interp with it)": lambda: patch.object(archive, "search", _nothing),
    "coder mix": lambda: patch.object(choose, "Coder", _Only(Coder.RANS)),
    "mode adaptive": lambda: _without(lambda way: way.mode is Mode.ADAPTIVE),
    "cascade": lambda: patch.object(_native, "encode_column", partial(_native.encode_column, cascade=False)),
    "mode interp": lambda: patch.object(archive, "_interpolated", _nothing),
    "mode lattice under cm": lambda: _without(lambda way: way.mode is Mode.LATTICE),
    "shapes": lambda: _without(lambda way: way.shapes),
    "matches": lambda: patch.object(archive, "share_foretold", lambda _: 0.0),
    "other columns": lambda: _no_sides(),
    "tube search": lambda: patch.object(choose, "_cheaper_path", _nothing),
    "grids": lambda: patch.object(lattice, "_find_grids", lambda *_: (None, None)),
    "scales": lambda: patch.object(lattice, "find_scale", _nothing),
    "printed float32": lambda: patch.object(lattice, "_printed", _none),
    "levels": lambda: patch.object(lattice, "_MOST_LEVELS", 0),
    "phases of bins": lambda: patch.object(lattice, "_PHASES", 1),
}
"""By name: how to switch a part off."""


if __name__ == "__main__":
    main()
