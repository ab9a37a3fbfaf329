-- The catalog: which tables are managed, how much error each column tolerates, the shared models,
-- and what the compactor has done. Runs in one transaction; needs CREATE on the database, no superuser.

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
    segment_rows  int NOT NULL DEFAULT 16384 CHECK (segment_rows BETWEEN 16 AND 1048576),
    min_rows      int NOT NULL DEFAULT 1024 CHECK (min_rows >= 1),      -- fewer new rows than this stay hot
    hot_for       interval NOT NULL DEFAULT '0' CHECK (hot_for >= '0'), -- rows younger than this stay hot
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ddstore.managed_column (
    table_id     int NOT NULL REFERENCES ddstore.managed_table ON DELETE CASCADE,
    id           smallint NOT NULL,              -- names the companion's columns: k<id> or c<id>_...
    name         name NOT NULL,
    type         regtype NOT NULL,
    role         text NOT NULL CHECK (role IN ('time', 'key', 'value')),
    bound_kind   text NOT NULL DEFAULT 'lossless' CHECK (bound_kind IN ('absolute', 'relative', 'range', 'lossless')),
    bound_value  float8 NOT NULL DEFAULT 0 CHECK (bound_value >= 0 AND bound_value < 'Infinity'),
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

-- One row per series and attempt; the compactor's memory and its queue.
CREATE TABLE ddstore.job (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_id      int NOT NULL REFERENCES ddstore.managed_table ON DELETE CASCADE,
    series_key    jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
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
