-- Reading a managed table without the extension: hot rows from the heap, cold rows from the companion.

-- name: read_snapshot
-- First statement of a read: hot and cold rows are seen as of one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: read_plain_scan
-- Rows of one timestamp are to come in the order of the heap, so no scan may start in the middle or run in parallel.
SELECT set_config('synchronize_seqscans', 'off', true), set_config('max_parallel_workers_per_gather', '0', true);

-- name: read_hot
SELECT {columns} FROM ONLY {table} AS t WHERE {condition}

-- name: read_heap_size
SELECT pg_relation_size(%(oid)s::oid::regclass);

-- name: read_segments
-- What is small of the segments: how many rows, and whose.
SELECT {columns} FROM {segments} AS t WHERE {condition} ORDER BY t.t_min, t.id

-- name: read_payload
-- The coded columns of the same segments in the same order.
SELECT {columns} FROM {segments} AS t WHERE {condition} ORDER BY t.t_min, t.id

-- name: read_arrays
-- The other columns of the same segments, element by element.
SELECT {columns} FROM (
    SELECT {arrays} FROM {segments} AS t WHERE {condition} ORDER BY t.t_min, t.id
) AS s

-- name: read_models
SELECT id, bytes FROM ddstore.model WHERE id = ANY (%(ids)s);

-- name: read_series_exists
-- Whether anything is known of one series of ddstore.samples.
SELECT EXISTS (SELECT FROM ONLY ddstore.samples WHERE series = {name})
    OR EXISTS (SELECT FROM {segments} AS t WHERE {condition})
    OR EXISTS (
        SELECT FROM ddstore.series_bound
        WHERE table_id = {table_id} AND series_key = jsonb_build_array({name}::text));

-- name: read_series_names
-- Names of series, for "did you mean": a walk along the index, one probe per name.
WITH RECURSIVE hot AS (
    (SELECT series FROM ONLY ddstore.samples ORDER BY series LIMIT 1)
    UNION ALL
    SELECT (SELECT s.series FROM ONLY ddstore.samples s WHERE s.series > hot.series ORDER BY s.series LIMIT 1)
    FROM hot WHERE hot.series IS NOT NULL
), cold AS (
    (SELECT {key} AS series FROM {segments} ORDER BY {key} LIMIT 1)
    UNION ALL
    SELECT (SELECT s.{key} FROM {segments} s WHERE s.{key} > cold.series ORDER BY s.{key} LIMIT 1)
    FROM cold WHERE cold.series IS NOT NULL
)
SELECT series FROM (SELECT series FROM hot UNION SELECT series FROM cold) AS names
WHERE series IS NOT NULL
LIMIT 1000;
