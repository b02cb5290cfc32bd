-- Spans that came by OTLP, each as the protobuf message that it is, and assessments, each as the
-- protobuf JSON that it is.

CREATE TABLE trace_spans (
    trace_id TEXT COLLATE "C" NOT NULL REFERENCES traces ON DELETE CASCADE,
    span_id TEXT NOT NULL,
    start_ns BIGINT NOT NULL,
    message BYTEA NOT NULL,
    PRIMARY KEY (trace_id, span_id)
);
CREATE TABLE trace_assessments (
    assessment_id TEXT PRIMARY KEY,
    trace_id TEXT COLLATE "C" NOT NULL REFERENCES traces ON DELETE CASCADE,
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX trace_assessments_by_trace ON trace_assessments (trace_id, created_at, assessment_id);
