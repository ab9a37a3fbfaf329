-- Buckets of a range with those that have no rows, and what is carried on or interpolated into them.
-- Runs in one transaction; needs CREATE on the schema ddstore.

-- Gaps: the buckets of a range, whether they have rows or not, and what to put where nothing was measured.
CREATE FUNCTION ddstore.buckets(width interval, t0 timestamp, t1 timestamp, origin timestamp DEFAULT '2000-01-03')
RETURNS SETOF timestamp
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
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
AS $$ SELECT b AT TIME ZONE 'UTC' FROM ddstore.buckets(
          width, t0 AT TIME ZONE 'UTC', t1 AT TIME ZONE 'UTC', origin AT TIME ZONE 'UTC') b $$;

CREATE FUNCTION ddstore.buckets(width bigint, t0 bigint, t1 bigint, origin bigint DEFAULT 0) RETURNS SETOF bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT b FROM generate_series(ddstore.time_bucket(width, t0, origin), t1, width) b WHERE b < t1 $$;

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
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
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
                                           ELSE ' AND v.%I = (SELECT ($4 ->> %s)::%s)' END,
                                      k.name, k.place - 1, k.type), '' ORDER BY k.place), '')
    INTO key_names, key_count, rows_key
    FROM (SELECT a.attname AS name, format_type(a.atttypid, -1) AS type,
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
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'timestamptz', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

CREATE FUNCTION ddstore.time_bucket_gapfill(
    width interval, relation regclass, column_name text, key jsonb, t0 timestamp, t1 timestamp)
RETURNS TABLE (bucket timestamp, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
BEGIN
    RETURN QUERY EXECUTE ddstore.gapfill_query(relation, column_name, key, 'timestamp', num_nulls(width, t0, t1))
        USING width, t0, t1, key;
END
$$;

CREATE FUNCTION ddstore.time_bucket_gapfill(
    width bigint, relation regclass, column_name text, key jsonb, t0 bigint, t1 bigint)
RETURNS TABLE (bucket bigint, count bigint, min float8, max float8, avg float8, locf float8, interpolate float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
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
