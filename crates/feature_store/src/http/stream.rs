//! Tables that are sent while they are read.

use std::pin::Pin;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use axum::body::{Body, Bytes};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};

use super::form::Form;
use super::leaving::leaving;
use super::parquet_file::ParquetFile;
use crate::FeatureStore;
use crate::cores::ended;
use crate::error::Error;
use crate::memory::Freed;

/// So much is fetched at a time: a client that is slow, but goes on, is waited for.
const FETCHED_BYTES: usize = 2 * 1024 * 1024;

/// A piece that waits for its client keeps all of the part that it is of in memory, up to this size;
/// larger parts are copied piece by piece.
const SHARED_BYTES: usize = 16 * 1024 * 1024;

type Batches = BoxStream<'static, Result<RecordBatch, Error>>;

/// A body that is written as it is sent: what fails after its first rows breaks it off.
///
/// # Errors
/// When the first rows cannot be read.
pub(super) async fn body(
    store: &FeatureStore,
    form: Form,
    schema: SchemaRef,
    batches: Batches,
) -> Result<Body, Error> {
    let coder = Coder::new(form, &schema)?;
    let begun = Some((coder, batches, Freed::default()));
    let parts = stream::try_unfold(begun, |state| async move {
        let Some((coder, mut batches, sent)) = state else {
            return Ok(None);
        };
        let Some(rows) = batches.try_next().await? else {
            return Ok(Some((coder.end().await?, None)));
        };
        let (coder, part) = coder.push(rows).await?;
        sent.add(part.len());
        Ok::<_, Error>(Some((part, Some((coder, batches, sent)))))
    });
    let mut parts = parts.map_ok(Bytes::from).boxed().peekable();
    // An error that is there at once is an answer of its own.
    if Pin::new(&mut parts)
        .peek()
        .await
        .is_some_and(Result::is_err)
    {
        parts.try_next().await?;
    }
    Ok(sent(store, parts))
}

/// A body of these parts, that leaves no rows in memory when its client is slow.
pub(super) fn sent(
    store: &FeatureStore,
    parts: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
) -> Body {
    let given_up = |what| Error::Later {
        what,
        help: "ask again",
    };
    let parts = parts.map_ok(|part| stream::iter(cut(part).map(Ok)));
    let parts = leaving(store, parts.try_flatten().boxed(), given_up);
    let parts = parts.inspect_err(|error| {
        tracing::warn!(error = %error.message(), "a table broke off while it was sent");
    });
    Body::from_stream(parts)
}

/// The same bytes in pieces.
fn cut(mut part: Bytes) -> impl Iterator<Item = Bytes> {
    let is_shared = part.len() <= SHARED_BYTES;
    std::iter::from_fn(move || {
        let length = part.len().min(FETCHED_BYTES);
        let piece = (length > 0).then(|| part.split_to(length))?;
        Some(if is_shared {
            piece
        } else {
            Bytes::copy_from_slice(&piece)
        })
    })
}

/// Coding a table takes a core for as long as it is: not one of those that answer requests.
pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    match done {
        Err(panicked) if panicked.is_panic() => Err(Error::Io {
            what: "coding a table".to_owned(),
            source: std::io::Error::other(panicked),
        }),
        done => ended(done)?,
    }
}

/// A file on its way, each part of which is taken out when it is written.
enum Coder {
    Csv { begun: bool, schema: SchemaRef },
    Arrow(arrow_ipc::writer::StreamWriter<Vec<u8>>),
    Parquet(ParquetFile),
}

impl Coder {
    fn new(form: Form, schema: &SchemaRef) -> Result<Self, Error> {
        if let Some(field) = schema.fields().iter().find(|f| has_union(f.data_type())) {
            return Err(Error::Invalid(format!(
                "column {:?} is a union, which {form:?} has no way to write: leave it out",
                field.name()
            )));
        }
        Ok(match form {
            // JSON says of each column all that is in it, and cannot be sent in parts.
            Form::Csv | Form::Json => Self::Csv {
                begun: false,
                schema: schema.clone(),
            },
            Form::Arrow => Self::Arrow(arrow_ipc::writer::StreamWriter::try_new(
                Vec::new(),
                schema,
            )?),
            Form::Parquet => Self::Parquet(ParquetFile::new(schema)?),
        })
    }

    async fn push(self, rows: RecordBatch) -> Result<(Self, Vec<u8>), Error> {
        match self {
            Self::Parquet(mut file) => {
                let part = file.push(rows).await?;
                Ok((Self::Parquet(file), part))
            }
            other => in_background(move || other.code(&rows)).await,
        }
    }

    fn code(mut self, rows: &RecordBatch) -> Result<(Self, Vec<u8>), Error> {
        let part = match &mut self {
            Self::Csv { begun, .. } => {
                let mut part = Vec::new();
                let head = !std::mem::replace(begun, true);
                let writer = arrow_csv::WriterBuilder::new().with_header(head);
                let written = writer.build(&mut part).write(rows);
                written.map_err(Error::value("the rows cannot be written as CSV"))?;
                part
            }
            Self::Arrow(writer) => {
                let written = writer.write(rows);
                written.map_err(Error::value("the rows cannot be written as Arrow"))?;
                std::mem::take(writer.get_mut())
            }
            Self::Parquet(_) => Vec::new(),
        };
        Ok((self, part))
    }

