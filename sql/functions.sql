-- Functions for queries: buckets of time, first and last values, aggregates of a range from segments' statistics.
-- This file is the truth beside schema.sql; migrations/ bring a database there, and a test compares.
--
-- Whatever the caller's search path names, only PostgreSQL's own functions and operators run: a body is bound when it is
-- created (RETURN ...), or fixes the path, or, where it runs with every row and fixing would be dear, names their schema.

-- Buckets of time as TimescaleDB cuts them: from Monday 2000-01-03 on, or, months and years, from January 2000.
CREATE FUNCTION ddstore.month_bucket(width interval, ts timestamp, origin timestamp) RETURNS timestamp
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

-- Without months the planner is left with date_bin() alone.
CREATE FUNCTION ddstore.time_bucket(width interval, ts timestamptz, origin timestamptz DEFAULT '2000-01-03 00:00+00')
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN extract(year FROM width) = 0 AND extract(month FROM width) = 0 THEN date_bin(width, ts, origin)
            ELSE ddstore.month_bucket(width, ts AT TIME ZONE 'UTC', origin AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END;

CREATE FUNCTION ddstore.time_bucket(width interval, ts timestamp, origin timestamp DEFAULT '2000-01-03')
RETURNS timestamp
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN extract(year FROM width) = 0 AND extract(month FROM width) = 0 THEN date_bin(width, ts, origin)
            ELSE ddstore.month_bucket(width, ts, origin) END;

CREATE FUNCTION ddstore.refuse_width(width bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'time_bucket: width % is not greater than zero', width USING ERRCODE = 'invalid_parameter_value';
END
$$;

CREATE FUNCTION ddstore.time_bucket(width bigint, ts bigint, origin bigint DEFAULT 0) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN width <= 0 THEN ddstore.refuse_width(width)
            WHEN (ts % width - origin % width) % width < 0 THEN ts - ((ts % width - origin % width) % width + width)
            ELSE ts - (ts % width - origin % width) % width END;

-- The value at the least and at the greatest time. An aggregate's state has one type, so it is an array of one element:
-- that holds a value of any type as it is, which no composite type can. Its three lower bounds hold the time, as 64 bits.
CREATE FUNCTION ddstore.instant(ts bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN ts;

CREATE FUNCTION ddstore.instant(ts timestamp) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(least(extract(epoch FROM ts) * 1000000, 9223372036854775807), -9223372036854775808)::bigint;

CREATE FUNCTION ddstore.instant(ts timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN greatest(least(extract(epoch FROM ts AT TIME ZONE 'UTC') * 1000000, 9223372036854775807),
                -9223372036854775808)::bigint;

CREATE FUNCTION ddstore.instant_of(state anyarray) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (pg_catalog.array_lower(state, 1)::bigint OPERATOR(pg_catalog.<<) 42)
             OPERATOR(pg_catalog.|) (pg_catalog.array_lower(state, 2)::bigint OPERATOR(pg_catalog.<<) 21)
             OPERATOR(pg_catalog.|) pg_catalog.array_lower(state, 3)::bigint $$;

CREATE FUNCTION ddstore.value_at(value anyelement, instant bigint) RETURNS anyarray
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT pg_catalog.array_fill(value, '{1,1,1}'::int[], ARRAY[
          instant OPERATOR(pg_catalog.>>) 42,
          (instant OPERATOR(pg_catalog.>>) 21) OPERATOR(pg_catalog.&) 2097151::bigint,
          instant OPERATOR(pg_catalog.&) 2097151::bigint]::int[]) $$;

CREATE FUNCTION ddstore.first_step(state anyarray, value anyelement, ts anycompatible) RETURNS anyarray
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

CREATE FUNCTION ddstore.last_step(state anyarray, value anyelement, ts anycompatible) RETURNS anyarray
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

CREATE FUNCTION ddstore.first_of(a anyarray, b anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN a IS NULL OR ddstore.instant_of(b) OPERATOR(pg_catalog.<) ddstore.instant_of(a)
                  THEN b ELSE a END $$;

CREATE FUNCTION ddstore.last_of(a anyarray, b anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN a IS NULL OR ddstore.instant_of(b) OPERATOR(pg_catalog.>) ddstore.instant_of(a)
                  THEN b ELSE a END $$;

CREATE FUNCTION ddstore.value_of(state anyarray) RETURNS anyelement LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT state[pg_catalog.array_lower(state, 1)][pg_catalog.array_lower(state, 2)][pg_catalog.array_lower(state, 3)] $$;

CREATE AGGREGATE ddstore.first(value anyelement, ts anycompatible) (
    SFUNC = ddstore.first_step, STYPE = anyarray, FINALFUNC = ddstore.value_of, COMBINEFUNC = ddstore.first_of,
    PARALLEL = SAFE);

CREATE AGGREGATE ddstore.last(value anyelement, ts anycompatible) (
    SFUNC = ddstore.last_step, STYPE = anyarray, FINALFUNC = ddstore.value_of, COMBINEFUNC = ddstore.last_of,
    PARALLEL = SAFE);

-- The path of what follows does not name the schemas of keys' types, whose operators compare them.
CREATE FUNCTION ddstore.key_equals(type oid) RETURNS text
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

-- Runs with the caller's rights. STABLE, and all of the answer is one statement of the calling query's snapshot: a row
-- that compaction moves meanwhile is counted once.
CREATE FUNCTION ddstore.range_agg(
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

COMMENT ON FUNCTION ddstore.time_bucket(interval, timestamptz, timestamptz) IS
    'Start of the bucket of time that ts is in; buckets are counted from origin, in UTC. Of an origin, widths of months '
    'and years use the month only.';
COMMENT ON FUNCTION ddstore.time_bucket(interval, timestamp, timestamp) IS
    'Start of the bucket of time that ts is in; buckets are counted from origin, of which widths of months and years use '
    'the month only.';
COMMENT ON FUNCTION ddstore.time_bucket(bigint, bigint, bigint) IS
    'Start of the bucket of integers that ts is in; buckets are counted from origin.';
COMMENT ON FUNCTION ddstore.refuse_width(bigint) IS 'time_bucket() for widths that are none.';
COMMENT ON FUNCTION ddstore.key_equals(oid) IS 'The operator that compares keys of a type, with its schema.';
COMMENT ON FUNCTION ddstore.month_bucket(interval, timestamp, timestamp) IS 'time_bucket() for widths of months and years.';
COMMENT ON AGGREGATE ddstore.first(anyelement, anycompatible) IS
    'The value at the least time; rows whose time is NULL do not count. Times: timestamptz, timestamp, bigint.';
COMMENT ON AGGREGATE ddstore.last(anyelement, anycompatible) IS
    'The value at the greatest time; rows whose time is NULL do not count. Times: timestamptz, timestamp, bigint.';
COMMENT ON FUNCTION ddstore.instant(bigint) IS 'A time as first() and last() compare it.';
COMMENT ON FUNCTION ddstore.instant(timestamp) IS 'A time as first() and last() compare it: microseconds since 1970.';
COMMENT ON FUNCTION ddstore.instant(timestamptz) IS 'A time as first() and last() compare it: microseconds since 1970.';
COMMENT ON FUNCTION ddstore.value_at(anyelement, bigint) IS 'State of first() and last(): a value with its time.';
COMMENT ON FUNCTION ddstore.instant_of(anyarray) IS 'The time in a state of first() and last().';
COMMENT ON FUNCTION ddstore.value_of(anyarray) IS 'The value in a state of first() and last(): what they return.';
COMMENT ON FUNCTION ddstore.first_step(anyarray, anyelement, anycompatible) IS 'first() takes a row in.';
COMMENT ON FUNCTION ddstore.last_step(anyarray, anyelement, anycompatible) IS 'last() takes a row in.';
COMMENT ON FUNCTION ddstore.first_of(anyarray, anyarray) IS 'first() joins two states.';
COMMENT ON FUNCTION ddstore.last_of(anyarray, anyarray) IS 'last() joins two states.';
COMMENT ON FUNCTION ddstore.range_agg(regclass, text, jsonb, anycompatible, anycompatible) IS
    'count, min, max, sum and avg of a column of one series where t0 <= time < t1 (NULL: no limit), from the statistics of '
    'segments where the caller may read them. count, min and max are exact for what is read back, as are sum and avg of '
    'integers; of floats they may differ from a query''s by the order in which floats are added.';

-- Gaps: the buckets of a range, whether they have rows or not, and what to put where nothing was measured.
CREATE FUNCTION ddstore.buckets(width interval, t0 timestamp, t1 timestamp, origin timestamp DEFAULT '2000-01-03')
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

-- In UTC, so that neither days nor months depend on the session's time zone.
CREATE FUNCTION ddstore.buckets(
    width interval, t0 timestamptz, t1 timestamptz, origin timestamptz DEFAULT '2000-01-03 00:00+00')
RETURNS SETOF timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT b AT TIME ZONE 'UTC' FROM ddstore.buckets(
        width, t0 AT TIME ZONE 'UTC', t1 AT TIME ZONE 'UTC', origin AT TIME ZONE 'UTC') b;
END;

CREATE FUNCTION ddstore.buckets(width bigint, t0 bigint, t1 bigint, origin bigint DEFAULT 0) RETURNS SETOF bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT b FROM generate_series(ddstore.time_bucket(width, t0, origin), t1, width) b WHERE b < t1;
END;

-- STRICT is all there is to it: NULL leaves the state alone, and the first value becomes the state.
CREATE FUNCTION ddstore.locf_step(state anyelement, value anyelement) RETURNS anyelement
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT value $$;

CREATE AGGREGATE ddstore.locf(value anyelement) (SFUNC = ddstore.locf_step, STYPE = anyelement);

CREATE FUNCTION ddstore.knot(value float8, ts bigint) RETURNS point LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN point(ts::float8, value);

CREATE FUNCTION ddstore.knot(value float8, ts timestamp) RETURNS point LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN point(ddstore.instant(ts)::float8, value);

CREATE FUNCTION ddstore.knot(value float8, ts timestamptz) RETURNS point LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN point(ddstore.instant(ts)::float8, value);

CREATE FUNCTION ddstore.interpolate(before point, after point, ts bigint) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN before[0] = ts::float8 THEN before[1]
            WHEN after[0] = ts::float8 THEN after[1]
            ELSE before[1] + (after[1] - before[1]) * ((ts::float8 - before[0]) / (after[0] - before[0])) END;

CREATE FUNCTION ddstore.interpolate(before point, after point, ts timestamp) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ddstore.interpolate(before, after, ddstore.instant(ts));

CREATE FUNCTION ddstore.interpolate(before point, after point, ts timestamptz) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ddstore.interpolate(before, after, ddstore.instant(ts));

-- The query behind time_bucket_gapfill(): $1 is the width, $2 and $3 are t0 and t1, $4 the key.
CREATE FUNCTION ddstore.gapfill_query(relation regclass, column_name text, key jsonb, time_type regtype, missing int)
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

CREATE FUNCTION ddstore.time_bucket_gapfill(
    width interval, relation regclass, column_name text, key jsonb, t0 timestamptz, t1 timestamptz)
RETURNS TABLE (bucket timestamptz, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'timestamptz', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

CREATE FUNCTION ddstore.time_bucket_gapfill(
    width interval, relation regclass, column_name text, key jsonb, t0 timestamp, t1 timestamp)
RETURNS TABLE (bucket timestamp, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'timestamp', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

CREATE FUNCTION ddstore.time_bucket_gapfill(
    width bigint, relation regclass, column_name text, key jsonb, t0 bigint, t1 bigint)
RETURNS TABLE (bucket bigint, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'bigint', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

COMMENT ON FUNCTION ddstore.buckets(interval, timestamp, timestamp, timestamp) IS
    'The starts of all buckets of time_bucket() from the one that t0 is in to the last that begins before t1.';
COMMENT ON FUNCTION ddstore.buckets(interval, timestamptz, timestamptz, timestamptz) IS
    'The starts of all buckets of time_bucket(), cut in UTC, from the one that t0 is in to the last that begins before t1.';
COMMENT ON FUNCTION ddstore.buckets(bigint, bigint, bigint, bigint) IS
    'The starts of all buckets of time_bucket() from the one that t0 is in to the last that begins before t1.';
COMMENT ON AGGREGATE ddstore.locf(anyelement) IS
    'Last observation carried forward: OVER (ORDER BY bucket), the latest value so far that is not NULL.';
COMMENT ON FUNCTION ddstore.locf_step(anyelement, anyelement) IS 'locf() takes a value in.';
COMMENT ON FUNCTION ddstore.knot(float8, bigint) IS 'A value with its time, for interpolate(); NULL without a value.';
COMMENT ON FUNCTION ddstore.knot(float8, timestamp) IS 'A value with its time, for interpolate(); NULL without a value.';
COMMENT ON FUNCTION ddstore.knot(float8, timestamptz) IS 'A value with its time, for interpolate(); NULL without a value.';
COMMENT ON FUNCTION ddstore.interpolate(point, point, bigint) IS
    'The value at ts on the line between two knots; that of a knot at its own time; NULL where one of the two is missing.';
COMMENT ON FUNCTION ddstore.interpolate(point, point, timestamp) IS
    'The value at ts on the line between two knots; that of a knot at its own time; NULL where one of the two is missing.';
COMMENT ON FUNCTION ddstore.interpolate(point, point, timestamptz) IS
    'The value at ts on the line between two knots; that of a knot at its own time; NULL where one of the two is missing.';
COMMENT ON FUNCTION ddstore.gapfill_query(regclass, text, jsonb, regtype, int) IS 'The query of time_bucket_gapfill().';
COMMENT ON FUNCTION ddstore.time_bucket_gapfill(interval, regclass, text, jsonb, timestamptz, timestamptz) IS
    'One row for each bucket of t0 <= time < t1, rows or none, of a column of one series: count, min, max and avg of its '
    'values; avg carried forward (locf) and interpolated into buckets without one. Buckets are cut in UTC.';
COMMENT ON FUNCTION ddstore.time_bucket_gapfill(interval, regclass, text, jsonb, timestamp, timestamp) IS
    'One row for each bucket of t0 <= time < t1, rows or none, of a column of one series: count, min, max and avg of its '
    'values; avg carried forward (locf) and interpolated into buckets without one.';
COMMENT ON FUNCTION ddstore.time_bucket_gapfill(bigint, regclass, text, jsonb, bigint, bigint) IS
    'One row for each bucket of t0 <= time < t1, rows or none, of a column of one series: count, min, max and avg of its '
    'values; avg carried forward (locf) and interpolated into buckets without one.';
