-- Compaction: which series are due, who works on them, and the one transaction that moves their rows.

-- name: compact_series
-- Series with enough hot rows. Equal keys that print differently ('1.0' and '1.00') are series of their own.
SELECT jsonb_build_array({keys}) AS series, count(*) AS rows
FROM ONLY {table} AS hot
WHERE {due}
GROUP BY {groups}
HAVING count(*) >= {min_rows}
ORDER BY series;

-- name: compact_hot_series
-- Due rows of one series, in any order. xmin tells a row version from a later one in the same place.
SELECT {ordinal}::int4 AS series, {columns}
FROM ONLY {table} AS hot
WHERE {series} AND {due}

-- name: compact_hot_oldest
-- The oldest of them.
({series_rows} ORDER BY {time}, hot.ctid LIMIT {rows})

-- name: compact_hot_group
-- Due rows of several series by one scan, in any order.
SELECT wanted.ordinal AS series, {columns}
FROM ONLY {table} AS hot
JOIN (VALUES {wanted}) AS wanted ({names}) ON {match}
WHERE {due}

-- name: compact_use_index
-- One series may be a small part of the table, which may be too new for the planner to know.
SET LOCAL enable_seqscan = off;

-- name: compact_time_edges
-- The times of every so many due rows of a series, so that it can be read in parts.
SELECT unnest(percentile_disc({fractions}::float8[]) WITHIN GROUP (ORDER BY {time}))
FROM ONLY {table} AS hot
WHERE {series} AND {due};

-- name: compact_filenode
-- Changes whenever the table is rewritten (CLUSTER, VACUUM FULL, ALTER TYPE), which moves every row.
SELECT pg_catalog.pg_relation_filenode(%(oid)s::oid)::bigint;

-- name: compact_claim
-- Take the series of this list that nobody works on and that need not wait any longer.
WITH wanted AS (
    SELECT series_key FROM jsonb_array_elements(%(series)s) AS wanted (series_key)
), free AS (
    SELECT job.id
    FROM ddstore.job
    JOIN wanted USING (series_key)
    WHERE job.table_id = %(table_id)s AND job.state <> 'running' AND (job.not_before <= now() OR %(force)s)
    FOR UPDATE OF job SKIP LOCKED
), claimed AS (
    UPDATE ddstore.job
    SET state = 'running', profile = %(profile)s, worker = %(worker)s, heartbeat = now(), started_at = now(), finished_at = NULL,
        attempts = CASE job.state WHEN 'failed' THEN job.attempts + 1 ELSE 1 END,
        rows = 0, segments = 0, bytes = 0, note = NULL, error = NULL
    FROM free
    WHERE job.id = free.id
    RETURNING job.id, job.series_key
), added AS (
    INSERT INTO ddstore.job (table_id, series_key, profile, worker)
    SELECT %(table_id)s, series_key, %(profile)s, %(worker)s
    FROM wanted
    WHERE NOT EXISTS (
        SELECT FROM ddstore.job WHERE job.table_id = %(table_id)s AND job.series_key = wanted.series_key)
    ON CONFLICT (table_id, series_key) DO NOTHING
    RETURNING id, series_key
)
SELECT id, series_key FROM claimed
UNION ALL
SELECT id, series_key FROM added;

-- name: compact_heartbeat
-- Say that this worker is alive, for every series it holds.
UPDATE ddstore.job SET heartbeat = now() WHERE worker = %(worker)s AND state = 'running';

-- name: compact_reap
-- Take the series of vanished workers back. The first time they may be tried again at once, then ever later.
WITH stale AS (
    SELECT id FROM ddstore.job
    WHERE state = 'running' AND heartbeat < now() - %(after)s::interval
    FOR UPDATE SKIP LOCKED
)
UPDATE ddstore.job
SET state = 'failed', finished_at = now(), error = format('worker %%s vanished', job.worker),
    not_before = now() + least(interval '1 minute' * (2 ^ least(job.attempts - 1, 20) - 1), interval '1 day')
FROM stale
WHERE job.id = stale.id
RETURNING job.id;

-- name: compact_record
-- What one committed batch did; in the transaction that does it. A series taken over by another worker is missing
-- from the count of updated rows.
UPDATE ddstore.job
SET rows = job.rows + batch.rows, segments = job.segments + batch.segments, bytes = job.bytes + batch.bytes,
    heartbeat = now()
FROM unnest(%(ids)s::bigint[], %(rows)s::bigint[], %(segments)s::int[], %(bytes)s::bigint[])
    AS batch (id, rows, segments, bytes)
WHERE job.id = batch.id AND job.worker = %(worker)s AND job.state = 'running';

