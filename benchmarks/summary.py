"""The ratio benchmark's tables: every cell, then how we stand beside each peer and beside the best of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.measure import LOSSLESS, Cell, Measured

__all__ = ["PAPER_RATIOS", "by_cell", "geometric_mean", "tables"]

Table = tuple[str, list[str], list[list[object]]]

PAPER_RATIOS = {Cell("pow", "0.1abs"): 24.00, Cell("dna", "0.1abs"): 8.58}
"""Deep Dict's own, as published."""


def tables(results: Sequence[Measured], peers: Sequence[str]) -> list[Table]:
    """Title, header and rows of each table; ``peers`` are the peers' names in the order of the columns."""
    cells = by_cell(results)
    profiles = list(dict.fromkeys(result.who for result in results if result.ours))
    present = [peer for peer in peers if any(result.who == peer for result in results)]
    made = [_cells(cells, profiles, present), _who(results, [*profiles, *present])]
    if present:
        made.append(_standing(cells, profiles, present))
        made.append(_losses(cells, profiles, present))
    return made


def by_cell(results: Iterable[Measured]) -> dict[Cell, dict[str, Measured]]:
    """Results by cell, then by name."""
    cells: dict[Cell, dict[str, Measured]] = {}
    for result in results:
        cells.setdefault(result.cell, {})[result.who] = result
    for cell, there in cells.items():
        # What ignores the bound was measured once, in the lossless cell, and stands in every cell of the set.
        for who, result in cells.get(Cell(cell.set, LOSSLESS), {}).items():
            if not result.ours:
                there.setdefault(who, result)
    return cells


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def _cells(cells: dict[Cell, dict[str, Measured]], profiles: list[str], peers: list[str]) -> Table:
    header = ["set", "eps", *profiles, *peers, *(f"{who}/best" for who in profiles)]
    rows: list[list[object]] = []
    for cell, there in cells.items():
        ratios = [there[who].ratio if who in there else "" for who in (*profiles, *peers)]
        best = _best(there, peers)
        rows.append([*cell, *ratios, *(there[who].ratio / best.ratio if best else "" for who in profiles)])
    return "ratio: 4 bytes x n / stored bytes", header, rows


def _who(results: Sequence[Measured], names: list[str]) -> Table:
    header = ["who", "cells", "ratio", "compress M/s", "decompress M/s", "worst error/eps", "beyond"]
    rows: list[list[object]] = []
    for name in names:
        own = [result for result in results if result.who == name]
        rows.append(
            [
                name,
                len(own),
                geometric_mean(result.ratio for result in own),
                geometric_mean(result.encode_speed for result in own),
                geometric_mean(result.decode_speed for result in own),
                f"{max(result.worst for result in own):.9g}",
                sum(result.beyond for result in own),
            ]
        )
    return "each over the cells it has (geometric means)", header, rows


def _standing(cells: dict[Cell, dict[str, Measured]], profiles: list[str], peers: list[str]) -> Table:
    """The lines that the targets are set in."""
    header = ["geometric means", *profiles]
    lossy = {cell: there for cell, there in cells.items() if cell.eps != LOSSLESS}
    lossless = {cell: there for cell, there in cells.items() if cell.eps == LOSSLESS}
    rows: list[list[object]] = [
        [f"lossy: ratio / {peer}", *(_mean_share(lossy, who, [peer]) for who in profiles)] for peer in peers
    ]
    for name, some in (("lossy", lossy), ("lossless", lossless)):
        rows.append([f"{name}: ratio / best peer of all", *(_mean_share(some, who, peers) for who in profiles)])
        rows.append([f"{name}: worst cell, ratio / best peer", *(_worst_share(some, who, peers) for who in profiles)])
    for peer in ("SZ3", "q+delta+bsc"):
        both = [there for there in lossy.values() if peer in there]
        for what, speed in (("decode", _decode_speed), ("encode", _encode_speed)):
            faster = (geometric_mean(speed(there[who]) / speed(there[peer]) for there in both) for who in profiles)
            rows.append([f"lossy: {what} speed / {peer}", *faster])
    for cell, published in PAPER_RATIOS.items():
        if cell in cells:
            text = f"{cell.set} at eps 0.1, ratio (the paper's: {published})"
            rows.append([text, *(cells[cell][who].ratio for who in profiles)])
    return "how we stand", header, rows


def _losses(cells: dict[Cell, dict[str, Measured]], profiles: list[str], peers: list[str]) -> Table:
    header = ["set", "eps", "profile", "ratio", "best peer", "its codec", "its ratio", "ours/its"]
    rows: list[list[object]] = []
    for cell, there in cells.items():
        best = _best(there, peers)
        for who in profiles:
            if best and there[who].ratio < best.ratio:
                ours = there[who].ratio
                rows.append([*cell, who, ours, best.who, best.codecs, best.ratio, ours / best.ratio])
    rows.sort(key=lambda row: float(str(row[-1])))
    return "cells where the best peer is ahead", header, rows


def _best(there: dict[str, Measured], peers: Sequence[str]) -> Measured | None:
    """The peer with the highest ratio, of these."""
    return max((there[peer] for peer in peers if peer in there), key=lambda result: result.ratio, default=None)


def _shares(cells: dict[Cell, dict[str, Measured]], who: str, peers: Sequence[str]) -> list[float]:
    bests = [(there[who], _best(there, peers)) for there in cells.values()]
    return [ours.ratio / best.ratio for ours, best in bests if best is not None]


def _mean_share(cells: dict[Cell, dict[str, Measured]], who: str, peers: Sequence[str]) -> float:
    return geometric_mean(_shares(cells, who, peers))


def _worst_share(cells: dict[Cell, dict[str, Measured]], who: str, peers: Sequence[str]) -> float:
    return min(_shares(cells, who, peers), default=math.nan)


def _decode_speed(result: Measured) -> float:
    return result.decode_speed


def _encode_speed(result: Measured) -> float:
    return result.encode_speed
