-- What jobs made on an external MLflow server (tracking.uri): the server itself cannot say it, as
-- anyone who writes to it directly sets any tag.
CREATE TABLE external_stamps (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    artifact_uri TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX external_stamps_by_job ON external_stamps (job_id, kind);
