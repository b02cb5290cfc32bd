INSERT INTO registered_models (name, description, last_version, created_at, updated_at, job_id) VALUES ('churn', 'who leaves', 2, 1, 2, 'job-1');
INSERT INTO registered_model_tags (name, key, value) VALUES ('churn', 'team', 'a');
INSERT INTO model_versions (name, version, source, location, run_id, run_link, model_id, stage, description, created_at, updated_at, job_id)
VALUES ('churn', 1, 's3://elsewhere/m', 's3://elsewhere/m', NULL, NULL, NULL, 'Archived', '', 1, 2, NULL),
       ('churn', 2, 'models:/m-0123456789abcdef0123456789abcdef', 'mlflow-artifacts:/7/models/m-0123456789abcdef0123456789abcdef/artifacts', '0123456789abcdef0123456789abcdef', NULL, 'm-0123456789abcdef0123456789abcdef', 'Production', 'good', 2, 3, 'job-1');
INSERT INTO model_version_tags (name, version, key, value) VALUES ('churn', 2, 'asgard.environment', 'e');
INSERT INTO model_aliases (name, alias, version) VALUES ('churn', 'champion', 2);
