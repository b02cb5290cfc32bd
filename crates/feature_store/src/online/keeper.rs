//! The durable copy of the online store: a redb file with a table of rows for each view, and one
//! thread that writes to it.
//!
//! Every write is answered after the commit that holds it. Writes that wait are put into one
//! commit. A row never takes the place of a newer one: the thread compares inside the commit.

use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Weak};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::row::{self, Row};
use super::view::ViewRows;
use crate::error::Error;

/// What is known of each view beside its rows.
const VIEWS: TableDefinition<&str, &[u8]> = TableDefinition::new("views");

/// How many writes are put into one commit.
const TOGETHER: usize = 256;

/// What a view's rows are about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The join keys, in the order in which they make a row's key.
    pub(crate) join_keys: Vec<String>,
    /// The lists of features that rows follow, by their number.
    pub(crate) layouts: Vec<Vec<String>>,
    /// How far the table was materialized.
    pub(crate) bookmark: Option<Bookmark>,
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

/// Rows on their way into a view.
pub(crate) struct Batch {
    pub(crate) view: Arc<ViewRows>,
    pub(crate) about: About,
    pub(crate) rows: Vec<(Box<[u8]>, Row)>,
}

enum Order {
    Write(Batch, oneshot::Sender<Result<usize, Error>>),
    Forget(Arc<ViewRows>, oneshot::Sender<Result<(), Error>>),
}

/// The open file; cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper {
    database: Arc<Database>,
    orders: mpsc::Sender<Order>,
}

