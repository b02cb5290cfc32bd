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
use tokio::sync::oneshot;

use super::about::{About, Bookmark, Rekey};
use super::file::File;
use super::row::{self, Row};
use super::view::ViewRows;
use crate::error::Error;

/// What is known of each view beside its rows.
const VIEWS: TableDefinition<&str, &[u8]> = TableDefinition::new("views");

/// How many writes are put into one commit.
const TOGETHER: usize = 256;

/// Rows on their way into a view.
pub(crate) struct Batch {
    pub(crate) view: Arc<ViewRows>,
    /// That of [`About`] when the rows were made. Those of an older one are refused.
    pub(crate) generation: u64,
    pub(crate) rows: Vec<(Box<[u8]>, Row)>,
    /// How far the table is materialized with these rows.
    pub(crate) bookmark: Option<Bookmark>,
}

enum Order {
    Write(Batch, oneshot::Sender<Result<usize, Error>>),
    Forget(
        Arc<ViewRows>,
        Option<Rekey>,
        oneshot::Sender<Result<(), Error>>,
    ),
}

/// What became of an order in its commit.
enum Done {
    /// Which of the rows were newer.
    Written(Vec<usize>),
    /// The rows were removed: what is known since.
    Forgotten(About),
    /// What it was about is not there any more.
    Passed,
}

/// The open file; cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper {
    file: Arc<File>,
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
            let file = Arc::new(File::open(path)?);
            let (orders, waiting) = mpsc::channel();
            let writer = Arc::downgrade(&file);
            std::thread::Builder::new()
                .name("online-store".to_owned())
                .spawn(move || write_all(&writer, &waiting))
                .map_err(redb::Error::Io)?;
            Ok(Self { file, orders })
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
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            file.with(|database| read_view(database, &view, &mut each))
        });
        let read = unpanicked(loaded.await);
        read.map_err(Error::online("the online store cannot be read"))?
    }

    /// Writes rows, and tells how many of them were newer than what was there.
    ///
    /// # Errors
    /// When the file cannot be written, or the view's rows were removed since the batch was made;
    /// nothing of the batch is kept then.
    pub(crate) async fn write(&self, batch: Batch) -> Result<usize, Error> {
        self.order(|answer| Order::Write(batch, answer)).await
    }

    /// Removes all rows of a view.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) async fn forget(
        &self,
        view: Arc<ViewRows>,
        rekey: Option<Rekey>,
    ) -> Result<(), Error> {
        self.order(|answer| Order::Forget(view, rekey, answer))
            .await
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
fn write_all(file: &Weak<File>, waiting: &mpsc::Receiver<Order>) {
    while let Ok(first) = waiting.recv() {
        let Some(file) = file.upgrade() else {
            return;
        };
        let mut orders = vec![first];
        orders.extend(waiting.try_iter().take(TOGETHER - 1));
        let outcomes: Vec<Outcome> = match file.with(|database| commit(database, &orders)) {
            Ok(written) => orders
                .into_iter()
                .zip(written.into_iter().map(Ok))
                .collect(),
            // One that cannot be written must not take the others with it.
            Err(error) => {
                tracing::warn!(%error, "writing to the online store failed; each write is tried alone");
                each_alone(&file, orders)
            }
        };
        // Who is answered may open the file anew at once.
        drop(file);
        for (order, outcome) in outcomes {
            match outcome {
                Ok(done) => acknowledge(order, done),
                Err(error) => refuse(order, error),
            }
        }
    }
}

type Outcome = (Order, Result<Done, redb::Error>);

fn each_alone(file: &File, orders: Vec<Order>) -> Vec<Outcome> {
    let tried = orders.into_iter().map(|order| {
        let done = file.with(|database| commit(database, std::slice::from_ref(&order)));
        let done = done.map(|done| done.into_iter().next().unwrap_or(Done::Passed));
        (order, done)
    });
    tried.collect()
}

/// What became of each order.
fn commit(database: &Database, orders: &[Order]) -> Result<Vec<Done>, redb::Error> {
    let writing = database.begin_write()?;
    let mut done = Vec::with_capacity(orders.len());
    for order in orders {
        done.push(match order {
            Order::Write(batch, _) => write(&writing, batch)?,
            Order::Forget(view, rekey, _) => forget(&writing, view, rekey.as_ref())?,
        });
    }
    writing.commit()?;
    Ok(done)
}

fn corrupted(error: impl std::fmt::Display) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}

