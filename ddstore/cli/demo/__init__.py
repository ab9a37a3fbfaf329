"""``demo``: the main job end to end, on a plant that is made up or on the user's file, with a report and a picture."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ddstore.bounds import RangeRelative
from ddstore.cli.demo.data import DemoData, file_data, plant_data
from ddstore.cli.demo.plot import draw
from ddstore.cli.demo.report import print_report
from ddstore.cli.demo.steps import Demo
from ddstore.cli.progress import progress_bar
from ddstore.cli.session import Settings, Status, note, out, say
from ddstore.cli.text import parse_bound
from ddstore.cli.write import TimeUnit
from ddstore.db.embedded import embedded_server
from ddstore.errors import NotInstalled
from ddstore.store import Store, connect

__all__ = ["demo"]

#: A file's columns tolerate this unless --max-error says otherwise: a lossless demo has no error to show.
_FILE_BOUND = RangeRelative(0.001)


def demo(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]", help="A .csv, .npz or .parquet file. Default: a made-up plant.", show_default=False
        ),
    ] = None,
    picture: Annotated[Path, typer.Option("--out", metavar="PNG", help="Where the picture goes.")] = Path("demo.png"),
    max_error: Annotated[
        str | None,
        typer.Option(
            metavar="ERROR",
            help="For every column: 0.05, 1e-3rel, 0.01range or lossless. Default: each sensor's own; for a file "
            "0.001range.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=2000, help="Rows to make up (default 200000), or to take of the file.", show_default=False),
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The file's time column.", show_default=False)
    ] = None,
    time_unit: Annotated[
        TimeUnit | None,
        typer.Option(help="What numbers in the file's time column count since 1970.", show_default=False),
    ] = None,
    train_seconds: Annotated[float, typer.Option(min=0, help="Budget for learned models; 0 trains none.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the made-up plant, and of training.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the database, and say how to look at it.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Run in the schema ddstore_demo of this database. Default: an embedded server of its own.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the whole job: write a table, compact it, query it, check every value, draw it.

    Runs in an embedded database of its own, thrown away at the end unless
    --keep; with --url in the schema ddstore_demo of that database. The report
    says what it cost before and after, with every index and model counted.

      ddstore demo
      ddstore demo sensors.csv --max-error 0.05 --out sensors.png
      ddstore demo log.parquet --time ts --max-error 1e-3rel --keep
    """
    bound = None if max_error is None else parse_bound(max_error)
    _check_picture(picture)
    given: DemoData
    if data is None:
        given = plant_data(200_000 if rows is None else rows, bound, seed)
    else:
        given = file_data(data, rows, bound or _FILE_BOUND, time, None if time_unit is None else time_unit.value)
        if bound is None:
            given.notes.append("every column may be wrong by 0.1 % of its range; --max-error says otherwise")
    url = url or (ctx.obj.url if isinstance(ctx.obj, Settings) else None)
    with _store(url, keep) as store:
        run = Demo(store, given)
        ok = _run(run, train_seconds, seed, picture, keep_tables=keep or url is None)
    if not ok:
        raise typer.Exit(Status.FAILED)


def _check_picture(path: Path) -> None:
    """Refuse before the work is done, not after it."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise typer.BadParameter(f"{path.name} is neither a .png nor a .svg nor a .pdf.", param_hint="--out")
    if not os.access(path.parent, os.W_OK):
        raise typer.BadParameter(f"nothing can be written into {path.parent}.", param_hint="--out")


def _run(run: Demo, train_seconds: float, seed: int, picture: Path, *, keep_tables: bool) -> bool:
    console, progress = out(), say()
    for text in run.data.notes:
        note(text)
    run.create()
    try:
        with progress.status("Writing ..."):
            run.write()
        with progress.status("Querying hot rows ..."):
            run.query("hot")
        with progress_bar("Compacting") as advance:
            train = "auto" if train_seconds else "never"
            run.compact(train=train, train_seconds=train_seconds, seed=seed, progress=advance)
        for failed in run.report.failed:
            progress.print(f"not compacted: {failed.error}", markup=False, style="red", soft_wrap=True)
        if hot := run.stats.rows_hot:
            progress.print(f"{hot:,} rows stayed hot", style="red")
        with progress.status("Querying cold rows ..."):
            run.query("cold")
        with progress_bar("Checking") as advance:
            run.check(advance)
        print_report(console, run)
        _draw(console, run, picture)
        return all(check.ok for check in run.checks) and not run.stats.rows_hot
    finally:
        if not keep_tables:
            run.remove()


def _draw(console: Console, run: Demo, picture: Path) -> None:
    try:
        with say().status("Drawing ..."):
            draw(run, picture)
    except NotInstalled as error:
        note(f"no picture: {error}")
        return
    console.print(f"Picture: {picture}", markup=False, soft_wrap=True)


@contextmanager
def _store(url: str | None, keep: bool) -> Iterator[Store]:
    """The database given, or one of the demo's own that goes with it."""
    if url is not None:
        with connect(url) as store:
            store.migrate()
            yield store
        return
    home = Path(tempfile.mkdtemp(prefix="ddstore-demo-"))
    try:
        with say().status("Starting an embedded PostgreSQL ..."):
            store = connect(data_dir=home)
        with store:
            yield store
        if keep:
            out().print(f"Kept: DDSTORE_HOME={home} ddstore stats", markup=False, soft_wrap=True)
    finally:
        embedded_server(home).release()
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
