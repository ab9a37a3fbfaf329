"""UPDATE, DELETE and TRUNCATE that reach compacted rows: the table behaves like a plain one beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from ddstore import Absolute, Lossless, Profile, Relative, connect
from ddstore.db.manage import adopt
from ddstore.db.pool import connect as connect_to
from fix_compact import Twins


def _same(twins: Twins, statement: str) -> None:
    """One statement on both tables (``{t}``) does the same and returns the same; then both hold the same rows."""
    results = []
    for target in (twins.table.identifier, twins.truth):
        cursor = twins.conn.execute(SQL(statement).format(t=target))  # type: ignore[arg-type]
        results.append((cursor.rowcount, sorted(map(str, cursor)) if cursor.description else None))
    twins.conn.commit()
    assert results[0] == results[1], statement
    assert twins.differences() == [], statement


def _fails(twins: Twins, statement: str, error: type[psycopg.Error], match: str | None = None) -> psycopg.Error:
    """A statement fails so, and changes nothing."""
    with pytest.raises(error, match=match) as caught:
        twins.conn.execute(SQL(statement).format(t=twins.table.identifier))  # type: ignore[arg-type]
    twins.conn.rollback()
    assert twins.differences() == []
    return caught.value


def _ddl(twins: Twins, *statements: str) -> None:
    for statement in statements:
        twins.conn.execute(statement.encode())
    twins.conn.commit()


def test_every_form_of_statement(twins: Twins) -> None:
    twins.insert(1, 1000)
    twins.compact()
    twins.insert(950, 1100, shift=2000)
    if twins.conn.info.server_version >= 180000:
        _same(twins, "UPDATE {t} SET value = value + 1 WHERE id IN (9, 2960) RETURNING old, new.value, id")
        _same(twins, "DELETE FROM {t} WHERE id IN (10, 2961) RETURNING old.*, new.id")
    for statement in (
        "UPDATE {t} SET value = value + 1 WHERE id = 5",
        "UPDATE {t} SET value = -value, note = 'x' WHERE value > 20.9 RETURNING id, value, note, device, time",
        "UPDATE {t} AS x SET value = g, device = 'b' FROM generate_series(650, 660) g WHERE g = x.id RETURNING x.*, g",
        "UPDATE {t} SET time = time + interval '1 h' WHERE id BETWEEN 800 AND 810 RETURNING *",
        "UPDATE {t} SET (value, note) = (SELECT 1, 'sub' || device) WHERE note = 'note 7'",
        "DELETE FROM {t} WHERE id BETWEEN 400 AND 600 RETURNING *",
        "DELETE FROM {t} AS x USING generate_series(700, 710) AS g WHERE g IN (x.id, x.id - 1) RETURNING x.*",
        "DELETE FROM {t} WHERE value IS NULL AND note IS NULL",
        # Several nodes of one statement change one segment.
        "WITH a AS (UPDATE {t} SET value = 1 WHERE id = 720 RETURNING id), b AS (DELETE FROM {t} WHERE id = 721)"
        " UPDATE {t} SET value = 2 WHERE id IN (722, 723) RETURNING id, value, (SELECT count(*) FROM a)",
        "WITH gone AS (DELETE FROM {t} WHERE id IN (730, 731) RETURNING *) INSERT INTO {t}"
        " SELECT id + 5000, device, time, value, note FROM gone RETURNING *",
        "UPDATE {t} SET value = 0 WHERE false",
        "UPDATE {t} SET value = 3",
        "DELETE FROM {t}",
    ):
        _same(twins, statement)


def test_a_stream_of_changes_leaves_what_a_plain_table_has(twins: Twins) -> None:
    choose = random.Random(11)
    twins.insert(1, 600)
    twins.insert(1, 300, "b", shift=10_000)
    for step in range(60):
        first = choose.randrange(1, 800)
        last = first + choose.choice([0, 3, 40, 200])
        device = choose.choice(["a", "b", "c"])
        where = choose.choice(
            [f"id BETWEEN {first} AND {last}", f"device = '{device}' AND id::int % 50 = {step % 50}", "note = 'note 3'"]
        )
        match choose.randrange(6):
            case 0:
                twins.insert(first, last, device, shift=step * 20_000)
            case 1:
                twins.compact(segment_rows=choose.choice([16, 64, 256]), min_rows=1)
            case 2:
                _same(twins, f"DELETE FROM {{t}} WHERE {where} RETURNING *")
            case 3:
                _same(twins, f"UPDATE {{t}} SET device = '{device}', note = note || '!' WHERE {where} RETURNING *")
            case _:
                _same(twins, f"UPDATE {{t}} SET value = value + {step}, time = time + interval '1 s' WHERE {where}")
    assert twins.cold > 0
    assert twins.hot > 0


def test_a_statement_is_undone_with_its_savepoint(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.compact()
    _same(
        twins,
        """DO $$ BEGIN FOR i IN 1..20 LOOP BEGIN
               UPDATE {t} SET value = i WHERE id = i * 10;
               IF i % 2 = 0 THEN RAISE EXCEPTION 'no'; END IF;
           EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$""",
    )
    _ddl(twins, "PREPARE change (float8) AS UPDATE watched SET note = 'prepared' WHERE id = $1")
    for number in range(1, 12):
        assert twins.conn.execute(f"EXECUTE change ({number * 13})".encode()).rowcount == 1
    twins.conn.execute("UPDATE truth SET note = 'prepared' WHERE id = ANY (%s)", ([i * 13 for i in range(1, 12)],))
    assert twins.differences() == []


def test_a_cursor_goes_on_seeing_what_it_saw(twins: Twins) -> None:
    twins.insert(1, 300)
    twins.compact()
    with twins.conn.cursor(name="before", withhold=True) as cursor:
        cursor.execute("SELECT id FROM watched ORDER BY id")
        seen = cursor.fetchmany(10)
        assert twins.conn.execute("UPDATE watched SET id = id + 1000 WHERE id < 200").rowcount == 199
        assert twins.conn.execute("SELECT count(*) FROM watched WHERE id > 1000").fetchone() == (199,)
        twins.conn.commit()
        assert [row[0] for row in seen + cursor.fetchall()] == list(range(1, 301))


def test_triggers_of_the_table_fire_for_compacted_rows(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.compact()
    twins.insert(201, 220)
    _ddl(
        twins,
        "CREATE TABLE log (source text, moment text, op text, old float8, new float8, seen bigint)",
        """CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF OLD.id IN (3, 203) THEN RETURN NULL; END IF;
               IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
               NEW.note := 'was ' || OLD.value; RETURN NEW; END $$""",
        """CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE seen bigint; BEGIN
               EXECUTE format('SELECT count(*) FROM %s WHERE value = -3', TG_RELID::regclass) INTO seen;
               IF TG_LEVEL = 'STATEMENT' THEN INSERT INTO log VALUES (TG_ARGV[0], TG_WHEN, TG_OP, NULL, NULL, seen);
               ELSIF TG_OP = 'DELETE' THEN INSERT INTO log VALUES (TG_ARGV[0], TG_WHEN, TG_OP, OLD.id, NULL, seen);
               ELSE INSERT INTO log VALUES (TG_ARGV[0], TG_WHEN, TG_OP, OLD.value, NEW.value, seen); END IF;
               RETURN NULL; END $$""",
    )
    for name in ("watched", "truth"):
        _ddl(
            twins,
            f"CREATE TRIGGER before BEFORE UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION change()",
            f"CREATE TRIGGER untouched BEFORE UPDATE OF device ON {name} FOR EACH ROW EXECUTE FUNCTION tell('{name}')",
            f"CREATE TRIGGER inserted AFTER INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION tell('{name}')",
            f"CREATE TRIGGER after AFTER UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION tell('{name}')",
            f"CREATE TRIGGER all_of_it AFTER UPDATE OR DELETE ON {name} FOR EACH STATEMENT"
            f" EXECUTE FUNCTION tell('{name}')",
        )
    _same(twins, "UPDATE {t} SET value = -3 WHERE id IN (2, 3, 4, 150, 203, 204) RETURNING *")
    _same(twins, "DELETE FROM {t} WHERE id IN (3, 5, 6, 203, 205) RETURNING *")
    of = "SELECT moment, op, old, new, seen FROM log WHERE source = %s ORDER BY 1, 2, 3"
    logs = [twins.conn.execute(of, (name,)).fetchall() for name in ("watched", "truth")]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 4 + 3 + 2


def test_a_trigger_cannot_change_rows_under_the_statement(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.compact()
    _ddl(
        twins,
        """CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               DELETE FROM watched WHERE id = NEW.id + 1; RETURN NEW; END $$""",
        "CREATE TRIGGER meddle BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION meddle()",
    )
    _fails(twins, "UPDATE {t} SET value = 0 WHERE id = 10", psycopg.errors.TriggeredDataChangeViolation)


def test_constraints_hold(twins: Twins) -> None:
    twins.insert(1, 200)
    twins.compact()
    _ddl(
        twins,
        "CREATE TABLE device (name text PRIMARY KEY)",
        "INSERT INTO device VALUES ('a'), ('b')",
        "ALTER TABLE watched ADD FOREIGN KEY (device) REFERENCES device DEFERRABLE,"
        " ADD CONSTRAINT small CHECK (value < 100) NOT VALID, ADD UNIQUE (id)",
    )
    _fails(twins, "UPDATE {t} SET value = 100 WHERE id = 5", psycopg.errors.CheckViolation)
    _fails(twins, "UPDATE {t} SET time = NULL WHERE id = 5", psycopg.errors.NotNullViolation)
    _fails(twins, "UPDATE {t} SET id = 1 WHERE id = 2", psycopg.errors.UniqueViolation, "id")
    _fails(twins, "UPDATE {t} SET device = 'x' WHERE id = 5", psycopg.errors.ForeignKeyViolation)
    twins.conn.execute("SET CONSTRAINTS ALL DEFERRED")
    twins.conn.execute("UPDATE watched SET device = 'x' WHERE id = 5")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        twins.conn.commit()
    _same(twins, "UPDATE {t} SET device = 'b', value = 99 WHERE id = 5")
    # A hot row may have the key of a compacted one; it stands in the way once that leaves its segment.
    twins.add("SELECT id, 'a', time, 1, NULL FROM truth WHERE id = 190")
    error = _fails(twins, "UPDATE {t} SET value = 1 WHERE id = 191", psycopg.errors.UniqueViolation)
    assert "back into ordinary rows" in str(error.diag.context)


def test_the_limit(twins: Twins) -> None:
    twins.insert(1, 640)
    twins.compact()
    over = psycopg.errors.ConfigurationLimitExceeded
    _ddl(twins, "SET ddstore.max_unsealed_rows = 100")
    error = _fails(twins, "UPDATE {t} SET value = 0 WHERE id IN (1, 600)", over, '128 compacted rows of "watched"')
    assert "ddstore.max_unsealed_rows" in str(error.diag.message_hint)
    _fails(twins, "DELETE FROM {t} WHERE id IN (1, 600)", over, "126 compacted rows")
    _same(twins, "UPDATE {t} SET value = 0 WHERE id = 1")
    # What is deleted does not become hot, and a segment that goes as a whole is not even looked into.
    array = f"c{twins.table.columns['note'].id}_array"
    twins.conn.execute(f"UPDATE {twins.table.segments} SET {array} = '{{}}' WHERE id = 5".encode())
    assert twins.conn.execute("DELETE FROM watched WHERE id > 100").rowcount == 540
    assert (twins.hot, twins.cold) == (100, 0)
    twins.conn.execute("DELETE FROM truth WHERE id > 100")
    assert twins.differences() == []
    twins.compact()
    _ddl(twins, "SET ddstore.max_unsealed_rows = 0")
    for statement in ("UPDATE {t} SET value = 0 WHERE id = 1", "DELETE FROM {t}"):
        _fails(twins, statement, psycopg.errors.FeatureNotSupported, "max_unsealed_rows is 0")


def test_truncate_leaves_nothing(twins: Twins) -> None:
    twins.insert(1, 300)
    twins.compact()
    _same(twins, "UPDATE {t} SET value = 1 WHERE id = 1")
    twins.conn.execute(
        "INSERT INTO ddstore.model (table_id, column_id, series_key, bytes) VALUES (%s, %s, '[]', 'x')",
        (twins.table.id, twins.table.values[0].id),
    )
    twins.conn.commit()
    twins.conn.execute("TRUNCATE ONLY watched")
    assert (twins.hot, twins.cold) == (0, 236)
    twins.conn.execute("TRUNCATE watched")
    twins.conn.rollback()
    assert twins.cold == 236
    twins.conn.execute("TRUNCATE watched, truth")
    twins.conn.commit()
    assert twins.differences() == []
    for table in ("settled", "job", "model"):
        assert twins.number(f"SELECT count(*) FROM ddstore.{table}") == 0
    twins.insert(1, 300)
    assert twins.compact().rows == 300
    assert twins.differences() == []


def test_what_cannot_be_done_says_so(twins: Twins) -> None:
    twins.insert(1, 100)
    twins.compact()
    unsupported = psycopg.errors.FeatureNotSupported
    source = "(VALUES (5.0)) AS v (id) ON x.id = v.id WHEN"
    for then in ("MATCHED THEN DELETE", "NOT MATCHED THEN DO NOTHING"):
        error = _fails(twins, f"MERGE INTO {{t}} AS x USING {source} {then}", unsupported, "MERGE")
        assert "MERGE INTO ONLY" in str(error.diag.message_hint)
    for row in (5, 99):  # whether the cursor is on a compacted row or not
        twins.conn.execute("DECLARE c CURSOR FOR SELECT * FROM watched WHERE id = %s FOR UPDATE", (row,))
        twins.conn.execute("FETCH c")
        error = _fails(twins, "DELETE FROM {t} WHERE CURRENT OF c", unsupported, "CURRENT OF")
        assert "by its key and time" in str(error.diag.message_hint)
    _ddl(
        twins,
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER all_of_them AFTER UPDATE ON watched REFERENCING NEW TABLE AS rows FOR EACH STATEMENT"
        " EXECUTE FUNCTION nothing()",
    )
    error = _fails(twins, "UPDATE {t} SET value = 1 WHERE id = 5", unsupported, "transition tables")
    assert "unseal" in str(error.diag.message_hint)
    for statement in ("INSERT INTO watched_cold SELECT * FROM truth", "COPY watched_cold (id) FROM PROGRAM 'echo 1'"):
        assert "inherits from" in str(_fails(twins, statement, unsupported, "compacted rows").diag.message_hint)
    twins.conn.execute("ALTER FOREIGN TABLE watched_cold NO INHERIT watched")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="inherits from no table"):
        twins.conn.execute("DELETE FROM watched_cold")


def test_columns_may_have_another_order_in_the_cold_table(needs_extension: None, database_url: str) -> None:
    """A column dropped before the table was adopted, and one added since, make the layouts differ."""
    with connect_to(database_url) as conn, connect(database_url) as store:
        conn.execute("CREATE TABLE t (gone int, k text, at timestamptz NOT NULL, drop_me int, v float8, w text)")
        conn.execute("ALTER TABLE t DROP COLUMN gone, DROP COLUMN drop_me")
        adopt(conn, "t", time="at", key=["k"])
        rows = (
            "SELECT 'a', timestamptz '2024-01-01 UTC' + g * interval '1 s', g, 'w' || g FROM generate_series(1, 200) g"
        )
        conn.execute(f"INSERT INTO t {rows}".encode())
        conn.commit()
        store.compact("t", all=True)
        conn.execute("ALTER TABLE t ADD COLUMN u int")
        found = conn.execute("UPDATE t SET w = 'new', u = 7 WHERE v IN (5, 6) RETURNING k, v, w, u").fetchall()
        assert sorted(found) == [("a", 5.0, "new", 7), ("a", 6.0, "new", 7)]
        assert conn.execute("DELETE FROM t WHERE v = 7 RETURNING *").fetchone()[2:] == (7.0, "w7", None)
        counts = "SELECT count(*), sum(v), count(u), min(w) FILTER (WHERE v = 8) FROM ONLY t"
        assert conn.execute(counts).fetchone() == (199, 20100 - 7, 2, "w8")


def test_rights_and_policies_are_those_of_the_table(
    twins: Twins, database_url: str, ordinary_role: Callable[[str], str]
) -> None:
    twins.insert(1, 100)
    twins.insert(101, 200, "b")
    twins.compact()
    url = ordinary_role(database_url)
    role = Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))
    denied = psycopg.errors.InsufficientPrivilege
    with connect_to(url, autocommit=True) as other:

        def grant(what: str) -> None:
            twins.conn.execute(SQL("GRANT " + what + " ON watched TO {}").format(role))  # type: ignore[operator]
            twins.conn.commit()

        grant("SELECT, UPDATE (value)")
        assert other.execute("UPDATE watched SET value = 1 WHERE id = 5").rowcount == 1
        for statement in ("UPDATE watched SET device = 'b' WHERE id = 5", "DELETE FROM watched", "TRUNCATE watched"):
            with pytest.raises(denied):
                other.execute(statement.encode())
        grant("DELETE, UPDATE")
        _ddl(
            twins,
            "ALTER TABLE watched ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY seen ON watched FOR SELECT USING (true)",
            "CREATE POLICY changed ON watched FOR UPDATE USING (device = 'a') WITH CHECK (value < 50)",
            "CREATE POLICY deleted ON watched FOR DELETE USING (id > 150)",
        )
        assert other.execute("UPDATE watched SET value = 2").rowcount == 100
        twins.compact()
        with pytest.raises(denied, match="row-level security"):
            other.execute("UPDATE watched SET value = 51 WHERE id = 20")
        assert other.execute("DELETE FROM watched").rowcount == 50
        with pytest.raises(denied):
            other.execute("SELECT * FROM ddstore.settled")
        grant("TRUNCATE")
        other.execute("TRUNCATE watched")
        assert (twins.hot, twins.cold) == (0, 0)


def test_the_bound_holds_however_often_a_row_leaves_its_segment(needs_extension: None, database_url: str) -> None:
    rng = np.random.default_rng(4)
    n = 6000
    data: dict[str, Any] = {
        "time": np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(1, "s"),
        "device": ["a"] * n,
        "id": np.arange(n),
        "walk": rng.normal(0, 0.05, n).cumsum(),
        "level": np.round(20 + rng.normal(0, 1, n), 2),
        "flow": np.exp(rng.normal(0, 1, n)).astype(np.float32),
    }
    with connect(database_url) as store:
        columns: dict[str, Any] = {"id": ("int8", Lossless()), "walk": Absolute(0.1), "level": Absolute(0.05)}
        columns["flow"] = ("float4", Relative(1e-2))
        store.create_table("t", time="time", key=["device"], columns=columns, segment_rows=1000)
        store.write(data, table="t")
        for turn in range(4):
            store.compact(train="never", segment_rows=[1000, 700, 1500, 1000][turn], all=True)
            # One statement leaves the values alone, the other takes rows elsewhere with their values.
            for statement in (
                "UPDATE t SET device = device || '' WHERE id % 500 = 0",
                f"UPDATE t SET device = 'b', time = time + interval '{turn} h' WHERE id % 7 = {turn}",
            ):
                with store.connection() as conn:
                    conn.execute(statement.encode())
            with store.connection() as conn:
                found = conn.execute("SELECT id, walk, level, flow FROM t ORDER BY id").fetchall()
            walk, level, flow = (np.array([row[i] for row in found]) for i in (1, 2, 3))
            assert [row[0] for row in found] == list(range(n))
            assert np.abs(walk - data["walk"]).max() <= 0.1
            assert (np.abs(level - data["level"]) <= 0.05 + 1e-12).all()
            assert (np.abs(flow - data["flow"].astype(float)) <= 1e-2 * data["flow"] * (1 + 1e-6)).all()
        assert store.compact(train="never", all=True).failed == []
        with store.connection() as conn:
            assert conn.execute("SELECT count(*) FROM ddstore.settled").fetchone() == (0,)
            assert conn.execute("SELECT count(*) FROM ONLY t").fetchone() == (0,)


def test_what_leaves_its_segment_is_as_small_afterwards(needs_extension: None, database_url: str) -> None:
    """Where columns are on no grid, and whether or not their rows fill segments as before."""
    rng = np.random.default_rng(4)
    n = 4000
    data: dict[str, Any] = {
        "time": np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(1, "s"),
        "state": np.zeros(n, np.int32),
        "walk": rng.normal(0, 1, n).cumsum(),
        "smooth": np.sin(np.arange(n) / 300) * 50 + rng.normal(0, 0.001, n),
        "flow": np.exp(rng.normal(0, 0.1, n).cumsum()),
    }
    names = "unnest(ARRAY['walk', 'smooth', 'flow']) AS c"
    sizes = f"SELECT sum((column_bytes ->> c)::int) FROM ddstore.segments, {names} GROUP BY c ORDER BY c".encode()
    with connect(database_url) as store, store.connection() as conn:
        columns: dict[str, Any] = {"state": ("int4", Lossless()), "walk": Absolute(0.05), "smooth": Absolute(0.05)}
        store.create_table("t", time="time", columns=columns | {"flow": Relative(1e-3)}, segment_rows=1000)
        store.write(data, table="t")
        store.compact(train="never", all=True, profile=Profile.ARCHIVE)
        before = conn.execute(sizes).fetchall()
        read = conn.execute("SELECT * FROM t ORDER BY time").fetchall()
        for statement in ("UPDATE t SET state = 0 WHERE state = 0", "SELECT ddstore.unseal('t', '[]', NULL, NULL)"):
            conn.execute(statement.encode())
            conn.commit()
            store.compact(train="never", all=True, profile=Profile.ARCHIVE)
            assert conn.execute("SELECT count(*) FROM ONLY t").fetchone() == (0,)
            assert conn.execute("SELECT * FROM t ORDER BY time").fetchall() == read
            after = conn.execute(sizes).fetchall()
            assert all(now[0] < 1.05 * then[0] for now, then in zip(after, before, strict=True))
            conn.commit()
        # Other lengths: what lies on a lattice still costs about as little.
        conn.execute("DELETE FROM t WHERE time IN ('2024-01-01 00:01Z', '2024-01-01 00:40Z')")
        conn.commit()
        store.compact(train="never", all=True, profile=Profile.ARCHIVE)
        after = conn.execute(sizes).fetchall()
        assert after[0][0] < 1.1 * before[0][0]
        assert after[2][0] < 1.1 * before[2][0]
