//! Tables that are sent while they are read.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use axum::body::{Body, Bytes};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::form::{Form, not_readable};
use crate::error::Error;

/// How much of a Parquet file is kept until its row group is written.
const GROUP_BYTES: usize = 16 * 1024 * 1024;

type Batches = BoxStream<'static, Result<RecordBatch, Error>>;

/// A body that is written as it is sent: what fails after its first rows breaks it off.
///
/// # Errors
/// When the first rows cannot be read.
pub(super) async fn body(form: Form, schema: SchemaRef, batches: Batches) -> Result<Body, Error> {
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
    let parts = stream::try_unfold(Some((coder, batches)), |state| async move {
        let Some((mut coder, mut batches)) = state else {
            return Ok(None);
        };
        let Some(rows) = batches.try_next().await? else {
            let last = in_background(move || coder.end()).await?;
            return Ok(Some((last, None)));
        };
        let (coder, part) = in_background(move || {
            let part = coder.push(&rows)?;
            Ok((coder, part))
        })
        .await?;
        Ok::<_, Error>(Some((part, Some((coder, batches)))))
    });
    let parts = parts.inspect_err(|error| {
        tracing::warn!(error = %error.message(), "a table broke off while it was sent");
    });
    Ok(Body::from_stream(parts.map_ok(Bytes::from)))
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A file on its way, each part of which is taken out when it is written.
enum Coder {
    Csv { begun: bool, schema: SchemaRef },
    Arrow(arrow_ipc::writer::StreamWriter<Vec<u8>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
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
            Form::Parquet => {
                let writer =
                    ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties(schema)));
                Self::Parquet(Box::new(
                    writer.map_err(|source| not_readable("Parquet", source))?,
                ))
            }
        })
    }

    fn push(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, Error> {
        Ok(match self {
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
            Self::Parquet(writer) => {
                let failed = |source| not_readable("Parquet", source);
                writer.write(rows).map_err(failed)?;
                if writer.in_progress_size() > GROUP_BYTES {
                    writer.flush().map_err(failed)?;
                }
                std::mem::take(writer.inner_mut())
            }
        })
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        Ok(match self {
            Self::Csv { begun: true, .. } => Vec::new(),
            Self::Csv { schema, begun } => Self::Csv {
                schema: schema.clone(),
                begun,
            }
            .push(&RecordBatch::new_empty(schema))?,
            Self::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?
            }
            Self::Parquet(writer) => writer
                .into_inner()
                .map_err(|source| not_readable("Parquet", source))?,
        })
    }
}

/// Fractions hardly repeat: a dictionary of them is made for nothing.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let floating = schema
        .fields()
        .iter()
        .filter(|f| f.data_type().is_floating());
    floating
        .fold(WriterProperties::builder(), |properties, field| {
            let path = ColumnPath::from(vec![field.name().clone()]);
            properties.set_column_dictionary_enabled(path, false)
        })
        .build()
}
