-- A point's run was looked at by a foreign key for each point, which took longer than writing it. Points
-- are only written together with the latest one of their key, whose table has the foreign key: a run
-- that is removed meanwhile is noticed there. Who removes a run removes its points (removals.rs).
ALTER TABLE metrics DROP CONSTRAINT metrics_run_fkey;
