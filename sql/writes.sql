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
    heads   text;
BEGIN
    -- Of floats, what no longer tells once they are rows: the first bytes say on which lattice they lie (codec/hint.py).
    SELECT t.id, coalesce(string_agg(format('s.k%s::text', c.id), ', ' ORDER BY c.id) FILTER (WHERE c.role = 'key'), ''),
           format('jsonb_object(ARRAY[%s]::text[], ARRAY[%s]::text[])',
                  string_agg(quote_literal(c.id), ', ' ORDER BY c.id) FILTER (WHERE c.role = 'value' AND c.floats),
                  string_agg(format('encode(substr(s.c%s_residual, 1, 128), ''hex'')', c.id), ', ' ORDER BY c.id)
                  FILTER (WHERE c.role = 'value' AND c.floats))
    INTO managed, keys, heads
    FROM ddstore.managed_table t
    LEFT JOIN (SELECT *, type IN ('float4'::regtype, 'float8'::regtype) AS floats FROM ddstore.managed_column) c ON c.table_id = t.id
    WHERE t.segments = settle_segments.segments
    GROUP BY t.id;
    IF managed IS NOT NULL THEN
        EXECUTE format('INSERT INTO ddstore.settled (table_id, series_key, t_min, t_max, heads)'
                       ' SELECT DISTINCT ON (2, 3, 4) $1, jsonb_build_array(%s), ddstore.instant(s.t_min), ddstore.instant(s.t_max), %s'
                       ' FROM %s s WHERE s.id = ANY ($2)'
                       ' ON CONFLICT (table_id, series_key, t_min, t_max) DO UPDATE SET heads = excluded.heads',
                       keys, heads, segments) USING managed, ids;
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

-- Drop what is left of tables that are gone: compressed rows, models, settings. Returns the segment tables.
CREATE FUNCTION ddstore.drop_orphans() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    orphan int;
    made   regtype;
BEGIN
    FOR orphan IN
        SELECT t.id FROM ddstore.managed_table t
        WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation) ORDER BY t.id
    LOOP
        IF to_regclass(format('ddstore.segment_%s', orphan)) IS NOT NULL THEN
            EXECUTE format('DROP TABLE ddstore.segment_%s', orphan);
        END IF;
        FOR made IN
            SELECT y.oid FROM pg_type y
            WHERE y.typnamespace = 'ddstore'::regnamespace AND y.typtype = 'c' AND y.typname ~ format('^segment_%s_c[0-9]+$', orphan)
        LOOP
            EXECUTE format('DROP TYPE %s', made);
        END LOOP;
        DELETE FROM ddstore.managed_table t WHERE t.id = orphan;
        RETURN NEXT format('ddstore.segment_%s', orphan);
    END LOOP;
END
$$;

COMMENT ON FUNCTION ddstore.drop_orphans() IS
    'Drops the segments of tables that were dropped, and what the catalog has of them; returns which segment tables.';

-- Uniqueness among compacted rows, too, for tables with unique_check = 'all': triggers on the table. Their functions are made
-- for the table, and run as its owner: who inserts need not have the right to read.

