//! The writing end of a running job's log: pieces are stored together in small batches.

use std::time::Duration;

use db::Db;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::{Chunk, Stream, len};
use crate::error::Error;
use crate::signals::Signals;
use crate::store;

/// How much of a log is kept, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head: usize,
    pub(crate) tail: usize,
}

/// How long pieces may wait to be stored together.
const BATCH: Duration = Duration::from_millis(100);
/// The largest chunk, in bytes.
const CHUNK_LIMIT: usize = 64 * 1024;
/// How many pieces may wait; then the readers of the script's output wait, and so does the script.
const BACKLOG: usize = 256;

/// Writes to the log of a job; cheap to clone. The log ends when the last writer is dropped.
#[derive(Clone)]
pub(crate) struct LogWriter {
    pieces: mpsc::Sender<Piece>,
}

struct Piece {
    stream: Stream,
    at: i64,
    content: Vec<u8>,
}

impl LogWriter {
    /// Opens the log of a job behind what is stored of it already. The returned task ends when
    /// every writer is dropped and everything is stored.
    pub(crate) async fn open(
        db: Db,
        job_id: &str,
        limits: Limits,
        signals: Signals,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let end = store::logs::find_end(&mut db.acquire().await?, job_id).await?;
        let (pieces, received) = mpsc::channel(BACKLOG);
        let keeper = Keeper {
            db,
            job_id: job_id.to_owned(),
            limits,
            signals,
            end,
            line_ended: true,
            pending: Vec::new(),
            trimmed_to: 0,
        };
        Ok((Self { pieces }, tokio::spawn(keeper.run(received))))
    }

    /// Appends bytes.
    pub(crate) async fn write(&self, stream: Stream, content: Vec<u8>) {
        if content.is_empty() {
            return;
        }
        let piece = Piece {
            stream,
            at: web::Timestamp::now().0,
            content,
        };
        if self.pieces.send(piece).await.is_err() {
            tracing::error!("the keeper of a log ended before its writers");
        }
    }

    /// Appends a line of the platform.
    pub(crate) async fn line(&self, text: impl Into<String>) {
        let mut text: String = text.into();
        text.push('\n');
        self.write(Stream::Platform, text.into_bytes()).await;
    }
}

/// Stores what comes, and only the head and the tail of it.
struct Keeper {
    db: Db,
    job_id: String,
    limits: Limits,
    signals: Signals,
    /// The position after the last byte that came.
    end: i64,
    /// Whether the last byte that came ends a line.
    line_ended: bool,
    pending: Vec<Chunk>,
    /// Up to where the middle has been removed from the database.
    trimmed_to: i64,
}

impl Keeper {
    async fn run(mut self, mut pieces: mpsc::Receiver<Piece>) {
        let mut flushed = Instant::now() - BATCH;
        while let Some(piece) = pieces.recv().await {
            self.add(piece);
            let due = flushed + BATCH;
            let mut open = true;
            loop {
                match timeout_at(due, pieces.recv()).await {
                    Ok(Some(piece)) => self.add(piece),
                    Ok(None) => {
                        open = false;
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.flush().await;
            flushed = Instant::now();
            if !open {
                break;
            }
        }
        // A database that is away for a moment must not cost the last lines.
        for _ in 0..50 {
            if self.pending.is_empty() {
                return;
            }
            tokio::time::sleep(BATCH).await;
            self.flush().await;
        }
        tracing::error!(job_id = %self.job_id, "the end of a log could not be stored");
    }

    fn add(&mut self, mut piece: Piece) {
        if piece.stream == Stream::Platform && !self.line_ended {
            // The script left a line open; the platform's own begins a new one.
            piece.content.insert(0, b'\n');
        }
        self.line_ended = piece.content.ends_with(b"\n");
        let size = len(&piece.content);
        match self.pending.last_mut() {
            Some(last)
                if last.stream == piece.stream
                    && last.content.len() + piece.content.len() <= CHUNK_LIMIT =>
            {
                last.content.extend_from_slice(&piece.content);
            }
            _ => self.pending.push(Chunk {
                start: self.end,
                stream: piece.stream,
                at: piece.at,
                content: piece.content,
            }),
        }
        self.end += size;
        if self.pending.len() > BACKLOG {
            self.forget_pending_middle();
        }
    }

    /// The middle: what lies behind the head and before the tail.
    fn middle(&self) -> std::ops::Range<i64> {
        let head = i64::try_from(self.limits.head).unwrap_or(i64::MAX);
        let tail = i64::try_from(self.limits.tail).unwrap_or(i64::MAX);
        head..(self.end - tail)
    }

    fn forget_pending_middle(&mut self) {
        let middle = self.middle();
        self.pending
            .retain(|chunk| chunk.start < middle.start || chunk.end() > middle.end);
    }

    async fn flush(&mut self) {
        self.forget_pending_middle();
        if self.pending.is_empty() {
            return;
        }
        match self.store().await {
            Ok(()) => {
                self.pending.clear();
                self.signals.notify(&self.job_id);
            }
            Err(error) if error.is_unique_violation() => self.move_behind_others().await,
            Err(error) => {
                tracing::warn!(job_id = %self.job_id, %error, "storing a part of a log failed; it is tried again");
            }
        }
    }

    /// Puts what is pending behind what another server, which lost this job, has still written.
    async fn move_behind_others(&mut self) {
        let found = async {
            let mut conn = self.db.acquire().await?;
            store::logs::find_end(&mut conn, &self.job_id).await
        };
        match found.await {
            Ok(end) => {
                self.end = end;
                for chunk in &mut self.pending {
                    chunk.start = self.end;
                    self.end = chunk.end();
                }
            }
            Err(error) => tracing::warn!(job_id = %self.job_id, %error, "reading a log failed"),
        }
    }

    async fn store(&mut self) -> Result<(), db::Error> {
        let mut tx = self.db.begin().await?;
        store::logs::insert(&mut tx, &self.job_id, &self.pending).await?;
        let middle = self.middle();
        // A quarter of the tail at a time: trimming on every flush would cost more than it frees.
        let slack = i64::try_from(self.limits.tail / 4).unwrap_or(i64::MAX);
        let trim = middle.end - self.trimmed_to.max(middle.start) > slack;
        if trim {
            let before = middle.end - i64::try_from(CHUNK_LIMIT).unwrap_or(0);
            store::logs::delete_between(&mut tx, &self.job_id, middle.start, before).await?;
        }
        tx.commit().await?;
        if trim {
            self.trimmed_to = middle.end;
        }
        Ok(())
    }
}
