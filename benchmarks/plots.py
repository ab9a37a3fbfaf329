"""The ratio benchmark's pictures: ratio against eps for each set, and ratio against decode speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import LOSSLESS, Measured
from benchmarks.summary import geometric_mean

__all__ = ["draw"]

_ACROSS = 4


def draw(results: Sequence[Measured], stem: Path) -> list[Path]:
    """Write ``<stem>_eps.png`` and ``<stem>_speed.png``; their paths, none without matplotlib or lossy cells."""
    lossy = [result for result in results if result.eps != LOSSLESS]
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return []
    if not lossy:
        return []
    names = sorted({result.who for result in lossy}, key=lambda who: (who not in _ours(lossy), who))
    made = []
    for what, fill in (("eps", _against_eps), ("speed", _against_speed)):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        fill(figure, lossy, names)
        made.append(stem.with_name(f"{stem.name}_{what}.png"))
        figure.savefig(made[-1], dpi=110)
    return made


def _ours(results: Sequence[Measured]) -> set[str]:
    return {result.who for result in results if result.ours}


def _style(who: str, names: Sequence[str], ours: set[str]) -> dict[str, Any]:
    """Ours are black and thick; peers go round the colours."""
    if who in ours:
        return {"color": "black", "linewidth": 2.5, "marker": "osD^"[sorted(ours).index(who) % 4], "zorder": 3}
    return {"color": f"C{names.index(who) % 10}", "linewidth": 1, "marker": "."}


def _against_eps(figure: Any, results: Sequence[Measured], names: Sequence[str]) -> None:
    sets = list(dict.fromkeys(result.set for result in results))
    across = min(_ACROSS, len(sets))
    down = -(-len(sets) // across)
    figure.set_size_inches(4 * across, 3.2 * down + 0.8)
    panels = figure.subplots(down, across, squeeze=False).flat
    for panel, name in zip(panels, sets, strict=False):
        for who in names:
            points = sorted(
                (float(result.eps), result.ratio)
                for result in results
                if result.set == name and result.who == who and not result.eps.endswith("abs")
            )
            panel.plot(
                *zip(*points, strict=True) if points else ((), ()), label=who, **_style(who, names, _ours(results))
            )
        panel.set(title=name, xscale="log", yscale="log", xlabel="eps / standard deviation", ylabel="ratio")
        panel.grid(alpha=0.3, which="both")
    for panel in list(figure.axes)[len(sets) :]:
        panel.set_axis_off()
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=6)


def _against_speed(figure: Any, results: Sequence[Measured], names: Sequence[str]) -> None:
    figure.set_size_inches(9, 6)
    panel = figure.subplots()
    for who in names:
        own = [result for result in results if result.who == who]
        style = _style(who, names, _ours(results)) | {"linestyle": "none"}
        panel.plot([r.decode_speed for r in own], [r.ratio for r in own], **style | {"alpha": 0.25, "markersize": 3})
        mean = geometric_mean(r.decode_speed for r in own), geometric_mean(r.ratio for r in own)
        panel.plot(*mean, **style | {"markersize": 10}, label=who)
    panel.set(
        xscale="log", yscale="log", xlabel="decode, M samples/s", ylabel="ratio", title="cells, and geometric means"
    )
    panel.grid(alpha=0.3, which="both")
    panel.legend(loc="upper left", bbox_to_anchor=(1, 1))
