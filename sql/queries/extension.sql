-- The extension, and what a database can do.

-- name: extension_versions
-- The version the server could install, and the one installed here.
SELECT default_version, installed_version FROM pg_catalog.pg_available_extensions WHERE name = 'ddstore';

-- name: create_extension
CREATE EXTENSION IF NOT EXISTS ddstore SCHEMA ddstore;

-- name: update_extension
ALTER EXTENSION ddstore UPDATE;

-- name: library_version
-- The version of the library itself, which an update of the server's files changes at once, in new sessions.
SELECT ddstore.extension_version();

-- name: around_policies
-- Rights to read segments, or a cold table by its own name, where row-level security should decide who reads what.
SELECT coalesce(r.rolname, 'PUBLIC') || ' on ' || b.oid::regclass::text
FROM ddstore.managed_table t
JOIN pg_catalog.pg_class p ON p.oid = t.relation AND p.relrowsecurity
JOIN pg_catalog.pg_class b ON b.oid IN (t.segments, t.cold)
CROSS JOIN LATERAL (
    SELECT g.grantee FROM pg_catalog.aclexplode(b.relacl) g WHERE g.privilege_type = 'SELECT'
    UNION
    SELECT g.grantee FROM pg_catalog.pg_attribute a CROSS JOIN pg_catalog.aclexplode(a.attacl) g
    WHERE a.attrelid = b.oid AND g.privilege_type = 'SELECT') AS granted
LEFT JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
WHERE granted.grantee <> b.relowner
ORDER BY 1;

-- name: capabilities
-- Reads system catalogs only, so that it works in any database and for any role.
SELECT jsonb_build_object(
    'server_version', current_setting('server_version'),
    'database', current_database(),
    'role', current_user,
    'superuser', (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
    'can_create', has_database_privilege(current_database(), 'CREATE'),
    'catalog_owner', (SELECT pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = 'ddstore'),
    'can_use_catalog', coalesce((SELECT has_schema_privilege(oid, 'USAGE')
                                 FROM pg_catalog.pg_namespace WHERE nspname = 'ddstore'), false),
    'owns_catalog', coalesce((SELECT pg_has_role(nspowner, 'USAGE')
                              FROM pg_catalog.pg_namespace WHERE nspname = 'ddstore'), false),
    'extension_available', (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'ddstore'),
    'extension_version', (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'ddstore'),
    'lz4', coalesce((SELECT 'lz4' = ANY (enumvals)
                     FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression'), false));

-- name: bind_cold_tables
-- Let cold tables be dropped with their tables; a new major version of the server has forgotten that.
SELECT ddstore.depend_on_table(c.oid)
FROM ddstore.managed_table t JOIN pg_catalog.pg_class c ON c.oid = t.cold
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
  AND (SELECT count(*) = 1 AND bool_and(i.inhparent = t.relation) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid);
