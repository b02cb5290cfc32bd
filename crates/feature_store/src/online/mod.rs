//! The online store: the newest values of each view by entity, in memory, with a durable copy.

mod about;
mod appended;
mod copy;
mod file;
mod keeper;
mod latest;
mod materialize;
mod newest;
mod read;
mod redis;
mod resolved;
mod row;
mod shared;
mod value;
mod view;
mod write;

pub use copy::copy_online;
pub use materialize::{Materialized, Mode, Span};
pub use read::{OnlineAnswer, OnlineColumn, OnlineColumns, OnlineRequest};
pub use write::{Columns, Destination, Written};

pub(crate) use latest::LatestRequest;
pub(crate) use read::utc;
pub(crate) use redis::Redis;
pub(crate) use shared::Shared;
pub(crate) use value::parse_time;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::OnceCell;

use self::about::{About, Rekey};
use self::keeper::{Batch, Keeper};
use self::row::Row;
use self::view::ViewRows;
use crate::FeatureStore;
use crate::error::Error;
use crate::feature_view::FeatureView;

/// How often a writer looks again at rows whose join keys others change.
const TRIES: usize = 10;

/// The file in the data directory.
const FILE: &str = "online.redb";

/// The online store; opened when it is first used. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Online(Arc<Inner>);

struct Inner {
    path: PathBuf,
    keeper: OnceCell<Keeper>,
    /// In place of memory and the file.
    shared: Option<Shared>,
    views: RwLock<HashMap<String, Arc<OnceCell<Arc<ViewRows>>>>>,
    resolved: resolved::Cache,
    materializing: materialize::Running,
}

/// Rows of a view that is not there, and what is known of them; nothing when it cannot be read.
pub(crate) struct Left {
    rows: Arc<ViewRows>,
    about: Option<About>,
}

impl Online {
    /// The online store of a data directory, or one that several servers share.
    pub(crate) fn new(data_dir: &Path, shared: Option<Shared>) -> Self {
        Self(Arc::new(Inner {
            path: data_dir.join(FILE),
            keeper: OnceCell::new(),
            shared,
            views: RwLock::default(),
            resolved: resolved::Cache::default(),
            materializing: materialize::Running::default(),
        }))
    }

