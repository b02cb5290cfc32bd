//! The online store: the newest values of each view by entity, in memory, with a durable copy.

mod appended;
mod keeper;
mod latest;
mod materialize;
mod newest;
mod read;
mod resolved;
mod row;
mod value;
mod view;
mod write;

pub use materialize::{Materialized, Mode, Span};
pub use read::{OnlineColumn, OnlineColumns, OnlineRequest};
pub use write::{Columns, Destination, Written};

pub(crate) use latest::LatestRequest;
pub(crate) use value::parse_time;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::OnceCell;

use self::keeper::Keeper;
use self::view::ViewRows;
use crate::error::Error;

/// The file in the data directory.
const FILE: &str = "online.redb";

/// The online store; opened when it is first used. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Online(Arc<Inner>);

struct Inner {
    path: PathBuf,
    keeper: OnceCell<Keeper>,
    views: RwLock<HashMap<String, Arc<OnceCell<Arc<ViewRows>>>>>,
    resolved: resolved::Cache,
    materializing: materialize::Running,
}

impl Online {
    /// The online store of a data directory.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self(Arc::new(Inner {
            path: data_dir.join(FILE),
            keeper: OnceCell::new(),
            views: RwLock::default(),
            resolved: resolved::Cache::default(),
            materializing: materialize::Running::default(),
        }))
    }

    async fn keeper(&self) -> Result<&Keeper, Error> {
        let open = || Keeper::open(self.0.path.clone());
        self.0.keeper.get_or_try_init(open).await
    }

    /// The rows of a view, read into memory when they are first asked for.
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

    /// Says that definitions have changed.
    pub(crate) fn definitions_changed(&self) {
        self.0.resolved.clear();
    }

    /// Removes what is known of a view.
    pub(crate) async fn forget(&self, project: &str, view: &str) -> Result<(), Error> {
        let rows = self.rows(project, view).await?;
        self.keeper().await?.forget(rows).await
    }
}
