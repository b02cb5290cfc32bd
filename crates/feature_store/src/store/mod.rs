//! All SQL of this crate.

pub(crate) mod catalogs;
pub(crate) mod history;
pub(crate) mod objects;
pub(crate) mod online_rows;
