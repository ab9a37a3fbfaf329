-- Writing through Python. The rows themselves go by binary COPY, see ddstore/db/copy.py.

-- name: release_stage
-- Decoded rows on their way back: which segment, which row of it, and what the core coded of each column.
CREATE TEMPORARY TABLE ddstore_release (segment bigint, row bigint, {columns}) ON COMMIT DROP;

-- name: release_block
-- No compaction from here on; readers go on.
LOCK TABLE {segments} IN SHARE ROW EXCLUSIVE MODE;

-- name: release_ids
SELECT id FROM {segments} ORDER BY t_min, id;

-- name: release_plan
-- The staged rows have no statistics; a nested loop over them would be quadratic.
SELECT set_config('enable_nestloop', 'off', true);

-- name: release_planned
-- What follows has joins that can be nothing else: with nested loops off their cost would have PostgreSQL JIT-compile them.
SET LOCAL enable_nestloop TO DEFAULT;

-- name: release_triggers
-- The user's triggers that fire on INSERT.
SELECT tgname, tgenabled::text FROM pg_trigger
WHERE tgrelid = %(oid)s AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 4 <> 0
ORDER BY tgname;

-- name: release_rows
-- Back into the table: keys and elements of arrays straight from the segments, the rest from what was decoded.
INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {values}
FROM {segments} AS s
JOIN pg_temp.ddstore_release AS r ON r.segment = s.id
{entries}
WHERE s.id = ANY (%(ids)s)
ORDER BY s.t_min, s.id, r.row;

-- name: release_entries
-- The elements of one column's arrays, counted from 1 whatever an array's own bounds are.
LEFT JOIN (
    SELECT id AS segment, {value} AS value, generate_series(1, cardinality({array})) AS position
    FROM {segments} WHERE id = ANY (%(ids)s)) AS {name}
    ON {name}.segment = r.segment AND {name}.position = r.{name}

-- name: release_emptied
TRUNCATE pg_temp.ddstore_release;
