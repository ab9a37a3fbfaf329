-- The extension, and what a database can do.

-- name: extension_versions
-- The version the server could install, and the one installed here.
SELECT default_version, installed_version FROM pg_catalog.pg_available_extensions WHERE name = 'ddstore';

-- name: create_extension
CREATE EXTENSION IF NOT EXISTS ddstore SCHEMA ddstore;

-- name: update_extension
ALTER EXTENSION ddstore UPDATE;

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
