//! Materializing: the newest row of each entity out of a view's table into the online store.
//!
//! Each run leaves a bookmark, the snapshot that it read; the next incremental one reads the files
//! that were added since, so that rows of an earlier time that came late are not missed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::about::Bookmark;
use super::appended;
use super::keeper::Batch;
use super::newest::{Job, Rows, newest};
use super::view::ViewRows;
use crate::FeatureStore;
use crate::error::Error;
use crate::feature_view::FeatureView;
use crate::historical::{Columns, Only, Scan, Times, ViewUse};
use crate::store::history::LoadRow;
use crate::table;

/// Rows in one write.
const WRITE_ROWS: usize = 50_000;

/// The times of the events to load, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Absent: go on from where the last run ended, and without one take all that the ttl allows.
    pub start_us: Option<i64>,
    pub end_us: i64,
}

/// How a view was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of the table's files.
    Full,
    /// The files that were added since the last run.
    Appended,
    /// Nothing was added.
    Nothing,
}

impl Mode {
    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Appended => "appended",
            Self::Nothing => "nothing",
        }
    }
}

/// What materializing a view did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialized {
    pub view: String,
    pub mode: Mode,
    pub snapshot_id: Option<i64>,
    /// Rows of the table that were looked at.
    pub rows_read: u64,
    /// Entities whose newest row is another one now.
    pub entities_written: usize,
    pub entities: usize,
}

/// The views that are being materialized, as `PROJECT/VIEW`; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Mutex<HashSet<String>>>);

struct Guard {
    running: Running,
    view: String,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a view is being materialized here.
    pub(crate) fn has(&self, project: &str, view: &str) -> bool {
        self.lock().contains(&format!("{project}/{view}"))
    }

    fn begin(&self, view: &FeatureView) -> Result<Guard, Error> {
        let name = format!("{}/{}", view.project, view.name);
        if !self.lock().insert(name.clone()) {
            return Err(Error::Busy(format!(
                "feature view '{}' is being materialized already",
                view.name
            )));
        }
        Ok(Guard {
            running: self.clone(),
            view: name,
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.running.lock().remove(&self.view);
    }
}

impl FeatureStore {
    /// Loads views into the online store: those named, or all that are meant for online reads.
    ///
    /// # Errors
    /// When a view is not there or being materialized already, or a table cannot be read. Views
    /// before it are loaded.
    pub async fn materialize(
        &self,
        project: &str,
        names: Option<&[String]>,
        span: Span,
        now: i64,
    ) -> Result<Vec<Materialized>, Error> {
        let views = self.loadable(project, names, span).await?;
        let loads = self.begin_loads(views, span, now).await?;
        self.load(loads, span, now).await
    }

    /// The same, begun here and gone on with after the answer: the names of the views. How each
    /// ended stands among its loads, also when the server does not survive it.
    ///
    /// # Errors
    /// When a view is not there or being materialized already.
    pub async fn materialize_later(
        &self,
        project: &str,
        names: Option<&[String]>,
        span: Span,
        now: i64,
    ) -> Result<Vec<String>, Error> {
        let views = self.loadable(project, names, span).await?;
        let loads = self.begin_loads(views, span, now).await?;
        let names = loads.iter().map(|load| load.view.name.clone()).collect();
        let store = self.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let load = Box::pin(store.load(loads, span, now));
            if let Some(Err(error)) = stop.run_until_cancelled(load).await {
                tracing::warn!(error = %error.message(), "loading values into the online store failed");
            }
        });
        Ok(names)
    }

    /// The views to load, each held so that nobody else loads it.
    async fn loadable(
        &self,
        project: &str,
        names: Option<&[String]>,
        span: Span,
    ) -> Result<Vec<(FeatureView, Guard)>, Error> {
        if span.start_us.is_some_and(|start| start > span.end_us) {
            return Err(Error::Invalid(
                "the start of the times to load is after their end".to_owned(),
            ));
        }
        let views = match names {
            None => {
                let mut views = self.feature_views(project).await?;
                views.retain(|view| view.online && !view.disabled && view.source.table.is_some());
                views
            }
            Some(names) => {
                let mut views = Vec::new();
                let mut seen = HashSet::new();
                for name in names.iter().filter(|name| seen.insert(*name)) {
                    let view = self.online_view(project, name).await?;
                    view.check_enabled()?;
                    views.push(view);
                }
                views
            }
        };
        let held = views.into_iter().map(|view| {
            let guard = self.online.0.materializing.begin(&view)?;
            Ok((view, guard))
        });
        held.collect()
    }

    async fn begin_loads(
        &self,
        views: Vec<(FeatureView, Guard)>,
        span: Span,
        now: i64,
    ) -> Result<Vec<Load>, Error> {
        let mut loads = Vec::with_capacity(views.len());
        for (view, held) in views {
            let row = self.begin_load(&view, span, now).await?;
            loads.push(Load {
                view,
                row,
                _held: held,
            });
        }
        Ok(loads)
    }

    async fn load(
        &self,
        loads: Vec<Load>,
        span: Span,
        now: i64,
    ) -> Result<Vec<Materialized>, Error> {
        let ids: Vec<String> = loads.iter().map(|load| load.row.id.clone()).collect();
        tokio::select! {
            done = self.load_each(loads, span, now) => done,
            never = self.hold_loads(&ids) => match never {},
        }
    }

