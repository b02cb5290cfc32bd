ALTER TABLE deployments ADD COLUMN image TEXT;
ALTER TABLE deployments ADD COLUMN placed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN leader TEXT;
ALTER TABLE deployments ADD COLUMN leader_until BIGINT;
ALTER TABLE deployment_endpoints ADD COLUMN url TEXT;
CREATE INDEX deployments_placed ON deployments (namespace, model_name) WHERE placed = 1;
