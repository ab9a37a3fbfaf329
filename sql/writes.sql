-- Functions behind writes that reach compacted rows; the extension calls them as the owner of the table.
-- This file is the truth beside schema.sql and functions.sql; migrations/ bring a database there, and a test compares.

-- Segments that are about to become ordinary rows.
CREATE FUNCTION ddstore.settle_segments(segments regclass, ids bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
-- As everywhere, so that a series has one key.
SET datestyle = 'ISO, MDY' SET intervalstyle = postgres SET extra_float_digits = 1 SET lc_monetary = 'C' SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    managed int;
    keys    text;
BEGIN
    SELECT t.id, coalesce(string_agg(format('s.k%s::text', c.id), ', ' ORDER BY c.id), '')
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

-- Whether any rows of the table are remembered so.
CREATE FUNCTION ddstore.has_settled(segments regclass) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM ddstore.settled s JOIN ddstore.managed_table t ON t.id = s.table_id
                     WHERE t.segments = has_settled.segments) $$;

-- Rows that may come from segments and got another key or time.
CREATE FUNCTION ddstore.settle_rows(segments regclass, rows tid[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, MDY' SET intervalstyle = postgres SET extra_float_digits = 1 SET lc_monetary = 'C' SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    managed  ddstore.managed_table;
    keys     text;
    instants text;
BEGIN
    SELECT t.* INTO managed FROM ddstore.managed_table t WHERE t.segments = settle_rows.segments;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- The cold table knows which column is which, whatever the table calls it by now.
    SELECT coalesce(string_agg(format('hot.%I::text', a.attname), ', ' ORDER BY substr(o.option_value, 2)::int)
                    FILTER (WHERE o.option_value <> 'time'), ''),
           min(format('ddstore.instant(hot.%I)', a.attname)) FILTER (WHERE o.option_value = 'time')
    INTO keys, instants
    FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
    WHERE a.attrelid = managed.cold AND o.option_name = 'segment_column' AND (o.option_value = 'time' OR o.option_value ~ '^k\d+$');
    EXECUTE format('INSERT INTO ddstore.settled (table_id, series_key, t_min, t_max)'
                   ' SELECT $1, jsonb_build_array(%s), min(%3$s), max(%3$s)'
                   ' FROM ONLY %2$s hot WHERE hot.ctid = ANY ($2) AND %3$s IS NOT NULL GROUP BY 2 ON CONFLICT DO NOTHING',
                   keys, managed.relation, instants) USING managed.id, rows;
END
$$;

-- All segments of a table are gone: so is what was known of them.
CREATE FUNCTION ddstore.forget_segments(segments regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    managed int := (SELECT t.id FROM ddstore.managed_table t WHERE t.segments = forget_segments.segments);
BEGIN
    DELETE FROM ddstore.model m WHERE m.table_id = managed;
    DELETE FROM ddstore.model_trial m WHERE m.table_id = managed;
    DELETE FROM ddstore.settled s WHERE s.table_id = managed;
    DELETE FROM ddstore.job j WHERE j.table_id = managed;
END
$$;

COMMENT ON FUNCTION ddstore.settle_segments(regclass, bigint[]) IS
    'The extension calls it: these segments become ordinary rows, which are not to lose anything again.';
COMMENT ON FUNCTION ddstore.has_settled(regclass) IS
    'The extension calls it: may hot rows of the table come from segments?';
COMMENT ON FUNCTION ddstore.settle_rows(regclass, tid[]) IS
    'The extension calls it: these rows may come from segments, and were written under another key or time.';
COMMENT ON FUNCTION ddstore.forget_segments(regclass) IS
    'The extension calls it: the table was truncated, and nothing is known of its segments any more.';