    /// Where the values are, in a word for people.
    pub(crate) fn place(&self) -> &'static str {
        match self.0.shared {
            Some(Shared::Database(_)) => "asgard's PostgreSQL database, shared by its servers",
            Some(Shared::Redis(_)) => "a store of the Redis protocol, shared by asgard's servers",
            None => "memory, with a durable copy in the data directory (redb)",
        }
    }

    async fn keeper(&self) -> Result<&Keeper, Error> {
        let open = || Keeper::open(self.0.path.clone());
        self.0.keeper.get_or_try_init(open).await
    }

    /// What is known of a view, with its rows where they are in memory: those are read when they
    /// are first asked for.
    pub(crate) async fn rows(&self, project: &str, view: &str) -> Result<Arc<ViewRows>, Error> {
        let name = format!("{project}/{view}");
        let known = {
            let views = self.0.views.read().unwrap_or_else(PoisonError::into_inner);
            views.get(&name).cloned()
        };
        let cell = known.unwrap_or_else(|| {
            let mut views = self.0.views.write().unwrap_or_else(PoisonError::into_inner);
            views.entry(name.clone()).or_default().clone()
        });
        if let Some(shared) = &self.0.shared {
            let new = || async { Ok::<_, Error>(Arc::new(ViewRows::new(name.clone()))) };
            let rows = cell.get_or_try_init(new).await?.clone();
            // Other servers change it too.
            *rows.about() = shared.about(&name).await?;
            return Ok(rows);
        }
        let loaded = cell.get_or_try_init(|| async {
            let rows = Arc::new(ViewRows::new(name.clone()));
            let into = rows.clone();
            let each = move |key: &[u8], row| into.set(key.into(), row);
            let about = self.keeper().await?.load(name, each).await?;
            *rows.about() = about;
            Ok(rows)
        });
        loaded.await.cloned()
    }

    /// The number of the list of features that a view has now.
    ///
    /// # Errors
    /// When the rows of that generation were removed.
    async fn layout(
        &self,
        rows: &ViewRows,
        view: &FeatureView,
        generation: u64,
    ) -> Result<u32, Error> {
        let number = match &self.0.shared {
            None => rows.layout(view, generation),
            Some(shared) => {
                let (number, about) = shared.layout(rows.name(), view, generation).await?;
                *rows.about() = about;
                number
            }
        };
        number.ok_or_else(|| Error::removed_meanwhile(rows.name()))
    }

    /// Writes rows, and how far the table was materialized with them; tells how many rows were newer
    /// than what was there.
    ///
    /// # Errors
    /// When the rows of the batch's generation were removed.
    async fn write(&self, batch: Batch) -> Result<usize, Error> {
        match &self.0.shared {
            Some(shared) => shared.write(batch).await,
            None => self.keeper().await?.write(batch).await,
        }
    }

    /// The rows of some keys, in their order.
    async fn find(
        &self,
        rows: &ViewRows,
        keys: Vec<Option<Box<[u8]>>>,
    ) -> Result<Vec<Option<Row>>, Error> {
        let Some(shared) = &self.0.shared else {
            let found = keys.iter().map(|key| rows.get(key.as_ref()?));
            return Ok(found.collect());
        };
        let found = shared.find(rows.name(), &keys).await?;
        let newest = found.iter().flatten().map(Row::layout).max();
        if newest.is_some_and(|number| number as usize >= rows.about().layouts.len()) {
            // Another server has written features that were not there before.
            *rows.about() = shared.about(rows.name()).await?;
        }
        Ok(found)
    }

    /// Whether a view is being materialized by this server.
    pub(crate) fn is_materializing(&self, project: &str, view: &str) -> bool {
        self.0.materializing.has(project, view)
    }

    /// How many entities a view has.
    pub(crate) async fn count(&self, rows: &ViewRows, view: &FeatureView) -> Result<usize, Error> {
        if !rows.about().is_of(view) {
            return Ok(0);
        }
        match &self.0.shared {
            Some(shared) => shared.count(rows.name()).await,
            None => Ok(rows.len()),
        }
    }

    /// Says that definitions have changed.
    pub(crate) fn definitions_changed(&self) {
        self.0.resolved.clear();
    }

    /// What there is of a view that is not there.
    pub(crate) async fn left(&self, project: &str, view: &str) -> Result<Left, Error> {
        let rows = match self.rows(project, view).await {
            // What cannot be read can be removed.
            Err(Error::OnlineEntry { .. }) => {
                let rows = Arc::new(ViewRows::new(format!("{project}/{view}")));
                return Ok(Left { rows, about: None });
            }
            rows => rows?,
        };
        let about = Some(rows.about().clone());
        Ok(Left { rows, about })
    }

    /// Removes it, unless somebody else has done so meanwhile, or has written to a new view of its name.
    pub(crate) async fn forget_left(&self, left: Left) -> Result<(), Error> {
        let unless_changed = match left.about {
            // Nobody has ever written to it.
            Some(about) if about == About::default() => return Ok(()),
            Some(about) => Some(Rekey {
                generation: about.generation,
                of: about.since,
                from: about.join_keys.clone(),
                to: about.join_keys,
                since: about.since,
            }),
            None => None,
        };
        self.remove(left.rows, unless_changed).await
    }

    /// Removes the rows of a view.
    pub(crate) async fn forget(&self, project: &str, view: &str) -> Result<(), Error> {
        let left = self.left(project, view).await?;
        self.remove(left.rows, None).await
    }

    async fn remove(&self, rows: Arc<ViewRows>, rekey: Option<Rekey>) -> Result<(), Error> {
        let Some(shared) = &self.0.shared else {
            return self.keeper().await?.forget(rows, rekey).await;
        };
        *rows.about() = shared.forget(rows.name(), rekey.as_ref()).await?;
        Ok(())
    }
}