impl Keeper {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let opened = tokio::task::spawn_blocking(move || {
            let database = Arc::new(Database::create(path).map_err(redb::Error::from)?);
            let (orders, waiting) = mpsc::channel();
            let writer = Arc::downgrade(&database);
            std::thread::Builder::new()
                .name("online-store".to_owned())
                .spawn(move || write_all(&writer, &waiting))
                .map_err(redb::Error::Io)?;
            Ok(Self { database, orders })
        });
        unpanicked(opened.await).map_err(Error::online(format!(
            "the online store {shown} cannot be opened"
        )))
    }

    /// What is kept of a view: hands each row to `each`.
    pub(crate) async fn load(
        &self,
        view: String,
        mut each: impl FnMut(&[u8], Row) + Send + 'static,
    ) -> Result<About, Error> {
        let database = self.database.clone();
        let loaded = tokio::task::spawn_blocking(move || read_view(&database, &view, &mut each));
        let read = unpanicked(loaded.await);
        read.map_err(Error::online("the online store cannot be read"))?
    }

    /// Writes rows, and tells how many of them were newer than what was there.
    ///
    /// # Errors
    /// When the file cannot be written; nothing of the batch is kept then.
    pub(crate) async fn write(&self, batch: Batch) -> Result<usize, Error> {
        self.order(|answer| Order::Write(batch, answer)).await
    }

    /// Removes all rows of a view.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) async fn forget(&self, view: Arc<ViewRows>) -> Result<(), Error> {
        self.order(|answer| Order::Forget(view, answer)).await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Order,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::Online {
            what: "the online store has stopped writing".to_owned(),
            source: None,
        };
        self.orders.send(order(answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn unpanicked<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    match ended {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What is kept of a view, or that it cannot be made out.
fn read_view(
    database: &Database,
    view: &str,
    each: &mut dyn FnMut(&[u8], Row),
) -> Result<Result<About, Error>, redb::Error> {
    let reading = database.begin_read()?;
    let about = match reading.open_table(VIEWS) {
        Ok(table) => table
            .get(view)?
            .map(|about| About::read(view, about.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let about = match about.transpose() {
        Ok(about) => about.unwrap_or_default(),
        Err(unreadable) => return Ok(Err(unreadable)),
    };
    let table = match reading.open_table(rows_of(view)) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Ok(about)),
        Err(error) => return Err(error.into()),
    };
    for entry in table.iter()? {
        let (key, row) = entry?;
        let Some(row) = Row::kept(row.value()) else {
            return Ok(Err(Error::OnlineEntry {
                view: view.to_owned(),
                why: "a row of it is too short".to_owned(),
            }));
        };
        each(key.value(), row);
    }
    Ok(Ok(about))
}

fn rows_of(view: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(view)
}

/// The thread: ends when nobody is left who could write. The file is closed with its last user, not
/// with the thread.
fn write_all(database: &Weak<Database>, waiting: &mpsc::Receiver<Order>) {
    while let Ok(first) = waiting.recv() {
        let Some(database) = database.upgrade() else {
            return;
        };
        let mut orders = vec![first];
        orders.extend(waiting.try_iter().take(TOGETHER - 1));
        let outcomes: Vec<Outcome> = match commit(&database, &orders) {
            Ok(written) => orders
                .into_iter()
                .zip(written.into_iter().map(Ok))
                .collect(),
            // One that cannot be written must not take the others with it.
            Err(error) => {
                tracing::warn!(%error, "writing to the online store failed; each write is tried alone");
                each_alone(&database, orders)
            }
        };
        // Who is answered may open the file anew at once.
        drop(database);
        for (order, outcome) in outcomes {
            match outcome {
                Ok(newer) => acknowledge(order, newer),
                Err(error) => refuse(order, error),
            }
        }
    }
}

/// An order, and which of its rows were newer.
type Outcome = (Order, Result<Vec<usize>, redb::Error>);

fn each_alone(database: &Database, orders: Vec<Order>) -> Vec<Outcome> {
    let tried = orders.into_iter().map(|order| {
        let written = commit(database, std::slice::from_ref(&order));
        let newer = written.map(|written| written.into_iter().next().unwrap_or_default());
        (order, newer)
    });
    tried.collect()
}

/// Which rows of each order were newer.
fn commit(database: &Database, orders: &[Order]) -> Result<Vec<Vec<usize>>, redb::Error> {
    let writing = database.begin_write()?;
    let mut written = Vec::with_capacity(orders.len());
    for order in orders {
        written.push(match order {
            Order::Write(batch, _) => write(&writing, batch)?,
            Order::Forget(view, _) => {
                writing.delete_table(rows_of(view.name()))?;
                writing.open_table(VIEWS)?.remove(view.name())?;
                Vec::new()
            }
        });
    }
    writing.commit()?;
    Ok(written)
}

fn write(writing: &WriteTransaction, batch: &Batch) -> Result<Vec<usize>, redb::Error> {
    let view = batch.view.name();
    let about = serde_json::to_vec(&batch.about)
        .map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    writing.open_table(VIEWS)?.insert(view, &*about)?;
    let mut table = writing.open_table(rows_of(view))?;
    let mut newer = Vec::with_capacity(batch.rows.len());
    for (index, (key, row)) in batch.rows.iter().enumerate() {
        let there = table.get(&**key)?.map(|there| row::stamp(there.value()));
        // The same again is written: it may have features that the old one lacks.
        if there.is_none_or(|there| there <= row.stamp()) {
            table.insert(&**key, row.bytes())?;
            newer.push(index);
        }
    }
    Ok(newer)
}

fn acknowledge(order: Order, newer: Vec<usize>) {
    // Whoever does not wait any more is not told.
    match order {
        Order::Write(batch, answer) => {
            let count = newer.len();
            let mut newer = newer.into_iter().peekable();
            for (index, (key, row)) in batch.rows.into_iter().enumerate() {
                if newer.next_if_eq(&index).is_some() {
                    batch.view.set(key, row);
                }
            }
            let _ = answer.send(Ok(count));
        }
        Order::Forget(view, answer) => {
            view.clear();
            let _ = answer.send(Ok(()));
        }
    }
}

fn refuse(order: Order, error: redb::Error) {
    let error = Error::online("the online store cannot be written")(error);
    match order {
        Order::Write(_, answer) => drop(answer.send(Err(error))),
        Order::Forget(_, answer) => drop(answer.send(Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::row::Stamp;

    async fn put(keeper: &Keeper, table: TableDefinition<'_, &'static [u8], &'static [u8]>) {
        let writing = keeper.database.begin_write().unwrap();
        writing
            .open_table(table)
            .unwrap()
            .insert(&b"key"[..], &b"short"[..])
            .unwrap();
        writing.commit().unwrap();
    }

    #[tokio::test]
    async fn an_entry_that_cannot_be_read_is_refused_and_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path().join("online.redb")).await.unwrap();
        let view = || Arc::new(ViewRows::new("default/v".to_owned()));
        let stamp = Stamp {
            us: 1,
            created: None,
        };
        let batch = Batch {
            view: view(),
            about: About::default(),
            rows: vec![(Box::from(&b"1"[..]), Row::new(stamp, 0, |_| {}))],
        };
        keeper.write(batch).await.unwrap();
        let writing = keeper.database.begin_write().unwrap();
        let mut views = writing.open_table(VIEWS).unwrap();
        views.insert("default/v", &b"{broken"[..]).unwrap();
        drop(views);
        writing.commit().unwrap();
        let load = || keeper.load("default/v".to_owned(), |_, _| {});
        let refused = load().await.unwrap_err();
        assert!(refused.to_string().contains("'default/v'"), "{refused}");
        assert!(refused.help().unwrap().contains("DELETE /feast/features/v"));
        // What the help says brings it to life again.
        keeper.forget(view()).await.unwrap();
        assert_eq!(load().await.unwrap(), About::default());
        put(&keeper, rows_of("default/v")).await;
        let refused = load().await.unwrap_err();
        assert!(refused.to_string().contains("too short"), "{refused}");
    }
}
