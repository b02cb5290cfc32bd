//! Tables that are sent while they are read.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use axum::body::{Body, Bytes};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::form::Form;
use super::leaving::leaving;
use super::parquet_file::ParquetFile;
use crate::FeatureStore;
use crate::cores::ended;
use crate::error::Error;
use crate::memory::Freed;

/// So much is fetched at a time: a client that is slow, but goes on, is waited for.
const FETCHED_BYTES: usize = 2 * 1024 * 1024;

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
    let mut batches = batches.peekable();
    // An error that is there at once is an answer of its own.
    if std::pin::Pin::new(&mut batches)
        .peek()
        .await
        .is_some_and(Result::is_err)
    {
        batches.try_next().await?;
    }
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
    let given_up = |what| Error::Later {
        what,
        help: "ask again",
    };
    let parts = parts.map_ok(|part| stream::iter(cut(part.into()).map(Ok)));
    let parts = leaving(store, parts.try_flatten().boxed(), given_up);
    let parts = parts.inspect_err(|error| {
        tracing::warn!(error = %error.message(), "a table broke off while it was sent");
    });
    Ok(Body::from_stream(parts))
}

/// The same bytes in pieces.
fn cut(mut part: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = part.len().min(FETCHED_BYTES);
        (length > 0).then(|| part.split_to(length))
    })
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    ended(tokio::task::spawn_blocking(work).await)?
}

/// A file on its way, each part of which is taken out when it is written.
enum Coder {
    Csv { begun: bool, schema: SchemaRef },
    Arrow(arrow_ipc::writer::StreamWriter<Vec<u8>>),
    Parquet(ParquetFile),
}

impl Coder {
    fn new(form: Form, schema: &SchemaRef) -> Result<Self, Error> {
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
                writer.build(&mut part).write(rows)?;
                part
            }
            Self::Arrow(writer) => {
                writer.write(rows)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_at_a_time_is_bounded() {
        let part = Bytes::from_iter((0..2 * FETCHED_BYTES + 1).map(|n| n as u8));
        let pieces: Vec<Bytes> = cut(part.clone()).collect();
        let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [FETCHED_BYTES, FETCHED_BYTES, 1]);
        assert_eq!(pieces.concat(), part);
        assert_eq!(cut(Bytes::new()).count(), 0);
    }
}
