//! What is known of a view's online values beside the values themselves.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::feature_view::FeatureView;

/// What a view's rows are about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The join keys, in the order in which they make a row's key.
    pub(crate) join_keys: Vec<String>,
    /// The lists of features that rows follow, by their number.
    pub(crate) layouts: Vec<Vec<String>>,
    /// How far the table was materialized.
    pub(crate) bookmark: Option<Bookmark>,
    /// How often the rows were removed: what was meant for those of before must not be written to
    /// those of now.
    #[serde(default)]
    pub(crate) generation: u64,
}

impl About {
    /// Reads what was kept of a view. What cannot be read is not taken for nothing: rows would be
    /// written over by older ones, and the list of their features lost.
    ///
    /// # Errors
    /// [`Error::OnlineEntry`].
    pub(super) fn read(view: &str, kept: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(kept).map_err(|error| Error::OnlineEntry {
            view: view.to_owned(),
            why: error.to_string(),
        })
    }

    /// The number of the list of features that a view has now, which is added when it is a new one;
    /// none when the rows of that generation were removed, or are about other join keys by now: both
    /// who has the old definition of a new view and who has the new one know of no rows.
    pub(super) fn layout(&mut self, view: &FeatureView, generation: u64) -> Option<u32> {
        let others = !self.layouts.is_empty() && self.join_keys != view.join_keys;
        if self.generation != generation || others {
            return None;
        }
        self.join_keys.clone_from(&view.join_keys);
        let names = || view.features.iter().map(|feature| feature.name.as_str());
        let known = self
            .layouts
            .iter()
            .position(|layout| layout.iter().map(String::as_str).eq(names()));
        let number = known.unwrap_or_else(|| {
            self.layouts.push(names().map(str::to_owned).collect());
            self.layouts.len() - 1
        });
        Some(number as u32)
    }

    /// What is known once the rows are removed; nothing when others have done it. The numbers of
    /// lists of features are never given anew: rows that are on their way have the old ones.
    pub(super) fn forgotten(&self, rekey: Option<&Rekey>) -> Option<Self> {
        let stands =
            |rekey: &Rekey| rekey.generation == self.generation && rekey.from == self.join_keys;
        rekey.is_none_or(stands).then(|| Self {
            join_keys: rekey.map_or(&self.join_keys, |rekey| &rekey.to).clone(),
            layouts: self.layouts.clone(),
            bookmark: None,
            generation: self.generation + 1,
        })
    }
}

/// How far a view's table was materialized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bookmark {
    pub(crate) snapshot_id: i64,
    /// What the view was made of then; a view of another kind starts anew.
    pub(crate) definition: String,
    /// Whether the table had rows of a later time than was asked for.
    pub(crate) left_later_rows: bool,
}

/// Another list of join keys: rows by the old one are removed, unless somebody else was quicker.
#[derive(Debug, Clone)]
pub(crate) struct Rekey {
    pub(crate) generation: u64,
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    fn view(join_key: &str) -> FeatureView {
        let spec = proto::FeatureViewSpec {
            name: "v".to_owned(),
            ..proto::FeatureViewSpec::default()
        };
        let view = proto::FeatureView {
            spec: Some(spec),
            meta: None,
        };
        FeatureView {
            join_keys: vec![join_key.to_owned()],
            ..FeatureView::from_proto(&view).unwrap()
        }
    }

    #[test]
    fn who_has_an_old_definition_does_not_set_its_join_keys_back() {
        // Both have seen a view without rows, of the same generation.
        let mut about = About::default();
        assert_eq!(about.layout(&view("account"), 0), Some(0));
        assert_eq!(about.layout(&view("customer"), 0), None);
        assert_eq!(about.join_keys, ["account"]);
        assert_eq!(about.layout(&view("account"), 0), Some(0));
        // Nor once the rows were removed: who writes by other keys says so.
        let mut removed = about.forgotten(None).unwrap();
        assert_eq!(removed.layout(&view("customer"), 1), None);
        let rekey = Rekey {
            generation: 1,
            from: vec!["account".to_owned()],
            to: vec!["customer".to_owned()],
        };
        let mut rekeyed = removed.forgotten(Some(&rekey)).unwrap();
        assert_eq!(rekeyed.layout(&view("account"), 2), None);
        assert_eq!(rekeyed.layout(&view("customer"), 2), Some(0));
    }
}
