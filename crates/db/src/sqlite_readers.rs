//! The SQLite connections that read: kept open, handed out one at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::sqlite::File;

/// The readers of one file; cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
    timeout: Duration,
}

/// A connection that goes back when it is dropped.
pub(crate) struct Reader {
    conn: Option<Connection>,
    home: Readers,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    pub(crate) fn open(file: File, most: u32, timeout: Duration) -> Result<Self, Error> {
        let first = file.open_reader()?;
        let inner = Inner {
            file,
            idle: Mutex::new(vec![first]),
            free: Arc::new(Semaphore::new(most.max(1) as usize)),
            timeout,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes a connection, and opens one if all are in use and there may be more.
    pub(crate) async fn acquire(&self) -> Result<Reader, Error> {
        let free = self.inner.free.clone().acquire_owned();
        let permit = tokio::time::timeout(self.inner.timeout, free)
            .await
            .map_err(|_| Error::Busy)?
            .map_err(|_| Error::Closed)?;
        let idle = self.idle().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => self.inner.file.open_reader()?,
        };
        Ok(Reader {
            conn: Some(conn),
            home: self.clone(),
            _permit: permit,
        })
    }

    /// Closes those that nobody uses; the others close when they come back.
    pub(crate) fn close(&self) {
        self.inner.free.close();
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        let idle = self.inner.idle.lock();
        idle.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    pub(crate) fn conn(&mut self) -> &mut Connection {
        self.conn
            .as_mut()
            .expect("a reader has its connection until it is dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take()
            && !self.home.inner.free.is_closed()
        {
            self.home.idle().push(conn);
        }
    }
}
