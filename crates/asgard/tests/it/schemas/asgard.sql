INSERT INTO api_keys (id, name, role, secret_sha256, created_at, expires_at, revoked_at, last_used_at) VALUES ('0123456789ab', 'ci', 'runner', CAST('x' AS BLOB_TYPE), 1, NULL, NULL, NULL);
