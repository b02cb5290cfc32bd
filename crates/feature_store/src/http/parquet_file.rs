//! A Parquet file that is sent while it is written, its columns coded side by side.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::form::not_readable;
use crate::cores::on_all_cores;
use crate::error::Error;

/// How much of a file is kept until its row group is written, and of how many rows: what repeats
/// takes few bytes however long it is, and who reads the file has a whole group in memory.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
const GROUP_ROWS: usize = 1_048_576;

/// A file on its way: what is written of it is taken out at once.
pub(super) struct ParquetFile {
    writer: SerializedFileWriter<Vec<u8>>,
    groups: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    group: Option<Group>,
    group_rows: usize,
}

/// A row group that is being filled: of each column the writers of its leaves.
type Group = Arc<Vec<Mutex<Vec<ArrowColumnWriter>>>>;

impl ParquetFile {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Error> {
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties(schema)));
        let (writer, groups) = writer
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(failed)?;
        Ok(Self {
            writer,
            groups,
            schema: schema.clone(),
            group: None,
            group_rows: 0,
        })
    }

    /// Takes rows; gives what is written so far.
    pub(super) async fn push(&mut self, rows: RecordBatch) -> Result<Vec<u8>, Error> {
        if rows.num_rows() > 0 {
            let group = match &self.group {
                Some(group) => group.clone(),
                None => self.begin()?,
            };
            let columns = group.len();
            self.group_rows += rows.num_rows();
            let sizes = on_all_cores(columns, move |column| code(&group, &rows, column)).await?;
            let bytes: usize = sizes.into_iter().sum();
            if bytes > GROUP_BYTES || self.group_rows >= GROUP_ROWS {
                self.flush().await?;
            }
        }
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    /// Gives the rest of the file.
    pub(super) async fn end(mut self) -> Result<Vec<u8>, Error> {
        self.flush().await?;
        self.writer.into_inner().map_err(failed)
    }

    fn begin(&mut self) -> Result<Group, Error> {
        let number = self.writer.flushed_row_groups().len();
        let leaves = self.groups.create_column_writers(number).map_err(failed)?;
        let mut columns: Vec<Vec<ArrowColumnWriter>> = Vec::new();
        columns.resize_with(self.schema.fields().len(), Vec::new);
        for (number, leaf) in leaves.into_iter().enumerate() {
            let column = self.writer.schema_descr().get_column_root_idx(number);
            columns[column].push(leaf);
        }
        let group: Group = Arc::new(columns.into_iter().map(Mutex::new).collect());
        self.group = Some(group.clone());
        Ok(group)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let Some(group) = self.group.take() else {
            return Ok(());
        };
        self.group_rows = 0;
        let columns = group.len();
        let chunks = on_all_cores(columns, move |column| close(&group, column)).await?;
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for chunk in chunks.into_iter().flatten() {
            chunk.append_to_row_group(&mut group).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        Ok(())
    }
}

/// Codes a column of rows; gives the size of what is kept of it by now.
fn code(group: &Group, rows: &RecordBatch, column: usize) -> Result<usize, Error> {
    let mut writers = group[column].lock().unwrap_or_else(PoisonError::into_inner);
    let schema = rows.schema();
    let leaves = compute_leaves(schema.field(column), rows.column(column)).map_err(failed)?;
    let mut size = 0;
    for (writer, leaf) in writers.iter_mut().zip(&leaves) {
        writer.write(leaf).map_err(failed)?;
        size += writer.memory_size();
    }
    Ok(size)
}

fn close(group: &Group, column: usize) -> Result<Vec<ArrowColumnChunk>, Error> {
    let mut writers = group[column].lock().unwrap_or_else(PoisonError::into_inner);
    let chunks = std::mem::take(&mut *writers).into_iter();
    let chunks = chunks.map(|writer| writer.close().map_err(failed));
    chunks.collect()
}

fn failed(source: ParquetError) -> Error {
    not_readable("Parquet", source)
}

/// A column whose values do not repeat is coded without a dictionary as soon as that is seen.
const DICTIONARY_BYTES: usize = 64 * 1024;

/// Fractions hardly repeat: a dictionary of them is made for nothing.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let floating = schema
        .fields()
        .iter()
        .filter(|f| f.data_type().is_floating());
    let properties = WriterProperties::builder().set_dictionary_page_size_limit(DICTIONARY_BYTES);
    floating
        .fold(properties, |properties, field| {
            let path = ColumnPath::from(vec![field.name().clone()]);
            properties.set_column_dictionary_enabled(path, false)
        })
        .build()
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, ListArray, StringArray, StructArray, types::Int64Type};
    use arrow_schema::Schema;
    use arrow_select::concat::concat_batches;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    async fn file(schema: &SchemaRef, batches: &[RecordBatch]) -> bytes::Bytes {
        let mut file = ParquetFile::new(schema).unwrap();
        let mut bytes = Vec::new();
        for rows in batches {
            bytes.extend(file.push(rows.clone()).await.unwrap());
        }
        bytes.extend(file.end().await.unwrap());
        bytes.into()
    }

    async fn written(schema: &SchemaRef, batches: &[RecordBatch]) -> RecordBatch {
        let bytes = file(schema, batches).await;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        concat_batches(schema, &read).unwrap()
    }

    #[tokio::test]
    async fn rows_that_are_all_the_same_are_in_groups_of_so_many() {
        let same: ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![7; 65_536]));
        let rows = RecordBatch::try_from_iter([("same", same)]).unwrap();
        let bytes = file(&rows.schema(), &vec![rows; 40]).await;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        let groups = reader.metadata().row_groups().iter();
        let groups: Vec<i64> = groups.map(|group| group.num_rows()).collect();
        assert_eq!(groups, [1_048_576, 1_048_576, 524_288]);
    }

    #[tokio::test]
    async fn columns_of_all_kinds_and_several_groups_come_back_as_they_went() {
        let rows = 100_000_usize;
        let names = (0..rows).map(|n| (!n.is_multiple_of(7)).then(|| format!("name {n}")));
        let names: ArrayRef = Arc::new(names.collect::<StringArray>());
        let list = |n: usize| (!n.is_multiple_of(3)).then(|| vec![Some(n as i64), None]);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..rows).map(list));
        let shares = (0..rows).map(|n| n as f64 / 3.0);
        let shares: ArrayRef = Arc::new(arrow_array::Float64Array::from_iter_values(shares));
        let both = StructArray::try_from(vec![("a", names.clone()), ("b", shares.clone())]);
        let columns: [(&str, ArrayRef); 4] = [
            ("both", Arc::new(both.unwrap())),
            ("name", names),
            ("list", Arc::new(lists)),
            ("share", shares),
        ];
        let all = RecordBatch::try_from_iter(columns).unwrap();
        let (one, other) = (all.slice(0, 60_000), all.slice(60_000, 40_000));
        assert_eq!(written(&all.schema(), &[one, other]).await, all);
        let none = RecordBatch::new_empty(all.schema());
        assert_eq!(
            written(&all.schema(), std::slice::from_ref(&none)).await,
            none
        );
        let empty: SchemaRef = Arc::new(Schema::empty());
        ParquetFile::new(&empty).unwrap();
    }
}
