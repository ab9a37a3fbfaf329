-- Taking tables over, creating what belongs to them, and letting them go.

-- name: relation_facts
-- Everything that decides whether and how a relation can be managed, as one JSON object.
SELECT jsonb_build_object(
    'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
    'owned', pg_catalog.pg_has_role(c.relowner, 'USAGE'),
    'system', n.nspname ~ '^(pg_(?!temp)|information_schema$)' OR n.nspname = 'ddstore' AND c.relname <> 'samples',
    'managed', EXISTS (SELECT FROM ddstore.managed_table t WHERE t.relation = c.oid),
    'heap', coalesce((SELECT am.amname = 'heap' FROM pg_catalog.pg_am am WHERE am.oid = c.relam), false),
    'partition', c.relispartition,
    'typed', c.reloftype <> 0,
    'inheritance', (SELECT min(i.inhrelid::regclass::text || ' inherits ' || i.inhparent::regclass::text)
                    FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)),
    'referenced_by', (SELECT min(k.conrelid::regclass::text)
                      FROM pg_catalog.pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f'),
    'delete_trigger', (SELECT min(g.tgname::text) FROM pg_catalog.pg_trigger g
                       WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 8 <> 0),
    'rule', (SELECT min(w.rulename::text) FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1'),
    'force_rls', c.relforcerowsecurity,
    'checks', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                          'name', k.conname, 'definition', pg_catalog.pg_get_constraintdef(k.oid),
                          'columns', (SELECT coalesce(jsonb_agg(a.attname), '[]') FROM pg_catalog.pg_attribute a
                                      WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey))) ORDER BY k.conname), '[]')
               FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'f')),
    'columns', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', a.attname, 'type', y.typname, 'type_schema', yn.nspname, 'type_oid', y.oid::bigint,
            'generated', a.attgenerated, 'array', y.typarray <> 0,
            'sortable', EXISTS (
                SELECT FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
                WHERE m.amname = 'btree' AND o.opcdefault AND (
                    o.opcintype IN (y.oid, nullif(y.typbasetype, 0))
                    OR y.typtype = 'e' AND o.opcintype = 'anyenum'::regtype
                    OR EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.castsource = y.oid
                               AND k.casttarget = o.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i'))),
            'collation', CASE WHEN a.attcollation NOT IN (0, y.typcollation)
                              THEN jsonb_build_array(ln.nspname, l.collname) END
        ) ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
        JOIN pg_catalog.pg_namespace yn ON yn.oid = y.typnamespace
        LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %(name)s
  AND CASE WHEN %(schema)s::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = %(schema)s END;

-- name: relation_names
-- Tables of the user, for "did you mean".
SELECT n.nspname || '.' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema$|ddstore$)'
LIMIT 1000;

-- name: resolve_type
-- A type by the name SQL gives it; no row when there is no such type.
SELECT n.nspname, y.typname
FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
WHERE y.oid = pg_catalog.to_regtype(%(type)s) AND y.typtype <> 'p';

-- name: schema_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s);

-- name: current_schema
SELECT pg_catalog.current_schema();

-- name: usable_index
-- Whether an index starts with exactly these columns, so that one series' rows come out in order of time; or, where a
-- BRIN index is enough, whether there is one that has them all.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid = x.relam
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY k.position) AS names
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, position)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.position <= i.indnkeyatts) AS indexed
    WHERE i.indrelid = %(oid)s AND i.indisvalid AND i.indpred IS NULL AND CASE m.amname
        WHEN 'btree' THEN indexed.names[:cardinality(%(columns)s::text[])] = %(columns)s::text[]
        WHEN 'brin' THEN %(brin)s AND indexed.names @> %(columns)s::text[]
        ELSE false END);

