"""``stats``: what managed tables cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from ddstore.cli.session import JsonOption, UrlOption, open_store, out, print_json
from ddstore.cli.text import bytes_text, rate_text, series_text
from ddstore.statistics import CodingStats, ColumnStats, TableStats

__all__ = ["codings_text", "stats"]


def stats(
    ctx: typer.Context,
    table: Annotated[
        str | None,
        typer.Argument(metavar="[TABLE]", help="Only this table. Default: every managed one.", show_default=False),
    ] = None,
    series: Annotated[int, typer.Option(min=0, help="Lines per table at most; 0 shows all.")] = 20,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show rows, bytes, ratio and coding, per table, series and column.

    The ratio compares the cold rows' plain timestamps and values with
    everything stored for them: segments and models. Bits are those of the
    segments per row, models apart. Coding is mode/coder, segments, and their
    share of the rows; docs/format.md describes each. Reads every hot row once.

      ddstore stats
      ddstore stats plant.sensors --json | jq '.[0].ratio'
    """
    with open_store(ctx, url) as store:
        found = store.stats(table)
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    if not found:
        out().print("No managed tables yet; see ddstore write, create-table and adopt", soft_wrap=True)
    for one in found:
        _print(one, series)


def _print(one: TableStats, limit: int) -> None:
    console = out()
    console.print(Text(one.table, "bold"))
    rows = f"{one.rows_hot:,} rows hot, {one.rows_cold:,} cold in {one.segments:,} segments of {one.series:,} series"
    console.print(f"  {rows}", markup=False, soft_wrap=True)
    stored = f"payload {bytes_text(one.payload_bytes)} (times {bytes_text(one.time_bytes)})"
    models = f"models {bytes_text(one.model_bytes)} (to encode: {bytes_text(one.encoder_bytes)} more)"
    console.print(f"  {stored}, {models}, ratio {rate_text(one.ratio, 'x')}", markup=False, soft_wrap=True)
    console.print(f"  profile {one.profile}, full segments of {one.segment_rows:,} rows", markup=False, soft_wrap=True)
    disk = f"on disk with indexes: hot {bytes_text(one.hot_size)}, segments {bytes_text(one.segments_size)}"
    console.print(f"  {disk}", markup=False, soft_wrap=True)
    if not one.columns:
        return
    console.print(_table(one.columns[: limit or None]))
    for column in one.columns:
        if column.note:
            label = f"{series_text(column.series)} {column.column}"
            console.print(f"  {label}: {column.note}", markup=False, style="dim", soft_wrap=True)
    if limit and len(one.columns) > limit:
        console.print(f"  {len(one.columns) - limit} more; --series 0 shows all", markup=False)


def _table(columns: Sequence[ColumnStats]) -> Table:
    # What most tables have none of does not take the place of the rest.
    escapes = any(column.escapes for column in columns)
    models = any(column.model_bytes for column in columns)
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("series", overflow="fold")
    table.add_column("column", overflow="fold")
    table.add_column("max error", no_wrap=True)
    numbers = ["values", "bits", "ratio", *(["escapes"] if escapes else []), *(["models"] if models else [])]
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("coding", no_wrap=True)
    for column in columns:
        cells = [series_text(column.series), column.column, column.max_error, f"{column.values:,}"]
        cells += [rate_text(column.bits_per_sample), rate_text(column.ratio, "x")]
        cells += [f"{column.escapes:,}"] if escapes else []
        cells += [bytes_text(column.model_bytes)] if models else []
        table.add_row(*map(Text, [*cells, codings_text(column.codings)]))
    return table


def codings_text(codings: Iterable[CodingStats]) -> str:
    """How segments are coded, a line each: ``lattice/mix 20 (83 %)``; of several columns or series together."""
    codings = list(codings)
    total = sum(coding.rows for coding in codings)
    segments: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for coding in codings:
        name = f"{coding.mode}/{coding.coder}" if coding.coder else coding.mode
        segments[name] += coding.segments
        rows[name] += coding.rows
    return "\n".join(f"{name} {segments[name]:,} ({100 * count / total:.0f} %)" for name, count in rows.most_common())
