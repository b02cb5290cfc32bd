//! The online store that several servers share: in asgard's PostgreSQL database, or in a store of the
//! Redis protocol. The rules are those of the file: a row never takes the place of a newer one, which
//! the statement or script itself compares.

use std::collections::HashMap;

use db::Db;

use super::about::{About, Bookmark, Rekey};
use super::keeper::Batch;
use super::redis::{self, Redis};
use super::row::Row;
use crate::error::Error;
use crate::feature_view::FeatureView;
use crate::store::online_rows::{self, OnlineRow};

/// Rows in one transaction.
const TOGETHER: usize = 5_000;

/// How often a change of what is known of a view is tried while others change it too.
const TRIES: usize = 100;

/// The shared store; cheap to clone.
#[derive(Clone)]
pub(crate) enum Shared {
    Database(Db),
    Redis(Redis),
}

impl Shared {
    /// What is known of a view.
    pub(crate) async fn about(&self, view: &str) -> Result<About, Error> {
        let about = match self {
            Self::Database(db) => {
                let mut conn = db.acquire().await?;
                online_rows::find_about(&mut conn, view).await?
            }
            Self::Redis(redis) => redis.about(view).await?,
        };
        read(view, about.as_deref())
    }

    /// The number of the list of features that a view has now. Servers agree on it; none when the
    /// rows of that generation were removed.
    pub(crate) async fn layout(
        &self,
        name: &str,
        view: &FeatureView,
        generation: u64,
    ) -> Result<(Option<u32>, About), Error> {
        self.change(name, |about| about.layout(view, generation))
            .await
    }

    /// Remembers how far a view's table was materialized, unless its rows of that generation were
    /// removed.
    async fn set_bookmark(
        &self,
        name: &str,
        generation: u64,
        bookmark: &Bookmark,
    ) -> Result<About, Error> {
        let change = |about: &mut About| {
            let stands = about.generation == generation;
            if stands {
                about.bookmark = Some(bookmark.clone());
            }
            stands
        };
        match self.change(name, change).await? {
            (true, about) => Ok(about),
            (false, _) => Err(Error::removed_meanwhile(name)),
        }
    }

    async fn change<T>(
        &self,
        name: &str,
        change: impl Fn(&mut About) -> T,
    ) -> Result<(T, About), Error> {
        match self {
            Self::Database(db) => {
                let mut tx = db.begin().await?;
                let text = online_rows::lock_about(&mut tx, name).await?;
                let (changed, about, new) = changed(name, text.as_deref(), change)?;
                if let Some(new) = new {
                    online_rows::set_about(&mut tx, name, &new).await?;
                }
                tx.commit().await?;
                Ok((changed, about))
            }
            Self::Redis(redis) => {
                for _ in 0..TRIES {
                    let text = redis.about(name).await?;
                    let (changed, about, new) = changed(name, text.as_deref(), &change)?;
                    let Some(new) = new else {
                        return Ok((changed, about));
                    };
                    if redis.swap_about(name, text.as_deref(), &new, false).await? {
                        return Ok((changed, about));
                    }
                }
                Err(contended(name))
            }
        }
    }

    /// Writes rows, then the bookmark, and tells how many rows were newer than what was there. Every
    /// transaction holds whole rows, so what is written when one fails is right, if not all.
    ///
    /// # Errors
    /// When the rows of the batch's generation were removed, by whichever server.
    pub(crate) async fn write(&self, batch: Batch) -> Result<usize, Error> {
        let (view, generation) = (batch.view.name(), batch.generation);
        let rows = newest(batch.rows);
        let mut newer = 0;
        match self {
            Self::Database(db) => {
                for part in rows.chunks(TOGETHER) {
                    let part: Vec<OnlineRow> = part.iter().map(database_row).collect();
                    let mut tx = db.begin().await?;
                    let about = online_rows::hold_about(&mut tx, view).await?;
                    if read(view, about.as_deref())?.generation != generation {
                        return Err(Error::removed_meanwhile(view));
                    }
                    newer += online_rows::upsert(&mut tx, view, &part).await?;
                    tx.commit().await?;
                }
            }
            Self::Redis(redis) => {
                for part in rows.chunks(redis::TOGETHER) {
                    let written = redis.upsert(view, generation, part).await?;
                    newer += written.ok_or_else(|| Error::removed_meanwhile(view))?;
                }
            }
        }
        if let Some(bookmark) = &batch.bookmark {
            let about = self.set_bookmark(view, generation, bookmark).await?;
            *batch.view.about() = about;
        }
        Ok(newer as usize)
    }

    /// The rows of some keys, in their order.
    pub(crate) async fn find(
        &self,
        view: &str,
        keys: &[Option<Box<[u8]>>],
    ) -> Result<Vec<Option<Row>>, Error> {
        let mut asked: Vec<&[u8]> = keys.iter().flatten().map(AsRef::as_ref).collect();
        asked.sort_unstable();
        asked.dedup();
        let found: HashMap<Vec<u8>, Row> = match self {
            Self::Database(db) => {
                let mut conn = db.acquire().await?;
                let found = online_rows::find(&mut conn, view, &asked).await?;
                let rows = found
                    .into_iter()
                    .filter_map(|(key, row)| Some((key, Row::kept(&row)?)));
                rows.collect()
            }
            Self::Redis(redis) => {
                let found = redis.find(view, &asked).await?;
                let rows = asked.iter().zip(found);
                rows.filter_map(|(key, row)| Some((key.to_vec(), row?)))
                    .collect()
            }
        };
        let rows = keys.iter().map(|key| found.get(&**key.as_ref()?).cloned());
        Ok(rows.collect())
    }

