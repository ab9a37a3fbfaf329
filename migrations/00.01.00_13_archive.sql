-- Full archive segments have twice as many rows.

CREATE OR REPLACE VIEW ddstore.tables AS
SELECT t.relation, t.cold, c.time_column, c.key_columns, c.max_error, s.segments, s.cold_rows, s.bytes AS segment_bytes,
       m.models, m.model_bytes, pg_catalog.pg_total_relation_size(t.relation) AS hot_size,
       pg_catalog.pg_total_relation_size(t.segments) AS cold_size, t.profile,
       coalesce(t.segment_rows, CASE t.profile WHEN 'archive' THEN 262144 ELSE 65536 END)
           AS segment_rows, -- as in ddstore/profiles.py
       t.min_rows, t.hot_for, t.created_at, t.id AS table_id
FROM ddstore.managed_table t
JOIN pg_catalog.pg_class r ON r.oid = t.relation
CROSS JOIN LATERAL (
    SELECT min(c.name::text) FILTER (WHERE c.role = 'time') AS time_column,
           coalesce(array_agg(c.name::text ORDER BY c.id) FILTER (WHERE c.role = 'key'), '{}') AS key_columns,
           jsonb_object_agg(c.name, CASE c.bound_kind WHEN 'lossless' THEN c.bound_kind
                                                      ELSE c.bound_kind || ' ' || c.bound_value END)
               FILTER (WHERE c.role = 'value') AS max_error
    FROM ddstore.managed_column c
    WHERE c.table_id = t.id) c
LEFT JOIN LATERAL (
    SELECT count(*) AS segments, coalesce(sum(s.rows), 0)::bigint AS cold_rows,
           coalesce(sum(s.time_bytes + s.latents_bytes + s.residual_bytes + s.array_bytes), 0)::bigint AS bytes
    FROM ddstore.list_segments(t.id) s) s ON pg_catalog.has_table_privilege(t.segments, 'SELECT')
CROSS JOIN LATERAL (
    SELECT count(*) AS models, coalesce(sum(octet_length(m.bytes)), 0)::bigint AS model_bytes
    FROM ddstore.model m
    WHERE m.table_id = t.id) m;
