-- Functions that run nothing but PostgreSQL's own, whatever the caller's search path names; views that show nothing of a
-- table to whom its row-level security applies, and that no function of a query can look behind.

CREATE OR REPLACE FUNCTION ddstore.month_bucket(width interval, ts timestamp, origin timestamp) RETURNS timestamp
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    months int;
    since  interval;
BEGIN
    IF NOT isfinite(width) OR NOT isfinite(origin) THEN
        RAISE EXCEPTION 'time_bucket: width % and origin % must be finite', width, origin
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    months := 12 * extract(year FROM width) + extract(month FROM width);
    IF months <= 0 OR width - make_interval(months => months) <> '0' THEN
        RAISE EXCEPTION 'time_bucket: width % is not a positive number of whole months', width
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Months and years cannot be mixed with days or hours.';
    END IF;
    IF NOT isfinite(ts) THEN
        RETURN ts;
    END IF;
    since := age(date_trunc('month', ts), date_trunc('month', origin));
    RETURN date_trunc('month', ts) - make_interval(
        months => (((12 * extract(year FROM since) + extract(month FROM since))::int % months + months) % months));
END
$$;

CREATE OR REPLACE FUNCTION ddstore.refuse_width(width bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'time_bucket: width % is not greater than zero', width USING ERRCODE = 'invalid_parameter_value';
END
$$;

CREATE OR REPLACE FUNCTION ddstore.time_bucket(width bigint, ts bigint, origin bigint DEFAULT 0) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN width <= 0 THEN ddstore.refuse_width(width)
            WHEN (ts % width - origin % width) % width < 0 THEN ts - ((ts % width - origin % width) % width + width)
            ELSE ts - (ts % width - origin % width) % width END;

CREATE OR REPLACE FUNCTION ddstore.instant_of(state anyarray) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (pg_catalog.array_lower(state, 1)::bigint OPERATOR(pg_catalog.<<) 42)
             OPERATOR(pg_catalog.|) (pg_catalog.array_lower(state, 2)::bigint OPERATOR(pg_catalog.<<) 21)
             OPERATOR(pg_catalog.|) pg_catalog.array_lower(state, 3)::bigint $$;

CREATE OR REPLACE FUNCTION ddstore.value_at(value anyelement, instant bigint) RETURNS anyarray
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.array_fill(value, '{1,1,1}'::int[], ARRAY[
          instant OPERATOR(pg_catalog.>>) 42,
          (instant OPERATOR(pg_catalog.>>) 21) OPERATOR(pg_catalog.&) 2097151::bigint,
          instant OPERATOR(pg_catalog.&) 2097151::bigint]::int[]) $$;

CREATE OR REPLACE FUNCTION ddstore.first_step(state anyarray, value anyelement, ts anycompatible) RETURNS anyarray
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    instant bigint := ddstore.instant(ts);
BEGIN
    IF instant IS NULL OR instant OPERATOR(pg_catalog.>=) ddstore.instant_of(state) THEN
        RETURN state;
    END IF;
    RETURN ddstore.value_at(value, instant);
END
$$;

CREATE OR REPLACE FUNCTION ddstore.last_step(state anyarray, value anyelement, ts anycompatible) RETURNS anyarray
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    instant bigint := ddstore.instant(ts);
BEGIN
    IF instant IS NULL OR instant OPERATOR(pg_catalog.<=) ddstore.instant_of(state) THEN
        RETURN state;
    END IF;
    RETURN ddstore.value_at(value, instant);
END
$$;

CREATE OR REPLACE FUNCTION ddstore.first_of(a anyarray, b anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN a IS NULL OR ddstore.instant_of(b) OPERATOR(pg_catalog.<) ddstore.instant_of(a)
                  THEN b ELSE a END $$;

CREATE OR REPLACE FUNCTION ddstore.last_of(a anyarray, b anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN a IS NULL OR ddstore.instant_of(b) OPERATOR(pg_catalog.>) ddstore.instant_of(a)
                  THEN b ELSE a END $$;

CREATE OR REPLACE FUNCTION ddstore.value_of(state anyarray) RETURNS anyelement LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT state[pg_catalog.array_lower(state, 1)][pg_catalog.array_lower(state, 2)][pg_catalog.array_lower(state, 3)] $$;

CREATE OR REPLACE FUNCTION ddstore.key_equals(type oid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(max(format('OPERATOR(%s.%s)', o.oprnamespace::regnamespace, o.oprname)), 'OPERATOR(pg_catalog.=)')
    FROM pg_type y
    JOIN pg_opclass c ON c.opcdefault AND c.opcintype IN (y.oid, nullif(y.typbasetype, 0))
    JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
    JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amopstrategy = 3
                  AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
    JOIN pg_operator o ON o.oid = p.amopopr
    WHERE y.oid = type;
END;

CREATE OR REPLACE FUNCTION ddstore.range_agg(
    relation regclass, column_name text, key jsonb, t0 anycompatible, t1 anycompatible,
    OUT count bigint, OUT min numeric, OUT max numeric, OUT sum numeric, OUT avg numeric)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
#variable_conflict use_column
DECLARE
    managed      ddstore.managed_table;
    given        text[];   -- the key
    key_names    text;
    key_count    int;
    rows_key     text;     -- what holds for the rows of the series, and for its segments
    segments_key text;
    time_name    text;
    time_type    text;
    source       text;     -- of the column, in segments
    sum_type     text;
    sums         text;     -- of rows
    beyond       text[];   -- what holds for a segment that begins before t0, and for one that ends after t1
    parts        text;
BEGIN
    IF row_security_active(relation::oid) THEN
        RAISE EXCEPTION 'range_agg: row-level security of % applies to role %', relation, current_user
            USING ERRCODE = 'feature_not_supported', HINT = 'Aggregate with SELECT: it follows the policies.';
    END IF;
    SELECT t.* INTO managed FROM ddstore.managed_table t WHERE t.relation = range_agg.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'range_agg: % is not a managed table', coalesce(relation::text, 'NULL')
            USING ERRCODE = 'wrong_object_type', HINT = 'The view ddstore.tables lists those that are.';
    ELSIF managed.cold IS NULL THEN
        RAISE EXCEPTION 'range_agg: SQL does not see the cold rows of %', relation
            USING ERRCODE = 'feature_not_supported', HINT = 'Switch the extension on: ddstore migrate.';
    END IF;

    -- The cold table knows which column of a segment is which, whatever the table calls it by now.
    SELECT coalesce(string_agg(quote_ident(k.name), ', ' ORDER BY k.place), 'none'), count(*),
           coalesce(string_agg('v.' || quote_ident(k.name) || k.condition, ' AND '), 'true'),
           coalesce(string_agg('s.' || k.source || k.condition, ' AND '), 'true')
    INTO key_names, key_count, rows_key, segments_key
    FROM (SELECT c.name, c.source, c.place,
                 CASE WHEN key ->> (c.place - 1) IS NULL THEN ' IS NULL'
                      ELSE ' ' || c.equals || ' (SELECT $3[' || c.place || ']::' || c.type || ')' END AS condition
          FROM (SELECT a.attname AS name, o.option_value AS source, format_type(a.atttypid, -1) AS type,
                       row_number() OVER (ORDER BY substr(o.option_value, 2)::int)::int AS place,
                       ddstore.key_equals(a.atttypid) AS equals
                FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
                WHERE a.attrelid = managed.cold AND o.option_name = 'segment_column' AND o.option_value ~ '^k\d+$') c) k;
    IF jsonb_typeof(key) IS DISTINCT FROM 'array' OR jsonb_array_length(key) <> key_count THEN
        RAISE EXCEPTION 'range_agg: % is no key of % (key columns: %)', coalesce(key::text, 'NULL'), relation, key_names
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the values of its key columns as a JSON array, in that order; [] where there are none.';
    END IF;
    given := ARRAY(SELECT jsonb_array_elements_text(key));
    SELECT quote_ident(a.attname), format_type(a.atttypid, -1) INTO time_name, time_type
    FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
    WHERE a.attrelid = managed.cold AND o.option_name = 'segment_column' AND o.option_value = 'time';
    SELECT o.option_value, format_type(s.atttypid, -1) INTO source, sum_type
    FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
    JOIN pg_attribute s ON s.attrelid = managed.segments AND s.attname = o.option_value || '_sum'
    WHERE a.attrelid = managed.cold AND a.attname = column_name AND o.option_name = 'segment_column';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'range_agg: % has no value column % of numbers', relation, coalesce(column_name, 'NULL')
            USING ERRCODE = 'undefined_column', HINT = 'Only float4, float8, int2, int4 and int8 are summed up in segments.';
    END IF;

    -- In what follows $1 and $2 are t0 and t1, where NULL is no limit. Casts from text are subqueries, so that they run
    -- once and not for every row.
    sums := format(
        'SELECT count(v.%1$I) AS count, min(v.%1$I) AS min, max(v.%1$I) AS max, sum(v.%1$I::%2$s)::%2$s AS sum',
        column_name, sum_type);
    rows_key := rows_key || CASE WHEN t0 IS NULL THEN '' ELSE format(' AND v.%s >= (SELECT $1::%s)', time_name, time_type) END
                         || CASE WHEN t1 IS NULL THEN '' ELSE format(' AND v.%s < (SELECT $2::%s)', time_name, time_type) END;
    IF NOT has_table_privilege(managed.segments, 'SELECT') THEN
        parts := format('%s FROM %s v WHERE %s', sums, relation, rows_key);
    ELSE
        beyond := ARRAY[CASE WHEN t0 IS NULL THEN 'false' ELSE format('s.t_min < (SELECT $1::%s)', time_type) END,
                        CASE WHEN t1 IS NULL THEN 'false' ELSE format('s.t_max >= (SELECT $2::%s)', time_type) END];
        segments_key := segments_key || CASE WHEN t0 IS NULL THEN '' ELSE format(' AND s.t_max >= (SELECT $1::%s)', time_type) END
                                     || CASE WHEN t1 IS NULL THEN '' ELSE format(' AND s.t_min < (SELECT $2::%s)', time_type) END;
        -- Segments of a series may overlap in time. A chain of such that reaches beyond the range is read row by row:
        -- the one at t0 ends at "low", the one at t1 begins at "high". Between them the segments' statistics do.
        parts := format(
            'WITH piece AS (SELECT s.t_min, s.t_max, s.t_min <= max(s.t_max) OVER ('
            '                          ORDER BY s.t_min, s.t_max ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS joined'
            '               FROM %1$s s WHERE %2$s),'
            '     link AS (SELECT p.*, count(*) FILTER (WHERE p.joined IS NOT TRUE) OVER ('
            '                          ORDER BY p.t_min, p.t_max ROWS UNBOUNDED PRECEDING) AS chain FROM piece p),'
            '     edge AS MATERIALIZED (SELECT max(s.t_max) FILTER (WHERE %3$s) AS low, min(s.t_min) FILTER (WHERE %4$s) AS high'
            '                           FROM (SELECT min(l.t_min) AS t_min, max(l.t_max) AS t_max'
            '                                 FROM link l GROUP BY l.chain) s)'
            ' SELECT sum(s.%5$s_count) AS count, min(s.%5$s_min) AS min, max(s.%5$s_max) AS max, sum(s.%5$s_sum) AS sum'
            ' FROM %1$s s WHERE %2$s AND (s.t_min <= (SELECT low FROM edge)) IS NOT TRUE'
            '                        AND (s.t_max >= (SELECT high FROM edge)) IS NOT TRUE'
            ' UNION ALL %6$s FROM %7$s v WHERE %8$s AND v.%9$s <= (SELECT low FROM edge)'
            ' UNION ALL %6$s FROM %7$s v WHERE %8$s AND v.%9$s >= (SELECT high FROM edge)'
            '                                       AND (v.%9$s <= (SELECT low FROM edge)) IS NOT TRUE'
            ' UNION ALL %6$s FROM ONLY %7$s v WHERE %8$s AND (v.%9$s <= (SELECT low FROM edge)) IS NOT TRUE'
            '                                            AND (v.%9$s >= (SELECT high FROM edge)) IS NOT TRUE',
            managed.segments, segments_key, beyond[1], beyond[2], source, sums, relation, rows_key, time_name);
    END IF;
    -- The shortest text of a float8 is the number itself, which a cast to numeric would round.
    EXECUTE format('SELECT a.count, a.min::%1$s::text::numeric, a.max::%1$s::text::numeric, a.sum::text::numeric,'
                   '       (a.sum / nullif(a.count, 0))::text::numeric'
                   ' FROM (SELECT coalesce(sum(p.count), 0)::bigint AS count, min(p.min) AS min, max(p.max) AS max,'
                   '              sum(p.sum) AS sum FROM (%2$s) p) a', sum_type, parts)
    INTO count, min, max, sum, avg USING t0, t1, given;
END
$$;

CREATE OR REPLACE FUNCTION ddstore.buckets(width interval, t0 timestamp, t1 timestamp, origin timestamp DEFAULT '2000-01-03')
RETURNS SETOF timestamp
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT isfinite(t0) OR NOT isfinite(t1) THEN
        RAISE EXCEPTION 'buckets: from % to % there is no end of buckets', t0, t1
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a finite t0 and t1.';
    END IF;
    RETURN QUERY SELECT b FROM generate_series(ddstore.time_bucket(width, t0, origin), t1, width) b WHERE b < t1;
END
$$;

CREATE OR REPLACE FUNCTION ddstore.buckets(
    width interval, t0 timestamptz, t1 timestamptz, origin timestamptz DEFAULT '2000-01-03 00:00+00')
RETURNS SETOF timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT b AT TIME ZONE 'UTC' FROM ddstore.buckets(
        width, t0 AT TIME ZONE 'UTC', t1 AT TIME ZONE 'UTC', origin AT TIME ZONE 'UTC') b;
END;

CREATE OR REPLACE FUNCTION ddstore.buckets(width bigint, t0 bigint, t1 bigint, origin bigint DEFAULT 0) RETURNS SETOF bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT b FROM generate_series(ddstore.time_bucket(width, t0, origin), t1, width) b WHERE b < t1;
END;

CREATE OR REPLACE FUNCTION ddstore.gapfill_query(relation regclass, column_name text, key jsonb, time_type regtype, missing int)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    managed   ddstore.managed_table;
    time_name text;
    its_type  regtype;
    key_names text;
    key_count int;
    rows_key  text;
BEGIN
    IF missing > 0 THEN
        RAISE EXCEPTION 'time_bucket_gapfill: width, t0 or t1 is NULL'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Give all three: there is a row for each bucket between.';
    END IF;
    SELECT t.* INTO managed FROM ddstore.managed_table t WHERE t.relation = gapfill_query.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'time_bucket_gapfill: % is not a managed table', coalesce(relation::text, 'NULL')
            USING ERRCODE = 'wrong_object_type', HINT = 'The view ddstore.tables lists those that are.';
    ELSIF managed.cold IS NULL THEN
        RAISE EXCEPTION 'time_bucket_gapfill: SQL does not see the cold rows of %', relation
            USING ERRCODE = 'feature_not_supported', HINT = 'Switch the extension on: ddstore migrate.';
    END IF;
    SELECT coalesce(string_agg(quote_ident(k.name), ', ' ORDER BY k.place), 'none'), count(*),
           coalesce(string_agg(format(CASE WHEN key ->> (k.place - 1) IS NULL THEN ' AND v.%I IS NULL'
                                           ELSE ' AND v.%I %s (SELECT ($4 ->> %s)::%s)' END,
                                      k.name, ddstore.key_equals(k.type), k.place - 1, format_type(k.type, -1)), '' ORDER BY k.place), '')
    INTO key_names, key_count, rows_key
    FROM (SELECT a.attname AS name, a.atttypid AS type,
                 row_number() OVER (ORDER BY substr(o.option_value, 2)::int)::int AS place
          FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
          WHERE a.attrelid = managed.cold AND o.option_name = 'segment_column' AND o.option_value ~ '^k\d+$') k;
    IF jsonb_typeof(key) IS DISTINCT FROM 'array' OR jsonb_array_length(key) <> key_count THEN
        RAISE EXCEPTION 'time_bucket_gapfill: % is no key of % (key columns: %)',
                coalesce(key::text, 'NULL'), relation, key_names
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the values of its key columns as a JSON array, in that order; [] where there are none.';
    END IF;
    SELECT a.attname, a.atttypid INTO time_name, its_type
    FROM pg_attribute a CROSS JOIN pg_options_to_table(a.attfdwoptions) o
    WHERE a.attrelid = managed.cold AND o.option_name = 'segment_column' AND o.option_value = 'time';
    IF its_type <> time_type THEN
        RAISE EXCEPTION 'time_bucket_gapfill: column % of % is of type %, and t0 and t1 are of type %',
                quote_ident(time_name), relation, its_type, time_type
            USING ERRCODE = 'datatype_mismatch', HINT = format('Give t0 and t1 as %s.', its_type);
    END IF;
    PERFORM FROM pg_attribute a
    WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
      AND a.atttypid IN ('float8'::regtype, 'float4'::regtype, 'int8'::regtype, 'int4'::regtype, 'int2'::regtype,
                         'numeric'::regtype);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'time_bucket_gapfill: % has no column % of numbers', relation, coalesce(column_name, 'NULL')
            USING ERRCODE = 'undefined_column',
                  HINT = 'For other types join ddstore.buckets() and carry values on with ddstore.locf().';
    END IF;
    RETURN format(
        'SELECT g.bucket, coalesce(b.count, 0), b.min, b.max, b.avg, ddstore.locf(b.avg) OVER up,'
        '       ddstore.interpolate(ddstore.locf(ddstore.knot(b.avg, g.bucket)) OVER up,'
        '                           ddstore.locf(ddstore.knot(b.avg, g.bucket)) OVER down, g.bucket)'
        ' FROM ddstore.buckets($1, $2, $3) AS g (bucket)'
        ' LEFT JOIN (SELECT ddstore.time_bucket($1, v.%1$I) AS bucket, count(v.%2$I) AS count,'
        '                   min(v.%2$I)::float8 AS min, max(v.%2$I)::float8 AS max, avg(v.%2$I)::float8 AS avg'
        '            FROM %3$s v WHERE v.%1$I >= $2 AND v.%1$I < $3%4$s GROUP BY 1) b USING (bucket)'
        ' WINDOW up AS (ORDER BY g.bucket), down AS (ORDER BY g.bucket DESC)'
        ' ORDER BY g.bucket', time_name, column_name, relation, rows_key);
END
$$;

CREATE OR REPLACE FUNCTION ddstore.time_bucket_gapfill(
    width interval, relation regclass, column_name text, key jsonb, t0 timestamptz, t1 timestamptz)
RETURNS TABLE (bucket timestamptz, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'timestamptz', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

CREATE OR REPLACE FUNCTION ddstore.time_bucket_gapfill(
    width interval, relation regclass, column_name text, key jsonb, t0 timestamp, t1 timestamp)
RETURNS TABLE (bucket timestamp, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'timestamp', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

CREATE OR REPLACE FUNCTION ddstore.time_bucket_gapfill(
    width bigint, relation regclass, column_name text, key jsonb, t0 bigint, t1 bigint)
RETURNS TABLE (bucket bigint, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'bigint', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

CREATE OR REPLACE VIEW ddstore.models WITH (security_barrier) AS
SELECT t.relation, c.name AS column_name, m.series_key AS series, m.id AS model_id, octet_length(m.bytes) AS bytes,
       octet_length(m.encoder) AS encoder_bytes, m.record, m.created_at, m.table_id
FROM ddstore.model m
JOIN ddstore.managed_table t ON t.id = m.table_id
JOIN ddstore.managed_column c ON c.table_id = m.table_id AND c.id = m.column_id
WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT') AND NOT pg_catalog.row_security_active(t.relation::oid);

CREATE OR REPLACE VIEW ddstore.compaction WITH (security_barrier) AS
SELECT t.relation, j.series_key AS series, j.state, j.profile, j.worker, j.attempts, j.not_before, j.heartbeat, j.started_at,
       j.finished_at, j.rows, j.segments, j.bytes, j.note, j.error, j.table_id
FROM ddstore.job j
JOIN ddstore.managed_table t ON t.id = j.table_id
WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT') AND NOT pg_catalog.row_security_active(t.relation::oid);

COMMENT ON FUNCTION ddstore.key_equals(oid) IS 'The operator that compares keys of a type, with its schema.';
COMMENT ON FUNCTION ddstore.refuse_width(bigint) IS 'time_bucket() for widths that are none.';
