-- Reading the catalog.

-- name: managed_tables
-- Every managed table (or the one with this id) whose relation still exists, as one JSON object each.
-- With the extension, a column's present name comes from the foreign table, whose options follow renames. Without, from
-- its number, as long as the table is the very one that it was when the number was noted (a restored one is not).
WITH managed AS (
    SELECT t.id, t.relation, t.cold, EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.cold) AS attached
    FROM ddstore.managed_table t
    WHERE %(table_id)s::int IS NULL OR t.id = %(table_id)s::int
), present AS (
    SELECT t.id AS table_id, a.attname::text AS name, a.atttypid AS type, a.attrelid, a.attnum, a.attgenerated,
           option.segment_column, coalesce(option.missing, (a.attmissingval::text::text[])[1]) AS missing
    FROM managed t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attribute f ON f.attrelid = t.cold AND f.attname = a.attname AND NOT f.attisdropped
    CROSS JOIN LATERAL (
        SELECT min(o.option_value) FILTER (WHERE o.option_name = 'segment_column') AS segment_column,
               min(o.option_value) FILTER (WHERE o.option_name = 'missing') AS missing
        FROM pg_catalog.pg_options_to_table(f.attfdwoptions) o) option
), matched AS (
    SELECT c.table_id, c.id, c.role, c.type, c.bound_kind, c.bound_value, coalesce(p.name, c.name) AS name,
           p.name IS NOT NULL AND p.type = c.type AS present, p.attnum, coalesce(p.attgenerated <> '', false) AS generated,
           CASE WHEN p.name IS NOT NULL THEN (p.name, p.attrelid, p.attnum) IS DISTINCT FROM (c.name, c.attrelid, c.attnum)
                -- New segments have nothing of a dropped column.
                ELSE EXISTS (SELECT FROM pg_catalog.pg_attribute s
                             WHERE s.attrelid = pg_catalog.to_regclass('ddstore.segment_' || c.table_id)
                               AND s.attname = format('c%%s_count', c.id) AND s.attnotnull) END AS behind,
           CASE WHEN p.type <> c.type THEN format('column %%s is now %%s, was %%s', p.name, p.type::regtype, c.type)
                WHEN p.name IS NOT NULL THEN NULL
                WHEN NOT t.attached AND c.attrelid IS DISTINCT FROM t.relation AND c.name !~ '^\(dropped \d+\) '
                THEN format('column %%s was dropped or renamed', c.name)
                WHEN c.role <> 'value' THEN format('the %%s column %%s was dropped', c.role, c.name)
           END AS change
    FROM ddstore.managed_column c
    JOIN managed t ON t.id = c.table_id
    LEFT JOIN LATERAL (
        SELECT p.*
        FROM present p
        WHERE p.table_id = c.table_id AND CASE
            WHEN t.attached THEN p.segment_column
                = CASE c.role WHEN 'time' THEN 'time' WHEN 'key' THEN 'k' || c.id ELSE 'c' || c.id END
            WHEN c.attrelid = p.attrelid THEN p.attnum = c.attnum
            ELSE p.name = c.name END
    ) p ON true
), added AS (
    SELECT p.*, row_number() OVER (PARTITION BY p.table_id ORDER BY p.attnum) AS ordinal
    FROM present p
    WHERE NOT EXISTS (SELECT FROM matched m WHERE m.table_id = p.table_id AND m.attnum = p.attnum)
)
SELECT jsonb_build_object(
    'id', t.id, 'oid', t.relation::oid::bigint, 'schema', n.nspname, 'name', r.relname,
    'visible', pg_catalog.pg_table_is_visible(r.oid),
    'segments', 'ddstore.segment_' || t.id,
    'cold', (SELECT cn.nspname || '.' || cr.relname
             FROM pg_catalog.pg_class cr JOIN pg_catalog.pg_namespace cn ON cn.oid = cr.relnamespace
             WHERE cr.oid = t.cold),
    'profile', t.profile, 'segment_rows', t.segment_rows, 'min_rows', t.min_rows,
    'unique_check', t.unique_check,
    'hot_for_us', (extract(epoch FROM t.hot_for) * 1000000)::bigint,
    'columns', (SELECT jsonb_agg(jsonb_build_object(
                           'id', m.id, 'name', m.name, 'type', y.typname, 'role', m.role, 'bound_kind', m.bound_kind,
                           'bound_value', m.bound_value, 'present', m.present, 'generated', m.generated,
                           'wrapped', m.role = 'value' AND y.typarray = 0) ORDER BY m.id)
                FROM matched m JOIN pg_catalog.pg_type y ON y.oid = m.type
                WHERE m.table_id = t.id),
    'added', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                         'id', last.id + a.ordinal, 'name', a.name, 'type', y.typname, 'generated', a.attgenerated <> '',
                         'missing', a.missing, 'wrapped', y.typarray = 0) ORDER BY a.ordinal), '[]')
              FROM added a JOIN pg_catalog.pg_type y ON y.oid = a.type,
                   (SELECT max(c.id) AS id FROM ddstore.managed_column c WHERE c.table_id = t.id) last
              WHERE a.table_id = t.id),
    'behind', (SELECT bool_or(m.behind) FROM matched m WHERE m.table_id = t.id)
              OR EXISTS (SELECT FROM added a WHERE a.table_id = t.id),
    'changes', (SELECT coalesce(jsonb_agg(m.change ORDER BY m.id) FILTER (WHERE m.change IS NOT NULL), '[]')
                FROM matched m WHERE m.table_id = t.id))
