"""``create-table``, ``adopt`` and ``release``: which tables DDStore looks after."""

from __future__ import annotations

from typing import Annotated

import typer

from ddstore.cli.session import JsonOption, UrlOption, open_store, out, print_json
from ddstore.cli.text import bound_text, parse_bounds, parse_column, parse_duration
from ddstore.db.catalog import ManagedTable
from ddstore.errors import SchemaMismatch

__all__ = ["adopt", "create_table", "release"]

_TimeOption = Annotated[str, typer.Option("--time", metavar="COLUMN", help="The time column.", show_default=False)]
_ProfileOption = Annotated[str, typer.Option(metavar="NAME", help="Decode-cost budget: fast, balanced or archive.")]
_SegmentRowsOption = Annotated[int, typer.Option(min=16, max=1 << 20, help="Rows in a full segment.")]
_MinRowsOption = Annotated[int, typer.Option(min=1, help="A series with fewer hot rows is left alone.")]
_HotForOption = Annotated[str, typer.Option(metavar="DURATION", help="Rows younger than this stay hot: 2h, 7d.")]


def create_table(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="Its name, schema.table.", show_default=False)],
    column: Annotated[
        list[str],
        typer.Option(
            metavar="NAME[:TYPE][=MAX_ERROR]",
            help="A value column; float8 and lossless unless said. May be repeated.",
            show_default=False,
        ),
    ],
    time: _TimeOption = "time",
    time_type: Annotated[str, typer.Option(metavar="TYPE", help="timestamptz, timestamp or int8.")] = "timestamptz",
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:TYPE]", help="A key column, text unless said. May be repeated.", show_default=False
        ),
    ] = None,
    profile: _ProfileOption = "balanced",
    segment_rows: _SegmentRowsOption = 16384,
    min_rows: _MinRowsOption = 1024,
    hot_for: _HotForOption = "0s",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a table that DDStore compresses, one series per key.

      ddstore create-table plant.sensors --key device --column temp=0.05 \\
          --column rpm:float4=1e-3rel --column state:int2
    """
    columns = dict(parse_column(text) for text in column)
    keys = {n: type_ or "text" for n, _, type_ in (text.partition(":") for text in key or [])}
    if len(columns) < len(column) or len(keys) < len(key or []):
        raise typer.BadParameter("a column is given twice.")
    kept_hot = parse_duration(hot_for)
    with open_store(ctx, url) as store:
        table = store.create_table(
            name,
            time=time,
            key=keys,
            columns=columns,
            time_type=time_type,
            profile=profile,
            segment_rows=segment_rows,
            min_rows=min_rows,
            hot_for=kept_hot,
        )
    _print_table(table, "Created", as_json)


def adopt(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="An existing table.", show_default=False)],
    time: _TimeOption,
    key: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A key column. May be repeated.", show_default=False)
    ] = None,
    max_error: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=MAX_ERROR",
            help="What a column tolerates: temp=0.05, temp=1e-3rel, temp=0.01range. Others are lossless.",
            show_default=False,
        ),
    ] = None,
    profile: _ProfileOption = "balanced",
    segment_rows: _SegmentRowsOption = 16384,
    min_rows: _MinRowsOption = 1024,
    hot_for: _HotForOption = "0s",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look after an existing table from now on, in place.

    Nothing is rewritten, readers and writers go on. From then on unique
    constraints and ON CONFLICT see hot rows only.

      ddstore adopt public.metrics --time ts --key host --max-error cpu=0.1 --hot-for 1d
    """
    bounds, kept_hot = parse_bounds(max_error or []), parse_duration(hot_for)
    with open_store(ctx, url) as store:
        table = store.adopt(
            name,
            time=time,
            key=key or [],
            max_error=bounds,
            profile=profile,
            segment_rows=segment_rows,
            min_rows=min_rows,
            hot_for=kept_hot,
        )
    _print_table(table, "Adopted", as_json)


def release(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="A managed table.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decompress everything and hand the table back as a plain one.

    One transaction: all of it or nothing. Values are what SELECT gave all
    along, within their max error.

      ddstore release public.metrics --yes
    """
    with open_store(ctx, url) as store:
        if not yes:
            _confirm(store.stats(name)[0].rows_cold, name)
        done = store.release(name)
    if as_json:
        print_json(done.to_dict())
    else:
        text = f"Released {done.table}: {done.rows:,} rows of {done.segments} segments are plain rows again"
        out().print(text, markup=False, soft_wrap=True)


def _confirm(rows: int, name: str) -> None:
    try:
        typer.confirm(f"Decompress {rows:,} rows of {name} and stop managing it?", abort=True, err=True)
    except typer.Abort:
        raise SchemaMismatch(f"{name} was not released", remedy="Confirm, or give --yes.") from None


def _print_table(table: ManagedTable, verb: str, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "table": table.label,
                "segments": table.segments,
                "cold": table.cold,
                "time": table.time.name,
                "key": [column.name for column in table.keys],
                "max_error": {column.name: bound_text(column.bound) for column in table.values},
            }
        )
        return
    console = out()
    key = f", one series per ({', '.join(c.name for c in table.keys)})" if table.keys else ""
    console.print(f"{verb} {table.label}: time in {table.time.name}{key}", markup=False, soft_wrap=True)
    for column in table.values:
        console.print(f"  {column.name} {column.type}, {bound_text(column.bound)}", markup=False, soft_wrap=True)
    if table.cold is None:
        console.print("SQL sees its hot rows only; see ddstore doctor", soft_wrap=True)
