-- The extension: a foreign-data wrapper that reads cold rows out of segments.
-- Installed with: CREATE EXTENSION ddstore SCHEMA ddstore
\echo Use "CREATE EXTENSION ddstore SCHEMA ddstore" to load this file. \quit

CREATE FUNCTION fdw_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'ddstore_fdw_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION fdw_handler() IS 'entry points of the DDStore foreign-data wrapper';

CREATE FUNCTION fdw_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME', 'ddstore_fdw_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION fdw_validator(text[], oid) IS 'rejects options the DDStore foreign-data wrapper does not know';

CREATE FUNCTION extension_version() RETURNS text
    AS 'MODULE_PATHNAME', 'ddstore_extension_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION extension_version() IS 'version of the loaded DDStore library; differs from pg_extension until ALTER EXTENSION ... UPDATE';

CREATE FUNCTION move_rows(relation oid, places tid[]) RETURNS bigint
    AS 'MODULE_PATHNAME', 'ddstore_move_rows' LANGUAGE C STRICT;
COMMENT ON FUNCTION move_rows(oid, tid[]) IS
    'DELETE of rows that become cold: who was about to change one fails with serialization_failure instead of missing it';

CREATE FOREIGN DATA WRAPPER ddstore HANDLER fdw_handler VALIDATOR fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER ddstore IS 'reads cold rows out of DDStore segments';

CREATE SERVER ddstore FOREIGN DATA WRAPPER ddstore;
COMMENT ON SERVER ddstore IS 'this database: the segments are ordinary tables of it';

-- Anyone may define a cold table: the wrapper reads a segment table only when the foreign table's owner
-- may SELECT from it, so a foreign table opens nothing that its owner could not read already.
GRANT USAGE ON FOREIGN SERVER ddstore TO PUBLIC;
