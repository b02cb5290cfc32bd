-- The index of values is over a copy that only runs which ended have: PostgreSQL moves a row, and
-- writes all its indexes anew, when a column of any index changes, be the row in that index or not.

ALTER TABLE latest_metrics ADD COLUMN settled_value DOUBLE PRECISION;
UPDATE latest_metrics SET settled_value = value WHERE settled;
DROP INDEX latest_metrics_by_value;
DROP INDEX latest_metrics_unsettled;
ALTER TABLE latest_metrics DROP COLUMN settled;
CREATE INDEX latest_metrics_by_value ON latest_metrics (key, is_nan, settled_value, run)
    WHERE settled_value IS NOT NULL;
CREATE INDEX latest_metrics_unsettled ON latest_metrics (key, run) WHERE settled_value IS NULL;