    async fn load_each(
        &self,
        loads: Vec<Load>,
        span: Span,
        now: i64,
    ) -> Result<Vec<Materialized>, Error> {
        let mut done = Vec::new();
        let mut loads = loads.into_iter();
        while let Some(Load { view, row, _held }) = loads.next() {
            let started = Instant::now();
            let ended = self.materialize_view(&view, span, now).await;
            let duration_ms = started.elapsed().as_millis() as i64;
            self.end_load(row, duration_ms, &ended).await?;
            if ended.is_err() {
                let before = Err(Error::Busy(format!(
                    "not begun, for feature view '{}' failed before it",
                    view.name
                )));
                for load in loads {
                    self.end_load(load.row, 0, &before).await?;
                }
                return ended.map(|_| done);
            }
            done.extend(ended);
        }
        Ok(done)
    }

    /// A view that is meant for online reads.
    pub(super) async fn online_view(
        &self,
        project: &str,
        name: &str,
    ) -> Result<FeatureView, Error> {
        let view = self.feature_view(project, name).await?;
        if !view.online {
            return Err(Error::Invalid(format!(
                "feature view '{name}' is defined with online: false; define it with online: true to load it into the online store"
            )));
        }
        Ok(view)
    }

    async fn materialize_view(
        &self,
        view: &FeatureView,
        span: Span,
        now: i64,
    ) -> Result<Materialized, Error> {
        let started = Instant::now();
        let (rows, about) = self.rows_to_write(view).await?;
        let generation = about.generation;
        let plan = self.plan(view, about.bookmark, span, now).await?;
        let mut done = Materialized {
            view: view.name.clone(),
            mode: plan.mode,
            snapshot_id: plan.snapshot_id,
            rows_read: 0,
            entities_written: 0,
            entities: 0,
        };
        if let Some(scan) = plan.scan {
            let layout = self.online.layout(&rows, view, generation).await?;
            let job = Job::new(view, plan.columns, layout, span.end_us);
            let newest = newest(scan, Arc::new(job)).await?;
            done.rows_read = newest.rows_read;
            let bookmark = plan.snapshot_id.map(|snapshot_id| Bookmark {
                snapshot_id,
                definition: definition(view),
                left_later_rows: newest.left_later_rows,
            });
            let kept = self.keep(&rows, generation, newest.rows, bookmark).await;
            done.entities_written = kept?;
            let start = span.start_us.filter(|start| *start != i64::MIN);
            let start = start.unwrap_or(newest.first_us.min(span.end_us));
            let interval = (start, span.end_us);
            self.add_interval(&view.project, &view.name, interval, now)
                .await?;
        }
        done.entities = self.online.count(&rows, view).await?;
        metrics::counter!("feast_materialized_rows_total").increment(done.rows_read);
        metrics::histogram!("feast_materialize_seconds").record(started.elapsed().as_secs_f64());
        Ok(done)
    }

    async fn plan(
        &self,
        view: &FeatureView,
        bookmark: Option<Bookmark>,
        span: Span,
        now: i64,
    ) -> Result<Plan, Error> {
        let name = view.table()?;
        let table = self.catalogs.table(name).await?;
        let mut used = ViewUse::new(view.clone(), view.name.clone());
        used.features = view.features.iter().map(|f| f.name.clone()).collect();
        let columns = Columns::find(&used, name, &table::columns(&table))?;
        let current = table.metadata().current_snapshot_id();
        let known = bookmark.filter(|bookmark| {
            let continues = span.start_us.is_none() && !bookmark.left_later_rows;
            continues && bookmark.definition == definition(view)
        });
        let mut mode = Mode::Full;
        let mut only = None;
        if let (Some(known), Some(current)) = (&known, current) {
            if known.snapshot_id == current {
                mode = Mode::Nothing;
            } else if let Some(files) =
                appended::files_since(name, &table, known.snapshot_id).await?
            {
                mode = Mode::Appended;
                only = Some(files);
            }
        }
        let scan = if mode == Mode::Nothing || current.is_none() {
            None
        } else {
            let oldest = view.ttl_us.filter(|_| mode == Mode::Full);
            let latest_us = span.end_us.min(now.saturating_mul(1000));
            let oldest = oldest.map(|ttl_us| latest_us.saturating_sub(ttl_us));
            let times = Times {
                column: &columns.timestamp,
                first: span.start_us.or(oldest).unwrap_or(i64::MIN),
                // Rows of a later time must be seen, to be told apart from none.
                last: i64::MAX,
            };
            let only = Only {
                snapshot: None,
                files: only.as_ref(),
            };
            Some(Scan::plan(name, &table, &columns.all(), Some(&times), only).await?)
        };
        Ok(Plan {
            mode,
            snapshot_id: current,
            columns,
            scan,
        })
    }

    async fn keep(
        &self,
        rows: &Arc<ViewRows>,
        generation: u64,
        newest: Rows,
        bookmark: Option<Bookmark>,
    ) -> Result<usize, Error> {
        let mut newest = newest.into_iter();
        let mut written = 0;
        loop {
            let part: Vec<_> = newest.by_ref().take(WRITE_ROWS).collect();
            let last = part.len() < WRITE_ROWS;
            let batch = Batch {
                view: rows.clone(),
                generation,
                rows: part,
                bookmark: bookmark.clone().filter(|_| last),
            };
            written += self.online.write(batch).await?;
            if last {
                return Ok(written);
            }
        }
    }
}

/// A load that has begun.
struct Load {
    view: FeatureView,
    row: LoadRow,
    _held: Guard,
}

struct Plan {
    mode: Mode,
    snapshot_id: Option<i64>,
    columns: Columns,
    /// Absent when there is nothing to read.
    scan: Option<Scan>,
}

/// What a view's rows are made of, as text.
fn definition(view: &FeatureView) -> String {
    format!("{:?} {:?} {:?}", view.join_keys, view.features, view.source)
}
