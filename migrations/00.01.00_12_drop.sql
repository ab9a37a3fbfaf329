-- Dropped tables: what is left of them goes at once where the extension sees the DROP, else with the next compaction.

-- Drop what is left of tables that are gone: compressed rows, models, settings. Returns the segment tables.
CREATE FUNCTION ddstore.drop_orphans() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    orphan int;
    made   regtype;
BEGIN
    FOR orphan IN
        SELECT t.id FROM ddstore.managed_table t
        WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation) ORDER BY t.id
    LOOP
        IF to_regclass(format('ddstore.segment_%s', orphan)) IS NOT NULL THEN
            EXECUTE format('DROP TABLE ddstore.segment_%s', orphan);
        END IF;
        FOR made IN
            SELECT y.oid FROM pg_type y
            WHERE y.typnamespace = 'ddstore'::regnamespace AND y.typtype = 'c' AND y.typname ~ format('^segment_%s_c[0-9]+$', orphan)
        LOOP
            EXECUTE format('DROP TYPE %s', made);
        END LOOP;
        DELETE FROM ddstore.managed_table t WHERE t.id = orphan;
        RETURN NEXT format('ddstore.segment_%s', orphan);
    END LOOP;
END
$$;

COMMENT ON FUNCTION ddstore.drop_orphans() IS
    'Drops the segments of tables that were dropped, and what the catalog has of them; returns which segment tables.';
