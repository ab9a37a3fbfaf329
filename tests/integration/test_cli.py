"""The commands, run for real: what they print, what they change, and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import sql as pgsql

import ddstore
from ddstore.bounds import Absolute
from ddstore.db.pool import Connection
from fix_cli import Cli, run_cli

N = 5000


def _npz(tmp_path: Path, columns: int = 1, name: str = "boiler.npz") -> Path:
    t = np.arange(N)
    values = np.round(20 + np.sin(t[:, None] / 50 + np.arange(columns)), 2)
    np.savez(tmp_path / name, values=values[:, 0] if columns == 1 else values)
    return tmp_path / name


def test_write_compact_query_stats_verify(cli: Cli, tmp_path: Path) -> None:
    written = cli("write", str(_npz(tmp_path)), "--series", "temp", "--max-error", "0.05", "--json")
    assert written.code == 0
    assert written.json == {"rows": N, "written": [{"table": "ddstore.samples", "rows": N, "series": "temp"}]}
    assert "one row a second from 2020-01-01" in written.err

    compacted = cli("compact", "--once", "--train", "never", "--json")
    assert (compacted.code, compacted.json["rows"], compacted.json["failed"]) == (0, N, 0)
    assert cli("compact", "--once").out == "Nothing to compact\n"

    (stats,) = cli("stats", "--json").json
    assert (stats["rows_hot"], stats["rows_cold"]) == (0, N)
    assert stats["ratio"] > 10
    assert stats["columns"][0]["max_error"] == "Absolute(0.05)"
    assert "temp" in cli("stats", "ddstore.samples").out

    verified = cli("verify", "--json")
    assert (verified.code, verified.json["ok"], verified.json["rows"]) == (0, True, N)
    assert "all sound" in cli("verify").out


@pytest.mark.usefixtures("needs_extension")
def test_query_sees_cold_rows_as_json_lines_and_as_a_table(cli: Cli, tmp_path: Path) -> None:
    cli("write", str(_npz(tmp_path)), "--series", "temp")
    cli("compact", "--once", "--train", "never")
    sql = "SELECT count(*) AS n, min(time) AS first, sum(1.5) AS s, 'NaN'::float8 AS nan, NULL AS nothing, "
    sql += "'infinity'::timestamptz AS ever, ARRAY[1, NULL] AS list, true AS yes FROM ddstore.samples"
    assert json.loads(cli("query", sql, "--json").out) == {
        "n": N,
        "first": "2020-01-01 00:00:00+00",
        "s": 1.5 * N,
        "nan": "NaN",
        "nothing": None,
        "ever": "infinity",
        "list": [1, None],
        "yes": True,
    }
    table = cli("query", "SELECT series, value FROM ddstore.samples ORDER BY time", "--rows", "3")
    assert table.out.count("temp") == 3
    assert "first 3 rows" in table.err
    assert "Segments Table" in cli("query", "EXPLAIN SELECT * FROM ddstore.samples").out


def test_query_cannot_write_unless_told(cli: Cli) -> None:
    refused = cli("query", "CREATE TABLE t (a int)")
    assert refused.code == 1
    assert "read-only" in refused.err
    assert cli("query", "COMMIT; CREATE TABLE t (a int)").code == 1
    assert cli("query", "--write", "CREATE TABLE t (a int)").out == "CREATE TABLE\n"
    # Shown in part, run whole.
    assert cli("query", "--write", "--rows", "1", "INSERT INTO t SELECT generate_series(1, 9) RETURNING a").code == 0
    assert cli("query", "-", "--json", stdin="SELECT count(*) AS n FROM t").json == {"n": 9}
    assert cli("query", "SELECT 1 WHERE false").out == "no rows\n"
    assert cli("query", "SET work_mem = '1MB'").code == 0


def test_sql_errors_are_the_servers_words(cli: Cli) -> None:
    bad = cli("query", "SELEC 1")
    assert (bad.code, bad.out) == (1, "")
    assert "syntax error" in bad.err


def test_several_columns_become_several_series(cli: Cli, tmp_path: Path) -> None:
    many = cli("write", str(_npz(tmp_path, 3)), "--json").json
    assert [one["series"] for one in many["written"]] == ["boiler.value_0", "boiler.value_1", "boiler.value_2"]
    one = cli("write", str(_npz(tmp_path, 3)), "--value", "value_1", "--series", "x", "--json").json
    assert [w["series"] for w in one["written"]] == ["x"]


def test_a_write_that_is_refused_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    assert cli("write", str(_npz(tmp_path)), "--series", "a.value_1", "--max-error", "0.1").code == 0
    # Two series: the second keeps another bound, so the first must not stay either.
    refused = cli("write", str(_npz(tmp_path, 2)), "--series", "a", "--max-error", "0.5")
    assert refused.code == 1
    assert "max_error" in refused.err
    assert refused.err.startswith("ddstore: ")
    count = cli("query", "SELECT count(*) AS n FROM ddstore.samples", "--json").json
    assert count == {"n": N}


def test_write_into_a_managed_table(cli: Cli, tmp_path: Path, conn: Connection) -> None:
    pytest.importorskip("pyarrow", reason="reads CSV; pip install 'ddstore[frames]'")
    created = cli(
        *("create-table", "plant.sensors", "--time", "at", "--key", "device"),
        *("--column", "temp=0.05", "--column", "rpm:int4", "--json"),
    )
    assert created.code == 0
    assert created.json["max_error"] == {"temp": "0.05", "rpm": "lossless"}
    csv = tmp_path / "day.csv"
    csv.write_text("ts,device,temp,rpm\n1700000000,a,1.5,3\n1700000060,a,,4\n")
    assert cli("write", str(csv), "--table", "plant.sensors", "--time", "ts").code == 0
    rows = conn.execute(
        "SELECT extract(epoch FROM at)::int, device, temp, rpm FROM plant.sensors ORDER BY at"
    ).fetchall()
    assert rows == [(1_700_000_000, "a", 1.5, 3), (1_700_000_060, "a", None, 4)]
    assert cli("write", str(csv), "--table", "plant.sensors", "--series", "x").code == 2
    csv.write_text("at,device,temp\n2024-01-01T00:00:00Z,a,1.5\n")
    missing = cli("write", str(csv), "--table", "plant.sensors")
    assert missing.code == 1
    assert "rpm" in missing.err


def test_adopt_and_release(cli: Cli, conn: Connection) -> None:
    conn.execute("CREATE TABLE metrics (ts timestamptz NOT NULL, host text NOT NULL, cpu float8)")
    conn.execute(
        "INSERT INTO metrics SELECT timestamptz '2024-01-01' + g * interval '1 s', 'h', mod(g, 7) "
        "FROM generate_series(1, %s) g",
        [N],
    )
    conn.commit()
    adopted = cli("adopt", "metrics", "--time", "ts", "--key", "host", "--max-error", "cpu=0.1", "--hot-for", "1h")
    assert adopted.code == 0
    assert "cpu float8, 0.1" in adopted.out
    assert cli("compact", "--once", "--train", "never", "--table", "metrics", "--all", "--json").json["rows"] == N
    asked = cli("release", "metrics", stdin="n\n")
    assert asked.code == 1
    assert f"{N:,} rows" in asked.err
    released = cli("release", "metrics", "--yes", "--json")
    assert released.json == {"table": "public.metrics", "rows": N, "segments": 1}
    assert conn.execute("SELECT count(*), min(cpu), max(cpu) FROM metrics").fetchone() == (N, 0, 6)


def test_damage_is_exit_code_3_and_names_the_segment(cli: Cli, tmp_path: Path, conn: Connection) -> None:
    cli("write", str(_npz(tmp_path)), "--series", "temp")
    cli("compact", "--once", "--train", "never")
    row = conn.execute(
        "SELECT segments::text, (SELECT id FROM ddstore.managed_column WHERE name = 'value') FROM ddstore.managed_table"
    ).fetchone()
    assert row is not None
    column, table = pgsql.Identifier(f"c{row[1]}_residual"), pgsql.Identifier(*row[0].split("."))
    conn.execute(pgsql.SQL("UPDATE {} SET {c} = set_byte({c}, 20, 255 - get_byte({c}, 20))").format(table, c=column))
    conn.commit()
    damaged = cli("verify", "--json")
    assert damaged.code == 3
    assert damaged.json["ok"] is False
    assert damaged.json["damaged"][0]["series"] == ["temp"]
    said = cli("verify")
    assert said.code == 3
    assert "temp" in said.out


def test_a_failed_series_is_exit_code_4(cli: Cli, tmp_path: Path, conn: Connection) -> None:
    cli("create-table", "t", "--key", "k", "--column", "v:float8")
    conn.execute(
        "INSERT INTO t SELECT timestamptz '2024-01-01' + g * interval '1 s', k, g FROM generate_series(1, 3000) g, "
        "(VALUES ('good'), ('bad')) v(k)"
    )
    conn.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.k2 = 'bad' THEN "
        "RAISE 'not this one'; END IF; RETURN NEW; END $$"
    )
    conn.execute("CREATE TRIGGER refuse BEFORE INSERT ON ddstore.segment_1 FOR EACH ROW EXECUTE FUNCTION refuse()")
    conn.commit()
    partly = cli("compact", "--once", "--train", "never", "--json")
    assert partly.code == 4
    assert (partly.json["failed"], partly.json["rows"]) == (1, 3000)
    assert "not this one" in partly.err
    conn.execute("CREATE RULE nothing AS ON DELETE TO t DO INSTEAD NOTHING")
    conn.commit()
    not_at_all = cli("compact", "--once", "--json")
    assert (not_at_all.code, not_at_all.json["rows"]) == (4, 0)
    assert "has a rule" in not_at_all.json["refused"][0]
    assert "has a rule" in not_at_all.err


def test_doctor_and_migrate(empty_database_url: str, extension_missing: str | None) -> None:
    before = run_cli("doctor", "--json", "--url", empty_database_url)
    assert before.code == 1
    assert before.json["ok"] is False
    catalog = next(check for check in before.json["checks"] if check["name"] == "catalog")
    assert catalog["ok"] is False
    assert catalog["remedy"] == "Run: ddstore migrate."
    nothing = run_cli("stats", "--url", empty_database_url)
    assert nothing.code == 1
    assert "ddstore migrate" in nothing.err

    first = run_cli("migrate", "--json", "--url", empty_database_url)
    assert first.code == 0
    assert first.json["migrations"]
    assert "nothing to do" in run_cli("migrate", "--url", empty_database_url).out
    after = run_cli("doctor", "--json", "--url", empty_database_url)
    assert after.code == 0
    assert after.json["sql_sees_cold_rows"] is (extension_missing is None)
    assert "catalog" in run_cli("doctor", "--url", empty_database_url).out
    assert "No managed tables" in run_cli("stats", "--url", empty_database_url).out


def test_no_server_is_exit_code_5() -> None:
    for command in (["stats"], ["doctor", "--json"], ["compact", "--once"]):
        gone = run_cli("--url", "postgresql://user:secret@127.0.0.1:1/x", *command)
        assert (gone.code, gone.out) == (5, "")
        assert "secret" not in gone.err
        assert len(gone.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["write"],
        ["write", "a.npz", "--max-error", "a lot"],
        ["compact", "--every", "now and then"],
        ["compact", "--train", "sometimes"],
        ["create-table", "t", "--column", "a", "--column", "a"],
        ["adopt", "t", "--time", "ts", "--max-error", "0.1"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert run_cli(*arguments).code == 2


def test_help_teaches() -> None:
    top = run_cli("--help")
    assert top.code == 0
    assert "Exit codes" in top.out
    for command in (
        "demo",
        "migrate",
        "doctor",
        "create-table",
        "adopt",
        "policy",
        "write",
        "compact",
        "query",
        "verify",
    ):
        assert command in top.out
        assert f"ddstore {command}" in run_cli(command, "--help").out


def test_the_pass_goes_on_until_sigterm(database_url: str, tmp_path: Path) -> None:
    with ddstore.connect(database_url) as store:
        t = np.arange(N)
        store.write(ddstore.Series("a", t * 10**9, np.round(np.sin(t / 50), 2), max_error=Absolute(0.05)))
    command = [sys.executable, "-m", "ddstore", "compact", "--every", "50ms", "--train", "never", "--json"]
    env = os.environ | {"DDSTORE_URL": database_url}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["rows"] == N  # the first pass
        with psycopg.connect(database_url) as conn:
            conn.execute(
                "INSERT INTO ddstore.samples SELECT 'b', timestamptz '2024-01-01' + g * interval '1 s', g % 9 "
                "FROM generate_series(1, 2000) g"
            )
        while json.loads(process.stdout.readline())["rows"] != 2000:  # some later one
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_stopping_keeps_what_is_done(database_url: str) -> None:
    from ddstore.compact import CompactOptions, compact

    with ddstore.connect(database_url) as store:
        store.create_table("t", time="time", columns={"v": Absolute(0.05)}, segment_rows=1024)
        rows = 65 * 1024  # more than one batch
        store.write({"time": np.arange(rows) * 10**9, "v": np.zeros(rows)}, table="t")
        asked = iter([False, False, True, True])
        report = compact(store.database, CompactOptions(train="never"), stop=lambda: next(asked))
        assert report.rows == 64 * 1024, [s.error for s in report.failed]
        assert not report.failed
        with store.connection() as conn:
            assert conn.execute("SELECT count(*) FROM ONLY t").fetchone() == (1024,)
        assert store.compact(all=True, train="never").rows == 1024