-- name: brin_operator_classes
-- For each of these columns the operator class that a BRIN index finds single values by: bloom filters where the type
-- has them (series are interleaved, so ranges of keys would be wide), else what BRIN does by default, else NULL.
SELECT (
    SELECT ARRAY[n.nspname::text, o.opcname::text]
    FROM pg_catalog.pg_opclass o
    JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod AND m.amname = 'brin'
    JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace
    JOIN pg_catalog.pg_type i ON i.oid = o.opcintype
    WHERE (o.opcdefault OR o.opcname ~ '_bloom_ops$') AND (
        o.opcintype IN (y.oid, nullif(y.typbasetype, 0))
        OR EXISTS (SELECT FROM pg_catalog.pg_cast k
                   WHERE k.castsource IN (y.oid, nullif(y.typbasetype, 0)) AND k.casttarget = o.opcintype
                     AND k.castmethod = 'b' AND k.castcontext = 'i'))
    ORDER BY o.opcname ~ '_bloom_ops$' DESC, o.opcintype = y.oid DESC, i.typispreferred DESC, o.oid
    LIMIT 1)
FROM unnest(%(columns)s::text[]) WITH ORDINALITY AS c (name, position)
JOIN pg_catalog.pg_attribute a ON a.attrelid = %(oid)s AND a.attname = c.name
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
ORDER BY c.position;

-- name: hot_indexes
-- The indexes of a table that DDStore made; by their name, which survives dump and restore.
SELECT n.nspname, x.relname
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace
WHERE i.indrelid = %(oid)s AND x.relname ~ '^ddstore_series_[0-9a-f]{8}$';

-- name: insert_managed_table
INSERT INTO ddstore.managed_table (relation, profile, segment_rows, min_rows, hot_for)
VALUES (%(oid)s::oid::regclass, %(profile)s, %(segment_rows)s, %(min_rows)s, %(hot_for)s)
RETURNING id;

-- name: insert_managed_column
INSERT INTO ddstore.managed_column (table_id, id, name, type, role, bound_kind, bound_value, attrelid, attnum)
SELECT %(table_id)s, %(id)s, a.attname, a.atttypid, %(role)s, %(bound_kind)s, %(bound_value)s, a.attrelid, a.attnum
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = %(relation)s AND a.attname = %(name)s AND NOT a.attisdropped;

-- name: set_segments
UPDATE ddstore.managed_table SET segments = %(segments)s::regclass WHERE id = %(table_id)s;

-- name: set_cold
UPDATE ddstore.managed_table SET cold = pg_catalog.to_regclass(%(cold)s) WHERE id = %(table_id)s;

-- name: delete_managed_table
DELETE FROM ddstore.managed_table WHERE id = %(table_id)s;

-- name: rows_in_segments
SELECT coalesce(sum(n), 0)::bigint FROM {segments};

-- name: lz4_available
SELECT 'lz4' = ANY (enumvals) FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression';

-- name: foreign_server_usable
-- Whether the extension's foreign server exists and this role may create tables on it.
SELECT pg_catalog.has_server_privilege(s.oid, 'USAGE')
FROM pg_catalog.pg_foreign_server s WHERE s.srvname = 'ddstore';

-- name: grantees
-- Whom beside its owner a relation is open to; NULL stands for PUBLIC.
SELECT DISTINCT r.rolname
FROM pg_catalog.pg_class c
CROSS JOIN pg_catalog.aclexplode(c.relacl) g
LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
WHERE c.oid = %(relation)s::regclass AND g.grantee <> c.relowner;

-- name: insert_series_bound
-- Does nothing when the series already keeps a bound; the caller compares.
INSERT INTO ddstore.series_bound (table_id, column_id, series_key, bound_kind, bound_value)
VALUES (%(table_id)s, %(column_id)s, %(series_key)s, %(bound_kind)s, %(bound_value)s)
ON CONFLICT DO NOTHING;

