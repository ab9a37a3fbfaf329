-- Segments record how they were written: profile, bounds asked for, and how far values may be from those first written.
DO $$
DECLARE
    managed record;
BEGIN
    FOR managed IN SELECT t.segments FROM ddstore.managed_table t JOIN pg_catalog.pg_class c ON c.oid = t.segments LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS written jsonb', managed.segments);
    END LOOP;
END
$$;

-- Tables without key columns have one series, whose key is empty.
CREATE OR REPLACE FUNCTION ddstore.settle_segments(segments regclass, ids bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
-- As everywhere, so that a series has one key.
SET datestyle = 'ISO, MDY' SET intervalstyle = postgres SET extra_float_digits = 1 SET lc_monetary = 'C' SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    managed int;
    keys    text;
BEGIN
    SELECT t.id, coalesce(string_agg(format('s.k%s::text', c.id), ', ' ORDER BY c.id) FILTER (WHERE c.id IS NOT NULL), '')
    INTO managed, keys
    FROM ddstore.managed_table t LEFT JOIN ddstore.managed_column c ON c.table_id = t.id AND c.role = 'key'
    WHERE t.segments = settle_segments.segments
    GROUP BY t.id;
    IF managed IS NOT NULL THEN
        EXECUTE format('INSERT INTO ddstore.settled (table_id, series_key, t_min, t_max)'
                       ' SELECT $1, jsonb_build_array(%s), ddstore.instant(s.t_min), ddstore.instant(s.t_max)'
                       ' FROM %s s WHERE s.id = ANY ($2) ON CONFLICT DO NOTHING', keys, segments) USING managed, ids;
    END IF;
END
$$;

-- New segments have nothing of columns that were dropped.
CREATE OR REPLACE FUNCTION ddstore.list_segments(only_table int DEFAULT NULL)
RETURNS TABLE (
    table_id int, relation regclass, segment_id bigint, series jsonb, t_min text, t_max text, rows int,
    time_bytes bigint, latents_bytes bigint, residual_bytes bigint, array_bytes bigint, column_bytes jsonb,
    created_at timestamptz
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
-- A key's text is the same whatever the caller has set, and the same as in the other views.
SET datestyle = 'ISO, MDY' SET intervalstyle = postgres SET extra_float_digits = 1 SET lc_monetary = 'C' AS $$
#variable_conflict use_column
DECLARE
    managed record;
    parts   record;
BEGIN
    FOR managed IN
        SELECT t.id, t.relation, t.segments
        FROM ddstore.managed_table t
        JOIN pg_class c ON c.oid = t.segments
        WHERE (only_table IS NULL OR t.id = only_table) AND has_table_privilege(t.segments, 'SELECT')
        ORDER BY t.id
    LOOP
        SELECT coalesce(string_agg(format('s.k%s::text', m.id), ', ' ORDER BY m.id)
                        FILTER (WHERE m.role = 'key'), '') AS series,
               coalesce(string_agg(format('coalesce(octet_length(s.c%s_latents), 0)::bigint', m.id), ' + ')
                        FILTER (WHERE m.native), '0') AS latents,
               coalesce(string_agg(format('coalesce(octet_length(s.c%s_residual), 0)::bigint', m.id), ' + ')
                        FILTER (WHERE m.role = 'value'), '0') AS residual,
               coalesce(string_agg(format('coalesce(pg_column_size(s.c%s_array), 0)::bigint', m.id), ' + ')
                        FILTER (WHERE m.role = 'value' AND NOT m.native), '0') AS arrays,
               coalesce(string_agg(format(
                            CASE WHEN m.native
                                 THEN '(%1$L, coalesce(octet_length(s.c%2$s_latents), 0) + coalesce(octet_length(s.c%2$s_residual), 0))'
                                 ELSE '(%1$L, coalesce(pg_column_size(s.c%2$s_array), 0) + coalesce(octet_length(s.c%2$s_residual), 0))'
                            END, m.name, m.id), ', ')
                        FILTER (WHERE m.role = 'value'), '(NULL, 0)') AS by_column
        INTO parts
        FROM (SELECT c.id, c.name, c.role,
                     EXISTS (SELECT FROM pg_attribute a
                             WHERE a.attrelid = managed.segments AND a.attname = format('c%s_latents', c.id)) AS native
              FROM ddstore.managed_column c
              WHERE c.table_id = managed.id) m;
        RETURN QUERY EXECUTE format(
            'SELECT $1, $2, s.id, jsonb_build_array(%s), s.t_min::text, s.t_max::text, s.n,'
            '       octet_length(s.time)::bigint, (%s)::bigint, (%s)::bigint, (%s)::bigint,'
            '       (SELECT coalesce(jsonb_object_agg(v.name, v.bytes) FILTER (WHERE v.name IS NOT NULL), ''{}'')'
            '        FROM (VALUES %s) AS v(name, bytes)), s.created_at'
            ' FROM %s s',
            parts.series, parts.latents, parts.residual, parts.arrays, parts.by_column, managed.segments)
            USING managed.id, managed.relation;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION ddstore.list_codings(only_table int DEFAULT NULL)
RETURNS TABLE (
    table_id int, relation regclass, series jsonb, column_id smallint, mode int, coder int, segments bigint,
    rows bigint, non_null bigint, bytes bigint, escapes bigint, exact_segments bigint
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, MDY' SET intervalstyle = postgres SET extra_float_digits = 1 SET lc_monetary = 'C' AS $$
#variable_conflict use_column
DECLARE
    managed record;
    parts   record;
BEGIN
    FOR managed IN
        SELECT t.id, t.relation, t.segments
        FROM ddstore.managed_table t
        JOIN pg_class c ON c.oid = t.segments
        WHERE (only_table IS NULL OR t.id = only_table) AND has_table_privilege(t.segments, 'SELECT')
        ORDER BY t.id
    LOOP
        SELECT coalesce(string_agg(format('s.k%s::text', m.id), ', ' ORDER BY m.id)
                        FILTER (WHERE m.role = 'key'), '') AS series,
               string_agg(format(
                   '(%1$s::smallint, s.c%1$s_count, %2$s + coalesce(octet_length(s.c%1$s_residual), 0),'
                   ' CASE WHEN octet_length(s.c%1$s_residual) >= 10 THEN substr(s.c%1$s_residual, 1, 10) END)', m.id,
                   format(CASE WHEN m.native THEN 'coalesce(octet_length(s.c%s_latents), 0)'
                               ELSE 'pg_column_size(s.c%s_array)' END, m.id)), ', ' ORDER BY m.id) FILTER (WHERE m.role = 'value') AS columns
        INTO parts
        FROM (SELECT c.id, c.role,
                     EXISTS (SELECT FROM pg_attribute a
                             WHERE a.attrelid = managed.segments AND a.attname = format('c%s_latents', c.id)) AS native
              FROM ddstore.managed_column c
              WHERE c.table_id = managed.id) m;
        -- The count of escapes follows that of rows; both take seven bits a byte, at most three.
        RETURN QUERY EXECUTE format(
            'SELECT $1, $2, jsonb_build_array(%s), v.id, get_byte(h.head, 1) & 15, get_byte(h.head, 1) >> 4,'
            '       count(*), sum(s.n)::bigint, sum(v.count)::bigint, sum(v.bytes)::bigint,'
            '       coalesce(sum((e.a & 127) + CASE WHEN e.a < 128 THEN 0 ELSE ((e.b & 127) << 7)'
            '                                       + CASE WHEN e.b < 128 THEN 0 ELSE (e.c & 127) << 14 END END), 0)::bigint,'
            '       count(*) FILTER (WHERE get_byte(h.head, 3) & 4 <> 0)'
            ' FROM %s s'
            ' CROSS JOIN LATERAL (SELECT * FROM (VALUES %s) v (id, count, bytes, start) OFFSET 0) v'
            ' CROSS JOIN LATERAL (SELECT CASE get_byte(v.start, 0) WHEN 1 THEN v.start END AS head,'
            '                            CASE WHEN s.n < 128 THEN 5 WHEN s.n < 16384 THEN 6 ELSE 7 END AS at) h'
            ' CROSS JOIN LATERAL (SELECT get_byte(h.head, h.at) AS a, get_byte(h.head, h.at + 1) AS b,'
            '                            get_byte(h.head, h.at + 2) AS c) e'
            ' WHERE v.count IS NOT NULL' -- segments written after their column was dropped have nothing of it
            ' GROUP BY 3, 4, 5, 6',
            parts.series, managed.segments, parts.columns)
            USING managed.id, managed.relation;
    END LOOP;
END
$$;