FROM ddstore.managed_table t
JOIN pg_catalog.pg_class r ON r.oid = t.relation
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE t.segments IS NOT NULL AND EXISTS (SELECT FROM managed m WHERE m.id = t.id)
ORDER BY t.id;

-- name: series_bounds
-- The bounds that single series of one table keep for themselves.
SELECT column_id, series_key, bound_kind, bound_value
FROM ddstore.series_bound
WHERE table_id = %(table_id)s;

-- name: series_bound
-- The bound that one series keeps for itself.
SELECT bound_kind, bound_value
FROM ddstore.series_bound
WHERE table_id = %(table_id)s AND column_id = %(column_id)s AND series_key = %(series_key)s;

-- name: follow_names
-- What the table calls the columns now, and which they are.
UPDATE ddstore.managed_column c
SET name = a.attname, attrelid = a.attrelid, attnum = a.attnum
FROM pg_catalog.pg_attribute a, unnest(%(ids)s::int2[], %(names)s::text[]) AS now (id, name)
WHERE c.table_id = %(table_id)s AND c.id = now.id AND a.attrelid = %(relation)s AND a.attname = now.name
  AND NOT a.attisdropped;

-- name: follow_free_names
-- Names are unique: those of dropped and of renamed columns make way.
UPDATE ddstore.managed_column
SET name = format('(dropped %%s) %%s', id, name)
WHERE table_id = %(table_id)s AND id = ANY (%(ids)s::int2[]) AND name !~ '^\(dropped \d+\) ';

-- name: follow_lengths
-- How long the segments are.
SELECT DISTINCT n FROM {segments};

-- name: follow_fill
-- What a new column reads in the rows of before.
UPDATE {segments} AS s SET {assignments}
FROM unnest(%(lengths)s::int[], %(residuals)s::bytea[], %(sums)s::text[]) AS filled (n, residual, sum)
WHERE s.n = filled.n;

-- name: follow_ambiguous
-- Whether another column of a segment has the checksum of the new one, its last four bytes, and is not the same.
SELECT EXISTS (SELECT FROM {segments} WHERE {collisions});

-- name: follow_collision
substr({residual}, greatest(octet_length({residual}) - 3, 1)) = substr({new}, octet_length({new}) - 3)
    AND {residual} <> {new}

-- name: follow_lock_models
LOCK TABLE ddstore.model IN SHARE ROW EXCLUSIVE MODE;

-- name: follow_patience
-- Readers queue up behind whoever waits for the locks that follow.
SET LOCAL lock_timeout = '10s';
