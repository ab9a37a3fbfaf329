"""``create-table``, ``adopt``, ``policy`` and ``release``: which tables DDStore looks after, and how."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ddstore.cli.session import JsonOption, UrlOption, open_store, out, print_json
from ddstore.cli.text import bound_text, parse_bounds, parse_column, parse_duration
from ddstore.db.catalog import ManagedTable, UniqueCheck
from ddstore.errors import SchemaMismatch
from ddstore.profiles import Profile

__all__ = ["adopt", "create_table", "policy", "release"]


_TimeOption = Annotated[str, typer.Option("--time", metavar="COLUMN", help="The time column.", show_default=False)]
_ProfileOption = Annotated[Profile, typer.Option(help="What reading may cost.")]
_SegmentRowsOption = Annotated[
    int | None,
    typer.Option(min=16, max=1 << 20, help="Rows in a full segment. Default: the profile's.", show_default=False),
]
_MinRowsOption = Annotated[int, typer.Option(min=1, help="A series with fewer hot rows is left alone.")]
_HotForOption = Annotated[str, typer.Option(metavar="DURATION", help="Rows younger than this stay hot: 2h, 7d.")]
_UniqueOption = Annotated[
    UniqueCheck | None,
    typer.Option("--unique-check", help="Among which rows unique keys are unique.", show_default=False),
]


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
    profile: _ProfileOption = Profile.BALANCED,
    segment_rows: _SegmentRowsOption = None,
    min_rows: _MinRowsOption = 1024,
    hot_for: _HotForOption = "0s",
    unique_check: _UniqueOption = None,
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
            unique_check=unique_check or "hot",
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
    profile: _ProfileOption = Profile.BALANCED,
    segment_rows: _SegmentRowsOption = None,
    min_rows: _MinRowsOption = 1024,
    hot_for: _HotForOption = "0s",
    unique_check: _UniqueOption = None,
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
            unique_check=unique_check or "hot",
        )
    _print_table(table, "Adopted", as_json)


def policy(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="A managed table.", show_default=False)],
    profile: Annotated[Profile | None, typer.Option(help="What reading may cost.", show_default=False)] = None,
    segment_rows: Annotated[
        int | None,
        typer.Option(min=0, max=1 << 20, help="Rows in a full segment; 0: the profile's.", show_default=False),
    ] = None,
    min_rows: Annotated[
        int | None, typer.Option(min=1, help="A series with fewer hot rows is left alone.", show_default=False)
    ] = None,
    hot_for: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Rows younger than this stay hot: 2h, 7d.", show_default=False),
    ] = None,
    unique_check: _UniqueOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a table is compacted, or change it for segments to come.

    What is compressed already stays as it is, and stays readable.

      ddstore policy plant.sensors
      ddstore policy plant.sensors --profile archive --hot-for 7d
    """
    kept_hot = None if hot_for is None else parse_duration(hot_for)
    with open_store(ctx, url) as store:
        table = store.set_policy(
            name,
            profile=profile,
            segment_rows=segment_rows,
            min_rows=min_rows,
            hot_for=kept_hot,
            unique_check=unique_check,
        )
    if as_json:
        print_json({"table": table.label, **_policy(table)})
    else:
        out().print(f"{table.label}: {_policy_text(table)}", markup=False, soft_wrap=True)


def _policy(table: ManagedTable) -> dict[str, Any]:
    return {
        "profile": table.profile,
        "segment_rows": table.full_segment_rows,
        "min_rows": table.min_rows,
        "hot_for_seconds": table.hot_for.total_seconds(),
        "unique_check": table.unique_check,
    }


def _policy_text(table: ManagedTable) -> str:
    whose = "" if table.segment_rows else " (the profile's)"
    size = f"segments of {table.full_segment_rows:,} rows{whose}"
    unique = ", unique among all rows" if table.unique_check == "all" else ""
    return f"profile {table.profile}, {size}, from {table.min_rows:,} rows on, hot for {table.hot_for}{unique}"


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
                **_policy(table),
            }
        )
        return
    console = out()
    key = f", one series per ({', '.join(c.name for c in table.keys)})" if table.keys else ""
    console.print(f"{verb} {table.label}: time in {table.time.name}{key}", markup=False, soft_wrap=True)
    for column in table.values:
        console.print(f"  {column.name} {column.type}, {bound_text(column.bound)}", markup=False, soft_wrap=True)
    console.print(f"  {_policy_text(table)}", markup=False, soft_wrap=True)
    if table.cold is None:
        console.print("SQL sees its hot rows only; see ddstore doctor", soft_wrap=True)