impl FeatureStore {
    /// The rows of a view for who will write to it, and what is known of them now. Those by other
    /// join keys, and those of a view of its name that there was before, are removed, unless the view
    /// is another one than this by now.
    ///
    /// # Errors
    /// When the view was deleted meanwhile, or got other join keys.
    async fn rows_to_write(&self, view: &FeatureView) -> Result<(Arc<ViewRows>, About), Error> {
        for _ in 0..TRIES {
            let rows = self.online.rows(&view.project, &view.name).await?;
            let about = rows.about().clone();
            // Asked for after what is known: who changes or deletes the view from now on makes another
            // generation.
            let now = match self.feature_view(&view.project, &view.name).await {
                Err(Error::NotFound { .. }) => break,
                now => now?,
            };
            if now.created_at != view.created_at {
                break;
            }
            if about.layouts.is_empty() || about.is_of(view) {
                return Ok((rows, about));
            }
            if now.join_keys != view.join_keys {
                break;
            }
            let rekey = Rekey {
                generation: about.generation,
                of: about.since,
                from: about.join_keys,
                to: view.join_keys.clone(),
                since: view.created_at,
            };
            self.online.remove(rows, Some(rekey)).await?;
        }
        Err(Error::removed_meanwhile(&view.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::row::Stamp;
    use crate::registry::PROJECT;
    use crate::{MIGRATIONS, proto};

    fn view(name: &str, join_keys: &[&str], created_at: i64) -> FeatureView {
        let spec = proto::FeatureViewSpec {
            name: name.to_owned(),
            ..proto::FeatureViewSpec::default()
        };
        let spec = Some(spec);
        FeatureView {
            join_keys: join_keys.iter().map(|&key| key.to_owned()).collect(),
            created_at,
            ..FeatureView::from_proto(&proto::FeatureView { spec, meta: None }).unwrap()
        }
    }

    async fn write_row(online: &Online, view: &FeatureView) {
        let rows = online.rows(PROJECT, &view.name).await.unwrap();
        let generation = rows.about().generation;
        let layout = online.layout(&rows, view, generation).await.unwrap();
        let stamp = Stamp {
            us: 1,
            created: None,
        };
        let batch = Batch {
            view: rows,
            generation,
            rows: vec![(Box::from(&b"1"[..]), Row::new(stamp, layout, |_| {}))],
            bookmark: None,
        };
        assert_eq!(online.write(batch).await.unwrap(), 1);
    }

    /// How many rows there are of a view that was made and written to after what another of its name
    /// had left was found, and before that was removed.
    async fn rows_once_left_ones_are_removed(online: &Online, anew: &FeatureView) -> usize {
        online.forget(PROJECT, &anew.name).await.unwrap();
        let left = online.left(PROJECT, &anew.name).await.unwrap();
        write_row(online, anew).await;
        online.forget_left(left).await.unwrap();
        let rows = online.rows(PROJECT, &anew.name).await.unwrap();
        online.count(&rows, anew).await.unwrap()
    }

    #[tokio::test]
    async fn who_is_late_to_remove_what_a_view_has_left_leaves_the_rows_of_the_next() {
        let database = db::testing::postgres(&[MIGRATIONS]).await;
        let server = redis::testing::Server::start();
        let mut stores = vec![None, Some(Shared::Database((*database).clone()))];
        match &server {
            Some(server) => stores.push(Some(Shared::Redis(server.store()))),
            None => eprintln!("not with Redis: there is neither redis-server nor valkey-server"),
        }
        for shared in stores {
            let dir = tempfile::tempdir().unwrap();
            let online = Online::new(dir.path(), shared);
            let never_written = view("never_written", &[], 7);
            let kept = rows_once_left_ones_are_removed(&online, &never_written).await;
            assert_eq!(kept, 1, "in {}", online.place());
            // By an asgard that did not tell whose rows they are.
            write_row(&online, &view("written", &["id"], 0)).await;
            let written = view("written", &["id"], 7);
            let kept = rows_once_left_ones_are_removed(&online, &written).await;
            assert_eq!(kept, 1, "in {}", online.place());
        }
    }
}
