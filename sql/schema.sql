-- The whole catalog as it is now: which tables are managed, how much error each column tolerates, the shared models,
-- and what the compactor has done. This file is the truth; migrations/ bring a database there, and a test compares.

CREATE SCHEMA IF NOT EXISTS ddstore;

CREATE TABLE ddstore.migration (
    name        text PRIMARY KEY,
    sha256      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ddstore.managed_table (
    id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation      regclass NOT NULL UNIQUE,      -- the user's table: hot rows, and parent of "cold"
    segments      regclass UNIQUE,               -- ddstore.segment_<id>: one row per segment
    cold          regclass UNIQUE,               -- the foreign table; NULL without the extension
    profile       text NOT NULL DEFAULT 'balanced' CHECK (profile IN ('fast', 'balanced', 'archive')),
    segment_rows  int CHECK (segment_rows BETWEEN 16 AND 1048576),      -- NULL: the profile's default
    min_rows      int NOT NULL DEFAULT 1024 CHECK (min_rows >= 1),      -- fewer new rows than this stay hot
    hot_for       interval NOT NULL DEFAULT '0' CHECK (hot_for >= '0'), -- rows younger than this stay hot
    created_at    timestamptz NOT NULL DEFAULT now(),
    unique_check  text NOT NULL DEFAULT 'hot' CHECK (unique_check IN ('hot', 'all')), -- among which rows keys are unique
    shrinks       boolean                        -- its vacuum_truncate = false is ours (false: not; NULL: undecided)
);

CREATE TABLE ddstore.managed_column (
    table_id     int NOT NULL REFERENCES ddstore.managed_table ON DELETE CASCADE,
    id           smallint NOT NULL,              -- names the companion's columns: k<id> or c<id>_...
    name         name NOT NULL,
    type         regtype NOT NULL,
    role         text NOT NULL CHECK (role IN ('time', 'key', 'value')),
    bound_kind   text NOT NULL DEFAULT 'lossless' CHECK (bound_kind IN ('absolute', 'relative', 'range', 'lossless')),
    bound_value  float8 NOT NULL DEFAULT 0 CHECK (bound_value >= 0 AND bound_value < 'Infinity'),
    attrelid     oid,                            -- the column's number in the table of this oid, whatever its name:
    attnum       int2,                           -- a restored table has another oid, and may count otherwise
    PRIMARY KEY (table_id, id),
    UNIQUE (table_id, name)
);

-- A series may keep a bound of its own (ddstore.write(Series(..., max_error=...))): it wins over its column's.
CREATE TABLE ddstore.series_bound (
    table_id     int NOT NULL,
    column_id    smallint NOT NULL,
    series_key   jsonb NOT NULL,                 -- array of the key's values as text, null for NULL
    bound_kind   text NOT NULL CHECK (bound_kind IN ('absolute', 'relative', 'range', 'lossless')),
    bound_value  float8 NOT NULL CHECK (bound_value >= 0 AND bound_value < 'Infinity'),
    PRIMARY KEY (table_id, column_id, series_key),
    FOREIGN KEY (table_id, column_id) REFERENCES ddstore.managed_column ON DELETE CASCADE
);

-- Immutable: a segment's bytes decode only with the very model they were encoded with.
CREATE TABLE ddstore.model (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_id    int NOT NULL,
    column_id   smallint NOT NULL,
    series_key  jsonb NOT NULL,
    bytes       bytea NOT NULL,                  -- what decoding needs
    encoder     bytea,                           -- what encoding further segments needs besides
    record      jsonb NOT NULL DEFAULT '{}',     -- how it was trained: seed, sample, losses, versions
    created_at  timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (table_id, column_id) REFERENCES ddstore.managed_column ON DELETE CASCADE
);
CREATE INDEX model_series ON ddstore.model (table_id, column_id, series_key, id);
ALTER TABLE ddstore.model ALTER bytes SET STORAGE EXTERNAL, ALTER encoder SET STORAGE EXTERNAL;

-- Training is dear: what did not pay is not tried again before the series is several times as long.
CREATE TABLE ddstore.model_trial (
    table_id         int NOT NULL,
    column_id        smallint NOT NULL,
    series_key       jsonb NOT NULL,
    bound_kind       text NOT NULL,              -- with another bound a model may pay
    bound_value      float8 NOT NULL,
    rows             bigint NOT NULL,            -- of the series then, hot and cold
    bits_per_sample  float8,                     -- without the model that was tried
    note             text NOT NULL,
    tried_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_id, column_id, series_key),
    FOREIGN KEY (table_id, column_id) REFERENCES ddstore.managed_column ON DELETE CASCADE
);

