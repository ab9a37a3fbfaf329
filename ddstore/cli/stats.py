"""``stats``: what managed tables cost."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ddstore.cli.session import JsonOption, UrlOption, open_store, out, print_json
from ddstore.cli.text import bytes_text, rate_text, series_text
from ddstore.statistics import ColumnStats, TableStats

__all__ = ["modes_text", "stats"]


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
    """Show rows, bytes, ratio and coding modes, per table, series and column.

    The ratio compares the cold rows' plain timestamps and values with
    everything stored for them: segments and models. Reads every hot row and
    every segment's bytes once.

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
    disk = f"on disk with indexes: hot {bytes_text(one.hot_size)}, segments {bytes_text(one.segments_size)}"
    console.print(f"  {disk}", markup=False, soft_wrap=True)
    if not one.columns:
        return
    table = Table(header_style="bold")
    table.add_column("series", overflow="fold")
    table.add_column("column", overflow="fold")
    table.add_column("max error", no_wrap=True)
    for name in ("values", "bits", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("modes", overflow="fold")
    for column in one.columns[: limit or None]:
        table.add_row(*map(Text, _cells(column)))
    console.print(table)
    for column in one.columns:
        if column.note:
            label = f"{series_text(column.series)} {column.column}"
            console.print(f"  {label}: {column.note}", markup=False, style="dim", soft_wrap=True)
    if limit and len(one.columns) > limit:
        console.print(f"  {len(one.columns) - limit} more; --series 0 shows all", markup=False)


def _cells(column: ColumnStats) -> list[str]:
    return [
        series_text(column.series),
        column.column,
        column.max_error,
        f"{column.values:,}",
        rate_text(column.bits_per_sample),
        rate_text(column.ratio, "x"),
        modes_text(column.modes),
    ]


def modes_text(modes: dict[str, int]) -> str:
    """Segments by coding mode: ``btae 20, lattice 4``."""
    ordered = sorted(modes.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{mode} {count}" for mode, count in ordered)
