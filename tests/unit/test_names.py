"""Table names are read the way SQL reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.sql import Identifier

from ddstore.db.catalog import parse_name
from ddstore.errors import SchemaMismatch


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("metrics", (None, "metrics")),
        ("Plant.Sensors", ("plant", "sensors")),
        ('"Plant".Sensors', ("Plant", "sensors")),
        ('plant."Se.ns ""or"', ("plant", 'Se.ns "or')),
        (" a . b ", ("a", "b")),
    ],
)
def test_names(name: str, parts: tuple[str | None, str]) -> None:
    assert parse_name(name) == parts


@pytest.mark.parametrize("name", ["", " ", ".", "a.", ".a", "a.b.c", "a b", '"a', 'a"b"', '""', "a;b c", "x" * 64])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(SchemaMismatch):
        parse_name(name)


_identifiers = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)


@given(_identifiers, _identifiers)
def test_quoted_identifiers_survive(schema: str, table: str) -> None:
    assert parse_name(Identifier(schema, table).as_string()) == (schema, table)
