"""Progress bars, on a terminal's stderr only: stdout belongs to results, and a log needs no bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from ddstore.cli.session import say
from ddstore.compact import Progress

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(verb: str) -> Iterator[Progress | None]:
    """Show a bar while the block runs; yields what Store's long verbs take as ``progress``, or None without a terminal.

    Args:
        verb: what is being done, e.g. "Compacting".
    """
    console = say()
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(verb, total=None)

        def advance(series: str, done: int, total: int) -> None:
            bars.update(task, description=f"{verb} {escape(series)}", completed=done, total=total)

        yield advance
