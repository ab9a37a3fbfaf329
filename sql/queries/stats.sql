-- Statistics: rows, bytes and coding of a managed table, in total and per series.

-- name: stats_sizes
-- Disk sizes with indexes and TOAST: the heap of hot rows, and the companion.
SELECT pg_total_relation_size(%(oid)s::oid::regclass), pg_total_relation_size(%(segments)s::regclass);

-- name: stats_hot
SELECT jsonb_build_array({keys}), count(*) FROM ONLY {table} AS t GROUP BY {groups};

-- name: stats_cold
-- Per series: segments, rows and bytes of timestamps.
SELECT jsonb_build_array({keys}), count(*), sum(t.n)::bigint, sum(octet_length(t.time))::bigint
FROM {segments} AS t
GROUP BY 1;

-- name: stats_codings
-- Per series and column: segments that are coded alike, and their part of the column's rows; most rows first.
SELECT series, column_id, mode, coder, segments, rows,
       rows / (sum(rows) OVER (PARTITION BY series, column_id))::float8 AS share, non_null, bytes, escapes,
       exact_segments
FROM ddstore.list_codings(%(table_id)s)
ORDER BY rows DESC, mode, coder;

-- name: stats_models
SELECT column_id, series_key, sum(octet_length(bytes))::bigint, coalesce(sum(octet_length(encoder)), 0)::bigint
FROM ddstore.model
WHERE table_id = %(table_id)s
GROUP BY 1, 2;
