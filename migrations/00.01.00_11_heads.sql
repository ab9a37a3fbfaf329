-- How rows that leave a segment were coded there, so that they take no more room when they are compacted again.

ALTER TABLE ddstore.settled ADD COLUMN heads jsonb; -- by column id: the first bytes of what the segment had, in hex

-- Segments that are about to become ordinary rows.
CREATE OR REPLACE FUNCTION ddstore.settle_segments(segments regclass, ids bigint[]) RETURNS void
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
