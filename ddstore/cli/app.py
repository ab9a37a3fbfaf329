"""The program itself: global options, the order of commands, and how errors become exit codes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import psycopg
import typer
from typer.core import TyperGroup

from ddstore.cli.session import Settings, Status, UrlOption, say
from ddstore.errors import ConnectionFailed, DDStoreError

__all__ = ["app"]

_HELP = """
Error-bounded, learned compression of time series inside PostgreSQL.

Rows are written and queried as ever; [bold]compact[/bold] moves them into compressed
segments that every SELECT on the same table still sees, each value within
the error you allowed.

  ddstore demo                  the whole job on made-up data, in a minute
  ddstore demo file.csv         the same on your file
  ddstore write temp.csv --series boiler --max-error 0.05
  ddstore compact --once        now; without --once it stays and goes on
  ddstore query "SELECT count(*) FROM ddstore.samples"

Without --url and $DDSTORE_URL, an embedded PostgreSQL under your data
directory ($DDSTORE_HOME) is used.

Exit codes:

  0  done
  1  refused or failed; stderr says why and what to do
  2  wrong usage
  3  verify found damaged segments
  4  compact: some series failed, the others are done
  5  no database answers
"""


class _Commands(TyperGroup):
    """A group whose commands' errors become one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConnectionFailed as error:
            raise _failure(str(error), Status.UNREACHABLE) from None
        except DDStoreError as error:
            raise _failure(str(error), Status.FAILED) from None
        except psycopg.Error as error:
            raise _failure(f"PostgreSQL says: {str(error).strip()}", Status.FAILED) from None


def _failure(message: str, status: Status) -> typer.Exit:
    lines = message.splitlines()
    if len(lines) <= 3:  # longer texts are a compiler's or a server's log, which lose their sense on one line
        message = " ".join(line.strip() for line in lines)
    say().print(f"ddstore: {message}", markup=False, style="red", soft_wrap=True)
    return typer.Exit(status)


app = typer.Typer(
    name="ddstore",
    cls=_Commands,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # what gets here is a defect: its plain traceback belongs into the report
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ddstore {version('ddstore')}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    url: UrlOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = Settings(url=url)
