-- What searches look at in a span. A span that came before this has it from the first search on
-- that looks at spans.
ALTER TABLE trace_spans ADD COLUMN name TEXT;
ALTER TABLE trace_spans ADD COLUMN type TEXT;
ALTER TABLE trace_spans ADD COLUMN status TEXT;
ALTER TABLE trace_spans ADD COLUMN content TEXT;
CREATE INDEX trace_spans_without_text ON trace_spans (trace_id) WHERE content IS NULL;

-- Runs that show a trace, and prompt versions (NAME/VERSION) that it used. Clients link a trace
-- before it has come.
CREATE TABLE trace_links (
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    PRIMARY KEY (kind, target, trace_id)
);
CREATE INDEX trace_links_by_trace ON trace_links (trace_id);
