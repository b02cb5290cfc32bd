ALTER TABLE deployments ADD COLUMN log_lines BIGINT NOT NULL DEFAULT 0;
UPDATE deployments SET log_lines = COALESCE((SELECT MAX(line) FROM deployment_logs
    WHERE deployment_logs.deployment_id = deployments.deployment_id), 0);
