"""Every query of the dashboard and of docs/sql.md's chapter on Grafana, as its PostgreSQL plugin would send it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

import ddstore
from ddstore import Absolute, Series

DOCS = Path(__file__).resolve().parents[2] / "docs"
LOW = datetime(2024, 1, 1, tzinfo=UTC)
HIGH = LOW + timedelta(hours=2)
SOURCE = {"type": "grafana-postgresql-datasource", "uid": "${source}"}
#: The plugin's own pattern: arguments hold no parentheses.
MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")


def expand(query: str, low: datetime, high: datetime, *, timescaledb: bool = False, **variables: list[str]) -> str:
    """What reaches the server: variables and the interval of five minutes put in, then macros expanded."""
    query = re.sub(
        r"\$\{(\w+):sqlstring\}", lambda m: ",".join("'" + v.replace("'", "''") + "'" for v in variables[m[1]]), query
    ).replace("$__interval", "5m")

    def macro(found: re.Match[str]) -> str:
        name, arguments = found[1], [part.strip() for part in found[2].split(",")]
        first, last = (moment.isoformat().replace("+00:00", "Z") for moment in (low, high))
        if name == "__timeFilter":
            return f"{arguments[0]} BETWEEN '{first}' AND '{last}'"
        if name in ("__timeFrom", "__timeTo"):
            return f"'{first if name == '__timeFrom' else last}'"
        if name in ("__timeGroup", "__timeGroupAlias"):
            assert arguments[1] == "5m"
            alias = ' AS "time"' if name.endswith("Alias") else ""
            seconds = f"floor(extract(epoch from {arguments[0]})/300)*300"
            return (f"time_bucket('300.000s',{arguments[0]})" if timescaledb else seconds) + alias
        raise AssertionError(f"unknown macro {name}")

    return MACRO.sub(macro, query)


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "grafana" / "ddstore.json").read_text())
    return found


@pytest.fixture
def watched(database_url: str, needs_extension: None) -> str:
    """Two series of which the first half is cold, with an hour missing in one; and a compaction that failed."""
    time = np.datetime64("2024-01-01", "us") + np.arange(720) * np.timedelta64(10, "s")
    with ddstore.connect(database_url) as store:
        for half in (slice(0, 360), slice(360, 720)):
            for name, level in (("it's", 20.0), ("pump", 40.0)):
                keep = np.ones(720, bool) if level == 40 else (np.arange(720) < 120) | (np.arange(720) >= 480)
                values = level + np.arange(720) / 100
                part = keep[half]
                store.write(Series(name, time[half][part], values[half][part], max_error=Absolute(0.001)))
            if half.start == 0:
                assert store.compact(train="never", all=True).rows == 480
        with store.connection() as conn:
            conn.execute(
                "INSERT INTO ddstore.job (table_id, series_key, state, profile, worker, error)"
                " SELECT table_id, '[\"x\"]', 'failed', 'fast', 'nobody', 'made up' FROM ddstore.tables"
            )
    return database_url


def run(conn: psycopg.Connection[Any], query: str) -> tuple[list[str], list[Any]]:
    cursor = conn.execute(query.encode())
    assert cursor.description is not None
    return [column.name for column in cursor.description], cursor.fetchall()


def test_every_query_of_the_dashboard(dashboard: dict[str, Any], watched: str) -> None:
    with psycopg.connect(watched, options="-c timezone=UTC") as conn:
        (variable,) = [v for v in dashboard["templating"]["list"] if v["type"] == "query"]
        series = [name for (name,) in run(conn, variable["query"])[1]]
        assert series == ["it's", "pump", "x"]
        shown: dict[str, list[Any]] = {}
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                now = panel["title"] == "Compacted"  # segments are new, whatever their rows' times
                span = (datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC)) if now else (LOW, HIGH)
                names, rows = run(conn, expand(target["rawSql"], *span, series=series))
                assert rows, panel["title"]
                if target["format"] == "time_series":
                    assert names[0] == "time"
                    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
                    assert len(set(names)) == len(names)
                shown[panel["title"]] = rows
    ends = [LOW + timedelta(seconds=7190)] * 2
    assert [row[:2] for row in shown["Latest values"]] == list(zip(["it's", "pump"], ends, strict=True))
    values = {(float(time), name): value for time, name, value in shown["Values"]}
    assert len(values) == 24 + 12
    assert values[LOW.timestamp(), "pump"] == pytest.approx(40 + np.arange(30).mean() / 100, abs=0.001)
    filled = {(time.timestamp(), name): value for time, name, value in shown["Values without gaps"]}
    assert len(filled) == 3 * 24
    for at, value in values.items():
        assert filled[at] == pytest.approx(value)
    assert all(filled[(LOW + timedelta(minutes=5 * i)).timestamp(), "it's"] is not None for i in range(24))
    (table,) = shown["Hot and cold"]
    assert (table[0], table[2]) == ("ddstore.samples", 480)
    assert dict(shown["Compaction"]) == {"done": 2, "failed": 1}
    assert [row[-1] for row in shown["Compactions that failed"]] == ["made up"]


def test_the_data_source_may_take_it_for_timescaledb(dashboard: dict[str, Any], watched: str) -> None:
    query = next(panel for panel in dashboard["panels"] if panel["title"] == "Values")["targets"][0]["rawSql"]
    with psycopg.connect(watched) as conn:
        plain = run(conn, expand(query, LOW, HIGH, series=["pump"]))[1]
        conn.execute("SET search_path = public, ddstore")
        bucketed = run(conn, expand(query, LOW, HIGH, timescaledb=True, series=["pump"]))[1]
    assert [(time.timestamp(), *rest) for time, *rest in bucketed] == [(float(time), *rest) for time, *rest in plain]


def test_a_reader_needs_the_rights_that_the_documentation_names(
    dashboard: dict[str, Any], watched: str, ordinary_role: Callable[[str], str]
) -> None:
    url = ordinary_role(watched)
    chapter = (DOCS / "sql.md").read_text().split("\n## Grafana\n")[1]
    grants = re.findall(r"^(GRANT .*?) TO grafana;", chapter, re.MULTILINE)
    assert len(grants) == 2
    needs_segments = {"Compacted"}
    for granted, grant in enumerate(grants, 1):
        with psycopg.connect(watched) as conn:
            conn.execute(SQL(grant + " TO {}").format(Identifier(str(conninfo_to_dict(url)["user"]))))
        with psycopg.connect(url, options="-c timezone=UTC") as conn:
            for panel in dashboard["panels"]:
                now = panel["title"] in needs_segments
                span = (datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC)) if now else (LOW, HIGH)
                rows = run(conn, expand(panel["targets"][0]["rawSql"], *span, series=["it's", "pump"]))[1]
                assert bool(rows) == (granted == 2 or panel["title"] not in needs_segments), panel["title"]


def test_the_queries_of_the_documentation(cold_table: Callable[..., Any]) -> None:
    made = cold_table({"device": "text"}, {"temp": "float8"})
    made.cold(["boiler"], np.arange(60) * 10_000_000, {"temp": list(range(60))})
    chapter = (DOCS / "sql.md").read_text().split("\n## Grafana\n")[1]
    queries = re.findall(r"```sql\n(.*?)```", chapter, re.DOTALL)
    assert len(queries) == 2
    low = datetime(2000, 1, 1, tzinfo=UTC)
    for query in queries:
        names, rows = run(made.conn, expand(query, low, low + timedelta(minutes=10), device=["boiler", "pump"]))
        assert names[0] == "time"
        assert [row[-1] for row in rows] == [14.5, 44.5]


def test_the_dashboard_can_be_imported(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [SOURCE, SOURCE]
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{(\w+)[:}]", json.dumps(dashboard)))
    assert used == names
