//! All SQL of this crate.

pub(crate) mod catalogs;
pub(crate) mod objects;
