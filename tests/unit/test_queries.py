"""Named SQL: what a file may look like, and that ours do."""

from __future__ import annotations

import pytest

from ddstore.db.queries import parse_queries, queries, sql


def test_a_file_is_names_docs_and_statements() -> None:
    text = (
        "-- heading of the file\n\n-- name: one\n-- What it\n-- does.\nSELECT 1; -- kept\n\n-- name: two\nSELECT 2;\n"
    )
    found = parse_queries([("a.sql", text)])
    assert list(found) == ["one", "two"]
    assert found["one"].doc == "What it does."
    assert found["one"].text == "SELECT 1; -- kept"
    assert found["two"].text == "SELECT 2"
    assert found["two"].source == "a.sql"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [("a.sql", "-- name: x\nSELECT 1;"), ("b.sql", "-- name: x\nSELECT 2;")],
            "'x' is in a.sql and again in b.sql",
        ),
        ([("a.sql", "-- name: x\nSELECT 1;\n-- name: x\nSELECT 2;")], "again in a.sql"),
        ([("a.sql", "SELECT 1;\n-- name: x\nSELECT 2;")], "before the first"),
        ([("a.sql", "-- name: x\n-- nothing else\n")], "has no SQL"),
        ([("a.sql", "-- name:\nSELECT 1;")], "is no query name"),
        ([("a.sql", "-- name: 1-2\nSELECT 1;")], "is no query name"),
    ],
)
def test_mistakes_are_errors(files: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_queries(files)


def test_ours_load_and_unknown_names_do_not() -> None:
    assert len(queries()) > 20
    assert sql("managed_tables").startswith("WITH")
    with pytest.raises(KeyError):
        sql("no_such_query")


@pytest.mark.parametrize("name", sorted(queries()))
def test_percent_signs_are_placeholders_or_doubled(name: str) -> None:
    text = sql(name).replace("%%", "")
    assert text.count("%") == text.count("%("), "a literal percent sign is written %%"