-- name: replace_series_bound
INSERT INTO ddstore.series_bound (table_id, column_id, series_key, bound_kind, bound_value)
VALUES (%(table_id)s, %(column_id)s, %(series_key)s, %(bound_kind)s, %(bound_value)s)
ON CONFLICT (table_id, column_id, series_key)
DO UPDATE SET bound_kind = excluded.bound_kind, bound_value = excluded.bound_value;

-- name: replace_column_bound
UPDATE ddstore.managed_column SET bound_kind = %(bound_kind)s, bound_value = %(bound_value)s
WHERE table_id = %(table_id)s AND id = %(column_id)s;

-- name: update_policy
-- NULL leaves a setting as it is; no segment_rows at all is 0.
UPDATE ddstore.managed_table
SET profile = coalesce(%(profile)s::text, profile),
    segment_rows = CASE %(segment_rows)s::bigint WHEN 0 THEN NULL ELSE coalesce(%(segment_rows)s, segment_rows) END,
    min_rows = coalesce(%(min_rows)s::bigint, min_rows),
    hot_for = coalesce(%(hot_for)s::interval, hot_for)
WHERE id = %(table_id)s;

-- name: update_unique_check
UPDATE ddstore.managed_table SET unique_check = %(unique_check)s WHERE id = %(table_id)s;

-- name: shrink_claim
-- From now on the compactor shrinks the table, and VACUUM does not; unless somebody has said already what VACUUM shall do.
UPDATE ddstore.managed_table t
SET shrinks = NOT EXISTS (
    SELECT FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.pg_options_to_table(c.reloptions) o
    WHERE c.oid IN (r.oid, r.reltoastrelid) AND o.option_name = 'vacuum_truncate')
FROM pg_catalog.pg_class r
WHERE t.id = %(table_id)s AND t.shrinks IS NULL AND r.oid = t.relation
  AND pg_catalog.to_regprocedure('ddstore.shrink(oid,int)') IS NOT NULL
  AND coalesce(pg_catalog.current_setting('vacuum_truncate', true)::boolean, true) -- of all tables, since PostgreSQL 18
RETURNING t.shrinks;

-- name: shrink_unclaim
-- The settings that are still as DDStore made them.
WITH gone AS (
    UPDATE ddstore.managed_table t SET shrinks = NULL WHERE t.id = %(table_id)s AND t.shrinks RETURNING t.relation)
SELECT CASE WHEN c.oid = r.oid THEN '' ELSE 'toast.' END || o.option_name
FROM gone
JOIN pg_catalog.pg_class r ON r.oid = gone.relation
JOIN pg_catalog.pg_class c ON c.oid IN (r.oid, r.reltoastrelid)
CROSS JOIN LATERAL pg_catalog.pg_options_to_table(c.reloptions) o
WHERE o.option_name = 'vacuum_truncate' AND NOT o.option_value::boolean;

-- name: cold_name
-- Schema and name of a managed table's foreign table.
SELECT n.nspname, c.relname
FROM ddstore.managed_table t
JOIN pg_catalog.pg_class c ON c.oid = t.cold
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.id = %(table_id)s;

-- name: cold_missing
-- Columns of a managed table's foreign table that read what its segments lack, and what that is.
SELECT a.attname, o.option_value
FROM ddstore.managed_table t
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.cold AND NOT a.attisdropped
CROSS JOIN LATERAL pg_catalog.pg_options_to_table(a.attfdwoptions) o
WHERE t.id = %(table_id)s AND o.option_name = 'missing';

-- name: companion_types
-- The types that were made for a companion's columns.
SELECT y.typname
FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
WHERE n.nspname = 'ddstore' AND y.typtype = 'c' AND y.typname ~ format('^segment_%%s_c[0-9]+$', %(table_id)s::int);

-- name: orphans
-- Companions whose table was dropped: nobody can read their segments through SQL any more.
SELECT t.id, t.segments::text
FROM ddstore.managed_table t
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.relation)
ORDER BY t.id;

-- name: drop_orphans
SELECT ddstore.drop_orphans();