-- One row per series and attempt; the compactor's memory and its queue.
CREATE TABLE ddstore.job (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_id      int NOT NULL REFERENCES ddstore.managed_table ON DELETE CASCADE,
    series_key    jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    profile       text NOT NULL CHECK (profile IN ('fast', 'balanced', 'archive')), -- of the segments written
    worker        text NOT NULL,
    attempts      int NOT NULL DEFAULT 1,
    not_before    timestamptz NOT NULL DEFAULT now(),   -- a failed series waits this long
    heartbeat     timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    rows          bigint NOT NULL DEFAULT 0,
    segments      int NOT NULL DEFAULT 0,
    bytes         bigint NOT NULL DEFAULT 0,            -- of segments and models written
    note          text,                                 -- e.g. why no learned model was trained
    error         text,
    UNIQUE (table_id, series_key)
);

-- Rows of a series in these times were in segments before, and a statement that changed some of them took them out again
-- (docs/sql.md). Their values were read back within their bound once already, so they are compacted without any loss: in the
-- way they were coded before, where that is known.
CREATE TABLE ddstore.settled (
    table_id    int NOT NULL REFERENCES ddstore.managed_table ON DELETE CASCADE,
    series_key  jsonb NOT NULL,
    t_min       bigint NOT NULL,                 -- as ddstore.instant() has them
    t_max       bigint NOT NULL CHECK (t_max >= t_min),
    heads       jsonb,                           -- by column id: the first bytes of what the segment had, in hex
    PRIMARY KEY (table_id, series_key, t_min, t_max)
);

-- What ddstore.write(Series) fills. It becomes a managed table at its first use.
CREATE TABLE ddstore.samples (
    series  text NOT NULL,
    time    timestamptz NOT NULL,
    value   float8
);
-- BRIN: written at the speed of a table without an index, and rows stay here only until they are compacted.
CREATE INDEX samples_series_time ON ddstore.samples USING brin (series text_bloom_ops, time)
    WITH (pages_per_range = 32, autosummarize = on);

-- Every segment the caller may read, of one table or of all. The companions are created at run time, hence dynamic SQL.
CREATE FUNCTION ddstore.list_segments(only_table int DEFAULT NULL)
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

CREATE VIEW ddstore.segments AS
SELECT s.relation, s.series, s.segment_id, s.t_min, s.t_max, s.rows, s.time_bytes, s.latents_bytes, s.residual_bytes,
       s.array_bytes, s.time_bytes + s.latents_bytes + s.residual_bytes + s.array_bytes AS bytes, s.column_bytes,
       s.created_at, s.table_id
FROM ddstore.list_segments() s;

-- How the segments of each series' columns are coded, as the columns' first bytes say (docs/format.md): of one table,
-- or of all that the caller may read. No more than these bytes is fetched.
CREATE FUNCTION ddstore.list_codings(only_table int DEFAULT NULL)
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

CREATE VIEW ddstore.codings AS
SELECT l.relation, l.series, c.name AS column_name, l.mode, l.coder, l.segments, l.rows, l.non_null, l.bytes,
       8::float8 * l.bytes / l.rows AS bits_per_sample, l.escapes, l.exact_segments, l.table_id
FROM ddstore.list_codings() l
JOIN ddstore.managed_column c ON c.table_id = l.table_id AND c.id = l.column_id;

-- A series' key is data, which row-level security may hide: who does not see every row of a table sees no series of it
-- here. security_barrier, so that no condition of the query is asked before these are.
CREATE VIEW ddstore.models WITH (security_barrier) AS
SELECT t.relation, c.name AS column_name, m.series_key AS series, m.id AS model_id, octet_length(m.bytes) AS bytes,
       octet_length(m.encoder) AS encoder_bytes, m.record, m.created_at, m.table_id
FROM ddstore.model m
JOIN ddstore.managed_table t ON t.id = m.table_id
JOIN ddstore.managed_column c ON c.table_id = m.table_id AND c.id = m.column_id
WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT') AND NOT pg_catalog.row_security_active(t.relation::oid);

CREATE VIEW ddstore.compaction WITH (security_barrier) AS
SELECT t.relation, j.series_key AS series, j.state, j.profile, j.worker, j.attempts, j.not_before, j.heartbeat, j.started_at,
       j.finished_at, j.rows, j.segments, j.bytes, j.note, j.error, j.table_id
FROM ddstore.job j
JOIN ddstore.managed_table t ON t.id = j.table_id
WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT') AND NOT pg_catalog.row_security_active(t.relation::oid);

CREATE VIEW ddstore.tables AS
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

-- Names, bounds, settings and sizes are as public as PostgreSQL's own catalogs. Series keys, models and the data are
-- not: the views show them to whoever may read the table concerned.
GRANT USAGE ON SCHEMA ddstore TO PUBLIC;
GRANT SELECT ON ddstore.migration, ddstore.managed_table, ddstore.managed_column, ddstore.tables, ddstore.segments,
    ddstore.codings, ddstore.models, ddstore.compaction TO PUBLIC;

COMMENT ON SCHEMA ddstore IS
    'DDStore: error-bounded, compressed time series. Look at the views tables, segments, codings, models and compaction.';
