-- Searches that look for few of very many runs, or for the best of them, go by value.
-- The latest metrics of a running run change all the time, so they are not in the index of values:
-- `settled` is set when the run ends. A search looks into both; only its speed hangs on it.

ALTER TABLE latest_metrics ADD COLUMN settled BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE latest_metrics SET settled = TRUE
    WHERE run IN (SELECT run FROM runs WHERE status <> 'RUNNING');
CREATE INDEX latest_metrics_by_value ON latest_metrics (key, is_nan, value, run) WHERE settled;
CREATE INDEX latest_metrics_unsettled ON latest_metrics (key, run) WHERE NOT settled;
CREATE INDEX params_by_value ON params (key, value, run) WHERE length(value) <= 64;
