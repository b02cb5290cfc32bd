-- Secrets that only the key outside of the database opens. What `secret` held is sealed at the next
-- start, and nothing writes to it any more.
ALTER TABLE webhooks ADD COLUMN sealed_secret TEXT;