    async fn end(self) -> Result<Vec<u8>, Error> {
        Ok(match self {
            Self::Csv { begun: true, .. } => Vec::new(),
            Self::Csv { ref schema, .. } => {
                let none = RecordBatch::new_empty(schema.clone());
                self.code(&none)?.1
            }
            Self::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?
            }
            Self::Parquet(file) => file.end().await?,
        })
    }
}

/// Whether there is a union in a type; what writes Parquet panics over it.
fn has_union(kind: &DataType) -> bool {
    match kind {
        DataType::Union(..) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_union(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_union(field.data_type())),
        DataType::Dictionary(_, value) => has_union(value),
        DataType::RunEndEncoded(_, values) => has_union(values.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
    use axum::Router;
    use axum::http::{Method, Request};
    use serde_json::json;
    use tower::ServiceExt as _;
    use web::{Door, Identity};

    use super::*;
    use crate::answers::Answers;
    use crate::stream::testing::written;
    use crate::table::TableRef;
    use crate::{Config, MIGRATIONS};

    const ROWS: i64 = 150_000;

    /// Rows of which each takes some 300 bytes.
    fn entities() -> Bytes {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
        let times = TimestampMicrosecondArray::from(vec![2_000_000; ROWS as usize]);
        let notes = (0..ROWS).map(|id| format!("{id:0>270}"));
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values(notes));
        let times: ArrayRef = Arc::new(times);
        let columns = [("id", ids), ("event_timestamp", times), ("note", notes)];
        written(&RecordBatch::try_from_iter(columns).unwrap()).into()
    }

    async fn define(store: &FeatureStore) {
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000_000]));
        let (id, x): (ArrayRef, ArrayRef) = (
            Arc::new(Int64Array::from(vec![7])),
            Arc::new(Int64Array::from(vec![42])),
        );
        let columns = [("id", id), ("x", x), ("event_timestamp", at)];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let table = TableRef::parse_uri("iceberg://gold/t").unwrap();
        store.catalogs.append(&table, rows).await.unwrap();
    }

    async fn ask(
        router: &Router,
        entities: &Bytes,
    ) -> BoxStream<'static, Result<Bytes, axum::Error>> {
        let path = "/feast/historical?features=v:x&format=csv";
        let request = Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/vnd.apache.arrow.stream")
            .body(Body::from(entities.clone()));
        let answer = router.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().into_data_stream().boxed()
    }

    #[tokio::test]
    async fn others_are_served_while_several_clients_read_large_answers_slowly() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        // No two of them have room beside each other.
        let store = FeatureStore {
            answers: Answers::with_large_room(64),
            spools: store.spools.leaving_free(0),
            ..store
        };
        define(&store).await;
        let router = crate::http::routes(store.clone()).into_router();
        let door = Door::new(Arc::new(|_| Box::pin(async { Ok(None) })));
        let router = door.open_to(Identity::Local).guard(router);
        let view = json!({
            "name": "v", "entities": ["id"], "features": [{"name": "x", "dtype": "int64"}],
            "source": {"table_name": "t", "schema": "gold"},
        });
        let made = web::testing::request(Method::POST, "/feast/features", Some(&view));
        let made = router.clone().oneshot(made).await.unwrap();
        assert_eq!(made.status(), 201);
        let entities = entities();
        let mut slow = Vec::new();
        for _ in 0..3 {
            let mut answer = ask(&router, &entities).await;
            let first = answer.try_next().await.unwrap().unwrap();
            slow.push((answer, first));
        }
        let whole: Vec<Bytes> = ask(&router, &entities).await.try_collect().await.unwrap();
        let whole = whole.concat();
        assert_eq!(whole.split(|byte| *byte == b'\n').count() as i64, ROWS + 2);
        for (answer, first) in slow {
            let rest: Vec<Bytes> = answer.try_collect().await.unwrap();
            assert!([first.to_vec(), rest.concat()].concat() == whole);
        }
        store.tasks.close();
        store.tasks.wait().await;
        assert!(store.answers.hold(64 << 20).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_in_the_background_is_an_error_of_the_server() {
        let failed = in_background::<()>(|| panic!("for the test")).await;
        assert_eq!(failed.unwrap_err().code(), web::Code::Internal);
    }

    #[test]
    fn what_is_fetched_at_a_time_is_bounded() {
        let part = Bytes::from_iter((0..2 * FETCHED_BYTES + 1).map(|n| n as u8));
        let pieces: Vec<Bytes> = cut(part.clone()).collect();
        let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [FETCHED_BYTES, FETCHED_BYTES, 1]);
        assert_eq!(pieces.concat(), part);
        // One that waits does not keep a large part.
        let large = Bytes::from(vec![1; SHARED_BYTES + 1]);
        let begin = large.as_ptr_range();
        assert!(cut(large.clone()).all(|piece| !begin.contains(&piece.as_ptr())));
        assert_eq!(cut(Bytes::new()).count(), 0);
    }
}
