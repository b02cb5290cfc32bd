//! Bodies with rows: how long they may take to arrive, and how much memory they hold meanwhile and
//! when they are read.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use web::{ApiError, Code};

use crate::FeatureStore;
use crate::answers;
use crate::cores::ended;
use crate::error::Error;
use crate::json;
use crate::offline::Held;

/// How long a whole table may take to arrive, and how long nothing of it may.
const WHOLE_TIME: Duration = Duration::from_secs(900);
pub(super) const PART_TIME: Duration = Duration::from_secs(60);

/// The largest body of a REST call.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// What is smaller is not counted, and read at once.
const SMALL_BYTES: usize = 256 * 1024;

/// The most bytes that rows in JSON may take once they are read.
const READ_LIMIT: usize = 1 << 30;

/// Why a body is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// It did not arrive in time.
    Late(String),
    /// There is no memory for it.
    Room(Error),
    TooLarge,
    Broken(axum::Error),
}

/// A body, part by part: `count` is told how many bytes there are by now before anything is made of
/// them.
pub(super) fn within(
    body: Body,
    held: Arc<Held>,
    count: fn(&Held, usize) -> Result<(), Refused>,
    part_time: Duration,
) -> BoxStream<'static, Result<Bytes, Refused>> {
    let end = Instant::now() + WHOLE_TIME;
    let parts = (body.into_data_stream(), 0, held);
    let parts = stream::try_unfold(parts, move |(mut parts, before, held)| async move {
        let until = end.min(Instant::now() + part_time);
        let part = timeout_at(until, parts.next()).await.map_err(|_| {
            Refused::Late(format!(
                "the table did not arrive in time: {} seconds for the next part, {} for all of it; send smaller tables, or try again",
                PART_TIME.as_secs(),
                WHOLE_TIME.as_secs()
            ))
        })?;
        let Some(part) = part else { return Ok(None) };
        let part = part.map_err(Refused::Broken)?;
        let bytes = before + part.len();
        count(&held, bytes)?;
        Ok(Some((part, (parts, bytes, held))))
    });
    parts.boxed()
}

fn count(held: &Held, bytes: usize) -> Result<(), Refused> {
    if bytes > BODY_LIMIT {
        return Err(Refused::TooLarge);
    }
    if bytes <= SMALL_BYTES {
        return Ok(());
    }
    held.arrived(bytes).map_err(Refused::Room)
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Late(why) => Self::new(Code::Invalid, why),
            Refused::Room(error) => error.into(),
            Refused::TooLarge => {
                Self::new(Code::TooLarge, "the body is larger than this route takes")
                    .help("send the rows in parts of at most 64 MiB each")
            }
            Refused::Broken(error) => Self::new(
                Code::Invalid,
                format!("the body could not be read: {error}"),
            ),
        }
    }
}

/// A body that is here whole.
pub(super) struct Arrived {
    pub(super) bytes: Bytes,
    /// The memory of the body, and of the table that becomes of it.
    pub(super) held: Arc<Held>,
}

impl FromRequest<FeatureStore> for Arrived {
    type Rejection = ApiError;

    async fn from_request(request: Request, store: &FeatureStore) -> Result<Self, ApiError> {
        let held = store.uploads.begin();
        let mut parts = within(request.into_body(), held.clone(), count, PART_TIME);
        let mut bytes = Bytes::new();
        let mut all = Vec::new();
        while let Some(part) = parts.try_next().await? {
            // Most bodies come in one part.
            if bytes.is_empty() && all.is_empty() {
                bytes = part;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut bytes));
            }
            all.extend_from_slice(&part);
        }
        if !all.is_empty() {
            bytes = all.into();
        }
        Ok(Self { bytes, held })
    }
}

/// What a body in JSON says, and the memory that is held for it.
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) held: Arc<answers::Held>,
}

