-- The tables of the registry on PostgreSQL; schema.sqlite.sql is its twin.
-- Text that is sorted or compared is in the C collation: the same order as on SQLite.
-- `last_version` only grows: the number of a deleted version is not used again.

CREATE TABLE registered_models (
    name TEXT COLLATE "C" PRIMARY KEY,
    description TEXT NOT NULL,
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    job_id TEXT
);
CREATE TABLE registered_model_tags (
    name TEXT COLLATE "C" NOT NULL REFERENCES registered_models ON DELETE CASCADE ON UPDATE CASCADE,
    key TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (name, key)
);

-- `source` is what the caller said, `location` the place that it names.
CREATE TABLE model_versions (
    name TEXT COLLATE "C" NOT NULL REFERENCES registered_models ON DELETE CASCADE ON UPDATE CASCADE,
    version BIGINT NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    location TEXT NOT NULL,
    run_id TEXT COLLATE "C",
    run_link TEXT,
    model_id TEXT,
    stage TEXT COLLATE "C" NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    job_id TEXT,
    PRIMARY KEY (name, version)
);
CREATE INDEX model_versions_by_run ON model_versions (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX model_versions_by_job ON model_versions (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX model_versions_by_update ON model_versions (updated_at DESC, name, version DESC);
CREATE TABLE model_version_tags (
    name TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (name, version, key),
    FOREIGN KEY (name, version) REFERENCES model_versions ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE model_aliases (
    name TEXT COLLATE "C" NOT NULL,
    alias TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (name, alias),
    FOREIGN KEY (name, version) REFERENCES model_versions ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX model_aliases_by_version ON model_aliases (name, version);
