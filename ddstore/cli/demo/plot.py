"""The demo's picture: the series, a closer look with the error band, the error itself, and the bits it cost."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddstore.cli.demo.steps import Demo, Window
from ddstore.errors import NotInstalled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["choose_window", "draw"]

_WINDOW_ROWS = 160
_OVERVIEW_BINS = 1400
_BAND_SHARE = 0.12  # of the closer look's height: thick enough to see, thin enough to see the signal

_WRITTEN, _READ, _BAND = "#1b1b1b", "#d1495b", "#edae49"
_COLUMNS = ("#00798c", "#d1495b", "#edae49", "#66a182", "#2e4057", "#8d96a3", "#a23b72", "#3b1f2b")


def draw(demo: Demo, path: Path) -> None:
    """Save the picture of a finished demo; the file's suffix decides the format.

    Raises:
        NotInstalled: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError:
        raise NotInstalled("matplotlib is not installed", remedy="Run: pip install 'ddstore[plot]'") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    column, start, end = choose_window(demo)
    window = demo.window(column, start, end)
    style: Any = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11, 11), layout="constrained", facecolor="white")
        canvas = FigureCanvasAgg(figure)
        overview, close, error, bits = figure.subplots(4, 1, height_ratios=(1.1, 2.2, 1.1, 1.5))
        figure.suptitle(_title(demo), x=0.01, ha="left", fontsize=12, fontweight="bold")
        _overview(overview, demo, window)
        _close(close, demo, window)
        _error(error, window)
        error.sharex(close)
        _bits(bits, demo)
        bits.sharex(overview)
        for axes in (overview, close, error, bits):
            _dates(axes)
        canvas.print_figure(str(path), dpi=140)


