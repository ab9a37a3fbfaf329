"""Writing rows: a Series into ``ddstore.samples``, a frame into its table; all of it in one transaction, or nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import errors as pg_errors

from ddstore.arrays import Column
from ddstore.bounds import Lossless
from ddstore.db.catalog import MAX_KEY_BYTES, ManagedTable, series_bound
from ddstore.db.copy import CopyField, copy_in, make_field
from ddstore.db.manage import ensure_samples, set_series_bound
from ddstore.db.pool import Connection
from ddstore.errors import BoundConflict, InvalidSeries, SchemaMismatch
from ddstore.frames import columns_of
from ddstore.moments import PG_EPOCH_US
from ddstore.series import Series

__all__ = ["WriteReport", "write_frame", "write_series"]


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What a write did: ``rows`` rows are in ``table`` now, hot until they are compacted."""

    table: str
    rows: int
    series: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def write_series(conn: Connection, series: Series) -> WriteReport:
    """Append a series to ``ddstore.samples`` and keep its bound; in the caller's transaction.

    Raises:
        InvalidSeries: the series is empty, as a read may return it.
        BoundConflict: the series already keeps another bound.
        NotInstalled, NotPermitted: see :func:`ddstore.db.manage.ensure_samples`.
    """
    if not len(series):
        raise InvalidSeries("the series is empty", series=series.name, remedy="Give at least one row.")
    if (length := len(series.name.encode())) > MAX_KEY_BYTES:
        raise _too_long(length, series=f"{series.name[:40]}...", column=None, row=None)
    table = ensure_samples(conn)
    _keep_bound(conn, table, series)
    time = series.time.view(np.int64) - PG_EPOCH_US
    fields = [
        CopyField("series", "c", series.name.encode()),
        CopyField("time", "8", time),
        CopyField("value", "8", series.values, series.valid),
    ]
    with _refusals(series.name):
        rows = _append(conn, table, fields, len(series))
    return WriteReport(table.label, rows, series.name)


def _keep_bound(conn: Connection, table: ManagedTable, series: Series) -> None:
    column, key = table.value("value"), (series.name,)
    if series.max_error is not None:
        set_series_bound(conn, table, column, key, series.max_error)
    elif series_bound(conn, table, column, key) is None:
        # Written without a bound means lossless, and that is kept like any other bound.
        try:
            set_series_bound(conn, table, column, key, Lossless())
        except BoundConflict:
            return  # another writer was first, and a write without a bound takes what there is


def write_frame(conn: Connection, table: ManagedTable, data: Any) -> WriteReport:
    """Append a frame to a managed table, columns matched by name; in the caller's transaction.

    Raises:
        SchemaMismatch: a column is unknown or missing, or does not go into the table's column.
        InvalidSeries: a value would be changed by its column's type, or the server refuses one.
    """
    columns = columns_of(data, time=table.time.name)
    _match(table, columns)
    fields = [
        make_field(name, managed.type, columns[name], is_time=managed.role == "time")
        for name, managed in table.written.items()
    ]
    _check_keys(table, fields)
    with _refusals(table.label):
        rows = _append(conn, table, fields, len(next(iter(columns.values()))))
    return WriteReport(table.label, rows)


def _check_keys(table: ManagedTable, fields: Sequence[CopyField]) -> None:
    """Refuse keys that no index would take, here where the row is known; the other types of keys are short."""
    names = {column.name for column in table.keys}
    texts = {f.name: np.diff(f.offsets) for f in fields if f.name in names and f.offsets is not None}
    lengths = np.sum(list(texts.values()), axis=0)
    if np.size(lengths) and np.max(lengths) > MAX_KEY_BYTES:
        row = int(np.argmax(lengths))
        longest = max(texts, key=lambda name: int(texts[name][row]))
        raise _too_long(int(lengths[row]), series=table.label, column=longest, row=row)


def _too_long(length: int, *, series: str, column: str | None, row: int | None) -> InvalidSeries:
    return InvalidSeries(
        f"the key has {length} bytes, and {MAX_KEY_BYTES} is the most",
        series=series,
        column=column,
        row=row,
        remedy="Shorten it; what is long about it can be a column of its own.",
    )


def _match(table: ManagedTable, columns: Mapping[str, Column]) -> None:
    known = list(table.written)
    for name in columns:
        if name in table.columns and name not in known:
            raise SchemaMismatch(
                "a generated column is computed by PostgreSQL",
                series=table.label,
                column=name,
                remedy="Leave it out of the data.",
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise SchemaMismatch(
                f"{table.label} has no column {name!r}",
                series=table.label,
                column=name,
                remedy=f"Did you mean {close[0]!r}?" if close else f"Its columns are {', '.join(known)}.",
            )
    for name in known:
        if name not in columns:
            raise SchemaMismatch(
                f"the data has no column {name!r}",
                series=table.label,
                column=name,
                remedy="Add it; where its values are not known, as NULLs (None).",
            )


def _append(conn: Connection, table: ManagedTable, fields: Sequence[CopyField], rows: int) -> int:
    with conn.cursor() as cursor:
        return copy_in(cursor, table.identifier, fields, rows)


@contextmanager
def _refusals(series: str) -> Iterator[None]:
    """What the server itself refuses in the rows, constraints above all, as an InvalidSeries."""
    try:
        yield
    except (pg_errors.IntegrityError, pg_errors.DataError) as error:
        said: psycopg.errors.Diagnostic = error.diag
        raise InvalidSeries(
            f"the server refuses the rows: {said.message_primary}",
            series=series,
            column=said.column_name,
            remedy=said.message_detail or "Nothing was written; correct the rows and write again.",
        ) from error
