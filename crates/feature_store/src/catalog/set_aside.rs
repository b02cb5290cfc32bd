//! Tables that nobody is shown: those that were replaced, kept for a while for who reads them, and
//! those that are being made; and their removal.

use super::{CatalogKind, Catalogs, list};

/// What the name of a table ends in that was set aside, before the ULID of when, and how long it is
/// kept.
pub(super) const SET_ASIDE: &str = "__asgard_replaced_";
pub(super) const KEPT_MS: i64 = 3_600_000;

/// The same of a table that is being made. One that is left after so long is of a server that was
/// killed: half of its rows, or, when the two had changed places, what was there before.
pub(super) const MAKING: &str = "__asgard_making_";
pub(super) const MAKING_MS: i64 = 24 * KEPT_MS;

/// Until when a table of that name is kept, in epoch milliseconds, which nobody is shown; none for
/// all other tables.
pub(super) fn kept_until(name: &str) -> Option<i64> {
    let kinds = [Left::SetAside, Left::HalfMade];
    kinds.iter().find_map(|kind| kind.kept_until(name))
}

/// Why a table is there that nobody is shown.
enum Left {
    SetAside,
    HalfMade,
}

impl Left {
    /// What there may be of asgard in a catalog: only where tables change places something is set
    /// aside, and in Glue nothing is made beside.
    fn in_catalog(kind: CatalogKind) -> &'static [Self] {
        match kind {
            CatalogKind::Sql => &[Self::SetAside, Self::HalfMade],
            CatalogKind::Rest => &[Self::HalfMade],
            CatalogKind::Glue => &[],
        }
    }

    fn kept_until(&self, name: &str) -> Option<i64> {
        let (suffix, kept_ms) = match self {
            Self::SetAside => (SET_ASIDE, KEPT_MS),
            Self::HalfMade => (MAKING, MAKING_MS),
        };
        let (_, ulid) = name.rsplit_once(suffix)?;
        let ulid = ulid::Ulid::from_string(ulid).ok()?;
        let since = i64::try_from(ulid.timestamp_ms()).ok()?;
        Some(since.saturating_add(kept_ms))
    }

    fn is_over(&self, name: &str, now: i64) -> bool {
        self.kept_until(name).is_some_and(|until| until < now)
    }
}

impl Catalogs {
    /// Removes the tables that were set aside long enough ago, and those that were left half made, of
    /// the catalogs that are open.
    pub(crate) async fn remove_set_aside(&self, now: i64) {
        for (name, entry) in &*self.all {
            let kinds = entry.config.kind(name).map_or(&[][..], Left::in_catalog);
            let Some(opened) = entry.opened.get().filter(|_| !kinds.is_empty()) else {
                continue;
            };
            let tables = match opened.twice(|| list::tables(&*opened.catalog)).await {
                Ok(tables) => tables,
                Err(error) => {
                    tracing::warn!(catalog = name, %error, "looking for tables that were replaced failed");
                    continue;
                }
            };
            let old = tables
                .iter()
                .filter(|table| kinds.iter().any(|kind| kind.is_over(table.name(), now)));
            for table in old {
                // Another server of the same catalog may be quicker.
                match opened.twice(|| opened.catalog.purge_table(table)).await {
                    Ok(()) => tracing::info!(%table, "a table that was replaced is removed"),
                    Err(error) => {
                        tracing::warn!(%table, %error, "removing a table that was replaced failed");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_aside_or_is_being_made_is_taken_for_it() {
        let at = ulid::Ulid::from_parts(7, 0).to_string().to_lowercase();
        let until = |name: String| kept_until(&name);
        assert_eq!(until(format!("saved{SET_ASIDE}{at}")), Some(7 + KEPT_MS));
        assert_eq!(until(format!("saved{MAKING}{at}")), Some(7 + MAKING_MS));
        assert_eq!(until(format!("saved__{at}")), None);
        assert_eq!(until(format!("saved{SET_ASIDE}of_mine")), None);
    }

    #[test]
    fn what_is_left_half_made_is_removed_from_each_catalog_that_it_is_made_in() {
        let at = ulid::Ulid::from_parts(7, 0).to_string().to_lowercase();
        let removed = |kind, suffix, now| {
            let name = format!("saved{suffix}{at}");
            let mut kinds = Left::in_catalog(kind).iter();
            kinds.any(|kind| kind.is_over(&name, now))
        };
        for kind in [CatalogKind::Sql, CatalogKind::Rest] {
            assert!(removed(kind, MAKING, 8 + MAKING_MS));
            assert!(!removed(kind, MAKING, 7 + MAKING_MS));
        }
        assert!(removed(CatalogKind::Sql, SET_ASIDE, 8 + KEPT_MS));
        assert!(!removed(CatalogKind::Rest, SET_ASIDE, i64::MAX));
        assert!(!removed(CatalogKind::Glue, MAKING, i64::MAX));
    }
}
