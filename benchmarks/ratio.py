"""Compression ratio and speed of our profiles beside the peers', at the same bounds and in the same run.

Ratio is 4 bytes x n / stored bytes, whatever the column's type (the paper's convention). Ours is in segments of the
default size with every byte counted, models included (--train: density nets, where they pay); the peers get whole
columns and are told their length, type and bound for free. The bound is ``eps`` times the standard deviation of the
rows used, a number with "abs" behind it is in the column's own unit, and 0 is lossless. Timestamps are not part of it,
and short series of one set are one column.

    python -m benchmarks.ratio --data DIR --sets pow dna gas:1 --eps 0.1 0.1abs --rows 200000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import common, plots, summary
from benchmarks.measure import LOSSLESS, Cell, Measured, measure_codec, measure_peer
from benchmarks.ours import PROFILES, Ours
from benchmarks.peers import Values, load_peers
from ddstore.profiles import Profile

EPS = ("0.3", "0.1", "0.01", "0.001", LOSSLESS)
PAPER = (Cell("pow", "0.1abs"), Cell("dna", "0.1abs"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    given = _options().parse_args(arguments)
    sets = given.sets or sorted(path.stem for path in given.data.glob("*.npz"))
    if not sets:
        raise SystemExit(f"no .npz files in {given.data}: give the folder of the real series with --data")
    # The lossless cell is always there: lossless peers are measured in it, and stand in every cell of their set.
    cells = [Cell(*pair) for pair in product(sets, dict.fromkeys((*(given.eps or EPS), LOSSLESS)))]
    if not given.eps:
        cells += [cell for cell in PAPER if cell.set in sets]
    peers, missing = load_peers()
    for line in missing:
        print(line, file=sys.stderr)
    results: list[Measured] = []
    for done, measured in enumerate(_run(cells, given.data, given.rows, given.jobs, given.train), 1):
        results += measured
        print(f"{done}/{len(cells)} {' '.join(measured[0].cell)}", file=sys.stderr)
    path = common.save(given.out, given.name, Measured.header(), [result.row() for result in results])
    for table in summary.tables(results, [peer.name for peer in peers]):
        common.show(*table)
    print(path)
    if given.plots:
        for picture in plots.draw(results, path.with_suffix("")):
            print(picture)


def measure_cell(cell: Cell, folder: Path, rows: int | None, train: float = 0.0) -> list[Measured]:
    """Every profile on one cell; lossless peers where nothing may be lost, lossy ones elsewhere."""
    values = values_of(folder, cell.set, rows)
    eps = bounds_of(values, cell.eps)
    peers, _ = load_peers()
    return [
        *(measure_codec(cell, profile, values, eps) for profile in PROFILES),
        *(measure_codec(cell, learned, values, eps) for learned in (Ours(Profile.ARCHIVE, train),) if train > 0),
        *(measure_peer(cell, peer, values, eps) for peer in peers if peer.lossless == (cell.eps == LOSSLESS)),
    ]


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_data_option(options)
    options.add_argument("--sets", nargs="+", help="sets, or set:channel (default: all there are)")
    options.add_argument("--eps", nargs="+", help=f"default: {' '.join(EPS)}, and the paper's 0.1abs on pow and dna")
    options.add_argument("--rows", type=int, help="only this many rows of each set, the first")
    options.add_argument("--jobs", type=int, default=1, help="cells at once (%(default)s); speeds suffer")
    options.add_argument(
        "--train",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="and archive with a density net, trained for so long a column",
    )
    options.add_argument("--name", default="ratio", help="name of the results (%(default)s)")
    options.add_argument("--out", type=Path, default=common.RESULTS, help="folder of CSV and plots (%(default)s)")
    options.add_argument("--no-plots", dest="plots", action="store_false")
    return options


def _run(cells: list[Cell], folder: Path, rows: int | None, jobs: int, train: float) -> Iterator[list[Measured]]:
    work = partial(measure_cell, folder=folder, rows=rows, train=train)
    if jobs == 1:
        yield from map(work, cells)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, cells)


def values_of(folder: Path, name: str, rows: int | None) -> Values:
    """The set's values, shape (n, C)."""
    set_, _, channel = name.partition(":")
    values = common.load(folder, set_)["values"][:rows]
    values = values[:, None] if values.ndim == 1 else values
    return np.ascontiguousarray(values[:, [int(channel)]] if channel else values)


def bounds_of(values: Values, eps: str) -> NDArray[np.float64]:
    """The absolute bound of each column, shape (C,)."""
    if eps.endswith("abs"):
        return np.full(values.shape[1], float(eps.removesuffix("abs")))
    spread = np.nanstd(values.astype(np.float64), axis=0)
    return float(eps) * np.where(spread > 0, spread, 1.0)  # a constant column codes to nothing at any bound


if __name__ == "__main__":
    main()
