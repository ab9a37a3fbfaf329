"""psql and pgbench beside a managed table: nothing they do fails, warns, or misses a row."""

from __future__ import annotations

import csv
import io
import subprocess
from pathlib import Path

import psycopg
import pytest

from fix_clients import Plant, readings

META = r"""
\d
\d plant.sensors
\d+ plant.sensors
\d+ plant.sensors_cold
\d+ ddstore.segment_1
\dt+ plant.*
\di+ plant.*
\dE+ plant.*
\dv+ ddstore.*
\df+ ddstore.*
\da+ ddstore.*
\dC
\dn+
\dp plant.*
\ddp
\dx+ ddstore
\dew+
\des+
\det+
\deu+
\dFp
\dP
\dg
\l+
\sf ddstore.buckets(bigint, bigint, bigint, bigint)
\sv ddstore.tables
SELECT * FROM plant.sensors \gdesc
SELECT device, state, count(*) FROM plant.sensors GROUP BY 1, 2 \crosstabview
SELECT count(*) AS n FROM plant.sensors \gset
\echo :n rows
\set FETCH_COUNT 100
SELECT * FROM plant.sensors ORDER BY time, device;
"""


def psql(plant: Plant, script: str) -> str:
    """What psql prints; it must have nothing to complain about."""
    command = [plant.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", plant.conninfo]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_meta_commands(plant: Plant) -> None:
    said = psql(plant, META)
    assert "1200 rows" in said
    assert "Child tables: plant.sensors_cold" in said
    assert "Inherits: plant.sensors" in said.replace("\n    ", " ")
    assert said.count("+00 | boiler | ") == 600


def test_copy_out_and_in(plant: Plant, tmp_path: Path) -> None:
    out, more = tmp_path / "out.csv", tmp_path / "more.csv"
    with more.open("w") as file:
        csv.writer(file).writerows(
            (f"{t:%F %T%z}", device, temp, state) for t, device, temp, state in readings(600, 700)
        )
    psql(
        plant,
        f"""\\copy plant.sensors (time, device, temp, state) from '{more}' with (format csv)
SET timezone = 'UTC';
\\copy (select time, device, temp, state from plant.sensors order by time, device) to '{out}' with (format csv)
""",
    )
    expected = [
        (f"{t:%F %T}+00", d, "" if v is None else repr(v).removesuffix(".0"), s) for t, d, v, s in readings(0, 700)
    ]
    assert [tuple(row) for row in csv.reader(io.StringIO(out.read_text()))] == expected


@pytest.mark.parametrize("protocol", ["simple", "prepared"])
def test_pgbench(plant: Plant, tmp_path: Path, protocol: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text(
        r"""\set minute random(0, 590)
SELECT 1 / (count(*) = 10)::int FROM plant.sensors WHERE device = 'pump'
   AND time >= timestamptz '2024-01-01Z' + :minute * interval '1 min'
   AND time < timestamptz '2024-01-01Z' + :minute * interval '1 min' + interval '10 min';
INSERT INTO plant.sensors (time, device, temp, state)
   VALUES (timestamptz '2025-01-01Z' + :client_id * interval '1 h', 'bench', :minute, 'on');
"""
    )
    command = [plant.program("pgbench"), "-n", "-M", protocol, "-c", "2", "-t", "30", "-f", script, plant.conninfo]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 60/60" in done.stdout
    with psycopg.connect(plant.conninfo) as conn:
        assert conn.execute("SELECT count(*) FROM plant.sensors WHERE device = 'bench'").fetchone() == (60,)
