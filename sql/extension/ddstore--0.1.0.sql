-- The extension: a foreign-data wrapper that reads cold rows out of segments.
-- Installed with: CREATE EXTENSION ddstore SCHEMA ddstore
\echo Use "CREATE EXTENSION ddstore SCHEMA ddstore" to load this file. \quit

CREATE FUNCTION fdw_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'ddstore_fdw_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION fdw_handler() IS 'entry points of the DDStore foreign-data wrapper';

CREATE FUNCTION fdw_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME', 'ddstore_fdw_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION fdw_validator(text[], oid) IS 'rejects options the DDStore foreign-data wrapper does not know';

CREATE FUNCTION extension_version() RETURNS text
    AS 'MODULE_PATHNAME', 'ddstore_extension_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION extension_version() IS 'version of the loaded DDStore library; differs from pg_extension until ALTER EXTENSION ... UPDATE';

CREATE FUNCTION move_rows(relation oid, places tid[]) RETURNS bigint
    AS 'MODULE_PATHNAME', 'ddstore_move_rows' LANGUAGE C STRICT;
COMMENT ON FUNCTION move_rows(oid, tid[]) IS
    'DELETE of rows that become cold: who was about to change one fails with serialization_failure instead of missing it';

CREATE FUNCTION shrink(relation oid, pages int) RETURNS int
    AS 'MODULE_PATHNAME', 'ddstore_shrink' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION shrink(oid, int) IS
    'Gives back up to so many pages that are empty at the end of a table, or of its TOAST table, under a lock that it holds for '
    'milliseconds and never waits for. Returns how many; NULL while somebody uses the table.';

CREATE FOREIGN DATA WRAPPER ddstore HANDLER fdw_handler VALIDATOR fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER ddstore IS 'reads cold rows out of DDStore segments';

CREATE SERVER ddstore FOREIGN DATA WRAPPER ddstore;
COMMENT ON SERVER ddstore IS 'this database: the segments are ordinary tables of it';

-- Anyone may define a cold table: the wrapper reads a segment table only when the foreign table's owner
-- may SELECT from it, so a foreign table opens nothing that its owner could not read already.
GRANT USAGE ON FOREIGN SERVER ddstore TO PUBLIC;

-- Cold rows of a range back into hot ones, for statements that do not reach cold rows.

CREATE FUNCTION segments_of_range(cold regclass, key text, t0 text, t1 text) RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    managed   record;
    condition text;
    time_type regtype;
    key_count int;
    numbers   bigint[];
BEGIN
    SELECT t.segments, t.relation INTO STRICT managed FROM ddstore.managed_table t WHERE t.cold = segments_of_range.cold;
    SELECT count(*), coalesce(string_agg('s.' || c.source || CASE
               WHEN key::jsonb ->> (c.place - 1) IS NULL THEN ' IS NULL'
               ELSE format(' %s %L::%s', ddstore.key_equals(c.type), key::jsonb ->> (c.place - 1), format_type(c.type, -1)) END,
               ' AND '), 'true')
    INTO key_count, condition
    FROM (SELECT o.option_value AS source, a.atttypid AS type,
                 row_number() OVER (ORDER BY substr(o.option_value, 2)::int)::int AS place
          FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
          WHERE a.attrelid = cold AND o.option_name = 'segment_column' AND o.option_value ~ '^k\d+$') c;
    IF key IS NULL THEN
        condition := 'true';
    ELSIF jsonb_typeof(key::jsonb) <> 'array' OR jsonb_array_length(key::jsonb) <> key_count THEN
        RAISE EXCEPTION 'unseal: % is no key of %', key, managed.relation
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the values of its key columns as a JSON array, in their order; NULL is every series.';
    END IF;
    SELECT a.atttypid INTO STRICT time_type
    FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
    WHERE a.attrelid = cold AND o.option_name = 'segment_column' AND o.option_value = 'time';
    condition := condition || CASE WHEN t0 IS NULL THEN '' ELSE format(' AND s.t_max >= %L::%s', t0, time_type) END
                           || CASE WHEN t1 IS NULL THEN '' ELSE format(' AND s.t_min < %L::%s', t1, time_type) END;
    EXECUTE format('SELECT array_agg(s.id) FROM %s s WHERE %s', managed.segments, condition) INTO numbers;
    RETURN numbers;
END
$$;
COMMENT ON FUNCTION segments_of_range(regclass, text, text, text) IS 'unseal() calls it: the segments that it takes apart';

