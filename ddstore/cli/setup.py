"""``migrate`` and ``extension install``: getting a database ready."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from ddstore.cli.session import JsonOption, UrlOption, open_store, out, print_json
from ddstore.db.build_extension import install_extension
from ddstore.db.embedded import embedded_bin_dirs
from ddstore.errors import NotInstalled

__all__ = ["extension", "migrate"]


def migrate(ctx: typer.Context, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Create or update DDStore's catalog in the database, and switch the extension on where possible.

    Safe to run again, and from many machines at once. Needs CREATE on the
    database; only the extension needs a superuser, and without it everything
    works except SQL on compressed rows.

      ddstore migrate --url postgresql://me@db/plant
    """
    with open_store(ctx, url) as store:
        done = store.migrate()
    if as_json:
        print_json({"migrations": done.migrations, "attached": done.attached, "note": done.note})
        return
    console = out()
    ran = f"ran {', '.join(done.migrations)}" if done.migrations else "nothing to do"
    console.print(f"Catalog: {ran}", markup=False, soft_wrap=True)
    console.print(f"Extension: {done.note or 'on'}", markup=False, soft_wrap=True)
    for table in done.attached:
        console.print(f"SQL sees the compressed rows of {table} from now on", markup=False, soft_wrap=True)


extension = typer.Typer(
    name="extension", help="The PostgreSQL extension that lets SQL see compressed rows.", no_args_is_help=True
)


@extension.callback()
def _group() -> None:
    """The PostgreSQL extension that lets SQL see compressed rows."""


@extension.command("install")
def install(
    pg_config: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="pg_config of the server to install into. Default: the one on the PATH, else the embedded server's.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the extension and install it into a PostgreSQL on this machine.

    Needs a C compiler, make and the server's headers, and the right to write
    into its installation. Servers find it without a restart; then run
    [bold]ddstore migrate[/bold] on each database.

      ddstore extension install
      sudo ddstore extension install --pg-config /usr/lib/postgresql/16/bin/pg_config
    """
    installed = install_extension(pg_config or _find_pg_config())
    if as_json:
        print_json(
            {
                "server_version": installed.server_version,
                "library": str(installed.library),
                "control": str(installed.control),
                "built": installed.built,
            }
        )
        return
    verb = "Installed" if installed.built else "Installed already, from these very sources"
    out().print(f"{verb}: {installed.library} for PostgreSQL {installed.server_version}", markup=False, soft_wrap=True)


def _find_pg_config() -> Path:
    if found := shutil.which("pg_config"):
        return Path(found)
    try:
        embedded = embedded_bin_dirs()
    except NotInstalled:
        raise NotInstalled(
            "there is no pg_config on the PATH and no embedded server",
            remedy="Give --pg-config; Debian has it in postgresql-server-dev-NN.",
        ) from None
    return embedded[max(embedded)] / "pg_config"
