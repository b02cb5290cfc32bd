CREATE TABLE deployments (
    deployment_id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    model_name TEXT NOT NULL,
    machine TEXT NOT NULL,
    request TEXT NOT NULL,
    training TEXT,
    idempotency_key TEXT UNIQUE,
    request_hash TEXT NOT NULL,
    created_by TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    training_job_id TEXT,
    run_id TEXT,
    model_version BIGINT,
    replicas BIGINT NOT NULL,
    traffic BIGINT NOT NULL,
    timings TEXT NOT NULL,
    failure TEXT,
    created_at BIGINT NOT NULL,
    completed_at BIGINT,
    retired_at BIGINT,
    removed_at BIGINT
);
CREATE INDEX deployments_open ON deployments (machine, deployment_id)
    WHERE completed_at IS NULL AND removed_at IS NULL;
CREATE INDEX deployments_live ON deployments (machine, deployment_id)
    WHERE status = 'deployed' AND retired_at IS NULL AND removed_at IS NULL;
CREATE INDEX deployments_of_endpoint ON deployments (namespace, model_name, deployment_id);
CREATE TABLE deployment_endpoints (
    namespace TEXT NOT NULL,
    model_name TEXT NOT NULL,
    machine TEXT NOT NULL,
    port BIGINT,
    PRIMARY KEY (namespace, model_name)
);
CREATE TABLE deployment_logs (
    deployment_id TEXT NOT NULL REFERENCES deployments (deployment_id) ON DELETE CASCADE,
    line BIGINT NOT NULL,
    source TEXT NOT NULL,
    at BIGINT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (deployment_id, line)
);
