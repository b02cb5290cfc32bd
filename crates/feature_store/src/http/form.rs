//! The forms in which tables come and go: JSON, CSV, Parquet, Arrow.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_csv::reader::Format;
use arrow_schema::{ArrowError, Schema};
use arrow_select::concat::concat_batches;
use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use web::{ApiError, Code};

use crate::answers::bytes_of;
use crate::error::Error;
use crate::offline::{Held, UPLOAD_LIMIT};
use crate::stream;

/// How many bytes a table may take once it is unpacked: a small file can hold a great deal of
/// what is all the same.
const UNPACKED_LIMIT: usize = UPLOAD_LIMIT;

/// The forms of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Csv,
    Parquet,
    Arrow,
}

const FORMS: [(Form, &str, &str); 4] = [
    (Form::Json, "json", "application/json"),
    (Form::Csv, "csv", "text/csv"),
    (Form::Parquet, "parquet", "application/vnd.apache.parquet"),
    (Form::Arrow, "arrow", "application/vnd.apache.arrow.stream"),
];

impl Form {
    pub(super) fn named(name: &str) -> Result<Self, Error> {
        let found = FORMS
            .iter()
            .find(|(_, n, _)| *n == name)
            .map(|(form, ..)| *form);
        found.ok_or_else(|| {
            Error::Invalid(format!(
                "format {name:?} is none of json, csv, parquet, arrow"
            ))
        })
    }

    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let value = headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        let value = value
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let found = FORMS
            .iter()
            .find(|(.., kind)| *kind == value)
            .map(|(form, ..)| *form);
        found.ok_or_else(|| {
            let kinds = FORMS.map(|(.., kind)| kind).join(", ");
            ApiError::new(
                Code::UnsupportedMediaType,
                format!("the content type {value:?} is none of {kinds}"),
            )
        })
    }

    pub(super) fn media_type(self) -> &'static str {
        FORMS
            .iter()
            .find(|(form, ..)| *form == self)
            .map_or("", |(.., kind)| kind)
    }

    /// The table in a body of this form, whose memory it is to hold from then on.
    ///
    /// # Errors
    /// [`Error::File`] when it is not of this form, [`Error::Invalid`] when it is too large,
    /// [`Error::Later`] when others hold all the memory.
    pub(super) fn read(self, body: Bytes, held: &Held) -> Result<RecordBatch, Error> {
        let name = FORMS.iter().find(|(form, ..)| *form == self);
        let name = name.map_or("", |(_, name, _)| name);
        let damaged = || not_readable(name, ArrowError::ParseError("it is damaged".to_owned()));
        stream::decoded(|| self.decode(body, held), damaged)
    }

    fn decode(self, body: Bytes, held: &Held) -> Result<RecordBatch, Error> {
        match self {
            Self::Parquet => {
                let failed = |source| not_readable("Parquet", source);
                let builder = ParquetRecordBatchReaderBuilder::try_new(body).map_err(failed)?;
                let schema = builder.schema().clone();
                let reader = builder.build().map_err(failed)?;
                gather("Parquet", schema, reader, held)
            }
            Self::Arrow => {
                let form = "an Arrow stream";
                stream::rows(&body).map_err(|source| not_readable(form, source))?;
                let reader = arrow_ipc::reader::StreamReader::try_new(Cursor::new(body), None)
                    .map_err(|source| not_readable(form, source))?;
                gather(form, reader.schema(), reader, held)
            }
            Self::Csv | Self::Json => {
                let failed = |source| not_readable("CSV", source);
                let format = Format::default().with_header(true);
                let (schema, _) = format
                    .infer_schema(Cursor::new(&body), None)
                    .map_err(failed)?;
                let schema = Arc::new(schema);
                let reader = arrow_csv::ReaderBuilder::new(schema.clone())
                    .with_format(format)
                    .build(Cursor::new(&body))
                    .map_err(failed)?;
                gather("CSV", schema, reader, held)
            }
        }
    }
}

pub(super) fn not_readable<E: std::error::Error + Send + Sync + 'static>(
    format: &'static str,
    source: E,
) -> Error {
    Error::File {
        format,
        source: Box::new(source),
    }
}

fn gather(
    form: &'static str,
    schema: Arc<Schema>,
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    held: &Held,
) -> Result<RecordBatch, Error> {
    let mut batches = Vec::new();
    let (mut bytes, mut rows) = (0, 0);
    for batch in reader {
        let batch = batch.map_err(|source| not_readable(form, source))?;
        rows += batch.num_rows();
        stream::few_enough(rows)?;
        bytes += bytes_of(&batch);
        if bytes > UNPACKED_LIMIT {
            return Err(Error::Invalid(
                "the table takes more than 512 MiB once it is unpacked: send it in parts"
                    .to_owned(),
            ));
        }
        // There are two of it in the end, for a moment.
        held.keep(2 * bytes)?;
        batches.push(batch);
    }
    let table = concat_batches(&schema, &batches)?;
    drop(batches);
    held.keep(bytes)?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, NullArray};

    use super::*;
    use crate::offline::Uploads;
    use crate::stream::MOST_ROWS;
    use crate::stream::testing::{announcing, written};

    fn held() -> Arc<Held> {
        Uploads::default().begin()
    }

    #[test]
    fn a_body_that_announces_more_than_it_has_is_refused() {
        let refused = Form::Arrow
            .read(announcing(1 << 46).into(), &held())
            .unwrap_err();
        assert!(
            refused.message().contains("more than there are"),
            "{refused}"
        );
    }

    #[test]
    fn rows_without_bytes_are_counted() {
        let column: ArrayRef = Arc::new(NullArray::new(MOST_ROWS));
        let batch = RecordBatch::try_from_iter([("event_timestamp", column)]).unwrap();
        let once = || Ok(batch.clone());
        assert!(gather("Parquet", batch.schema(), [once()].into_iter(), &held()).is_ok());
        let twice = [once(), once()].into_iter();
        let refused = gather("Parquet", batch.schema(), twice, &held()).unwrap_err();
        assert!(refused.message().contains("50000000 rows"), "{refused}");
        let large = batch.schema();
        let column: ArrayRef = Arc::new(NullArray::new(MOST_ROWS + 1));
        let large = RecordBatch::try_new(large, vec![column]).unwrap();
        assert!(Form::Arrow.read(written(&large).into(), &held()).is_err());
    }
}