/// What is known of a view inside of a commit: join keys and lists of features are those of now,
/// which somebody may have changed since the batch was made; generation and bookmark are those of
/// the last commit.
fn known(view: &ViewRows, kept: Option<&[u8]>) -> Result<About, Error> {
    let kept = kept
        .map(|kept| About::read(view.name(), kept))
        .transpose()?;
    let kept = kept.unwrap_or_default();
    Ok(About {
        generation: kept.generation,
        bookmark: kept.bookmark,
        ..view.about().clone()
    })
}

fn forget(
    writing: &WriteTransaction,
    view: &ViewRows,
    rekey: Option<&Rekey>,
) -> Result<Done, redb::Error> {
    let mut views = writing.open_table(VIEWS)?;
    let kept = views.get(view.name())?.map(|kept| kept.value().to_vec());
    // What cannot be read can be removed.
    let known = known(view, kept.as_deref()).unwrap_or_default();
    let Some(about) = known.forgotten(rekey) else {
        return Ok(Done::Passed);
    };
    let text = serde_json::to_vec(&about).map_err(corrupted)?;
    views.insert(view.name(), &*text)?;
    writing.delete_table(rows_of(view.name()))?;
    Ok(Done::Forgotten(about))
}

fn write(writing: &WriteTransaction, batch: &Batch) -> Result<Done, redb::Error> {
    let view = batch.view.name();
    let mut views = writing.open_table(VIEWS)?;
    let kept = views.get(view)?.map(|kept| kept.value().to_vec());
    let mut about = known(&batch.view, kept.as_deref()).map_err(corrupted)?;
    if about.generation != batch.generation {
        return Ok(Done::Passed);
    }
    if batch.bookmark.is_some() {
        about.bookmark.clone_from(&batch.bookmark);
    }
    let about = serde_json::to_vec(&about).map_err(corrupted)?;
    if kept.as_ref() != Some(&about) {
        views.insert(view, &*about)?;
    }
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
    Ok(Done::Written(newer))
}

fn acknowledge(order: Order, done: Done) {
    // Whoever does not wait any more is not told.
    match (order, done) {
        (Order::Write(batch, answer), Done::Written(newer)) => {
            if batch.bookmark.is_some() {
                batch.view.about().bookmark.clone_from(&batch.bookmark);
            }
            let count = newer.len();
            let mut newer = newer.into_iter().peekable();
            for (index, (key, row)) in batch.rows.into_iter().enumerate() {
                if newer.next_if_eq(&index).is_some() {
                    batch.view.set(key, row);
                }
            }
            let _ = answer.send(Ok(count));
        }
        (Order::Write(batch, answer), _) => {
            let _ = answer.send(Err(Error::removed_meanwhile(batch.view.name())));
        }
        (Order::Forget(view, _, answer), done) => {
            if let Done::Forgotten(about) = done {
                view.clear(about);
            }
            let _ = answer.send(Ok(()));
        }
    }
}