impl Arrived {
    /// Reads JSON, when there is memory for what it becomes.
    ///
    /// # Errors
    /// When it is not as documented, takes more than there ever is, or others keep their memory for
    /// too long.
    pub(super) async fn json<T: DeserializeOwned + Send + 'static>(
        self,
        store: &FeatureStore,
    ) -> Result<Read<T>, ApiError> {
        let bytes = self.bytes;
        if bytes.len() <= SMALL_BYTES {
            let held = store.requests.hold(0).await?;
            let value = parse(&bytes)?;
            return Ok(Read { value, held });
        }
        let needed = json::bytes_read(&bytes);
        if needed > READ_LIMIT {
            return Err(Error::Invalid(
                "the rows would take more than 1 GiB once they are read: send them in parts, or as Parquet, Arrow or CSV where the route takes those"
                    .to_owned(),
            )
            .into());
        }
        let held = store.requests.hold(needed).await?;
        // It takes a core for as long as it is: not one of those that answer requests.
        let both = (self.held, held.clone());
        let read = tokio::task::spawn_blocking(move || {
            // Also when nobody waits for it any more.
            let _both = both;
            parse(&bytes)
        });
        let value = ended(read.await)??;
        Ok(Read { value, held })
    }
}

fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() {
            Code::Unprocessable
        } else {
            Code::Invalid
        };
        ApiError::new(code, format!("the body is not as documented: {error}"))
            .help("the routes are described at /docs")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{Config, MIGRATIONS};

    async fn store(dir: &tempfile::TempDir) -> FeatureStore {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap()
    }

    async fn arrive(store: &FeatureStore, body: Body) -> Result<Arrived, ApiError> {
        Arrived::from_request(Request::new(body), store).await
    }

    #[tokio::test]
    async fn bodies_hold_their_memory_while_they_arrive_and_small_ones_never_wait() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let body = Bytes::from(vec![b' '; BODY_LIMIT + 1]);
        let large = || Body::from(body.slice(1..));
        let mut all = Vec::new();
        let refused = loop {
            match arrive(&store, large()).await {
                Ok(arrived) => all.push(arrived),
                Err(refused) => break refused,
            }
        };
        assert_eq!((all.len(), refused.code()), (16, Code::Unavailable));
        let small = arrive(&store, Body::from(vec![b'1'; SMALL_BYTES])).await;
        let read = small.unwrap().json::<Value>(&store).await;
        assert_eq!(read.err().unwrap().code(), Code::Invalid);
        all.clear();
        assert_eq!(
            arrive(&store, large()).await.unwrap().bytes.len(),
            BODY_LIMIT
        );
        let larger = arrive(&store, Body::from(body.clone())).await;
        assert_eq!(larger.err().unwrap().code(), Code::TooLarge);
    }

    #[tokio::test]
    async fn a_body_in_parts_comes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        for parts in [vec![], vec!["[1]"], vec!["[1", ",2", "]"], vec!["", "[1]"]] {
            let expected: String = parts.concat();
            let parts = parts.into_iter().map(Ok::<_, std::io::Error>);
            let arrived = arrive(&store, Body::from_stream(stream::iter(parts))).await;
            assert_eq!(arrived.unwrap().bytes, expected);
        }
    }

    #[tokio::test]
    async fn rows_in_json_hold_what_they_take_once_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        // Many times as long as their text.
        let rows = format!("[{}{{}}]", "{\"a\":1},".repeat(50_000));
        let text = Bytes::from(rows.into_bytes());
        let bytes = json::bytes_read(&text);
        assert!(bytes > 30 * 1024 * 1024, "{bytes}");
        let arrived = |bytes: &Bytes| Arrived {
            bytes: bytes.clone(),
            held: store.uploads.begin(),
        };
        let all = store.requests.hold(usize::MAX).await.unwrap();
        let (read, ()) = tokio::join!(arrived(&text).json::<Value>(&store), async {
            drop(all);
        });
        assert!(read.unwrap().value.is_array());
        let hostile = Bytes::from("{},".repeat(BODY_LIMIT / 3));
        let refused = arrived(&hostile).json::<Value>(&store).await;
        assert_eq!(refused.err().unwrap().code(), Code::Invalid);
    }
}