-- name: compact_done
-- These series are through.
UPDATE ddstore.job
SET state = 'done', finished_at = now(), heartbeat = now(), not_before = now(), note = nullif(batch.note, '')
FROM unnest(%(ids)s::bigint[], %(notes)s::text[]) AS batch (id, note)
WHERE job.id = batch.id AND job.worker = %(worker)s AND job.state = 'running';

-- name: compact_failed
-- This series did not get through: say why, and wait longer after every attempt.
UPDATE ddstore.job
SET state = 'failed', finished_at = now(), heartbeat = now(), error = %(error)s, note = nullif(%(note)s, ''),
    not_before = now() + least(interval '1 minute' * 2 ^ least(attempts - 1, 20), interval '1 day')
WHERE id = %(id)s AND worker = %(worker)s AND state = 'running';

-- name: compact_delete
-- Delete exactly these rows, and return what was deleted.
DELETE FROM ONLY {table} AS hot
WHERE hot.ctid = ANY (%(rows)s::tid[])
RETURNING 0::int4 AS series, {columns};

-- name: compact_movable
-- Whether deleting a row is all that a DELETE would do.
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = %(oid)s AND tgtype & 8 <> 0);

-- name: compact_leaving
-- Where SQL sees cold rows, these are looked at first ...
SELECT 0::int4 AS series, {columns} FROM ONLY {table} AS hot WHERE hot.ctid = ANY (%(rows)s::tid[]);

-- name: compact_move
-- ... and then deleted, so that a statement which is about to change one of them fails instead of missing it.
SELECT ddstore.move_rows(%(oid)s::oid, %(rows)s::tid[]);

-- name: compact_hash
-- Of a value's text as its type prints it, byte for byte. If different values have one hash, nothing is lost by it.
CASE WHEN num_nulls({column}) = 0 THEN hashtextextended(concat({column}) COLLATE "C", 0) END

-- name: compact_gather
-- Columns that the core does not code, gathered from the very rows that are deleted; nothing when one is gone.
SELECT {columns} FROM ONLY {table} AS hot WHERE hot.ctid = ANY (%(rows)s::tid[]) HAVING count(*) = %(n)s;

-- name: compact_values
-- One of these columns: the value of each row, and the distinct ones of the rows in which each first comes.
array_agg({column} ORDER BY {time}, hot.ctid) AS {values},
coalesce((SELECT array_agg({column} ORDER BY {time}, hot.ctid)
          FROM ONLY {table} AS hot WHERE hot.ctid = ANY ({first}::tid[])), '{{}}') AS {distinct},
count({column})::int AS {count}

-- name: compact_pays
-- Whether distinct values and positions give back exactly the values, and are smaller than these. TOAST may halve
-- values, above all those that come again and again, but cannot do anything about positions.
CASE WHEN {residual}::bytea IS NULL THEN false
     WHEN pg_column_size({distinct}) + 2 * octet_length({residual}::bytea) >= pg_column_size({values}) THEN false
     ELSE record_image_eq(ROW({values}), ROW((
         SELECT array_agg(entry.value ORDER BY r.number)
         FROM unnest({positions}::int4[]) WITH ORDINALITY AS r (position, number)
         LEFT JOIN (SELECT unnest({distinct}) AS value, generate_subscripts({distinct}, 1) AS position) AS entry
             USING (position))))
END AS {pays}

-- name: compact_key
-- A key column of the series, as one of its rows has it.
(SELECT {key} FROM ONLY {table} AS hot WHERE hot.ctid = ANY (%(row)s::tid[]));

-- name: compact_insert
-- One segment, and hashes of its bytes as the server holds them: of times and values, and of positions, where they pay.
WITH gathered AS ({gather}), moved AS MATERIALIZED (SELECT gathered.*{pays} FROM gathered)
INSERT INTO {segments} ({columns})
SELECT {values} FROM moved
RETURNING sha256({payload}), ARRAY[{positions}]::bytea[], id;

-- name: compact_plan
-- The planner does not know how many values and positions a segment has; a nested loop over them would be quadratic.
SET LOCAL enable_nestloop = off;

-- name: compact_bounds
-- The bounds that some series keep for themselves.
SELECT bound.series_key, bound.column_id, bound.bound_kind, bound.bound_value
FROM ddstore.series_bound AS bound
JOIN jsonb_array_elements(%(series)s) AS wanted (series_key) USING (series_key)
WHERE bound.table_id = %(table_id)s;

-- name: compact_settled
-- Times of some series whose hot rows were in segments before.
SELECT settled.series_key, settled.t_min, settled.t_max, settled.heads
FROM ddstore.settled
JOIN jsonb_array_elements(%(series)s) AS wanted (series_key) USING (series_key)
WHERE settled.table_id = %(table_id)s;

