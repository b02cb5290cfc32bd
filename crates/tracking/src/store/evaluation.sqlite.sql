-- Evaluation datasets, each record as the JSON object that clients get, and the versions of
-- scorers as the text that they sent. evaluation.postgres.sql is its twin.

CREATE TABLE evaluation_datasets (
    dataset_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    schema TEXT,
    profile TEXT,
    created_time BIGINT NOT NULL,
    last_update_time BIGINT NOT NULL,
    created_by TEXT,
    last_updated_by TEXT,
    job_id TEXT
);
CREATE INDEX evaluation_datasets_by_time ON evaluation_datasets (created_time, dataset_id);
CREATE TABLE evaluation_dataset_tags (
    dataset_id TEXT NOT NULL REFERENCES evaluation_datasets ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (dataset_id, key)
) WITHOUT ROWID;
CREATE TABLE evaluation_dataset_experiments (
    dataset_id TEXT NOT NULL REFERENCES evaluation_datasets ON DELETE CASCADE,
    experiment_id BIGINT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    PRIMARY KEY (dataset_id, experiment_id)
) WITHOUT ROWID;
CREATE INDEX evaluation_datasets_by_experiment ON evaluation_dataset_experiments (experiment_id, dataset_id);

-- `position` counts up within a dataset and is never used again: pages go by it.
CREATE TABLE evaluation_records (
    dataset_id TEXT NOT NULL REFERENCES evaluation_datasets ON DELETE CASCADE,
    position BIGINT NOT NULL,
    record_id TEXT NOT NULL UNIQUE,
    inputs_hash TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (dataset_id, position),
    UNIQUE (dataset_id, inputs_hash)
);

CREATE TABLE scorers (
    experiment_id BIGINT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    scorer_id TEXT NOT NULL,
    serialized TEXT NOT NULL,
    created_time BIGINT NOT NULL,
    job_id TEXT,
    PRIMARY KEY (experiment_id, name, version)
);
