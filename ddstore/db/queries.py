"""Named SQL: the statements in ``sql/queries/*.sql``, each under a ``-- name: ...`` line.

A file looks like this; comment lines right under the name document the statement::

    -- name: table_by_id
    -- One managed table with its columns.
    SELECT ... WHERE id = %(id)s;

Statements run with parameters write a literal percent sign as ``%%`` (psycopg's rule). Where an identifier must be
filled in, the statement holds ``{placeholders}`` and is used as ``psycopg.sql.SQL(sql("name")).format(...)``; if it is
run with parameters, too, what a user named must be :class:`Escaped`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import LiteralString

from psycopg import sql as pgsql
from psycopg.abc import AdaptContext

from ddstore.db.resources import resource_dir

__all__ = ["Escaped", "NamedQuery", "parse_queries", "queries", "sql"]

_NAME = re.compile(r"^--\s*name:\s*(?P<name>\S*)\s*$")


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One statement: its name, its documentation, its text, and the file it came from."""

    name: str
    doc: str
    text: str
    source: str


class Escaped(pgsql.Composable):
    """A fragment with its percent signs doubled: for statements run with parameters, where a name may hold one.

    psycopg quotes identifiers and literals for PostgreSQL, and then reads the whole statement for placeholders.
    """

    def __init__(self, fragment: pgsql.Composable) -> None:
        super().__init__(fragment)
        self._fragment = fragment

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return the fragment as psycopg's placeholder syntax wants it."""
        return self._fragment.as_bytes(context).replace(b"%", b"%%")


def sql(name: str) -> LiteralString:
    """Return the text of the statement called ``name``.

    The text comes from files that ship with the package, never from user input; that is what LiteralString claims.

    Raises:
        KeyError: no statement has that name (a programming error).
    """
    return queries()[name].text


@cache
def queries() -> dict[str, NamedQuery]:
    """Return every named statement by name, read once per process."""
    files = sorted((resource_dir("sql") / "queries").glob("*.sql"))
    return parse_queries((file.name, file.read_text(encoding="utf-8")) for file in files)


def parse_queries(files: Iterable[tuple[str, str]]) -> dict[str, NamedQuery]:
    """Parse ``(file name, text)`` pairs into statements by name.

    Raises:
        ValueError: a name is missing, malformed, empty of SQL, or given twice; or SQL stands before the first name.
    """
    found: dict[str, NamedQuery] = {}
    for source, text in files:
        for query in _parse_file(source, text):
            if query.name in found:
                raise ValueError(f"query {query.name!r} is in {found[query.name].source} and again in {source}")
            found[query.name] = query
    return found


def _parse_file(source: str, text: str) -> Iterable[NamedQuery]:
    name: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        match = _NAME.match(line)
        if match is None:
            lines.append(line)
            continue
        yield from _finish(source, name, lines)
        name, lines = match["name"], []
        if not name.isidentifier():
            raise ValueError(f"{source}: {name!r} is no query name")
    yield from _finish(source, name, lines)


def _finish(source: str, name: str | None, lines: list[str]) -> Iterable[NamedQuery]:
    docs: list[str] = []
    body = list(lines)
    while body and (body[0].startswith("--") or not body[0].strip()):
        docs.append(body.pop(0).removeprefix("--").strip())
    text = "\n".join(body).strip().removesuffix(";").rstrip()
    if name is None:
        if text:
            raise ValueError(f"{source}: SQL before the first '-- name:' line")
        return  # the file's own heading
    if not text:
        raise ValueError(f"{source}: query {name!r} has no SQL")
    yield NamedQuery(name, " ".join(filter(None, docs)), text, Path(source).name)