    /// How many entities a view has.
    pub(crate) async fn count(&self, view: &str) -> Result<usize, Error> {
        match self {
            Self::Database(db) => {
                let mut conn = db.acquire().await?;
                Ok(online_rows::count(&mut conn, view).await? as usize)
            }
            Self::Redis(redis) => redis.count(view).await,
        }
    }

    /// Removes all rows of a view, and gives what is known of it since.
    pub(crate) async fn forget(&self, view: &str, rekey: Option<&Rekey>) -> Result<About, Error> {
        match self {
            Self::Database(db) => {
                let mut tx = db.begin().await?;
                let text = online_rows::lock_about(&mut tx, view).await?;
                let known = read(view, text.as_deref()).unwrap_or_default();
                let Some(about) = known.forgotten(rekey) else {
                    return Ok(known);
                };
                online_rows::delete(&mut tx, view).await?;
                online_rows::set_about(&mut tx, view, &text_of(&about)).await?;
                tx.commit().await?;
                Ok(about)
            }
            Self::Redis(redis) => {
                for _ in 0..TRIES {
                    let before = redis.about(view).await?;
                    let known = read(view, before.as_deref()).unwrap_or_default();
                    let Some(about) = known.forgotten(rekey) else {
                        return Ok(known);
                    };
                    let text = text_of(&about);
                    if redis
                        .swap_about(view, before.as_deref(), &text, true)
                        .await?
                    {
                        return Ok(about);
                    }
                }
                Err(contended(view))
            }
        }
    }
}

fn contended(view: &str) -> Error {
    Error::Busy(format!(
        "other servers change what is known of '{view}' again and again"
    ))
}

/// What is known of a view after a change, and the new text where it is another one.
fn changed<T>(
    view: &str,
    text: Option<&str>,
    change: impl Fn(&mut About) -> T,
) -> Result<(T, About, Option<String>), Error> {
    let before = read(view, text)?;
    let mut about = before.clone();
    let changed = change(&mut about);
    let new = (about != before || text.is_none()).then(|| text_of(&about));
    Ok((changed, about, new))
}

fn text_of(about: &About) -> String {
    serde_json::json!(about).to_string()
}

/// The newest row of each key, in one order everywhere, so that two servers cannot wait for each other.
fn newest(rows: Vec<(Box<[u8]>, Row)>) -> Vec<(Box<[u8]>, Row)> {
    let mut newest: HashMap<Box<[u8]>, Row> = HashMap::with_capacity(rows.len());
    for (key, row) in rows {
        match newest.get_mut(&key) {
            Some(known) if known.stamp() > row.stamp() => {}
            Some(known) => *known = row,
            None => {
                newest.insert(key, row);
            }
        }
    }
    let mut rows: Vec<(Box<[u8]>, Row)> = newest.into_iter().collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn database_row((key, row): &(Box<[u8]>, Row)) -> OnlineRow {
    OnlineRow {
        key: key.to_vec(),
        us: row.stamp().us,
        created: row.stamp().created,
        row: row.bytes().to_vec(),
    }
}

fn read(view: &str, about: Option<&str>) -> Result<About, Error> {
    let about = about.map(|about| About::read(view, about.as_bytes()));
    Ok(about.transpose()?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::online::row::Stamp;
    use crate::online::view::ViewRows;

    #[tokio::test]
    async fn what_was_on_its_way_to_removed_rows_is_refused() {
        for db in db::testing::both(&[crate::MIGRATIONS]).await {
            let shared = Shared::Database((*db).clone());
            let view = Arc::new(ViewRows::new("default/v".to_owned()));
            let batch = |generation, snapshot_id: Option<i64>| {
                let stamp = Stamp {
                    us: 1,
                    created: None,
                };
                Batch {
                    view: view.clone(),
                    generation,
                    rows: vec![(Box::from(&b"1"[..]), Row::new(stamp, 0, |_| {}))],
                    bookmark: snapshot_id.map(|snapshot_id| Bookmark {
                        snapshot_id,
                        definition: String::new(),
                        left_later_rows: false,
                    }),
                }
            };
            assert_eq!(shared.write(batch(0, Some(7))).await.unwrap(), 1);
            let about = shared.about("default/v").await.unwrap();
            assert_eq!(about.bookmark.unwrap().snapshot_id, 7);
            shared.forget("default/v", None).await.unwrap();
            for late in [batch(0, None), batch(0, Some(8))] {
                let refused = shared.write(late).await.unwrap_err();
                assert!(refused.to_string().contains("'v'"), "{refused}");
            }
            // The rows of a load may all be written before, and its bookmark after.
            let bookmark = batch(0, Some(8)).bookmark.unwrap();
            let late = shared.set_bookmark("default/v", 0, &bookmark).await;
            assert!(late.is_err(), "{}", db.name);
            let about = shared.about("default/v").await.unwrap();
            assert_eq!((about.bookmark, about.generation), (None, 1));
            assert_eq!(shared.count("default/v").await.unwrap(), 0);
            assert_eq!(shared.write(batch(1, None)).await.unwrap(), 1);
        }
    }
}
