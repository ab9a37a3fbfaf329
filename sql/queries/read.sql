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

-- name: read_use_brin
-- The planner takes a BRIN index for useless until the table is analyzed, and rows are mostly read before that.
SELECT set_config('enable_seqscan', 'off', true)
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam AND m.amname = 'brin'
WHERE i.indrelid = %(oid)s AND i.indisvalid
LIMIT 1;

-- name: read_segments
-- Of the segments how many rows they have, and whose.
SELECT {columns} FROM {segments} AS t WHERE {condition} ORDER BY t.t_min, t.id

-- name: read_payload
-- The coded columns of the same segments in the same order.
SELECT {columns} FROM {segments} AS t WHERE {condition} ORDER BY t.t_min, t.id

-- name: read_tail
-- What names a coded column within its segment; without reading the rest of it.
substr({residual}, greatest(octet_length({residual}) - 3, 1))

-- name: read_needed
-- Of some segments, by id, what decoding takes that was not asked for.
SELECT t.id, {columns} FROM {segments} AS t WHERE t.id = ANY (%(ids)s)

-- name: read_arrays
-- One of the other columns of the same segments, element by element.
SELECT {columns} FROM (
    SELECT {arrays} FROM {segments} AS t WHERE {condition} ORDER BY t.t_min, t.id
) AS s

-- name: read_type
-- The type of a column, without its modifier.
SELECT n.nspname, y.typname
FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid JOIN pg_namespace n ON n.oid = y.typnamespace
WHERE a.attrelid = %(oid)s AND a.attname = %(name)s AND NOT a.attisdropped;

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
-- Names of series, for "did you mean": of those written as such, of some hot rows that came by SQL, and of segments,
-- where it is a walk along the index, one probe per name.
WITH RECURSIVE cold AS (
    (SELECT {key} AS series FROM {segments} ORDER BY {key} LIMIT 1)
    UNION ALL
    SELECT (SELECT s.{key} FROM {segments} s WHERE s.{key} > cold.series ORDER BY s.{key} LIMIT 1)
    FROM cold WHERE cold.series IS NOT NULL
)
SELECT series FROM (
    SELECT series_key ->> 0 AS series FROM ddstore.series_bound WHERE table_id = {table_id}
    UNION
    SELECT series FROM (SELECT s.series FROM ONLY ddstore.samples AS s LIMIT 100000) AS hot
    UNION
    SELECT series FROM cold
) AS names
WHERE series IS NOT NULL
LIMIT 1000;

-- name: strung_measure
-- What the strung columns of a query will take: its rows, and the bytes of its texts (in the server's encoding).
SELECT count(*), {texts} FROM ({rows}) AS rows ({names});

-- name: strung
-- Many rows as one: each column's binary values strung together, all in the same order.
WITH rows ({names}) AS ({rows})
SELECT {columns} FROM rows;
