"""``compact``, once or for ever, and ``verify``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType
from typing import Annotated

import typer

from ddstore.cli.progress import progress_bar
from ddstore.cli.session import JsonOption, Status, UrlOption, note, open_store, out, print_json, say
from ddstore.cli.text import bytes_text, parse_duration, rate_text, series_text
from ddstore.compact import CompactOptions, CompactReport
from ddstore.compact import compact as run_compaction
from ddstore.errors import ConnectionFailed
from ddstore.profiles import Profile
from ddstore.store import Store

__all__ = ["compact", "verify"]


class Train(StrEnum):
    """When learned models are trained."""

    AUTO = "auto"
    NEVER = "never"
    ALWAYS = "always"


def compact(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One pass, then exit: for cron and CronJobs.")] = False,
    every: Annotated[str, typer.Option(metavar="DURATION", help="Pause between passes: 30s, 5m.")] = "60s",
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="Only this table. Default: every managed one.", show_default=False),
    ] = None,
    profile: Annotated[
        Profile | None, typer.Option(help="What reading may cost. Default: each table's own.", show_default=False)
    ] = None,
    train: Annotated[
        Train, typer.Option(help="Learned models: where they pay, never, or wherever possible.")
    ] = Train.AUTO,
    train_seconds: Annotated[
        float, typer.Option(min=0, help="Budget for training: of a pass (auto), of one model (always).")
    ] = 60.0,
    everything: Annotated[
        bool, typer.Option("--all", help="Every hot row, whatever --min-rows, --hot-for and waiting times say.")
    ] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move hot rows into compressed segments, checked value by value before anything is deleted.

    Without --once it stays and makes a pass every minute; SIGTERM and Ctrl-C
    finish the batch at hand first (a second one does not wait). Any number of
    compactors may run at once, on any machines. Exit code 4 (with --once) when
    some series or tables failed: they stay hot, ddstore.compaction says why, and
    the next pass tries again.

      ddstore compact --once
      ddstore compact --every 5m --train never
      */10 * * * *  ddstore compact --once --url postgresql://me@db/plant
    """
    options = CompactOptions(
        table=table,
        profile=profile,
        all=everything,
        train=train.value,
        train_seconds=train_seconds,
    )
    pause = parse_duration(every).total_seconds()
    with open_store(ctx, url) as store, _stop_signals() as stop:
        report = _pass(store, options, stop)
        _print(report, as_json=as_json, once=once)
        if once:
            raise typer.Exit(Status.PARTIAL if report.failed or report.refused else Status.OK)
        while not stop.wait(pause):
            try:
                report = _pass(store, options, stop)
            except ConnectionFailed as error:  # a server that restarts is no reason to stop
                note(f"{error} Trying again in {every}.")
                continue
            if report.series or report.notes or report.refused:
                _print(report, as_json=as_json, once=once)


def _pass(store: Store, options: CompactOptions, stop: threading.Event) -> CompactReport:
    with progress_bar("Compacting") as progress:
        return run_compaction(store.database, options, progress=progress, stop=stop.is_set)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set; the second signal does what it always did."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():  # Python takes signal handlers nowhere else
        for number in before:
            signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            restore()


def _print(report: CompactReport, *, as_json: bool, once: bool) -> None:
    for series in report.failed:
        label = f"{series.table} {series_text(series.series)}"
        say().print(f"failed: {label}: {series.error}", markup=False, style="red", soft_wrap=True)
    for text in report.refused:
        say().print(f"failed: {text}", markup=False, style="red", soft_wrap=True)
    if as_json:
        print_json(report.to_dict(), indent=2 if once else None)
        return
    for text in report.notes:
        note(text)
    stored = report.bytes + report.model_bytes
    cost = f", {rate_text(report.bits_per_sample)} bits per value" if report.bits_per_sample is not None else ""
    models = sum(series.models for series in report.series)
    learned = f", {models} new model{'s' if models != 1 else ''}" if models else ""
    text = f"{report.rows:,} rows into {report.segments} segments of {bytes_text(stored)}{cost}{learned}"
    out().print(
        f"{text}, {report.seconds:.1f} s" if report.rows else "Nothing to compact", markup=False, soft_wrap=True
    )


def verify(
    ctx: typer.Context,
    table: Annotated[
        str | None,
        typer.Argument(metavar="[TABLE]", help="Only this table. Default: every managed one.", show_default=False),
    ] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decode every segment and check it against what was recorded about it; list the damaged ones.

    Reads only, and needs no extension. Exit code 3 when something is damaged.

      ddstore verify
      ddstore verify plant.sensors --json
    """
    with open_store(ctx, url) as store, progress_bar("Verifying") as progress:
        report = store.verify(table, progress=progress)
    if as_json:
        print_json(report.to_dict())
    else:
        for damaged in report.damaged:
            out().print(f"damaged: {damaged}", markup=False, style="red", soft_wrap=True)
        state = f"{len(report.damaged)} damaged" if report.damaged else "all sound"
        text = f"{report.segments:,} segments of {report.tables} tables, {report.rows:,} rows: {state}"
        out().print(text, markup=False, soft_wrap=True)
    if not report.ok:
        raise typer.Exit(Status.DAMAGED)