def choose_window(demo: Demo) -> tuple[str, Any, Any]:
    """Return a column, and first and last time of a lively stretch of it in which its error band can be seen.

    The stretch is the livelier ones' least lively (their upper quarter begins there), so that neither a dead sensor
    nor one wild jump fills the picture.
    """
    data = demo.data
    rows = data.rows_of(data.first_series())
    length = min(_WINDOW_ROWS, len(rows))
    starts = np.arange(0, len(rows) - length + 1, max(1, length // 2))
    best: tuple[float, str, int] | None = None
    for name, column in data.values.items():
        values = column.data[rows].astype(np.float64)
        if column.valid is not None:
            values = np.where(column.valid[rows], values, np.nan)
        values = np.where(np.isfinite(values), values, np.nan)
        spans = np.array([_span(values[start : start + length]) for start in starts])
        lively = np.flatnonzero(spans > 0)
        if not len(lively):
            continue
        at = lively[np.argsort(spans[lively], kind="stable")[int(0.75 * (len(lively) - 1))]]
        part = values[starts[at] : starts[at] + length]
        bound = data.bounds[name]
        scale = {"relative": float(np.nanmedian(np.abs(part))), "range": _span(values)}.get(bound.kind, 1.0)
        share = 2 * bound.value * scale / spans[at]
        badness = abs(np.log((share or 1e-9) / _BAND_SHARE))
        if best is None or badness < best[0]:
            best = badness, name, int(starts[at])
    if best is None:  # nothing ever moves: any stretch will do
        best = 0.0, next(iter(data.values)), 0
    _, name, start = best
    return name, data.time[rows[start]], data.time[rows[start + length - 1]]


def _span(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max() - finite.min()) if len(finite) >= max(2, len(values) // 2) else 0.0


def _title(demo: Demo) -> str:
    ratio = demo.before.total / demo.after.total
    beyond = sum(check.beyond for check in demo.checks)
    values = sum(check.values for check in demo.checks)
    return f"{values:,} values, {ratio:.3g} times smaller on disk, {beyond} beyond their error bound"


def _label(demo: Demo, column: str) -> str:
    unit = demo.data.units.get(column)
    return f"{column}, {unit}" if unit else column


def _overview(axes: Axes, demo: Demo, window: Window) -> None:
    data = demo.data
    series = data.first_series()
    rows = data.rows_of(series)
    column = data.values[window.column]
    values = column.data[rows].astype(np.float64)
    if column.valid is not None:
        values = np.where(column.valid[rows], values, np.nan)
    time, low, high = _envelope(data.time[rows], np.where(np.isfinite(values), values, np.nan))
    axes.fill_between(time, low, high, color=_COLUMNS[0], linewidth=0.8, edgecolor=_COLUMNS[0])
    axes.axvspan(window.time[0], window.time[-1], color=_BAND, alpha=0.9, zorder=0)
    name = f" of {'/'.join(series.values())}" if series else ""
    axes.set_title(f"The whole series: {window.column}{name} (yellow: the closer look below)")
    axes.set_ylabel(_label(demo, window.column))


def _envelope(time: NDArray[Any], values: NDArray[np.float64]) -> tuple[NDArray[Any], Any, Any]:
    """Least and largest value in equal steps of time, so that a million points draw as what they look like."""
    ticks = time.astype("datetime64[us]").astype(np.int64)
    edges = np.linspace(ticks[0], ticks[-1] + 1, min(_OVERVIEW_BINS, len(ticks)) + 1)
    cell = np.clip(np.searchsorted(edges, ticks, side="right") - 1, 0, len(edges) - 2)
    here = np.isfinite(values)
    low, high = np.full(len(edges) - 1, np.inf), np.full(len(edges) - 1, -np.inf)
    np.minimum.at(low, cell[here], values[here])
    np.maximum.at(high, cell[here], values[here])
    empty = low > high
    low[empty] = high[empty] = np.nan  # a gap stays a gap
    middles = (edges[:-1] + edges[1:]) / 2
    return middles.astype(np.int64).view("datetime64[us]"), low, high


def _close(axes: Axes, demo: Demo, window: Window) -> None:
    axes.fill_between(
        window.time,
        window.written - window.allowed,
        window.written + window.allowed,
        color=_BAND,
        alpha=0.4,
        linewidth=0,
        label="original ± max error",
    )
    axes.plot(window.time, window.written, color=_WRITTEN, linewidth=0.8, marker=".", markersize=3, label="original")
    axes.plot(window.time, window.read, color=_READ, linewidth=0.9, marker=".", markersize=4, label="read back")
    axes.set_title(f"A closer look: {len(window.time)} rows, original and read back through SQL")
    axes.set_ylabel(_label(demo, window.column))
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none", ncols=3)


def _error(axes: Axes, window: Window) -> None:
    error = window.read - window.written
    axes.fill_between(window.time, -window.allowed, window.allowed, color=_BAND, alpha=0.25, linewidth=0)
    for sign in (-1, 1):
        axes.plot(window.time, sign * window.allowed, color=_BAND, linewidth=1.2)
    axes.vlines(window.time, 0, error, color=_READ, linewidth=0.9)
    axes.axhline(0, color=_WRITTEN, linewidth=0.6)
    axes.set_title("Its error, within ± max error" if window.allowed.any() else "Its error: none, stored lossless")
    axes.set_ylabel("read back − original")


def _bits(axes: Axes, demo: Demo) -> None:
    segments = demo.bits()
    for number, name in enumerate(demo.data.values):
        colour = _COLUMNS[number % len(_COLUMNS)]
        for position, (start, end, rows, sizes) in enumerate(segments):
            cost = 8 * sizes[name] / rows
            moments = [np.datetime64(moment.replace(tzinfo=None), "us") for moment in (start, end)]
            label = name if position == 0 else None
            axes.plot(moments, [cost, cost], color=colour, linewidth=2.4, solid_capstyle="butt", label=label)
    axes.set_ylim(bottom=0)
    axes.set_title(f"What it costs: bits per value in each of the {len(segments)} segments, without models")
    axes.set_ylabel("bits per value")
    if segments:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
            title="column",
            alignment="left",
            borderaxespad=0.2,
        )


def _dates(axes: Axes) -> None:
    dates: Any = import_module("matplotlib.dates")  # Any: it has no types
    locator = dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.margins(x=0.01)
