"""``write``: a file's rows into a series or a managed table."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ddstore.bounds import Bound
from ddstore.cli.files import DataFile, read_file
from ddstore.cli.session import JsonOption, UrlOption, note, open_store, out, print_json
from ddstore.cli.text import parse_bound
from ddstore.db.catalog import load_table
from ddstore.series import Series
from ddstore.store import Store
from ddstore.writing import WriteReport, write_series

__all__ = ["write"]


class TimeUnit(StrEnum):
    """What numbers in a time column count."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"


def write(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv, .npz or .parquet file.", show_default=False)],
    series: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The series' name; with several value columns NAME.COLUMN each. Default: the file's name.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="Write into this managed table, columns by name.", show_default=False),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The file's time column. Default: found by name.", show_default=False),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="A value column; may be repeated. Default: every number.", show_default=False
        ),
    ] = None,
    max_error: Annotated[
        str | None,
        typer.Option(
            metavar="ERROR",
            help="0.05 (absolute), 1e-3rel (of each value), 0.01range (of the range) or lossless. Default: lossless, "
            "or what the series keeps already.",
            show_default=False,
        ),
    ] = None,
    time_unit: Annotated[
        TimeUnit | None,
        typer.Option(help="What numbers in the time column count since 1970.", show_default=False),
    ] = None,
    round_time: Annotated[
        bool, typer.Option("--round-time", help="Cut times to microseconds, which is what PostgreSQL keeps.")
    ] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Append a file's rows, all of them or none: as series of ddstore.samples, or into a managed table.

    A file without times gets one row a second from 2020-01-01. Rows are
    readable at once, and compressed when [bold]ddstore compact[/bold] runs.

      ddstore write temp.csv --series boiler.temp --max-error 0.05
      ddstore write log.parquet --time ts --value temp --value rpm --series boiler --max-error 1e-3rel
      ddstore write day.csv --table plant.sensors
    """
    bound = None if max_error is None else parse_bound(max_error)
    if table is not None and (series is not None or bound is not None or value):
        raise typer.BadParameter("--table takes every column by its name and the table's own max errors.")
    data = read_file(file)
    unit = None if time_unit is None else time_unit.value
    with open_store(ctx, url) as store:
        if table is not None:
            reports = [_write_table(store, data, table, time, unit, round_time)]
        else:
            name = series or file.name.partition(".")[0]
            prepared = _prepare_series(data, name, value or [], time, unit, bound, round_time)
            with store.connection() as conn:  # one transaction: all the file's series or none
                reports = [write_series(conn, one) for one in prepared]
    for text in data.notes:
        note(text)
    if as_json:
        print_json({"rows": sum(r.rows for r in reports), "written": [r.to_dict() for r in reports]})
        return
    for report in reports:
        target = report.table if report.series is None else f"series {report.series} of {report.table}"
        out().print(f"{report.rows:,} rows into {target}", markup=False, soft_wrap=True)


def _prepare_series(
    data: DataFile,
    name: str,
    values: list[str],
    time: str | None,
    unit: str | None,
    bound: Bound | None,
    round_time: bool,
) -> list[Series]:
    found, moments = data.time(time, unit, round_to_us=round_time)
    columns = data.numbers(values, besides=found)
    return [
        Series(name if len(columns) == 1 else f"{name}.{column}", moments, numbers, bound)
        for column, numbers in columns.items()
    ]


def _write_table(
    store: Store, data: DataFile, name: str, time: str | None, unit: str | None, round_time: bool
) -> WriteReport:
    with store.connection() as conn:
        table = load_table(conn, name)
    columns = dict(data.columns)
    if table.time.type != "int8":
        known = table.time.name if time is None and table.time.name in columns else time
        found, moments = data.time(known, unit, round_to_us=round_time)
        if found is not None:
            del columns[found]
        columns = {table.time.name: moments} | columns
    elif time is not None and time != table.time.name:
        columns = {table.time.name: data.column(time)} | {n: c for n, c in columns.items() if n != time}
    return store.write(columns, table=table.label)
