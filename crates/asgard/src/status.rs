//! What `/mlops/status` tells: counted in the background, so that no slow part can delay it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long an answer may wait for fresh counts before it gives the last ones. Counting takes
/// less than a millisecond; only a database in trouble is waited for this long.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long a test of the artifact store stands.
const STORAGE_FRESH: Duration = Duration::from_secs(30);

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether tracking and registry could be asked.
    pub available: bool,
    /// Why not.
    pub error: Option<String>,
    pub registered_models: i64,
    pub active_experiments: i64,
    pub queue_depth: i64,
    /// Absent when the feature store does not answer.
    pub feature_views: Option<i64>,
}

/// Whether artifacts can be written.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    /// Not known until first tried.
    pub writable: Option<bool>,
    pub error: Option<String>,
}

type Ask<T> = Box<dyn Fn() -> Pin<Box<dyn Future<Output = T> + Send>> + Send + Sync>;

/// The parts that are asked.
pub struct Sources {
    pub counts: Ask<Counts>,
    /// Writes to the artifact store; the error is why it failed.
    pub storage: Ask<Result<(), String>>,
}

/// What does not change while the server runs.
#[derive(Debug, Clone)]
pub struct About {
    pub started: Instant,
    pub listen_url: String,
    pub public_url: Option<String>,
    /// `sqlite` or `postgres`.
    pub database: &'static str,
}

/// The state of the platform; cheap to clone.
#[derive(Clone)]
pub struct Status(Arc<Inner>);

struct Inner {
    about: About,
    sources: Sources,
    patience: Duration,
    counts: watch::Sender<Counts>,
    /// Held while somebody counts: others wait for the same answer.
    counting: Arc<tokio::sync::Mutex<()>>,
    storage: Mutex<(Option<Instant>, Storage)>,
}

impl Status {
    /// The state of a platform of these parts; nothing is asked yet.
    pub fn new(about: About, sources: Sources) -> Self {
        Self::with_patience(about, sources, PATIENCE)
    }

    fn with_patience(about: About, sources: Sources, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            about,
            sources,
            patience,
            counts: watch::Sender::new(Counts::default()),
            counting: Arc::default(),
            storage: Mutex::default(),
        }))
    }

    /// The counts of now, or, when they take longer than a moment, those before.
    pub async fn counts(&self) -> Counts {
        let mut fresh = self.0.counts.subscribe();
        self.count();
        // An elapsed wait is the case this is for: the last counts stand.
        let _ = tokio::time::timeout(self.0.patience, fresh.changed()).await;
        self.0.counts.borrow().clone()
    }

    fn count(&self) {
        let Ok(counting) = Arc::clone(&self.0.counting).try_lock_owned() else {
            return;
        };
        let this = self.clone();
        tokio::spawn(async move {
            let counts = (this.0.sources.counts)().await;
            drop(counting);
            this.0.counts.send_replace(counts);
        });
    }

    /// Looks at everything once, so that the first who asks is told.
    pub fn begin(&self) {
        self.count();
        self.storage();
    }

    /// The last test of the artifact store; starts another when that is old.
    pub fn storage(&self) -> Storage {
        let mut storage = held(&self.0.storage);
        if storage.0.is_none_or(|at| at.elapsed() >= STORAGE_FRESH) {
            storage.0 = Some(Instant::now());
            let this = self.clone();
            tokio::spawn(async move {
                let result = (this.0.sources.storage)().await;
                held(&this.0.storage).1 = Storage {
                    writable: Some(result.is_ok()),
                    error: result.err(),
                };
            });
        }
        storage.1.clone()
    }

    pub fn uptime(&self) -> Duration {
        self.0.about.started.elapsed()
    }

    pub fn database(&self) -> &'static str {
        self.0.about.database
    }

    pub fn listen_url(&self) -> &str {
        &self.0.about.listen_url
    }

    pub fn public_url(&self) -> Option<&str> {
        self.0.about.public_url.as_deref()
    }
}

/// None of these locks is held across anything that could panic half way.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn status(delay: Duration, patience: Duration) -> Status {
        let about = About {
            started: Instant::now(),
            listen_url: "http://127.0.0.1:1".into(),
            public_url: None,
            database: "sqlite",
        };
        let counts: Ask<Counts> = Box::new(move || {
            Box::pin(async move {
                tokio::time::sleep(delay).await;
                Counts {
                    available: true,
                    registered_models: 2,
                    ..Counts::default()
                }
            })
        });
        let storage: Ask<Result<(), String>> =
            Box::new(|| Box::pin(async { Err("disk full".to_owned()) }));
        Status::with_patience(about, Sources { counts, storage }, patience)
    }

    #[tokio::test]
    async fn a_slow_database_does_not_delay_the_answer() {
        let status = status(Duration::from_secs(8), Duration::from_millis(3));
        let asked = Instant::now();
        assert!(!status.counts().await.available);
        assert!(asked.elapsed() < Duration::from_secs(7));
        status.0.counts.subscribe().changed().await.unwrap();
        assert!(status.counts().await.available);
    }

    #[tokio::test]
    async fn a_quick_count_is_the_count_of_now() {
        let counts = status(Duration::ZERO, Duration::from_secs(60))
            .counts()
            .await;
        assert_eq!((counts.available, counts.registered_models), (true, 2));
    }

    #[tokio::test]
    async fn a_count_that_fails_half_way_is_not_the_last() {
        let mut status = status(Duration::ZERO, Duration::from_secs(60));
        let inner = Arc::get_mut(&mut status.0).unwrap();
        let asked = AtomicBool::new(false);
        inner.sources.counts = Box::new(move || {
            let first = !asked.swap(true, Ordering::Relaxed);
            Box::pin(async move {
                assert!(!first, "the first count fails");
                Counts {
                    available: true,
                    ..Counts::default()
                }
            })
        });
        status.count();
        while status.0.counting.try_lock().is_err() {
            tokio::task::yield_now().await;
        }
        assert!(status.counts().await.available);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_told() {
        let status = status(Duration::ZERO, PATIENCE);
        assert_eq!(status.storage().writable, None);
        while status.storage().writable.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(status.storage().writable, Some(false));
        assert_eq!(status.storage().error.as_deref(), Some("disk full"));
    }
}
