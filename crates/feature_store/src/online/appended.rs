//! What was added to a table since it was last read.

use std::collections::HashSet;

use iceberg::spec::{ManifestContentType, Operation};
use iceberg::table::Table;

use crate::error::Error;
use crate::table::TableRef;

/// The data files that were added after a snapshot. `None` when more than that has happened since
/// (rows were deleted or files rewritten), or the snapshot is none of the table's past any more.
///
/// # Errors
/// When the storage does not answer.
pub(super) async fn files_since(
    name: &TableRef,
    table: &Table,
    since: i64,
) -> Result<Option<HashSet<String>>, Error> {
    let metadata = table.metadata();
    let mut newer = HashSet::new();
    let mut next = metadata.current_snapshot();
    loop {
        let Some(snapshot) = next else {
            return Ok(None);
        };
        if snapshot.snapshot_id() == since {
            break;
        }
        if snapshot.summary().operation != Operation::Append {
            return Ok(None);
        }
        newer.insert(snapshot.snapshot_id());
        next = snapshot
            .parent_snapshot_id()
            .and_then(|id| metadata.snapshot_by_id(id));
    }
    let Some(current) = metadata.current_snapshot() else {
        return Ok(None);
    };
    let failed = || format!("the history of table {name} cannot be read");
    let list = table.manifest_list_reader(current).load().await;
    let list = list.map_err(Error::iceberg(failed()))?;
    let mut files = HashSet::new();
    for manifest in list.entries() {
        let data = manifest.content == ManifestContentType::Data;
        if !data || !newer.contains(&manifest.added_snapshot_id) {
            continue;
        }
        let entries = manifest.load_manifest(table.file_io()).await;
        let entries = entries.map_err(Error::iceberg(failed()))?;
        // An append may merge older files into its own manifest.
        let added = entries.entries().iter().filter(|entry| {
            entry.is_alive() && entry.snapshot_id().is_some_and(|id| newer.contains(&id))
        });
        files.extend(added.map(|entry| entry.file_path().to_owned()));
    }
    Ok(Some(files))
}
