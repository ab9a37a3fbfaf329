-- Statistics: rows, bytes and coding of a managed table, in total and per series.

-- name: stats_sizes
-- Disk sizes with indexes and TOAST: the heap of hot rows, and the companion.
SELECT pg_total_relation_size(%(oid)s::oid::regclass), pg_total_relation_size(%(segments)s::regclass);

-- name: stats_hot
SELECT jsonb_build_array({keys}), count(*) FROM ONLY {table} AS t GROUP BY {groups};

-- name: stats_cold
-- Per series: segments, rows, bytes of timestamps, then values and bytes of each column.
SELECT jsonb_build_array({keys}), count(*), sum(t.n)::bigint, sum(octet_length(t.time))::bigint {columns}
FROM {segments} AS t
GROUP BY 1;

-- name: stats_models
SELECT column_id, series_key, sum(octet_length(bytes))::bigint, coalesce(sum(octet_length(encoder)), 0)::bigint
FROM ddstore.model
WHERE table_id = %(table_id)s
GROUP BY 1, 2;

-- name: stats_residuals
-- What each segment's bytes say of themselves is at their start, but guarded by a checksum over all of them.
SELECT jsonb_build_array({keys}), {columns} FROM {segments} AS t ORDER BY t.id
