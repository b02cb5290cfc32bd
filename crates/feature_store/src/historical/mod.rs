//! Point-in-time reads: for each entity row, the newest value that was known at its time.
//!
//! Like a left join: every entity row comes back once, in its place. A row of a view counts when
//! its time is at or before the entity row's, and its age at most the ttl. Of several rows the
//! latest counts, of the same time the one created last; a null in that row is the value.

mod as_of;
mod columns;
#[cfg(test)]
mod contract;
mod entities;
mod entity_table;
mod keys;
mod parts;
mod range;
mod read;
mod request;
mod scan;
mod slots;
mod spine;
mod widths;
mod window;

pub use entities::EntityRows;
pub use entity_table::EntityTable;
pub use range::{HistoricalRange, RangeRequest};
pub use read::Historical;
pub use request::{FeatureRef, HistoricalRequest, ViewUse, Views};

pub(crate) use columns::Columns;
pub(crate) use scan::{Only, Scan, Times};
pub(crate) use widths::{UNKNOWN_LIST_BYTES, of_row};
