"""``recompress``: segments of before, with the policy of today."""

from __future__ import annotations

from typing import Annotated

import typer

from ddstore.cli.progress import progress_bar
from ddstore.cli.session import JsonOption, Status, UrlOption, note, open_store, out, print_json, say
from ddstore.cli.text import bytes_text
from ddstore.profiles import Profile

__all__ = ["recompress"]


def recompress(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A managed table.", show_default=False)],
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only series of this key. May be repeated.", show_default=False),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only segments that reach here.", show_default=False)
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only segments that begin before.", show_default=False)
    ] = None,
    profile: Annotated[
        Profile | None, typer.Option(help="What reading may cost. Default: the table's.", show_default=False)
    ] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write segments anew, as the table's policy and max errors are today; join small ones.

    What is like that already stays. A max error that became at least twice as
    wide makes segments smaller; with any other, values stay exactly what they
    read. Exit code 4 when something could not be read: it is as it was.

      ddstore recompress plant.sensors
      ddstore recompress plant.sensors --key device=boiler --end 2024-01-01 --profile archive
    """
    keys = dict(_pair(text) for text in key or [])
    with open_store(ctx, url) as store, progress_bar("Recompressing") as progress:
        report = store.recompress(table, key=keys or None, start=start, end=end, profile=profile, progress=progress)
    for text in report.failed:
        say().print(f"failed: {text}", markup=False, style="red", soft_wrap=True)
    if as_json:
        print_json(report.to_dict())
    else:
        for text in report.notes:
            note(text)
        if report.conflicts:
            note(f"{report.conflicts} times somebody else changed segments meanwhile: run it again")
        sizes = f"{bytes_text(report.bytes_before)} into {report.segments} of {bytes_text(report.bytes_after)}"
        done = f"{report.replaced} segments of {sizes}, {report.kept} stay"
        if not report.replaced:
            done = "Nothing to recompress"
        out().print(f"{done}, {report.seconds:.1f} s", markup=False, soft_wrap=True)
    if report.failed:
        raise typer.Exit(Status.PARTIAL)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"{text!r} is no key. Write COLUMN=VALUE, such as device=boiler.")
    return name, value
