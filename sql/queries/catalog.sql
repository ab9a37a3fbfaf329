-- Reading the catalog.

-- name: managed_tables
-- Every managed table (or the one with this id) whose relation still exists, as one JSON object each.
-- With the extension, a column's present name comes from the foreign table, whose options follow renames.
WITH present AS (
    SELECT t.id AS table_id, a.attname::text AS name, a.atttypid AS type,
           substring(option FROM 'segment_column=(.*)') AS segment_column
    FROM ddstore.managed_table t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attribute f ON f.attrelid = t.cold AND f.attname = a.attname AND NOT f.attisdropped
    LEFT JOIN LATERAL unnest(f.attfdwoptions) option ON option LIKE 'segment\_column=%%'
), matched AS (
    SELECT c.table_id, c.id, c.role, c.type, c.bound_kind, c.bound_value, coalesce(p.name, c.name) AS name,
           p.name IS NOT NULL AND p.type = c.type AS present,
           CASE WHEN p.name IS NULL THEN format('column %%s was dropped or renamed', c.name)
                WHEN p.type <> c.type THEN format('column %%s is now %%s, was %%s', p.name, p.type::regtype, c.type)
           END AS change
    FROM ddstore.managed_column c
    LEFT JOIN LATERAL (
        SELECT p.name, p.type
        FROM present p
        WHERE p.table_id = c.table_id AND (
            p.segment_column = CASE c.role WHEN 'time' THEN 'time' WHEN 'key' THEN 'k' || c.id ELSE 'c' || c.id END
            OR p.segment_column IS NULL AND p.name = c.name)
    ) p ON true
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
                           'bound_value', m.bound_value, 'present', m.present,
                           'wrapped', m.role = 'value' AND y.typarray = 0) ORDER BY m.id)
                FROM matched m JOIN pg_catalog.pg_type y ON y.oid = m.type
                WHERE m.table_id = t.id),
    'changes', (SELECT coalesce(jsonb_agg(change), '[]')
                FROM (SELECT m.change FROM matched m WHERE m.table_id = t.id AND m.change IS NOT NULL
                      UNION ALL
                      SELECT format('column %%s was added', p.name) FROM present p
                      WHERE p.table_id = t.id
                        AND NOT EXISTS (SELECT FROM matched m WHERE m.table_id = t.id AND m.name = p.name)) c))
FROM ddstore.managed_table t
JOIN pg_catalog.pg_class r ON r.oid = t.relation
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE t.segments IS NOT NULL AND (%(table_id)s::int IS NULL OR t.id = %(table_id)s::int)
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