-- What follows BEGIN in such a function: a look for every unique key of the rows of "source" among compacted rows.
CREATE FUNCTION ddstore.unique_check_body(managed ddstore.managed_table, source text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unique_key record;
    body       text := '';
BEGIN
    FOR unique_key IN
        SELECT x.relname AS name, bool_or(i.indnullsnotdistinct) AS with_nulls,
               bool_or(o.option_value = 'time') AS with_time,
               string_agg(quote_ident(a.attname), ', ' ORDER BY k.place) AS columns,
               string_agg(format('n.%I', a.attname), ', ' ORDER BY k.place) AS wanted,
               string_agg(format('c.%1$I OPERATOR(%2$I.%3$s) n.%1$I', a.attname, s.nspname, p.oprname), ' AND ') AS same_row,
               -- Most new rows are later than all segments: that takes one look into an index.
               string_agg(CASE WHEN o.option_value = 'time' THEN format('s.t_max >= n.%1$I AND s.t_min <= n.%1$I', a.attname)
                               WHEN o.option_value ~ '^k' THEN format('s.%s OPERATOR(%I.%s) n.%I', o.option_value, s.nspname,
                                                                      p.oprname, a.attname) END, ' AND ') AS same_segment
        FROM pg_index i
        JOIN pg_class x ON x.oid = i.indexrelid
        CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY k (attnum, opclass, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        JOIN pg_attribute f ON f.attrelid = managed.cold AND f.attname = a.attname
        LEFT JOIN LATERAL pg_options_to_table(f.attfdwoptions) o ON o.option_name = 'segment_column'
        JOIN pg_opclass oc ON oc.oid = k.opclass
        JOIN pg_amop m ON m.amopfamily = oc.opcfamily AND m.amoplefttype = oc.opcintype
                      AND m.amoprighttype = oc.opcintype AND m.amopstrategy = 3
        JOIN pg_operator p ON p.oid = m.amopopr
        JOIN pg_namespace s ON s.oid = p.oprnamespace
        WHERE i.indrelid = managed.relation AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
          AND k.place <= i.indnkeyatts
        GROUP BY i.indexrelid, x.relname
    LOOP
        IF unique_key.with_time IS NOT TRUE OR unique_key.with_nulls THEN
            RAISE EXCEPTION 'unique_check cannot be ''all'' for %: its unique key % %', managed.relation, unique_key.name,
                CASE WHEN unique_key.with_nulls THEN 'is of NULLS NOT DISTINCT' ELSE 'lacks the time column' END
                USING ERRCODE = 'feature_not_supported', HINT = 'Every row to come would be looked for in every segment.';
        END IF;
        body := body || format($body$
    SELECT format('Key (%%s)=(%%s) already exists in a compacted row.', %1$L, concat_ws(', ', %2$s)) INTO twin FROM %3$s n
    WHERE CASE WHEN num_nulls(%2$s) > 0 THEN false
               WHEN CASE WHEN EXISTS (SELECT FROM %4$s s WHERE %5$s OFFSET 0)
                         THEN EXISTS (SELECT FROM %6$s c WHERE %7$s OFFSET 0) END THEN true
               -- A row that became cold after the snapshot is still seen where it was.
               WHEN current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
               THEN (SELECT count(*) FROM ONLY %10$s c WHERE %7$s) > 1 END LIMIT 1;
    IF FOUND THEN
        RAISE unique_violation USING MESSAGE = %8$L, DETAIL = twin, CONSTRAINT = %9$L, TABLE = TG_TABLE_NAME,
            SCHEMA = TG_TABLE_SCHEMA;
    END IF;$body$,
            unique_key.columns, unique_key.wanted, source, managed.segments, unique_key.same_segment, managed.cold,
            unique_key.same_row, format('duplicate key value violates unique constraint "%s"', unique_key.name), unique_key.name,
            managed.relation);
    END LOOP;
    RETURN body;
END
$$;

-- Make the triggers what the table's row in managed_table says.
CREATE FUNCTION ddstore.arrange_unique_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name    text := 'check_unique_' || OLD.id;
    changed text;
    source  record;
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = OLD.relation) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS ddstore_unique_insert ON %1$s', OLD.relation);
        EXECUTE format('DROP TRIGGER IF EXISTS ddstore_unique_update ON %1$s', OLD.relation);
    END IF;
    EXECUTE format('DROP FUNCTION IF EXISTS ddstore.%I()', name || '_insert');
    EXECUTE format('DROP FUNCTION IF EXISTS ddstore.%I()', name || '_update');
    IF TG_OP = 'DELETE' OR NEW.unique_check <> 'all' OR NEW.cold IS NULL THEN
        RETURN NULL;
    END IF;
    FOR source IN SELECT * FROM (VALUES ('_insert', 'added'), ('_update', '(SELECT NEW.*)')) AS v (suffix, rows) LOOP
        EXECUTE format('CREATE FUNCTION ddstore.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER'
                       ' SET search_path = pg_catalog, pg_temp AS %L', name || source.suffix,
                       format(E'DECLARE\n    twin text;\nBEGIN%s\n    RETURN NULL;\nEND', ddstore.unique_check_body(NEW, source.rows)));
        EXECUTE format('COMMENT ON FUNCTION ddstore.%I() IS %L', name || source.suffix,
                       format('Looks for the unique keys of rows new in %s among its compacted rows.', NEW.relation));
    END LOOP;
    EXECUTE format('CREATE TRIGGER ddstore_unique_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS added FOR EACH STATEMENT'
                   ' EXECUTE FUNCTION ddstore.%I()', NEW.relation, name || '_insert');
    SELECT string_agg(DISTINCT format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', a.attname), ' OR ') INTO changed
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
    WHERE i.indrelid = NEW.relation AND i.indisunique;
    IF changed IS NOT NULL THEN
        EXECUTE format('CREATE TRIGGER ddstore_unique_update AFTER UPDATE ON %s FOR EACH ROW WHEN (%s)'
                       ' EXECUTE FUNCTION ddstore.%I()', NEW.relation, changed, name || '_update');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER arrange_unique_check AFTER UPDATE OF unique_check, cold OR DELETE ON ddstore.managed_table
    FOR EACH ROW EXECUTE FUNCTION ddstore.arrange_unique_check();

COMMENT ON FUNCTION ddstore.unique_check_body(ddstore.managed_table, text) IS
    'Source of the functions that look for unique keys among compacted rows.';
COMMENT ON FUNCTION ddstore.arrange_unique_check() IS 'Makes or drops the triggers that unique_check asks for.';