fn refuse(order: Order, error: redb::Error) {
    let error = Error::online("the online store cannot be written")(error);
    match order {
        Order::Write(_, answer) => drop(answer.send(Err(error))),
        Order::Forget(.., answer) => drop(answer.send(Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::row::Stamp;

    async fn put(keeper: &Keeper, table: TableDefinition<'_, &'static [u8], &'static [u8]>) {
        let put = keeper.file.with(|database| {
            let writing = database.begin_write()?;
            writing
                .open_table(table)?
                .insert(&b"key"[..], &b"short"[..])?;
            Ok(writing.commit()?)
        });
        put.unwrap();
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
            generation: 0,
            rows: vec![(Box::from(&b"1"[..]), Row::new(stamp, 0, |_| {}))],
            bookmark: None,
        };
        keeper.write(batch).await.unwrap();
        let broken = keeper.file.with(|database| {
            let writing = database.begin_write()?;
            writing
                .open_table(VIEWS)?
                .insert("default/v", &b"{broken"[..])?;
            Ok(writing.commit()?)
        });
        broken.unwrap();
        let load = || keeper.load("default/v".to_owned(), |_, _| {});
        let refused = load().await.unwrap_err();
        assert!(refused.to_string().contains("'default/v'"), "{refused}");
        assert!(refused.help().unwrap().contains("DELETE /feast/features/v"));
        // What the help says brings it to life again.
        keeper.forget(view(), None).await.unwrap();
        let forgotten = About::default().forgotten(None).unwrap();
        assert_eq!(load().await.unwrap(), forgotten);
        put(&keeper, rows_of("default/v")).await;
        let refused = load().await.unwrap_err();
        assert!(refused.to_string().contains("too short"), "{refused}");
    }

    const VIEW: &str = "default/v";

    fn batch(view: &Arc<ViewRows>, layout: u32, us: i64, bookmark: Option<Bookmark>) -> Batch {
        let stamp = Stamp { us, created: None };
        let key = Box::from(us.to_le_bytes().as_slice());
        Batch {
            view: view.clone(),
            generation: view.about().generation,
            rows: vec![(key, Row::new(stamp, layout, |_| {}))],
            bookmark,
        }
    }

    fn bookmark() -> Option<Bookmark> {
        Some(Bookmark {
            snapshot_id: 7,
            definition: "of then".to_owned(),
            left_later_rows: false,
        })
    }

    async fn kept(keeper: &Keeper) -> (About, usize) {
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = count.clone();
        let each = move |_: &[u8], _| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let about = keeper.load(VIEW.to_owned(), each).await.unwrap();
        (about, count.load(std::sync::atomic::Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_slow_writer_takes_back_neither_lists_of_features_nor_a_bookmark() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path().join("online.redb")).await.unwrap();
        let view = Arc::new(ViewRows::new(VIEW.to_owned()));
        view.about().layouts.push(vec!["one".to_owned()]);
        let slow = batch(&view, 0, 1, None);
        view.about().layouts.push(vec!["two".to_owned()]);
        let quick = batch(&view, 1, 2, bookmark());
        keeper.write(quick).await.unwrap();
        keeper.write(slow).await.unwrap();
        let (about, rows) = kept(&keeper).await;
        assert_eq!((about.layouts.len(), rows), (2, 2));
        assert_eq!(about.bookmark, bookmark());
        assert_eq!(view.about().bookmark, bookmark());
    }

    #[tokio::test]
    async fn what_was_on_its_way_to_removed_rows_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path().join("online.redb")).await.unwrap();
        let view = Arc::new(ViewRows::new(VIEW.to_owned()));
        view.about().layouts.push(vec!["one".to_owned()]);
        keeper.write(batch(&view, 0, 1, None)).await.unwrap();
        let late = batch(&view, 0, 2, bookmark());
        keeper.forget(view.clone(), None).await.unwrap();
        let refused = keeper.write(late).await.unwrap_err();
        assert!(refused.to_string().contains("'v'"), "{refused}");
        let (about, rows) = kept(&keeper).await;
        assert_eq!((about.bookmark, about.generation, rows), (None, 1, 0));
        // Rows that were made since are taken, and the numbers of lists go on.
        assert_eq!(view.about().layouts.len(), 1);
        keeper.write(batch(&view, 0, 3, None)).await.unwrap();
        assert_eq!(kept(&keeper).await.1, 1);
    }

    #[tokio::test]
    async fn of_two_who_remove_the_rows_by_old_join_keys_the_second_finds_them_removed() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(dir.path().join("online.redb")).await.unwrap();
        let view = Arc::new(ViewRows::new(VIEW.to_owned()));
        view.about().layouts.push(vec!["one".to_owned()]);
        let rekey = || {
            Some(Rekey {
                generation: 0,
                of: 0,
                from: Vec::new(),
                to: vec!["id".to_owned()],
                since: 0,
            })
        };
        keeper.forget(view.clone(), rekey()).await.unwrap();
        keeper.write(batch(&view, 0, 1, None)).await.unwrap();
        keeper.forget(view.clone(), rekey()).await.unwrap();
        let (about, rows) = kept(&keeper).await;
        assert_eq!((about.join_keys.len(), rows), (1, 1));
    }
}