CREATE FUNCTION unseal_range(cold regclass, key text, t0 text, t1 text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'ddstore_unseal_range' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION unseal_range(regclass, text, text, text) IS 'unseal() without checks of its arguments';

CREATE FUNCTION unseal(relation regclass, key jsonb, t0 anycompatible, t1 anycompatible) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
-- Times become text here, and times again in segments_of_range().
SET datestyle = 'ISO, MDY' AS $$
DECLARE
    cold oid;
BEGIN
    SELECT t.cold INTO cold FROM ddstore.managed_table t WHERE t.relation = unseal.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unseal: % is not a managed table', coalesce(relation::text, 'NULL')
            USING ERRCODE = 'wrong_object_type', HINT = 'The view ddstore.tables lists those that are.';
    ELSIF cold IS NULL THEN
        RAISE EXCEPTION 'unseal: SQL does not see the cold rows of %', relation
            USING ERRCODE = 'feature_not_supported', HINT = 'Switch the extension on: ddstore migrate.';
    END IF;
    RETURN @extschema@.unseal_range(cold, key::text, t0::text, t1::text);
END
$$;
COMMENT ON FUNCTION unseal(regclass, jsonb, anycompatible, anycompatible) IS
    'Makes cold rows hot: of all segments of a series (NULL: of every series) with rows of t0 <= time < t1 (NULL: no limit). '
    'Returns how many; until the transaction ends they stay hot, for MERGE INTO ONLY and ON CONFLICT.';

-- What ALTER TABLE does to a managed table's hot rows, its cold rows must take, too, or it is refused.

CREATE FUNCTION follow_alter() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
-- An expression is checked whatever the planner thinks it knows; a value's text is the same whatever the caller has set.
SET constraint_exclusion = off SET datestyle = 'ISO, MDY' SET intervalstyle = postgres SET extra_float_digits = 1 AS $$
DECLARE
    managed record;
BEGIN
    IF to_regclass('ddstore.managed_table') IS NULL THEN
        RETURN;
    END IF;
    FOR managed IN
        SELECT DISTINCT t.id, t.relation, t.segments, f.oid::regclass AS cold
        FROM pg_event_trigger_ddl_commands() d
        JOIN ddstore.managed_table t ON t.relation = d.objid
        JOIN pg_class s ON s.oid = t.segments
        LEFT JOIN pg_class f ON f.oid = t.cold
        WHERE d.classid = 'pg_class'::regclass
    LOOP
        PERFORM @extschema@.check_columns(managed.id, managed.relation, managed.cold);
        PERFORM @extschema@.take_along(managed.id, managed.relation, managed.segments, managed.cold);
        PERFORM @extschema@.check_constraints(managed.id, managed.relation, managed.segments, managed.cold);
    END LOOP;
END
$$;
COMMENT ON FUNCTION follow_alter() IS
    'after ALTER TABLE: refuses what cold rows cannot follow, and takes the cold table along';

CREATE FUNCTION check_columns(table_id int, relation regclass, cold regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed record;
BEGIN
    SELECT c.name, c.role, c.type, a.attname INTO changed
    FROM ddstore.managed_column c
    LEFT JOIN pg_attribute a ON NOT a.attisdropped AND CASE
        WHEN cold IS NULL THEN a.attrelid = relation AND a.attnum = c.attnum
        ELSE a.attrelid = cold AND 'segment_column=' || CASE c.role WHEN 'time' THEN 'time' WHEN 'key' THEN 'k' || c.id
                                                                   ELSE 'c' || c.id END = ANY (a.attfdwoptions) END
    WHERE c.table_id = check_columns.table_id AND (cold IS NOT NULL OR c.attrelid = relation)
      AND a.atttypid IS DISTINCT FROM c.type AND (a.attname IS NOT NULL OR c.role <> 'value')
    ORDER BY c.id LIMIT 1;
    IF FOUND AND changed.attname IS NULL THEN
        RAISE EXCEPTION 'cannot drop column "%" of managed table %: it is its %', changed.name, relation,
            CASE changed.role WHEN 'key' THEN 'key' ELSE 'time' END
            USING ERRCODE = 'dependent_objects_still_exist',
                  HINT = 'Compacted rows are found by it: "ddstore release" the table first.';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'cannot alter the type of column "%" of managed table %: compacted rows have it as %',
            changed.attname, relation, changed.type
            USING ERRCODE = 'feature_not_supported',
                  HINT = '"ddstore release" the table, alter it, and adopt it again.';
    END IF;
END
$$;
COMMENT ON FUNCTION check_columns(int, regclass, regclass) IS 'refuses to drop the key or time of a managed table, and to change types';

CREATE FUNCTION check_constraints(table_id int, relation regclass, segments regclass, cold regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this    bigint := pg_current_xact_id()::text::bigint;
    column_ record;
    new     record;
    broken  boolean;
BEGIN
    SELECT k.conname, a.attname INTO new
    FROM pg_constraint k
    JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = ANY (k.conkey)
    JOIN ddstore.managed_column c ON c.table_id = check_constraints.table_id
    LEFT JOIN pg_attribute f ON f.attrelid = cold AND 'segment_column=c' || c.id = ANY (f.attfdwoptions)
    WHERE k.conrelid = relation AND k.contype IN ('c', 'f') AND c.bound_kind <> 'lossless'
      AND a.attname = CASE WHEN cold IS NULL THEN c.name ELSE f.attname END
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'constraint "%" of managed table % checks column "%", which is read back with an error',
            new.conname, relation, new.attname
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Make its bound lossless first (set_max_error), or check rows where they are written.';
    END IF;
    IF cold IS NULL OR NOT has_table_privilege(segments, 'SELECT') THEN
        RETURN; -- SQL sees no cold rows
    END IF;
    FOR column_ IN
        SELECT a.attname, CASE WHEN c.role = 'key' THEN format('k%s IS NULL', c.id)
                               WHEN c.role = 'value' THEN format('c%s_count < n', c.id)
                               WHEN c.role = 'time' OR 'missing' = ANY (SELECT o.option_name FROM pg_options_to_table(f.attfdwoptions) o)
                               THEN 'false' ELSE 'true' END AS condition
        FROM pg_attribute a
        JOIN pg_attribute f ON f.attrelid = cold AND f.attname = a.attname
        LEFT JOIN ddstore.managed_column c
            ON c.table_id = check_constraints.table_id AND f.attfdwoptions && ARRAY[
                'segment_column=k' || c.id, 'segment_column=c' || c.id, CASE c.role WHEN 'time' THEN 'segment_column=time' END]
        WHERE a.attrelid = relation AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s)', segments, column_.condition) INTO broken;
        IF broken THEN
            RAISE EXCEPTION 'column "%" of relation % contains null values', column_.attname, relation
                USING ERRCODE = 'not_null_violation', DETAIL = 'They are in compacted rows.',
                      HINT = '"ddstore release" the table and replace them; a new column needs a default.';
        END IF;
    END LOOP;
    -- A constraint that came with this transaction, and that PostgreSQL has checked on hot rows only.
    FOR new IN
        SELECT k.conname, pg_get_expr(k.conbin, k.conrelid) AS condition
        FROM pg_constraint k
        CROSS JOIN LATERAL (SELECT (this >> 32 << 32) + k.xmin::text::bigint AS xid) near
        WHERE k.conrelid = relation AND k.contype = 'c' AND k.convalidated
          AND pg_xact_status((near.xid + CASE WHEN near.xid - this > 2147483648 THEN -4294967296
                                              WHEN this - near.xid > 2147483648 THEN 4294967296 ELSE 0 END)::text::xid8)
              = 'in progress'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE NOT (%s))', cold, new.condition) INTO broken;
        IF broken THEN
            RAISE EXCEPTION 'check constraint "%" of relation % is violated by some row', new.conname, relation
                USING ERRCODE = 'check_violation', DETAIL = 'It is a compacted row.',
                      HINT = 'NOT VALID leaves the rows of before out.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION check_constraints(int, regclass, regclass, regclass) IS
    'refuses NOT NULL and CHECK constraints that cold rows of a managed table violate, or could';

CREATE FUNCTION take_along(table_id int, relation regclass, segments regclass, cold regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent pg_class;
    child  pg_class;
    name   text;
    new    record;
BEGIN
    SELECT * INTO STRICT parent FROM pg_class WHERE oid = relation;
    IF (SELECT relowner FROM pg_class WHERE oid = segments) <> parent.relowner THEN
        BEGIN
            EXECUTE format('ALTER TABLE %s OWNER TO %I', segments, pg_get_userbyid(parent.relowner));
            FOR new IN SELECT y.oid::regtype AS type FROM pg_type y
                       WHERE y.typnamespace = 'ddstore'::regnamespace AND y.typtype = 'c'
                         AND y.typname ~ format('^segment_%s_c[0-9]+$', table_id)
            LOOP
                EXECUTE format('ALTER TYPE %s OWNER TO %I', new.type, pg_get_userbyid(parent.relowner));
            END LOOP;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'the segments of % still belong to another role: %', relation, sqlerrm
                USING HINT = format('As a superuser: ALTER TABLE %s OWNER TO %I.', segments, pg_get_userbyid(parent.relowner));
        END;
    END IF;
    SELECT * INTO child FROM pg_class WHERE oid = cold;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- What rows of before read in a column that was added: PostgreSQL forgets it when it rewrites the table.
    FOR new IN
        SELECT a.attname, (a.attmissingval::text::text[])[1] AS missing
        FROM pg_attribute a
        JOIN pg_attribute f ON f.attrelid = cold AND f.attname = a.attname AND f.attfdwoptions IS NULL
        WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.atthasmissing
          AND (a.attmissingval::text::text[])[1] IS NOT NULL
    LOOP
        EXECUTE format('ALTER FOREIGN TABLE %s ALTER COLUMN %I OPTIONS (ADD missing %L)', cold, new.attname, new.missing);
    END LOOP;
    IF child.relowner <> parent.relowner THEN
        EXECUTE format('ALTER FOREIGN TABLE %s OWNER TO %I', cold, pg_get_userbyid(parent.relowner));
    END IF;
    name := parent.relname;
    WHILE octet_length(name) > 58 LOOP
        name := left(name, -1);
    END LOOP;
    name := name || '_cold';
    IF child.relnamespace <> parent.relnamespace OR child.relname <> name THEN
        BEGIN
            IF child.relname <> name THEN
                EXECUTE format('ALTER FOREIGN TABLE %s RENAME TO %I', cold, name);
            END IF;
            IF child.relnamespace <> parent.relnamespace THEN
                EXECUTE format('ALTER FOREIGN TABLE %s SET SCHEMA %I', cold,
                               (SELECT nspname FROM pg_namespace WHERE oid = parent.relnamespace));
            END IF;
        EXCEPTION WHEN duplicate_table THEN
            RAISE WARNING 'the compacted rows of % stay in %: %', relation, cold, sqlerrm;
        END;
    END IF;
END
$$;
COMMENT ON FUNCTION take_along(int, regclass, regclass, regclass) IS
    'gives the cold table of a managed table its schema, name and owner, and what added columns read';

CREATE EVENT TRIGGER ddstore_alter ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION @extschema@.follow_alter();

CREATE FUNCTION refuse_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reason  int := pg_event_trigger_table_rewrite_reason();
    managed record;
    cold    boolean := true;
BEGIN
    IF to_regclass('ddstore.managed_table') IS NULL THEN
        RETURN;
    END IF;
    SELECT t.relation, t.segments INTO managed
    FROM ddstore.managed_table t
    WHERE t.relation = pg_event_trigger_table_rewrite_oid() AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.segments);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF has_table_privilege(managed.segments, 'SELECT') THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', managed.segments) INTO cold;
    END IF;
    IF NOT cold THEN
        RETURN;
    ELSIF reason & 4 <> 0 THEN
        RAISE EXCEPTION 'cannot alter the type of a column of managed table %: its compacted rows would keep theirs',
            managed.relation
            USING ERRCODE = 'feature_not_supported', HINT = '"ddstore release" the table, alter it, and adopt it again.';
    ELSIF reason & 2 <> 0 THEN
        RAISE EXCEPTION 'cannot give each row of managed table % a value of its own: it has compacted rows', managed.relation
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Add the column without a default, where rows of before read NULL, and SET DEFAULT then; '
                         'or "ddstore release" the table first.';
    ELSE
        RAISE EXCEPTION 'cannot change how managed table % is stored: it has compacted rows', managed.relation
            USING ERRCODE = 'feature_not_supported', HINT = '"ddstore release" the table first.';
    END IF;
END
$$;
COMMENT ON FUNCTION refuse_rewrite() IS 'before ALTER TABLE computes every row anew: refuses where there are cold rows';

CREATE EVENT TRIGGER ddstore_rewrite ON table_rewrite WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION @extschema@.refuse_rewrite();

-- DROP TABLE of a managed table.

CREATE FUNCTION depend_on_table(cold oid) RETURNS void
    AS 'MODULE_PATHNAME', 'ddstore_depend_on_table' LANGUAGE C STRICT;
COMMENT ON FUNCTION depend_on_table(oid) IS 'from now on a cold table is dropped with its managed table';

CREATE FUNCTION bind_cold_table() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.depend_on_table(f.ftrelid)
    FROM pg_event_trigger_ddl_commands() d
    JOIN pg_foreign_table f ON f.ftrelid = d.objid
    JOIN pg_foreign_server s ON s.oid = f.ftserver
    WHERE d.classid = 'pg_class'::regclass AND s.srvname = 'ddstore'
      AND (SELECT count(*) = 1 AND bool_and(p.relkind = 'r')
           FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = f.ftrelid);
END
$$;
COMMENT ON FUNCTION bind_cold_table() IS
    'after CREATE FOREIGN TABLE, in a restore, too: lets a cold table be dropped with its managed table';

CREATE EVENT TRIGGER ddstore_bind ON ddl_command_end WHEN TAG IN ('CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE')
    EXECUTE FUNCTION @extschema@.bind_cold_table();

CREATE FUNCTION forget_dropped() RETURNS event_trigger
    AS 'MODULE_PATHNAME', 'ddstore_forget_dropped' LANGUAGE C;
COMMENT ON FUNCTION forget_dropped() IS 'after DROP of managed tables: drops their segments and what the catalog has of them';

CREATE EVENT TRIGGER ddstore_drop ON sql_drop EXECUTE FUNCTION @extschema@.forget_dropped();
