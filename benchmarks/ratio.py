"""Compression ratio against SZ3 and quantize+delta+bsc, on the codec alone.

Ratio is 4 bytes x n / stored bytes (the paper's convention), ours in segments of the default size and with every
byte counted; the peers get whole columns. ``python -m benchmarks.ratio --sets pow dna --eps 0.1 --absolute``
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.common import columns_of, load, parser, report
from benchmarks.peers import PEERS
from ddstore.bounds import Absolute
from ddstore.codec.format import NativeType
from ddstore.codec.segment import decode_column, encode_column

SETS = ("pow", "dna", "ecg_mitbih100", "gas", "ppg_e4", "watch_acc_e4", "bar_crawl_slice")
SEGMENT_ROWS = 16384


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    options = parser(__doc__)
    options.add_argument("--sets", nargs="+", default=SETS)
    options.add_argument("--eps", nargs="+", type=float, default=(0.1,), help="times the standard deviation")
    options.add_argument("--absolute", action="store_true", help="eps is absolute, in the column's unit")
    given = options.parse_args(arguments)
    rows: list[list[object]] = []
    for name in given.sets:
        columns = columns_of(load(given.data, name)["values"])
        for factor in given.eps:
            totals = {"ddstore": 0} | dict.fromkeys(PEERS, 0)
            encode_seconds = decode_seconds = 0.0
            worst = 0.0
            for column in columns:
                kind: NativeType = "float4" if column.dtype == np.float32 else "float8"
                bound = Absolute(factor if given.absolute else factor * float(column.std()))
                for start in range(0, len(column), SEGMENT_ROWS):
                    part = column[start : start + SEGMENT_ROWS]
                    begun = time.perf_counter()
                    coded = encode_column(part, None, type=kind, bound=bound)
                    encode_seconds += time.perf_counter() - begun
                    totals["ddstore"] += coded.size
                    begun = time.perf_counter()
                    read, _ = decode_column(coded.residual, coded.latents, None, kind, coded.n)
                    decode_seconds += time.perf_counter() - begun
                    worst = max(worst, float(np.abs(read.astype(np.float64) - part).max()) / bound.value)
                for peer, compress in PEERS.items():
                    totals[peer] += compress(column, bound.value)[0]
            n = sum(map(len, columns))
            ratios = {who: 4 * n / size for who, size in totals.items()}
            rows.append(
                [name, factor, n, *ratios.values(), worst, n / encode_seconds / 1e6, n / decode_seconds / 1e6]
            )
    header = ["set", "eps" if given.absolute else "eps/std", "values", "ddstore", *PEERS]
    report("ratio", [*header, "worst error/eps", "encode M/s", "decode M/s"], rows)


if __name__ == "__main__":
    main()
