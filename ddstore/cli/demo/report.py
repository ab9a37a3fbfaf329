"""The demo's report: what it cost before and after, whether every value held, and how fast it is read."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddstore.cli.demo.steps import Check, Demo, Sizes
from ddstore.cli.stats import codings_text
from ddstore.cli.text import bytes_text, rate_text, series_text

__all__ = ["print_report"]


_NOTES = 3  # of the compactor's, shown at most


def print_report(console: Console, demo: Demo) -> None:
    """Print everything a finished ``demo`` found."""
    data, stats = demo.data, demo.stats
    first, last = data.time.min().item(), data.time.max().item()
    title = f"{len(data):,} rows, {len(data.values)} value columns, {stats.series} series"
    console.print()
    console.print(Text(f"{title}, {first:%Y-%m-%d} to {last:%Y-%m-%d}", "bold"))
    _sizes(console, demo)
    _columns(console, demo)
    _timings(console, demo)
    _plan(console, demo)
    _notes(console, demo)


def _sizes(console: Console, demo: Demo) -> None:
    table = Table(title="On disk, indexes included", title_justify="left", header_style="bold", title_style="bold")
    table.add_column("")
    for name in ("before", "compacted", "after REINDEX"):
        table.add_column(name, justify="right")
    columns: tuple[Sizes, ...] = (demo.before, demo.compacted, demo.after)
    table.add_row("rows in the table", *(bytes_text(sizes.table) for sizes in columns))
    table.add_row("segments", *(bytes_text(sizes.segments) for sizes in columns))
    table.add_row("models", *(bytes_text(sizes.models) for sizes in columns), end_section=True)
    table.add_row("total", *(bytes_text(sizes.total) for sizes in columns))
    ratios = [f"{demo.before.total / sizes.total:.3g}x" for sizes in columns[1:]]
    table.add_row(Text("smaller by", "bold"), "", *(Text(ratio, "bold green") for ratio in ratios))
    console.print(table)
    if demo.compacted.table - demo.after.table > demo.after.total / 10:
        freed = bytes_text(demo.compacted.table - demo.after.table)
        console.print(f"{freed} are emptied index pages: new rows use them again, or REINDEX returns them", style="dim")
    stats = demo.stats
    stored = stats.payload_bytes + stats.model_bytes
    text = f"Plain times and values {bytes_text(stats.raw_bytes)}, stored in {bytes_text(stored)} with models"
    console.print(f"{text}: {rate_text(stats.ratio, 'x')}", markup=False, soft_wrap=True)
    seconds = demo.seconds
    speed = f"Written in {seconds['write']:.1f} s, compacted in {seconds['compact']:.1f} s (training included)"
    console.print(speed, markup=False, soft_wrap=True)


def _columns(console: Console, demo: Demo) -> None:
    table = Table(
        title="Every value read back through SQL", title_justify="left", header_style="bold", title_style="bold"
    )
    table.add_column("column", no_wrap=True)
    for name in ("max error", "worst error", "beyond", "bits"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("coding")
    for check in demo.checks:
        mine = [column for column in demo.stats.columns if column.column == check.column]
        values = sum(column.values for column in mine)
        bits = 8 * sum(column.bytes + column.model_bytes for column in mine) / values if values else None
        unit = demo.data.units.get(check.column, "")
        table.add_row(
            Text(f"{check.column}, {unit}" if unit else check.column),
            _bound_text(check),
            f"{check.worst:.4g}"
            if check.bound.kind == "lossless"
            else f"{check.worst:.4g} ({100 * check.share:.0f} %)",
            Text(f"{check.beyond:,}", "red" if check.beyond else "green"),
            rate_text(bits),
            codings_text(coding for column in mine for coding in column.codings),
        )
    console.print(table)
    values = sum(check.values for check in demo.checks)
    lost = max((check.lost for check in demo.checks), default=0)
    turned = sum(check.turned for check in demo.checks)
    beyond = sum(check.beyond for check in demo.checks)
    good = not (lost or turned or beyond)
    text = f"{values:,} values checked: {beyond} beyond their bound, {lost} rows lost, {turned} NULLs changed"
    console.print(Text(text, "green" if good else "bold red"))


def _bound_text(check: Check) -> str:
    value = f"{check.bound.value:g}"
    return {
        "absolute": f"±{value}",
        "relative": f"±{100 * check.bound.value:g} %",
        "range": f"±{100 * check.bound.value:g} % range",
        "lossless": "lossless",
    }[check.bound.kind]


def _timings(console: Console, demo: Demo) -> None:
    table = Table(
        title="SELECT on the table itself, warm", title_justify="left", header_style="bold", title_style="bold"
    )
    table.add_column("query")
    for name in ("rows", "hot", "cold"):
        table.add_column(name, justify="right")
    for timing in demo.timings:
        rows = f"{timing.cold_rows[0]:,}" if timing.cold_rows else ""
        table.add_row(timing.what, rows, f"{timing.hot_ms:.2f} ms", f"{timing.cold_ms:.2f} ms")
    console.print(table)


def _notes(console: Console, demo: Demo) -> None:
    notes = [
        f"{series_text(series.series)}: {note}" if series.series else note
        for series in demo.report.series
        for note in series.notes
    ]
    for note in notes[:_NOTES]:
        console.print(note, markup=False, style="dim", soft_wrap=True)
    if len(notes) > _NOTES:
        console.print(f"and {len(notes) - _NOTES} notes like these", style="dim")


def _plan(console: Console, demo: Demo) -> None:
    named = (line.strip().partition(": ") for line in demo.plan)
    counts = {name: value for name, _, value in named}
    if not {"Segments Total", "Segments Pruned", "Segments Decoded"} <= counts.keys():
        return
    text = (
        f"EXPLAIN of the range: {counts['Segments Pruned']} of {counts['Segments Total']} segments pruned, "
        f"{counts['Segments Decoded']} decoded"
    )
    console.print(text, markup=False, soft_wrap=True)