-- name: compact_unsettle
-- Forget such times once no hot row is left there. A row that is about to come brings word of its own.
DELETE FROM ddstore.settled
WHERE table_id = {table_id} AND series_key = {series_key} AND t_min = {t_min} AND t_max = {t_max}
  AND NOT EXISTS (SELECT FROM ONLY {table} AS hot WHERE {series} AND {time} BETWEEN {first} AND {last});

-- name: compact_models
-- The latest model of each column of some series.
SELECT DISTINCT ON (model.series_key, model.column_id)
       model.series_key, model.column_id, model.id, model.bytes, model.encoder, model.record
FROM ddstore.model
JOIN jsonb_array_elements(%(series)s) AS wanted (series_key) USING (series_key)
WHERE model.table_id = %(table_id)s
ORDER BY model.series_key, model.column_id, model.id DESC;

-- name: compact_model_insert
-- A new model of one series' column.
INSERT INTO ddstore.model (table_id, column_id, series_key, bytes, encoder, record)
VALUES (%(table_id)s, %(column_id)s, %(series)s, %(bytes)s, %(encoder)s, %(record)s)
RETURNING id, sha256(bytes);

-- name: compact_trial
-- Whether a model was tried for this column of the series, under the same bound, and how long the series was then.
SELECT rows
FROM ddstore.model_trial
WHERE table_id = %(table_id)s AND column_id = %(column_id)s AND series_key = %(series)s
  AND bound_kind = %(bound_kind)s AND bound_value = %(bound_value)s;

-- name: compact_trial_record
-- A model was tried and did not pay. Nothing happens when the table was released meanwhile.
INSERT INTO ddstore.model_trial (table_id, column_id, series_key, bound_kind, bound_value, rows, bits_per_sample, note)
SELECT table_id, id, %(series)s, %(bound_kind)s, %(bound_value)s, %(rows)s, %(bits_per_sample)s, %(note)s
FROM ddstore.managed_column
WHERE table_id = %(table_id)s AND id = %(column_id)s
ON CONFLICT (table_id, column_id, series_key) DO UPDATE
SET bound_kind = excluded.bound_kind, bound_value = excluded.bound_value, rows = excluded.rows,
    bits_per_sample = excluded.bits_per_sample, note = excluded.note, tried_at = excluded.tried_at;

-- name: compact_cold_rows
-- Rows that a series has in segments.
SELECT coalesce(sum(n), 0)::bigint FROM {segments} AS cold WHERE {series};

-- name: compact_patience
-- Shorter than deadlock_timeout, after which autovacuum would be cancelled in our favour.
SET LOCAL lock_timeout = '100ms';

-- name: compact_heap
-- The heap of hot rows: its bytes, those of its TOAST table, and who shrinks it: whether DDStore has told VACUUM not to, and
-- can do it itself; no row when the table is gone.
SELECT coalesce(pg_catalog.pg_relation_size(r.oid), 0), r.reltoastrelid,
       coalesce(pg_catalog.pg_relation_size(nullif(r.reltoastrelid, 0)), 0),
       pg_catalog.to_regprocedure('ddstore.shrink(oid,int)') IS NOT NULL
           AND pg_catalog.pg_has_role(r.relowner, 'USAGE'),
       t.shrinks IS NULL,
       coalesce(t.shrinks, false) AND EXISTS (
           SELECT FROM pg_catalog.pg_options_to_table(r.reloptions) o
           WHERE o.option_name = 'vacuum_truncate' AND NOT o.option_value::boolean)
FROM ddstore.managed_table t
JOIN pg_catalog.pg_class r ON r.oid = t.relation
WHERE t.id = %(table_id)s;

-- name: compact_shrink
-- One step: how many pages went, NULL while somebody uses the table.
SELECT ddstore.shrink(%(oid)s::oid, %(pages)s);

-- name: compact_forget_summaries
-- Of the BRIN index that DDStore made: what it knows of each range of pages.
SELECT count(pg_catalog.brin_desummarize_range(x.oid, block))
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'brin'
CROSS JOIN LATERAL (
    SELECT option_value::int AS pages FROM pg_catalog.pg_options_to_table(x.reloptions)
    WHERE option_name = 'pages_per_range') AS range
CROSS JOIN LATERAL generate_series(
    0, pg_catalog.pg_relation_size(i.indrelid) / current_setting('block_size')::bigint - 1, range.pages) AS block
WHERE i.indrelid = %(oid)s AND x.relname ~ '^(ddstore_series_[0-9a-f]{8}|samples_series_time)$';
