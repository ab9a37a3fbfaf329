-- What `ddstore demo` asks of the table it has made. {v} is a value column, {key} the key columns with a comma each.

-- name: demo_exists
SELECT to_regclass(%(name)s) IS NOT NULL;

-- name: demo_keep_original
-- The rows as they were written, in a plain table, to compare with what is read back later.
CREATE TABLE {original} AS SELECT * FROM {table};

-- name: demo_analyze
ANALYZE {table};

-- name: demo_reindex
REINDEX TABLE {table};

-- name: demo_drop
DROP TABLE IF EXISTS {table};

-- name: demo_drop_schema
DROP SCHEMA IF EXISTS {schema};

-- name: demo_sizes
-- On disk with indexes and TOAST: the table's heap, its segments, and every model of the database.
SELECT pg_total_relation_size(%(oid)s::oid::regclass), pg_total_relation_size(%(segments)s::regclass),
       pg_total_relation_size('ddstore.model');

-- name: demo_cold_rows
SELECT coalesce(sum(n), 0)::bigint FROM {segments};

-- name: demo_range
SELECT count(*), avg({v}), min({v}), max({v}) FROM {table} WHERE {series} time >= %(start)s AND time < %(end)s;

-- name: demo_aggregate
SELECT {averages} FROM {table};

-- name: demo_explain
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF)

-- name: demo_check
-- Every value against its original, rows of one time paired in order of value: lost or added rows, NULLs that moved,
-- the worst error, the worst share of what is allowed, and how many values are beyond.
WITH a AS (
    SELECT {key} time, {v} AS v, row_number() OVER (PARTITION BY {key} time ORDER BY {v}) AS r FROM {original}
), b AS (
    SELECT {key} time, {v} AS v, row_number() OVER (PARTITION BY {key} time ORDER BY {v}) AS r FROM {table}
), pair AS (
    SELECT a.r IS NULL OR b.r IS NULL AS lost, (a.v IS NULL) <> (b.v IS NULL) AS turned,
           CASE WHEN a.v = b.v THEN 0 ELSE abs(a.v::float8 - b.v::float8) END AS error, {allowed} AS allowed
    FROM a FULL JOIN b USING ({key} time, r)
)
SELECT count(*) FILTER (WHERE lost), count(*) FILTER (WHERE turned AND NOT lost), count(error),
       coalesce(max(error), 0), coalesce(max(CASE WHEN error > 0 THEN error / nullif(allowed, 0) ELSE 0 END), 0),
       count(*) FILTER (WHERE error > allowed)
FROM pair;

-- name: demo_span
-- The range of the finite values.
SELECT max(v)::float8 - min(v)::float8
FROM (SELECT {v} AS v FROM {original}) s
WHERE v::float8 NOT IN ('NaN', 'Infinity', '-Infinity');

-- name: demo_window
SELECT time, {v}::float8 FROM {table} WHERE {series} time >= %(start)s AND time <= %(end)s ORDER BY time;

-- name: demo_bits
-- Stored bits per value of each segment of one series, per column.
SELECT t_min::timestamptz, t_max::timestamptz, rows, column_bytes
FROM ddstore.list_segments(%(table_id)s)
WHERE series = %(series)s
ORDER BY t_min::timestamptz;
