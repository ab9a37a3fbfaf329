-- Columns are known by their number, too: renames and drops can be told apart without the extension.
ALTER TABLE ddstore.managed_column ADD COLUMN attrelid oid, ADD COLUMN attnum int2;

UPDATE ddstore.managed_column c
SET attrelid = a.attrelid, attnum = a.attnum
FROM ddstore.managed_table t
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped
WHERE t.id = c.table_id AND a.attname = c.name AND a.atttypid = c.type;

COMMENT ON COLUMN ddstore.managed_column.attnum IS
    'The column in pg_attribute, where attrelid is the table''s oid: so renames and drops are told apart.';
