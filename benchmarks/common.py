"""What the benchmarks share: the data, a store on the embedded server, timing, and results as table and CSV."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import ddstore

RESULTS = Path(__file__).resolve().parent / "results"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that every benchmark of the database has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(options)
    options.add_argument("--url", help="database to use; default: an embedded server of its own")
    return options


def add_data_option(options: argparse.ArgumentParser) -> None:
    """``--data``: where the real series are."""
    default = os.environ.get("DDSTORE_DATA", "../shared/data")
    options.add_argument("--data", type=Path, default=Path(default), help="folder of the real series (%(default)s)")


def load(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of one set.

    Raises:
        SystemExit: the set is not there.
    """
    path = folder / f"{name}.npz"
    if not path.exists():
        raise SystemExit(f"{path} is missing: give the folder of the real series with --data or $DDSTORE_DATA")
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def columns_of(values: NDArray[Any]) -> list[NDArray[Any]]:
    """The channels of a set, each contiguous, shape (n,)."""
    return [np.ascontiguousarray(column) for column in (values.T if values.ndim == 2 else [values])]


@contextmanager
def a_store(url: str | None) -> Iterator[ddstore.Store]:
    """The store at ``url``, or one on an embedded server whose data directory is removed afterwards."""
    if url is not None:
        with ddstore.connect(url) as store:
            store.migrate()
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="ddstore-bench-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # the server may run as another user
        with ddstore.connect(data_dir=Path(folder) / "pg") as store:
            yield store


def best_of(times: int, work: Callable[[], Any]) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def cpu() -> str:
    """The processor's name, fit for a file name."""
    try:
        name = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return re.sub(r"[^A-Za-z0-9]+", "-", name.split(":")[-1]).strip("-").lower()


def report(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print the table and write it to ``benchmarks/results/<cpu>_<version>_<title>.csv``."""
    show(title, header, rows)
    save(RESULTS, title, header, rows)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    table = Table(title=f"{title} ({cpu()}, ddstore {version()})")
    for column in header:
        table.add_column(column, justify="left" if column == header[0] else "right", no_wrap=column == header[0])
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=180).print(table)


def save(folder: Path, title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write ``<folder>/<cpu>_<version>_<title>.csv``; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cpu()}_{version()}_{title}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def version() -> str:
    """The version of the installed package."""
    from importlib.metadata import version as installed

    return installed("ddstore")
