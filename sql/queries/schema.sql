-- Migrations: what ran, and the lock under which it runs.

-- name: migration_lock
-- Serialises migrating processes; held to the end of the transaction. The number only has to be ours.
SELECT pg_catalog.pg_advisory_xact_lock(7236270000001);

-- name: migration_table_exists
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'ddstore' AND c.relname = 'migration' AND c.relkind = 'r');

-- name: migrations_applied
SELECT name, sha256 FROM ddstore.migration ORDER BY name;

-- name: migration_record
INSERT INTO ddstore.migration (name, sha256) VALUES (%(name)s, %(sha256)s);
