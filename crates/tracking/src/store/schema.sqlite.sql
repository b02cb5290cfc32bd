-- The tables of tracking on SQLite; schema.postgres.sql is its twin.
-- A NaN is stored as the value 0 with is_nan set: it compares as MLflow compares it.
-- Tables without a rowid are laid out in the order of their key: a history is one range of it.

CREATE TABLE experiments (
    experiment_id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    artifact_location TEXT NOT NULL,
    lifecycle_stage TEXT NOT NULL,
    creation_time BIGINT NOT NULL,
    last_update_time BIGINT NOT NULL,
    job_id TEXT
);
CREATE TABLE experiment_tags (
    experiment_id BIGINT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (experiment_id, key)
) WITHOUT ROWID;

-- `run` is the short number that the tables below refer to; `run_id` is what clients know.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    experiment_id BIGINT NOT NULL REFERENCES experiments,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    lifecycle_stage TEXT NOT NULL,
    user_id TEXT NOT NULL,
    start_time BIGINT NOT NULL,
    end_time BIGINT,
    deleted_time BIGINT,
    artifact_uri TEXT NOT NULL,
    job_id TEXT
);
CREATE INDEX runs_by_start ON runs (experiment_id, lifecycle_stage, start_time DESC, run_id);
CREATE INDEX runs_by_job ON runs (job_id) WHERE job_id IS NOT NULL;

CREATE TABLE params (
    run BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE tags (
    run BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE INDEX tags_by_value ON tags (key, value, run) WHERE length(value) <= 64;

-- `value_bits` are the bits of the value, turned so that they sort as the values do: a whole history
-- is then read as one exact text, ten times as fast as row by row (metric.rs).
CREATE TABLE metrics (
    run BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    timestamp BIGINT NOT NULL,
    step BIGINT NOT NULL,
    value_bits BIGINT NOT NULL,
    PRIMARY KEY (run, key, timestamp, step, value_bits)
) WITHOUT ROWID;
CREATE TABLE latest_metrics (
    run BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    is_nan BOOLEAN NOT NULL,
    value_bits BIGINT NOT NULL,
    timestamp BIGINT NOT NULL,
    step BIGINT NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;

CREATE TABLE datasets (
    dataset_id TEXT PRIMARY KEY,
    experiment_id BIGINT NOT NULL REFERENCES experiments,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    source_type TEXT NOT NULL,
    source TEXT NOT NULL,
    schema TEXT,
    profile TEXT,
    UNIQUE (experiment_id, name, digest)
);
CREATE TABLE run_datasets (
    run BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    dataset_id TEXT NOT NULL REFERENCES datasets,
    position BIGINT NOT NULL,
    PRIMARY KEY (run, dataset_id)
) WITHOUT ROWID;
CREATE TABLE run_dataset_tags (
    run BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    dataset_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, dataset_id, key)
) WITHOUT ROWID;

CREATE TABLE logged_models (
    model_id TEXT PRIMARY KEY,
    experiment_id BIGINT NOT NULL REFERENCES experiments,
    name TEXT NOT NULL,
    artifact_uri TEXT NOT NULL,
    creation_time BIGINT NOT NULL,
    last_update_time BIGINT NOT NULL,
    status TEXT NOT NULL,
    status_message TEXT,
    lifecycle_stage TEXT NOT NULL,
    model_type TEXT,
    source_run_id TEXT,
    job_id TEXT
);
CREATE INDEX logged_models_by_creation ON logged_models (experiment_id, lifecycle_stage, creation_time DESC, model_id);
CREATE INDEX logged_models_by_run ON logged_models (source_run_id) WHERE source_run_id IS NOT NULL;
CREATE INDEX logged_models_by_job ON logged_models (job_id) WHERE job_id IS NOT NULL;
CREATE TABLE logged_model_params (
    model_id TEXT NOT NULL REFERENCES logged_models ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model_id, key)
) WITHOUT ROWID;
CREATE TABLE logged_model_tags (
    model_id TEXT NOT NULL REFERENCES logged_models ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model_id, key)
) WITHOUT ROWID;
-- Metrics that a run logged with a model_id; log-batch writes them, logged models show them.
CREATE TABLE logged_model_metrics (
    model_id TEXT NOT NULL REFERENCES logged_models ON DELETE CASCADE,
    key TEXT NOT NULL,
    timestamp BIGINT NOT NULL,
    step BIGINT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    is_nan BOOLEAN NOT NULL,
    run_id TEXT NOT NULL,
    dataset_name TEXT NOT NULL,
    dataset_digest TEXT NOT NULL,
    PRIMARY KEY (model_id, key, timestamp, step, value, is_nan, run_id)
) WITHOUT ROWID;
CREATE INDEX logged_model_metrics_by_value ON logged_model_metrics (key, value, model_id);

-- Logged models that a run read or made; `direction` is 'input' or 'output'.
CREATE TABLE run_models (
    run BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    direction TEXT NOT NULL,
    model_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    PRIMARY KEY (run, direction, model_id)
) WITHOUT ROWID;
CREATE INDEX run_models_by_model ON run_models (model_id);

CREATE TABLE traces (
    trace_id TEXT PRIMARY KEY,
    experiment_id BIGINT NOT NULL REFERENCES experiments,
    request_time BIGINT NOT NULL,
    duration_ms BIGINT,
    state TEXT NOT NULL,
    client_request_id TEXT,
    request_preview TEXT,
    response_preview TEXT,
    job_id TEXT
);
CREATE INDEX traces_by_time ON traces (experiment_id, request_time DESC, trace_id);
CREATE TABLE trace_tags (
    trace_id TEXT NOT NULL REFERENCES traces ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (trace_id, key)
) WITHOUT ROWID;
CREATE TABLE trace_metadata (
    trace_id TEXT NOT NULL REFERENCES traces ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (trace_id, key)
) WITHOUT ROWID;
