UPDATE deployments SET training = NULL WHERE completed_at IS NOT NULL OR removed_at IS NOT NULL;
CREATE INDEX deployments_removed ON deployments (removed_at) WHERE removed_at IS NOT NULL;
