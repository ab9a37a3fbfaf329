"""Store: what a user does with one database. The verbs here are thin; the work is in the modules they name."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, overload

from psycopg import sql as pgsql

from ddstore.bounds import Bound
from ddstore.compact import CompactOptions, CompactReport, Progress, RecompressReport, VerifyReport
from ddstore.compact import compact as run_compaction
from ddstore.compact import recompress as run_recompression
from ddstore.compact import verify as run_verification
from ddstore.config import Config
from ddstore.db import manage
from ddstore.db.catalog import ManagedTable, UniqueCheck, list_tables, load_table, series_bound
from ddstore.db.companion import HotIndex
from ddstore.db.embedded import embedded_url
from ddstore.db.extension import Capabilities, Prepared, capabilities, enable, prepare
from ddstore.db.pool import Connection, Database
from ddstore.db.queries import sql
from ddstore.errors import SchemaMismatch
from ddstore.profiles import Profile
from ddstore.reading import begin_snapshot, read_table, select_rows
from ddstore.releasing import ReleaseReport, release_table
from ddstore.series import Frame, Series
from ddstore.statistics import TableStats, table_stats
from ddstore.writing import WriteReport, write_frame, write_series

__all__ = ["Store", "connect", "read", "write"]

SAMPLES = "ddstore.samples"


def connect(url: str | None = None, *, data_dir: str | Path | None = None) -> Store:
    """Open a store.

    Args:
        url: a PostgreSQL URL or conninfo string. Default: ``$DDSTORE_URL``, else the embedded server, which is
            started when needed and made ready (catalog and extension).
        data_dir: where the embedded server keeps its data; asks for the embedded server even when ``$DDSTORE_URL``
            is set.

    A database given by URL is left as it is: without a catalog every verb raises NotInstalled until
    :meth:`Store.migrate` is called.

    Raises:
        ConnectionFailed: no usable PostgreSQL answers.
        NotInstalled: the embedded server is asked for and its package is missing.
        SchemaMismatch: both ``url`` and ``data_dir`` are given.
    """
    if url is not None and data_dir is not None:
        raise SchemaMismatch("url and data_dir are both given", remedy="data_dir belongs to the embedded server only.")
    config = Config.from_env()
    if url is None and data_dir is None:
        url = config.url
    if url is not None:
        store = Store(Database(url))
        with store.connection() as conn:  # fail here, not at the first verb
            conn.execute("SELECT")
        return store
    store = Store(Database(embedded_url(config.data_dir if data_dir is None else Path(data_dir))))
    store.migrate()
    return store


class Store:
    """One database. Threads may share it; close it, or use it as a context manager.

    Every verb is one transaction (compaction: many small ones), so that a failure leaves nothing half done.
    """

    def __init__(self, database: Database) -> None:
        """Use ``database``; :func:`connect` is the usual way to get a store."""
        self.database = database

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.database.address!r})"

    @property
    def url(self) -> str:
        """Where the database is, password included: for psql or another client."""
        return self.database.url

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self.database.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a psycopg connection in a transaction, for SQL of one's own: committed when the block ends."""
        with self.database.connection() as conn:
            yield conn

    # ---- readiness ----------------------------------------------------------------------------------------------

    def migrate(self) -> Prepared:
        """Bring the catalog up to date, and switch the extension on where the server has it and the role may.

        Raises:
            NotPermitted: the role may not create the schema.
        """
        with self.connection() as conn:
            return prepare(conn)

    def enable_extension(self) -> list[str]:
        """Switch the extension on, so that SQL sees cold rows; return the tables that this attached.

        Raises:
            NotInstalled: the server lacks the extension's files.
            NotPermitted: the role may not create an extension.
        """
        with self.connection() as conn:
            return enable(conn)

    def doctor(self) -> Capabilities:
        """Say what the database has and what this role can do in it; works without a catalog."""
        with self.connection() as conn:
            return capabilities(conn)

    # ---- tables -------------------------------------------------------------------------------------------------

    def create_table(
        self,
        name: str,
        *,
        time: str,
        key: Mapping[str, str] | Sequence[str] = (),
        columns: Mapping[str, Bound | tuple[str, Bound]],
        time_type: str = "timestamptz",
        profile: Profile | str = Profile.BALANCED,
        segment_rows: int | None = None,
        min_rows: int = 1024,
        hot_for: timedelta = timedelta(0),
        hot_index: HotIndex = "brin",
        unique_check: UniqueCheck = "hot",
    ) -> ManagedTable:
        """Create a managed table; see :func:`ddstore.db.manage.create_table` for arguments and errors.

        Raises:
            InvalidSeries: there is no such profile.
        """
        with self.connection() as conn:
            return manage.create_table(
                conn,
                name,
                time=time,
                key=key,
                columns=columns,
                time_type=time_type,
                profile=Profile.named(profile),
                segment_rows=segment_rows,
                min_rows=min_rows,
                hot_for=hot_for,
                hot_index=hot_index,
                unique_check=unique_check,
            )

    def adopt(
        self,
        relation: str,
        *,
        time: str,
        key: Sequence[str] = (),
        max_error: Mapping[str, Bound] | None = None,
        profile: Profile | str = Profile.BALANCED,
        segment_rows: int | None = None,
        min_rows: int = 1024,
        hot_for: timedelta = timedelta(0),
        hot_index: HotIndex = "btree",
        unique_check: UniqueCheck = "hot",
    ) -> ManagedTable:
        """Manage an existing table in place; see :func:`ddstore.db.manage.adopt` for arguments and errors.

        Raises:
            InvalidSeries: there is no such profile.
        """
        with self.connection() as conn:
            return manage.adopt(
                conn,
                relation,
                time=time,
                key=key,
                max_error=max_error,
                profile=Profile.named(profile),
                segment_rows=segment_rows,
                min_rows=min_rows,
                hot_for=hot_for,
                hot_index=hot_index,
                unique_check=unique_check,
            )

    def release(self, table: str) -> ReleaseReport:
        """Decompress everything and hand the table back as a plain one; see :mod:`ddstore.releasing`.

        Raises:
            CorruptSegment, SchemaMismatch, NotPermitted: nothing was changed.
        """
        with self.connection() as conn:
            return release_table(conn, load_table(conn, table))

    def tables(self) -> list[ManagedTable]:
        """The managed tables."""
        with self.connection() as conn:
            return list_tables(conn)

    def set_max_error(
        self, max_error: Bound, *, series: str | None = None, table: str | None = None, column: str | None = None
    ) -> None:
        """Change a bound for segments to come; those that exist keep what they were written with.

        Give ``series`` for a series of :func:`write`, or ``table`` and ``column``.

        Raises:
            SchemaMismatch: neither or both are given, or there is no such series, table or column.
        """
        if (series is None) == (table is None) or (table is None) != (column is None):
            raise SchemaMismatch("it is not clear whose bound to change", remedy="Give series, or table and column.")
        with self.connection() as conn:
            if series is not None:
                samples = load_table(conn, SAMPLES)
                if not _series_exists(conn, samples, series):
                    raise _no_such_series(conn, samples, series)
                manage.set_series_bound(conn, samples, samples.value("value"), (series,), max_error, replace=True)
            elif table is not None and column is not None:
                managed = load_table(conn, table)
                manage.set_column_bound(conn, managed, managed.value(column), max_error)

    def set_policy(
        self,
        table: str,
        *,
        profile: Profile | str | None = None,
        segment_rows: int | None = None,
        min_rows: int | None = None,
        hot_for: timedelta | None = None,
        unique_check: UniqueCheck | None = None,
    ) -> ManagedTable:
        """Change how a table is compacted, for segments to come; what is not given stays as it is.

        Args:
            table: a managed table.
            profile: what reading may cost, or its name.
            segment_rows: rows in a full segment, 16 to 1048576; 0 leaves it to the profile.
            min_rows: a series with fewer hot rows is left alone.
            hot_for: rows younger than this stay hot.
            unique_check: among which rows unique keys are kept unique from now on, "hot" ones or "all".

        Raises:
            InvalidSeries: there is no such profile.
            SchemaMismatch: ``table`` is not managed, or a setting is out of its range.
            NotPermitted: the role may not write the catalog.
        """
        chosen = None if profile is None else Profile.named(profile)
        with self.connection() as conn:
            return manage.set_policy(
                conn,
                load_table(conn, table),
                profile=chosen,
                segment_rows=segment_rows,
                min_rows=min_rows,
                hot_for=hot_for,
                unique_check=unique_check,
            )

    # ---- rows ---------------------------------------------------------------------------------------------------

    def write(self, data: Any, *, table: str | None = None) -> WriteReport:
        """Append rows: a :class:`Series` into ``ddstore.samples``, or a frame into ``table``. All of them or none.

        A frame is a DataFrame of pandas or polars, a pyarrow Table, anything with ``__arrow_c_stream__``, a dict of
        arrays or a :class:`Frame`; its columns are matched by name.

        Raises:
            InvalidSeries: a value cannot be kept exactly as its column's type, or the server refuses it.
            SchemaMismatch: unknown table, unknown, missing or unsuitable column.
            BoundConflict: the series keeps another bound.
            NotInstalled: the database has no catalog.
        """
        if isinstance(data, Series):
            if table is not None:
                raise SchemaMismatch(
                    "a Series goes into ddstore.samples", series=data.name, remedy="Leave table out, or write a frame."
                )
            with self.connection() as conn:
                return write_series(conn, data)
        if table is None:
            raise SchemaMismatch(
                f"{type(data).__name__} does not say where it belongs",
                remedy="Give table=..., or write a ddstore.Series(name, time, values).",
            )
        with self.connection() as conn:
            return write_frame(conn, load_table(conn, table), data)

    @overload
    def read(self, name: str, *, start: Any = None, end: Any = None) -> Series: ...

    @overload
    def read(
        self, *, table: str, key: Any = None, columns: Sequence[str] | None = None, start: Any = None, end: Any = None
    ) -> Frame: ...

    def read(
        self,
        name: str | None = None,
        *,
        table: str | None = None,
        key: Any = None,
        columns: Sequence[str] | None = None,
        start: Any = None,
        end: Any = None,
    ) -> Series | Frame:
        """Return hot and cold rows of one moment, in order of time: a series by name, or rows of a table.

        Args:
            name: a series written as :class:`Series`.
            table: a managed table instead, with ``key`` (a mapping of key columns to values, or the values in order)
                and the value ``columns`` wanted; default: all rows, all columns.
            start: first time included. datetime64, datetime, ISO text, pandas Timestamp or epoch nanoseconds.
            end: first time not included any more.

        Raises:
            SchemaMismatch: no such series (names close ones), table, key or column; or both name and table given.
            CorruptSegment: a stored segment in the range is damaged.
            InvalidSeries: ``start`` or ``end`` is not a time.
        """
        if (name is None) == (table is None) or (table is None and (key is not None or columns is not None)):
            raise SchemaMismatch(
                "it is not clear what to read",
                remedy='Give the name of a series, or table="schema.table" with key and columns.',
            )
        with self.connection() as conn:
            begin_snapshot(conn)
            if table is not None:
                managed = load_table(conn, table)
                return read_table(conn, managed, select_rows(managed, key, start, end), columns)
            assert name is not None
            return _read_series(conn, name, start, end)

    # ---- compression --------------------------------------------------------------------------------------------

    def compact(
        self,
        table: str | None = None,
        *,
        options: CompactOptions | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> CompactReport:
        """Move hot rows into segments now, as the background compactor does; verified before anything is deleted.

        ``settings`` are those of :class:`ddstore.compact.CompactOptions`: ``profile="archive"``, ``all=True``, ...

        Raises:
            SchemaMismatch: ``table`` is not managed.
            InvalidSeries: a setting makes no sense, such as a profile that there is not.
        """
        if options is None:
            options = CompactOptions(table=table, **settings)
        elif table is not None or settings:
            raise SchemaMismatch("options and single settings are both given", remedy="Put everything in options.")
        return run_compaction(self.database, options, progress=progress)

    def recompress(
        self,
        table: str,
        *,
        key: Any = None,
        start: Any = None,
        end: Any = None,
        profile: Profile | str | None = None,
        progress: Progress | None = None,
    ) -> RecompressReport:
        """Write segments anew with today's profile, bounds and length, and join small ones.

        A bound that became at least twice as wide makes them smaller; with any other, values stay what they read. See
        :func:`ddstore.compact.recompress`.

        Args:
            table: a managed table.
            key, start, end: which segments, as :meth:`read` takes them; default: all. Those that reach into the range
                count as a whole.
            profile: instead of the table's.
            progress: called after every window with the series, and the rows done and to be looked at.

        Raises:
            SchemaMismatch: ``table`` is not managed, or has no such key.
            InvalidSeries: there is no such profile, or ``start`` or ``end`` is not a time.
        """
        chosen = None if profile is None else Profile.named(profile)
        return run_recompression(self.database, table, key=key, start=start, end=end, profile=chosen, progress=progress)

    def verify(self, table: str | None = None, *, progress: Progress | None = None) -> VerifyReport:
        """Decode every segment of ``table`` (default: of all) and report the damaged ones."""
        return run_verification(self.database, table, progress=progress)

    def stats(self, table: str | None = None) -> list[TableStats]:
        """What ``table`` (default: each managed table) costs: rows, bytes, ratio, coding, per series and column."""
        with self.connection() as conn:
            begin_snapshot(conn)
            tables = list_tables(conn) if table is None else [load_table(conn, table)]
            return [table_stats(conn, managed) for managed in tables]


def _read_series(conn: Connection, name: str, start: Any, end: Any) -> Series:
    try:
        table = load_table(conn, SAMPLES)
    except SchemaMismatch:  # managed from the first write on
        raise SchemaMismatch(
            f"there is no series {name!r}", series=name, remedy="Nothing was written yet: ddstore.write(Series(...))."
        ) from None
    frame = read_table(conn, table, select_rows(table, {"series": name}, start, end), keys=False)
    if not len(frame) and not _series_exists(conn, table, name):
        raise _no_such_series(conn, table, name)
    bound = series_bound(conn, table, table.value("value"), (name,))
    return Series.from_arrays(name, frame.time, frame.columns["value"], frame.valid.get("value"), bound)


def _series_exists(conn: Connection, table: ManagedTable, name: str) -> bool:
    selection = select_rows(table, {"series": name}, None, None)
    query = pgsql.SQL(sql("read_series_exists")).format(
        segments=table.segments_identifier,
        condition=selection.segments(table),
        name=pgsql.Literal(name),
        table_id=pgsql.Literal(table.id),
    )
    row = conn.execute(query).fetchone()
    return row is not None and bool(row[0])


def _no_such_series(conn: Connection, table: ManagedTable, name: str) -> SchemaMismatch:
    key = pgsql.Identifier(table.keys[0].segment_column)
    query = pgsql.SQL(sql("read_series_names")).format(
        segments=table.segments_identifier, key=key, table_id=pgsql.Literal(table.id)
    )
    names = [row[0] for row in conn.execute(query)]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        remedy = f"Did you mean {' or '.join(close)}?"
    else:
        remedy = f"There are {', '.join(names[:5])}." if names else "Nothing was written yet."
    return SchemaMismatch(f"there is no series {name!r}", series=name, remedy=remedy)


_default: Store | None = None
_default_lock = threading.Lock()


def _default_store() -> Store:
    """The store behind the module's own ``write`` and ``read``, made when first needed."""
    global _default
    with _default_lock:
        if _default is None:
            _default = connect()
        return _default


def write(data: Any, *, table: str | None = None) -> WriteReport:
    """:meth:`Store.write` on the default store: ``$DDSTORE_URL``, else the embedded server."""
    return _default_store().write(data, table=table)


def read(name: str, *, start: Any = None, end: Any = None) -> Series:
    """:meth:`Store.read` of a series on the default store: ``$DDSTORE_URL``, else the embedded server."""
    return _default_store().read(name, start=start, end=end)
