-- Folders of the artifact store whose owners are removed for good and whose files are still to go.
CREATE TABLE removed_folders (
    folder TEXT PRIMARY KEY,
    removed_at BIGINT NOT NULL
);
