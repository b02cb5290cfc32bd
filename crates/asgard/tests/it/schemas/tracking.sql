INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time, job_id)
VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active', 1, 1, NULL), (7, 'churn', 'mlflow-artifacts:/7', 'active', 2, 3, 'job-1');
INSERT INTO experiment_tags (experiment_id, key, value) VALUES (7, 'team', 'a');
INSERT INTO runs (run_id, experiment_id, name, status, lifecycle_stage, user_id, start_time, end_time, deleted_time, artifact_uri, job_id)
VALUES ('0123456789abcdef0123456789abcdef', 7, 'calm-owl-1', 'FINISHED', 'active', 'me', 10, 20, NULL, 'mlflow-artifacts:/7/0123456789abcdef0123456789abcdef/artifacts', 'job-1'),
       ('fedcba9876543210fedcba9876543210', 7, 'bad-owl-2', 'FAILED', 'deleted', 'me', 11, 21, 22, 'mlflow-artifacts:/7/fedcba9876543210fedcba9876543210/artifacts', NULL);
INSERT INTO params (run, key, value) SELECT run, 'depth', '3' FROM runs;
INSERT INTO tags (run, key, value) SELECT run, 'mlflow.runName', name FROM runs;
INSERT INTO metrics (run, key, timestamp, step, value_bits) SELECT run, 'loss', 12, 1, 4602678819172646912 FROM runs;
INSERT INTO latest_metrics (run, key, value, is_nan, value_bits, timestamp, step) SELECT run, 'loss', 0.5, FALSE, 4602678819172646912, 12, 1 FROM runs;
INSERT INTO datasets (dataset_id, experiment_id, name, digest, source_type, source, schema, profile) VALUES ('d1', 7, 'customers', 'abc', 'local', '{}', NULL, NULL);
INSERT INTO run_datasets (run, dataset_id, position) SELECT run, 'd1', 0 FROM runs;
INSERT INTO run_dataset_tags (run, dataset_id, key, value) SELECT run, 'd1', 'context', 'train' FROM runs;
INSERT INTO logged_models (model_id, experiment_id, name, artifact_uri, creation_time, last_update_time, status, status_message, lifecycle_stage, model_type, source_run_id, job_id)
VALUES ('m-0123456789abcdef0123456789abcdef', 7, 'model', 'mlflow-artifacts:/7/models/m-0123456789abcdef0123456789abcdef/artifacts', 15, 16, 'READY', NULL, 'active', NULL, '0123456789abcdef0123456789abcdef', 'job-1');
INSERT INTO logged_model_params (model_id, key, value) VALUES ('m-0123456789abcdef0123456789abcdef', 'depth', '3');
INSERT INTO logged_model_tags (model_id, key, value) VALUES ('m-0123456789abcdef0123456789abcdef', 'a', 'b');
INSERT INTO logged_model_metrics (model_id, key, timestamp, step, value, is_nan, run_id, dataset_name, dataset_digest) VALUES ('m-0123456789abcdef0123456789abcdef', 'loss', 12, 1, 0.5, FALSE, '0123456789abcdef0123456789abcdef', '', '');
INSERT INTO run_models (run, direction, model_id, step) SELECT run, 'output', 'm-0123456789abcdef0123456789abcdef', 0 FROM runs;
INSERT INTO traces (trace_id, experiment_id, request_time, duration_ms, state, client_request_id, request_preview, response_preview, job_id) VALUES ('tr-1', 7, 30, 5, 'OK', NULL, '{}', '{}', NULL);
INSERT INTO trace_tags (trace_id, key, value) VALUES ('tr-1', 'mlflow.artifactLocation', 'mlflow-artifacts:/7/traces/tr-1/artifacts');
INSERT INTO trace_metadata (trace_id, key, value) VALUES ('tr-1', 'a', 'b');
INSERT INTO asgard_counters (name, value) VALUES ('experiments', 7);
