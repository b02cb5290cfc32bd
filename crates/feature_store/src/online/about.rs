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
    /// When the view was made whose rows they are, in epoch milliseconds: they are none of one of
    /// its name that was made later. Zero where an asgard wrote them that did not tell.
    #[serde(default)]
    pub(crate) since: i64,
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

    /// Whether the rows are of this view: of this one of its name, and by its join keys.
    pub(crate) fn is_of(&self, view: &FeatureView) -> bool {
        let same = self.since == 0 || self.since == view.created_at;
        same && self.join_keys == view.join_keys
    }

    /// Whether who has this definition may read the rows: also one that is old for a moment, of a view
    /// that another server has made anew. Rows of one that was there before it are never read.
    pub(super) fn may_be_read_as(&self, view: &FeatureView) -> bool {
        let not_before = self.since == 0 || self.since >= view.created_at;
        not_before && self.join_keys == view.join_keys
    }

    /// The number of the list of features that a view has now, which is added when it is a new one;
    /// none when the rows of that generation were removed, or are of another view by now: both
    /// who has the old definition of a new view and who has the new one know of no rows.
    pub(super) fn layout(&mut self, view: &FeatureView, generation: u64) -> Option<u32> {
        let others = !self.layouts.is_empty() && !self.is_of(view);
        if self.generation != generation || others {
            return None;
        }
        self.join_keys.clone_from(&view.join_keys);
        self.since = view.created_at;
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

    /// What is known once the rows are removed; nothing when others have done it, or have written the
    /// first rows of another view: those make no new generation, but are of it by `since`. The numbers
    /// of lists of features are never given anew: rows that are on their way have the old ones.
    pub(super) fn forgotten(&self, rekey: Option<&Rekey>) -> Option<Self> {
        let stands = |rekey: &Rekey| {
            rekey.generation == self.generation
                && rekey.of == self.since
                && rekey.from == self.join_keys
        };
        rekey.is_none_or(stands).then(|| Self {
            join_keys: rekey.map_or(&self.join_keys, |rekey| &rekey.to).clone(),
            layouts: self.layouts.clone(),
            bookmark: None,
            generation: self.generation + 1,
            since: rekey.map_or(self.since, |rekey| rekey.since),
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

/// Another view, or another list of join keys: rows of the old one are removed, unless somebody else
/// was quicker.
#[derive(Debug, Clone)]
pub(crate) struct Rekey {
    pub(crate) generation: u64,
    /// The view that had the rows, by `since` of [`About`].
    pub(crate) of: i64,
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
    /// As in [`About`], of the other view.
    pub(crate) since: i64,
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
    fn rows_are_of_the_view_that_they_were_written_for_and_none_of_its_name() {
        let made = |created_at| FeatureView {
            created_at,
            ..view("account")
        };
        let mut about = About::default();
        assert_eq!(about.layout(&made(1), 0), Some(0));
        assert!(about.is_of(&made(1)) && !about.is_of(&made(2)));
        assert!(about.may_be_read_as(&made(0)) && !about.may_be_read_as(&made(2)));
        assert_eq!(about.layout(&made(2), 0), None);
        // What was kept before it was told is taken by whoever has its join keys.
        let kept = br#"{"join_keys": ["account"], "layouts": [[]], "bookmark": null}"#;
        let mut kept = About::read("v", kept).unwrap();
        assert!(kept.is_of(&made(1)) && kept.is_of(&made(2)) && !kept.is_of(&view("other")));
        assert_eq!(kept.layout(&made(2), 0), Some(0));
        assert!(kept.is_of(&made(2)) && !kept.is_of(&made(1)));
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
            of: 0,
            from: vec!["account".to_owned()],
            to: vec!["customer".to_owned()],
            since: 0,
        };
        let mut rekeyed = removed.forgotten(Some(&rekey)).unwrap();
        assert_eq!(rekeyed.layout(&view("account"), 2), None);
        assert_eq!(rekeyed.layout(&view("customer"), 2), Some(0));
    }
}
