-- Who has set vacuum_truncate for a managed table: where it is DDStore, the compactor shrinks the heap in short steps.

ALTER TABLE ddstore.managed_table ADD shrinks boolean;
COMMENT ON COLUMN ddstore.managed_table.shrinks IS
    'true: DDStore has set vacuum_truncate to false for the table, since the compactor shrinks it in short steps; false: the '
    'setting is yours, and kept; NULL: not decided yet.';
