"""One segment ready to be stored, and the statement that stores it: from hot rows, or from segments of before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql as pgsql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.json import Jsonb

from ddstore.codec.choice import Choice
from ddstore.codec.segment import EncodedColumn
from ddstore.compact.cold import ColdRows
from ddstore.compact.distinct import Distinct
from ddstore.compact.fidelity import Written
from ddstore.compact.plan import SeriesPlan, hot_column
from ddstore.compact.rows import HotRows
from ddstore.compact.train import SeriesModel
from ddstore.db.catalog import ManagedColumn, ManagedTable
from ddstore.db.companion import element_of
from ddstore.db.queries import Escaped, sql

__all__ = ["DUMPERS", "EncodedSegment", "Tids", "insert_parameters", "insert_query"]


@dataclass(frozen=True, slots=True)
class EncodedSegment:
    """One segment, ready to be stored.

    Attributes:
        plan: its series.
        job: the lease under which it is written.
        rows: exactly the rows it holds, ordered by time and place.
        time: the encoded times.
        columns: per value column, its encoded values, or which of its distinct values each row has; None where the
            segment is to hold one value per row.
        models: per value column, the model its bytes need, if any.
        written: what is recorded of how it was written.
    """

    plan: SeriesPlan
    job: int
    rows: HotRows | ColdRows
    time: bytes
    columns: tuple[EncodedColumn | Distinct | None, ...]
    models: tuple[SeriesModel | None, ...]
    written: Written

    @property
    def coded(self) -> list[EncodedColumn]:
        """The columns whose values the core coded."""
        return [column for column in self.columns if isinstance(column, EncodedColumn)]

    @property
    def choices(self) -> dict[int, Choice]:
        """By column id, what was chosen for the columns whose values the core coded."""
        pairs = zip(self.plan.table.values, self.columns, strict=True)
        found = {column.id: coded.choice for column, coded in pairs if isinstance(coded, EncodedColumn)}
        return {number: choice for number, choice in found.items() if choice is not None}

    @property
    def payload(self) -> list[bytes]:
        """The times and values that the core coded, in the order in which the stored row is hashed."""
        parts = [self.time]
        for column in self.coded:
            parts += [column.latents or b"", column.residual]
        return parts

    @property
    def positions(self) -> list[bytes | None]:
        """The coded positions of every other column, None where there are none."""
        others = [column for column in self.columns if not isinstance(column, EncodedColumn)]
        return [None if column is None else column.residual for column in others]


def insert_query(table: ManagedTable, *, cold: bool = False) -> pgsql.Composed:
    """Return the statement that inserts one segment of hot (or ``cold``) rows, with :func:`insert_parameters`.

    It returns the SHA-256 of the payload as it was stored, and an array of those of the other columns' positions,
    NULL where the segment holds one value per row after all; no row when one of the segment's rows is gone. Last
    comes the segment's id.
    """
    relation = Escaped(table.segments_identifier if cold else table.identifier)
    # A key is copied from a row: its text would lose the padding of char(n).
    values: dict[str, pgsql.Composable] = {
        key.segment_column: pgsql.SQL(sql("recompress_key" if cold else "compact_key")).format(
            key=pgsql.Identifier(key.segment_column) if cold else Escaped(hot_column(key)), table=relation
        )
        for key in table.keys
    }
    for name in ("t_min", "t_max", "n", "time", "written"):
        values[name] = pgsql.Placeholder(name)
    payload: list[pgsql.Composable] = [pgsql.SQL("time")]
    others: list[_Other] = []
    for column in table.values:
        prefix = column.segment_column
        residual = pgsql.Identifier(f"{prefix}_residual")
        if column.native:
            for part in ("latents", "residual", "model", "count", "min", "max", "sum"):
                values[f"{prefix}_{part}"] = pgsql.Placeholder(f"{prefix}_{part}")
            payload += [pgsql.SQL("coalesce({}, '')").format(pgsql.Identifier(f"{prefix}_latents")), residual]
        elif column.coded_as is not None:
            values[f"{prefix}_array"] = pgsql.SQL("'{}'")
            for part in ("residual", "count"):
                values[f"{prefix}_{part}"] = pgsql.Placeholder(f"{prefix}_{part}")
            payload.append(residual)
        else:
            others.append(_Other.of(column, table, cold=cold))
            values |= {f"{prefix}_{part}": value for part, value in others[-1].stored.items()}
    gather = pgsql.SQL(sql("recompress_gather" if cold else "compact_gather")).format(
        columns=pgsql.SQL(", ").join(other.gathered for other in others), table=relation
    )
    return pgsql.SQL(sql("compact_insert")).format(
        gather=gather if others else pgsql.SQL("SELECT"),
        pays=pgsql.SQL("").join(pgsql.SQL(", {}").format(other.pays) for other in others),
        segments=table.segments_identifier,
        columns=pgsql.SQL(", ").join(map(pgsql.Identifier, values)),
        values=pgsql.SQL(", ").join(values.values()),
        payload=pgsql.SQL(" || ").join(payload),
        positions=pgsql.SQL(", ").join(other.hash for other in others),
    )


@dataclass(frozen=True, slots=True)
class _Other:
    """How a column that the core does not code passes through the statement."""

    gathered: pgsql.Composable
    pays: pgsql.Composable
    stored: dict[str, pgsql.Composable]
    hash: pgsql.Composable

    @staticmethod
    def of(column: ManagedColumn, table: ManagedTable, *, cold: bool) -> _Other:
        prefix = column.segment_column
        made = {part: pgsql.Identifier(f"{prefix}_{part}") for part in ("values", "distinct", "count", "pays")}
        sent = {part: pgsql.Placeholder(f"{prefix}_{part}") for part in ("residual", "positions", "first", "entries")}
        choice = pgsql.SQL("CASE WHEN {} THEN {} ELSE {} END")
        if cold:
            gathered = pgsql.SQL(sql("recompress_values")).format(
                array=pgsql.Identifier("old", f"{prefix}_array"), segments=table.segments_identifier, **made, **sent
            )
        else:
            # (time, ctid) is the order of the encoded rows: a ctid's order is that of HotRows.place.
            gathered = pgsql.SQL(sql("compact_values")).format(
                column=Escaped(element_of(table, column, hot_column(column))),
                time=Escaped(hot_column(table.time)),
                table=Escaped(table.identifier),
                **made,
                **sent,
            )
        return _Other(
            gathered=gathered,
            pays=pgsql.SQL(sql("compact_pays")).format(**made, **sent),
            stored={
                "array": choice.format(made["pays"], made["distinct"], made["values"]),
                "residual": choice.format(made["pays"], sent["residual"], pgsql.NULL),
                "count": made["count"],
            },
            hash=pgsql.SQL("sha256({})").format(pgsql.Identifier(f"{prefix}_residual")),
        )


def insert_parameters(segment: EncodedSegment, stored: dict[SeriesModel, int]) -> dict[str, Any]:
    """Return the parameters of :func:`insert_query`; :data:`DUMPERS` must be known to the connection.

    ``stored`` has the ids of models that were stored in this transaction.
    """
    table, rows = segment.plan.table, segment.rows
    moment = {"timestamptz": _Timestamptz, "timestamp": _Timestamp}.get(table.time.type, int)
    parameters: dict[str, Any] = {
        **(_hot_parameters(rows) if isinstance(rows, HotRows) else {"old": rows.ids}),
        "written": Jsonb(segment.written.to_dict()),
        "t_min": moment(rows.time[0]),
        "t_max": moment(rows.time[-1]),
        "n": len(rows),
        "time": segment.time,
    }
    triples = zip(table.values, segment.columns, segment.models, strict=True)
    for number, (column, coded, model) in enumerate(triples):
        prefix = column.segment_column
        if isinstance(coded, EncodedColumn):
            parameters |= {
                f"{prefix}_latents": coded.latents,
                f"{prefix}_residual": coded.residual,
                f"{prefix}_model": None if model is None else stored.get(model, model.id),
                f"{prefix}_count": coded.count,
                f"{prefix}_min": coded.min,
                f"{prefix}_max": coded.max,
                f"{prefix}_sum": coded.sum,
            }
        else:
            parameters |= {
                f"{prefix}_residual": None if coded is None else coded.residual,
                f"{prefix}_positions": None if coded is None else _Positions(_int4_array(coded.positions)),
                f"{prefix}_first": None if coded is None else _references(rows, number, coded.first),
            }
            if isinstance(rows, ColdRows):
                parameters[f"{prefix}_entries"] = _Positions(_int4_array(rows.entries[number]))
    return parameters


def _hot_parameters(rows: HotRows) -> dict[str, Any]:
    return {"rows": Tids(rows.tids()), "row": Tids(rows.take(slice(1)).tids())}


def _references(rows: HotRows | ColdRows, number: int, chosen: NDArray[np.intp]) -> Any:
    """What names the values that these rows have in the column of this number."""
    if isinstance(rows, HotRows):
        return Tids(rows.take(chosen).tids())
    return _Positions(_int4_array(rows.entries[number][chosen]))


def _int4_array(values: NDArray[np.int32]) -> bytes:
    """Return PostgreSQL's binary form of an ``int4[]``."""
    elements = np.empty((len(values), 2), ">i4")
    elements[:, 0] = 4
    elements[:, 1] = values
    # dimensions, has nulls, oid of int4, length, lower bound
    return np.array([1, 0, 23, len(values), 1], ">i4").tobytes() + elements.tobytes()


class Tids(bytes):
    """A ``tid[]`` in PostgreSQL's binary form."""


class _Positions(bytes):
    """An ``int4[]`` in PostgreSQL's binary form."""


class _Timestamp(int):
    """A ``timestamp`` as PostgreSQL stores it: Python's datetime knows neither infinity nor the year 10000."""


class _Timestamptz(int):
    """The same for ``timestamptz``."""


class _TidsDumper(Dumper):
    format = Format.BINARY
    oid = 1010

    def dump(self, obj: bytes) -> bytes:
        return bytes(obj)


class _PositionsDumper(_TidsDumper):
    oid = 1007


class _TimestampDumper(Dumper):
    format = Format.BINARY
    oid = 1114

    def dump(self, obj: int) -> bytes:
        return int(obj).to_bytes(8, "big", signed=True)


class _TimestamptzDumper(_TimestampDumper):
    oid = 1184


#: What a connection must know to send :func:`insert_parameters`.
DUMPERS: dict[type, type[Dumper]] = {
    Tids: _TidsDumper,
    _Positions: _PositionsDumper,
    _Timestamp: _TimestampDumper,
    _Timestamptz: _TimestamptzDumper,
}
