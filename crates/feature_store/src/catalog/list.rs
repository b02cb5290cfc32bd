//! All tables of a catalog, through all levels of its schemas.

use std::collections::HashSet;

use iceberg::{Catalog, ErrorKind, NamespaceIdent, Result, TableIdent};

/// The tables of a catalog, in no order.
///
/// # Errors
/// When the catalog does not answer.
pub(super) async fn tables(catalog: &dyn Catalog) -> Result<Vec<TableIdent>> {
    let mut waiting = catalog.list_namespaces(None).await?;
    // A catalog may answer more than the next level.
    let mut seen: HashSet<NamespaceIdent> = waiting.iter().cloned().collect();
    let mut tables = Vec::new();
    while let Some(namespace) = waiting.pop() {
        tables.extend(unless_gone(catalog.list_tables(&namespace).await)?);
        for below in unless_gone(catalog.list_namespaces(Some(&namespace)).await)? {
            if below.as_ref().starts_with(namespace.as_ref()) && seen.insert(below.clone()) {
                waiting.push(below);
            }
        }
    }
    Ok(tables)
}

/// A schema may be dropped meanwhile, or be there only as the first part of another's name.
fn unless_gone<T>(listed: Result<Vec<T>>) -> Result<Vec<T>> {
    match listed {
        Err(error) if error.kind() == ErrorKind::NamespaceNotFound => Ok(Vec::new()),
        listed => listed,
    }
}
