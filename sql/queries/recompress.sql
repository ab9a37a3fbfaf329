-- Recompression: segments of today's policy from segments of before.

-- name: recompress_segments
-- The segments of a range, series by series in order of time.
SELECT t.id, t.xmin::text::bigint, jsonb_build_array({keys}) AS series, t.n, {bytes}, t.written
FROM {segments} AS t
WHERE {condition}
ORDER BY series, t.t_min, t.id;

-- name: recompress_sizes
-- Payload bytes of some segments.
SELECT coalesce(sum({bytes}), 0)::bigint FROM {segments} AS t WHERE t.id = ANY (%(ids)s);

-- name: recompress_hashes
-- Of a column that the core does not code: a hash of every element of the segments' arrays, in order.
SELECT {hash} AS hash
FROM (SELECT {array} AS elements FROM {segments} AS t WHERE t.id = ANY ({ids}) ORDER BY t.t_min, t.id) AS old
CROSS JOIN LATERAL (SELECT {element} AS value) AS entry

-- name: recompress_gather
-- Columns that the core does not code, gathered from the arrays of the segments that are replaced.
SELECT {columns}

-- name: recompress_values
-- One of these columns: the value of each row, and the distinct ones. Elements are counted through all arrays, from 1.
(SELECT array_agg(entry.value ORDER BY r.number)
 FROM unnest({entries}::int4[]) WITH ORDINALITY AS r (entry, number)
 LEFT JOIN (SELECT e.value, row_number() OVER (ORDER BY old.t_min, old.id, e.place) AS number
            FROM {segments} AS old
            CROSS JOIN LATERAL (SELECT unnest({array}) AS value, generate_series(1, cardinality({array})) AS place) AS e
            WHERE old.id = ANY (%(old)s)) AS entry ON entry.number = r.entry) AS {values},
coalesce((SELECT array_agg(entry.value ORDER BY r.number)
          FROM unnest({first}::int4[]) WITH ORDINALITY AS r (entry, number)
          JOIN (SELECT e.value, row_number() OVER (ORDER BY old.t_min, old.id, e.place) AS number
                FROM {segments} AS old
                CROSS JOIN LATERAL (SELECT unnest({array}) AS value, generate_series(1, cardinality({array})) AS place) AS e
                WHERE old.id = ANY (%(old)s)) AS entry ON entry.number = r.entry), '{{}}') AS {distinct},
(SELECT count(*) FROM unnest({entries}::int4[]) AS r (entry) WHERE r.entry > 0)::int AS {count}

-- name: recompress_key
-- A key column of the series, as one of its segments has it.
(SELECT {key} FROM {table} AS old WHERE old.id = ANY (%(old)s) LIMIT 1)

-- name: recompress_delete
-- Delete exactly these segments, and return what was deleted.
DELETE FROM {segments} WHERE id = ANY (%(ids)s) RETURNING id, xmin::text::bigint, n;
