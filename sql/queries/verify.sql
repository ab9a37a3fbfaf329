-- Verification: reading every segment of a table as it is stored.

-- name: verify_ids
-- The next segments of a table.
SELECT id FROM {segments} WHERE id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: verify_segments
-- Some segments as stored; times as the integers that PostgreSQL keeps.
SELECT {columns} FROM {segments} WHERE id = ANY (%(ids)s) ORDER BY id;

-- name: verify_model
-- One model, and the column it was trained for.
SELECT bytes, column_id FROM ddstore.model WHERE id = %(id)s;