COMMENT ON TABLE ddstore.migration IS 'Which versions of this schema were applied, with the digest of each script.';
COMMENT ON TABLE ddstore.managed_table IS
    'One row per table that DDStore compacts: the table, its companion with the segments, and its policy. UPDATE profile, '
    'segment_rows, min_rows and hot_for as you like: they hold for segments to come.';
COMMENT ON COLUMN ddstore.managed_table.relation IS 'The table itself; its heap holds the hot rows.';
COMMENT ON COLUMN ddstore.managed_table.segments IS 'The companion table: one row per segment. Never write to it.';
COMMENT ON COLUMN ddstore.managed_table.cold IS
    'The foreign table through which a SELECT on the table sees its segments; NULL without the extension.';
COMMENT ON COLUMN ddstore.managed_table.profile IS 'Decode-cost budget of new segments: fast, balanced or archive.';
COMMENT ON COLUMN ddstore.managed_table.segment_rows IS
    'Rows in a full segment; NULL leaves it to the profile (the view tables shows how many that are).';
COMMENT ON COLUMN ddstore.managed_table.min_rows IS 'A series with fewer hot rows than this is left alone.';
COMMENT ON COLUMN ddstore.managed_table.hot_for IS 'Rows younger than this stay hot.';
COMMENT ON COLUMN ddstore.managed_table.unique_check IS
    'Among which rows unique keys are unique: hot (the indexes see to that), or all (triggers look at cold ones, too).';
COMMENT ON COLUMN ddstore.managed_table.shrinks IS
    'true: DDStore has set vacuum_truncate to false for the table, since the compactor shrinks it in short steps; false: the '
    'setting is yours, and kept; NULL: not decided yet.';
COMMENT ON TABLE ddstore.managed_column IS
    'The columns of managed tables, with the error each tolerates. id names the companion''s columns: k<id>, c<id>_...';
COMMENT ON COLUMN ddstore.managed_column.bound_kind IS
    'absolute: |x - x_read| <= bound_value; relative: <= bound_value * |x|; range: <= bound_value * (max - min) '
    'of the segment; lossless: bit-exact.';
COMMENT ON COLUMN ddstore.managed_column.attnum IS
    'The column in pg_attribute, where attrelid is the table''s oid: so renames and drops are told apart.';
COMMENT ON TABLE ddstore.series_bound IS 'Error bounds that single series keep for themselves; they win over the column''s.';
COMMENT ON TABLE ddstore.model IS
    'Trained decoders, shared by a series'' segments. Immutable: segments that refer to one decode with no other.';
COMMENT ON COLUMN ddstore.model.bytes IS 'What decoding needs; counted in every ratio DDStore prints.';
COMMENT ON COLUMN ddstore.model.encoder IS 'What encoding further segments needs besides; safe to set to NULL.';
COMMENT ON COLUMN ddstore.model.record IS 'How the model was trained: seed, sample, losses, versions.';
COMMENT ON TABLE ddstore.model_trial IS
    'Series columns for which a learned model was tried and did not pay, so that it is not tried again too soon.';
COMMENT ON COLUMN ddstore.model_trial.rows IS 'Rows of the series when it was tried, hot and cold.';
COMMENT ON TABLE ddstore.job IS 'The compactor''s memory: the last attempt at each series. See the view compaction.';
COMMENT ON COLUMN ddstore.job.profile IS 'The profile of the segments that this attempt wrote.';
COMMENT ON TABLE ddstore.settled IS
    'Times of series whose hot rows were in segments before: what they lost by that is all that they may lose.';
COMMENT ON TABLE ddstore.samples IS 'Series written by ddstore.write(): SELECT from it as from any table.';
COMMENT ON FUNCTION ddstore.list_segments(int) IS
    'Segments of one managed table (by its id) or of all, as far as the caller may read their companions.';
COMMENT ON FUNCTION ddstore.list_codings(int) IS
    'How segments of one managed table (by its id) or of all are coded, as far as the caller may read their companions.';
COMMENT ON VIEW ddstore.tables IS
    'Managed tables: columns, bounds, hot and cold size on disk (bytes, with indexes and TOAST), payload and model bytes, '
    'and what the compactor goes by.';
COMMENT ON VIEW ddstore.segments IS
    'Compressed segments: series, time range, rows, and payload bytes in total and per column.';
COMMENT ON VIEW ddstore.codings IS
    'Series columns by how their segments are coded: numbers of mode and coder as in docs/format.md (NULL where the column '
    'is an array, or damaged), segments, rows, bytes of latents, residuals and arrays, and values stored exactly.';
COMMENT ON VIEW ddstore.models IS 'Trained models: whose they are, their size in bytes, and how they were trained.';
COMMENT ON VIEW ddstore.compaction IS
    'What the compactor did last to each series, what it is doing now, and why a series failed.';
