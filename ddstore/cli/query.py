"""``query``: one SQL statement, its result as a table or as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any

import psycopg
import typer
from psycopg.types.string import TextLoader
from rich.table import Table
from rich.text import Text

from ddstore.cli.session import UrlOption, open_store, out, print_json, say

__all__ = ["query"]

_NUMBERS = frozenset(
    psycopg.adapters.types[name].oid for name in ("int2", "int4", "int8", "float4", "float8", "numeric", "oid")
)
#: Types that JSON has, or that hold such types; everything else is text as PostgreSQL writes it.
_JSON_TYPES = ("int2", "int4", "int8", "float4", "float8", "numeric", "oid", "bool", "json", "jsonb")


def query(
    ctx: typer.Context,
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="One statement; - reads it from stdin.", show_default=False)
    ],
    write: Annotated[bool, typer.Option("--write", help="Let the statement change the database.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show at most; 0 shows all.")] = 50,
    url: UrlOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every row as a line of JSON.")] = False,
) -> None:
    """Run one SQL statement and print what it returns. Times are UTC.

    Nothing can be changed unless --write is given. --json prints all rows, as
    they come.

      ddstore query "SELECT count(*), avg(value) FROM ddstore.samples WHERE series = 'boiler.temp'"
      ddstore query "SELECT * FROM ddstore.tables" --json | jq .
      ddstore query "EXPLAIN (ANALYZE) SELECT * FROM ddstore.samples WHERE time >= '2024-05-01'"
    """
    statement = sys.stdin.read() if sql == "-" else sql
    with open_store(ctx, url) as store, store.connection() as conn, conn.cursor() as cursor:
        _load_as_text(cursor, besides=_JSON_TYPES if as_json else ())
        # As bytes: the user's own statement, which must not be taken for a template of ours.
        with closing(_run(cursor, statement.encode(), write)) as found:
            if as_json:
                _print_lines(cursor, found)
            else:
                _print_table(cursor, found, rows)


def _run(cursor: psycopg.Cursor[Any], statement: bytes, write: bool) -> Generator[tuple[Any, ...]]:
    """Yield the rows of one statement; closing the generator early cancels one that only reads."""
    if write:  # to its end, whatever is shown of its result: a cancelled INSERT ... RETURNING would insert nothing
        cursor.execute(statement)
        if cursor.description is not None:
            yield from cursor
        return
    cursor.execute("SET TRANSACTION READ ONLY")
    try:
        # The extended protocol takes exactly one statement, so there is no "COMMIT; DROP TABLE".
        yield from cursor.stream(statement)
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:  # else: a statement without a result, such as SET
            raise


def _load_as_text(cursor: psycopg.Cursor[Any], *, besides: Sequence[str]) -> None:
    """Leave values as PostgreSQL wrote them: Python has no infinite date and no year 10000."""
    keep = {oid for name in besides for oid in _oids(name)}
    for kind in psycopg.adapters.types:
        for oid in (kind.oid, kind.array_oid):
            if oid and oid not in keep:
                cursor.adapters.register_loader(oid, TextLoader)


def _oids(name: str) -> tuple[int, int]:
    kind = psycopg.adapters.types[name]
    return kind.oid, kind.array_oid


def _print_lines(cursor: psycopg.Cursor[Any], stream: Iterator[tuple[Any, ...]]) -> None:
    names: list[str] | None = None
    for row in stream:
        if names is None:
            names = [column.name for column in cursor.description or ()]
        print_json({name: _number(value) for name, value in zip(names, row, strict=True)}, indent=None)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    if not isinstance(value, Decimal):
        return value
    if not value.is_finite():
        return float(value)
    return int(value) if value == value.to_integral_value() else float(value)


def _print_table(cursor: psycopg.Cursor[Any], stream: Iterator[tuple[Any, ...]], limit: int) -> None:
    shown = list(islice(stream, limit or None))
    more = next(stream, None) is not None if limit else False
    columns = cursor.description or ()
    if not columns:
        out().print(cursor.statusmessage or "no rows", markup=False)
        return
    if len(columns) == 1 and columns[0].name == "QUERY PLAN":  # its lines are a table already
        for (line,) in shown:
            out().print(line, markup=False, soft_wrap=True)
        return
    table = Table(header_style="bold")
    for column in columns:
        number = column.type_code in _NUMBERS
        table.add_column(Text(column.name), justify="right" if number else "left", overflow="fold")
    for row in shown:
        table.add_row(*(Text("NULL", "dim") if value is None else Text(str(value)) for value in row))
    out().print(table)
    if more:
        say().print(f"The first {limit:,} rows; --rows 0 shows all, --json prints them as lines", markup=False)
