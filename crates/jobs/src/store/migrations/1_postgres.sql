CREATE TABLE training_jobs (
    job_id TEXT PRIMARY KEY,
    script_name TEXT NOT NULL,
    experiment_name TEXT NOT NULL,
    model_name TEXT NOT NULL,
    request TEXT NOT NULL,
    script TEXT NOT NULL,
    idempotency_key TEXT UNIQUE,
    request_hash TEXT NOT NULL,
    created_by TEXT NOT NULL,
    status TEXT NOT NULL,
    phase TEXT,
    reason TEXT,
    attempt BIGINT NOT NULL,
    lease_owner TEXT,
    lease_until BIGINT,
    cancel_requested BOOLEAN NOT NULL,
    token_hash TEXT UNIQUE,
    progress DOUBLE PRECISION,
    run_id TEXT,
    model_version TEXT,
    error TEXT,
    warnings TEXT NOT NULL,
    facts TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    script_started_at BIGINT,
    completed_at BIGINT
);
CREATE INDEX training_jobs_waiting ON training_jobs (job_id)
    WHERE lease_owner IS NULL AND completed_at IS NULL;
CREATE INDEX training_jobs_leased ON training_jobs (lease_until)
    WHERE lease_owner IS NOT NULL AND completed_at IS NULL;
CREATE INDEX training_jobs_status ON training_jobs (status, job_id);
CREATE TABLE training_job_logs (
    job_id TEXT NOT NULL REFERENCES training_jobs (job_id) ON DELETE CASCADE,
    start_byte BIGINT NOT NULL,
    stream TEXT NOT NULL,
    at BIGINT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (job_id, start_byte)
);
