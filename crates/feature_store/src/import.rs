//! Files into tables: a Parquet or CSV file becomes an Iceberg table, or is appended to one.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_cast::CastOptions;
use arrow_cast::cast_with_options;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction as _, Transaction};
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{IcebergWriter as _, IcebergWriterBuilder as _};
use iceberg::{ErrorKind, TableCreation, TableIdent};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::catalog::{Catalogs, namespace};
use crate::data_file;
use crate::dtype::UTC;
use crate::error::Error;
use crate::memory;
use crate::table::TableRef;
use crate::unfinished::Unfinished;

/// How many rows of a CSV file its column types are told from.
const CSV_SAMPLE_ROWS: usize = 10_000;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Parquet,
    Csv,
}

/// What an import did.
#[derive(Debug, Clone)]
pub struct Imported {
    pub rows: u64,
    /// Whether the table was made by this import.
    pub created: bool,
    pub snapshot_id: i64,
    /// `name: type` of the table's columns.
    pub columns: Vec<(String, String)>,
}

impl Catalogs {
    /// Puts the rows of a file into a table, which is made when it is not there. All or nothing:
    /// the rows appear with one commit.
    ///
    /// # Errors
    /// When the file cannot be read or its columns do not fit an existing table.
    pub async fn import(
        &self,
        file: &Path,
        format: FileFormat,
        into: &TableRef,
    ) -> Result<Imported, Error> {
        self.append_source(Source::open(file, format)?, into).await
    }

    /// Puts rows into a table, which is made when it is not there. All or nothing.
    ///
    /// # Errors
    /// When their columns do not fit an existing table.
    pub(crate) async fn append(
        &self,
        into: &TableRef,
        rows: RecordBatch,
    ) -> Result<Imported, Error> {
        let schema = rows.schema();
        self.append_stream(into, schema, stream::iter([Ok(rows)]).boxed())
            .await
    }

    /// The same for rows that come one batch after the other.
    ///
    /// # Errors
    /// When their columns do not fit an existing table, or a batch fails.
    pub(crate) async fn append_stream(
        &self,
        into: &TableRef,
        schema: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch, Error>>,
    ) -> Result<Imported, Error> {
        let source = Source {
            schema: Arc::new(importable(&schema)?),
            batches,
        };
        self.append_source(source, into).await
    }

    async fn append_source(&self, source: Source, into: &TableRef) -> Result<Imported, Error> {
        into.check()?;
        let (table, created) = match self.table(into).await {
            Ok(table) => (table, false),
            Err(Error::UnknownTable { .. }) => match self.create(into, &source.schema).await {
                Ok(table) => (table, true),
                // Somebody else has made it meanwhile.
                Err(error) => (self.table(into).await.map_err(|_| error)?, false),
            },
            Err(error) => return Err(error),
        };
        self.append_to(&table, source, into, created).await
    }

    async fn append_to(
        &self,
        table: &Table,
        source: Source,
        into: &TableRef,
        created: bool,
    ) -> Result<Imported, Error> {
        if !table.metadata().default_partition_spec().is_unpartitioned() {
            return Err(Error::Unsupported(format!(
                "table {into} is partitioned; append to it with the engine that made it"
            )));
        }
        let target = target_schema(table)?;
        let plan = Plan::new(into, &source.schema, &target)?;
        let failed = || format!("the rows cannot be committed to {into}");
        let unfinished = Unfinished::new(table).map_err(Error::iceberg(failed()))?;
        let (rows, files) = write(table, source, &plan, &unfinished).await?;
        let transaction = Transaction::new(table);
        let append = transaction.fast_append().add_data_files(files);
        let transaction = append
            .apply(transaction)
            .map_err(Error::iceberg(failed()))?;
        let opened = self.opened(&into.catalog).await?;
        // Its token may have ended while the rows were written.
        let written = unfinished.keep();
        let committed = opened.twice(|| transaction.clone().commit(&*opened.catalog));
        let table = match committed.await {
            Ok(table) => table,
            Err(error) => {
                // After any other failure the table may have them.
                if error.kind() == ErrorKind::CatalogCommitConflicts {
                    written.remove().await;
                }
                return Err(Error::iceberg(failed())(error));
            }
        };
        let fields = table
            .metadata()
            .current_schema()
            .as_struct()
            .fields()
            .iter();
        Ok(Imported {
            rows,
            created,
            snapshot_id: table.metadata().current_snapshot_id().unwrap_or_default(),
            columns: fields
                .map(|f| (f.name.clone(), f.field_type.to_string()))
                .collect(),
        })
    }

    async fn create(&self, table: &TableRef, schema: &Schema) -> Result<Table, Error> {
        let failed = || format!("table {table} cannot be made");
        let opened = self.opened(&table.catalog).await?;
        let catalog = &opened.catalog;
        let namespace = namespace(table)?;
        let there = opened.twice(|| catalog.namespace_exists(&namespace)).await;
        if !there.map_err(Error::iceberg(failed()))? {
            let make = || catalog.create_namespace(&namespace, Default::default());
            if let Err(error) = opened.twice(make).await {
                // Somebody else may have made it meanwhile.
                let there = opened.twice(|| catalog.namespace_exists(&namespace)).await;
                if !there.is_ok_and(|there| there) {
                    return Err(Error::iceberg(failed())(error));
                }
            }
        }
        let schema = iceberg::arrow::arrow_schema_to_schema_auto_assign_ids(schema)
            .map_err(Error::iceberg(failed()))?;
        let ident = TableIdent::new(namespace.clone(), table.name.clone());
        let make = || {
            let creation = TableCreation::builder()
                .name(ident.name().to_owned())
                .schema(schema.clone());
            catalog.create_table(&namespace, creation.build())
        };
        let made = opened.twice(make).await;
        made.map_err(Error::iceberg(failed()))
    }
}

/// A file being read, in batches whose columns have types that Iceberg knows.
struct Source {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
}

impl Source {
    fn open(path: &Path, format: FileFormat) -> Result<Self, Error> {
        let file =
            File::open(path).map_err(Error::io(format!("cannot open {}", path.display())))?;
        match format {
            FileFormat::Parquet => Self::parquet(file),
            FileFormat::Csv => Self::csv(file),
        }
    }

    fn parquet(file: File) -> Result<Self, Error> {
        let failed = |source: parquet::errors::ParquetError| Error::File {
            format: "Parquet",
            source: Box::new(source),
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
        let schema = builder.schema().clone();
        let reader = builder.with_batch_size(8192).build().map_err(failed)?;
        Ok(Self {
            schema: Arc::new(importable(&schema)?),
            batches: in_file("Parquet", reader),
        })
    }

    fn csv(file: File) -> Result<Self, Error> {
        let failed = |source: ArrowError| Error::File {
            format: "CSV",
            source: Box::new(source),
        };
        let format = arrow_csv::reader::Format::default().with_header(true);
        let mut reader = BufReader::new(file);
        let (schema, _) = format
            .infer_schema(&mut reader, Some(CSV_SAMPLE_ROWS))
            .map_err(failed)?;
        reader
            .rewind()
            .map_err(Error::io("cannot read the file twice"))?;
        let schema = Arc::new(importable(&schema)?);
        let batches = arrow_csv::ReaderBuilder::new(schema.clone())
            .with_format(format)
            .build_buffered(reader)
            .map_err(failed)?;
        Ok(Self {
            schema,
            batches: in_file("CSV", batches),
        })
    }
}

fn in_file(
    format: &'static str,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
) -> BoxStream<'static, Result<RecordBatch, Error>> {
    let failed = move |source: ArrowError| Error::File {
        format,
        source: Box::new(source),
    };
    stream::iter(batches.map(move |batch| batch.map_err(failed))).boxed()
}

/// The columns of a file with types that Iceberg has; pandas' index columns are left out.
fn importable(schema: &Schema) -> Result<Schema, Error> {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .filter(|field| !field.name().starts_with("__index_level_"))
        .map(|field| Field::new(field.name(), iceberg_type(field.data_type()), true))
        .collect();
    if fields.is_empty() {
        return Err(Error::Invalid("the file has no columns".to_owned()));
    }
    Ok(Schema::new(fields))
}

/// The nearest type that Iceberg has.
fn iceberg_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Date64 => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| Arc::from(UTC)))
        }
        DataType::Dictionary(_, value) => iceberg_type(value),
        DataType::List(field) | DataType::LargeList(field) => {
            let item = Field::new("element", iceberg_type(field.data_type()), true);
            DataType::List(Arc::new(item))
        }
        other => other.clone(),
    }
}

fn target_schema(table: &Table) -> Result<SchemaRef, Error> {
    iceberg::arrow::schema_to_arrow_schema(table.metadata().current_schema())
        .map(Arc::new)
        .map_err(Error::iceberg("the table's columns cannot be written"))
}

/// Which column of the file goes into which column of the table.
struct Plan {
    target: SchemaRef,
    sources: Vec<Option<String>>,
}

impl Plan {
    fn new(table: &TableRef, source: &Schema, target: &SchemaRef) -> Result<Self, Error> {
        let names = || {
            target
                .fields()
                .iter()
                .map(|f| f.name().clone())
                .collect::<Vec<_>>()
        };
        for field in source.fields() {
            if target.field_with_name(field.name()).is_err() {
                return Err(Error::UnknownColumn {
                    table: Box::new(table.clone()),
                    column: field.name().clone(),
                    role: "a column of the file",
                    columns: names(),
                });
            }
        }
        let sources = target.fields().iter().map(|field| {
            let found = source.field_with_name(field.name()).is_ok();
            if !found && !field.is_nullable() {
                return Err(Error::Invalid(format!(
                    "the file has no column {:?}, which {table} requires",
                    field.name()
                )));
            }
            Ok(found.then(|| field.name().clone()))
        });
        Ok(Self {
            sources: sources.collect::<Result<_, _>>()?,
            target: target.clone(),
        })
    }

    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        // A value that does not fit must stop the import, not become null.
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let columns = self
            .target
            .fields()
            .iter()
            .zip(&self.sources)
            .map(|(field, source)| {
                let column = source
                    .as_deref()
                    .and_then(|name| batch.column_by_name(name));
                let Some(column) = column else {
                    return Ok(new_null_array(field.data_type(), batch.num_rows()));
                };
                cast_with_options(column, field.data_type(), &options).map_err(Error::value(
                    format!("column {:?} does not fit the table", field.name()),
                ))
            });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(self.target.clone(), columns)?)
    }
}

async fn write(
    table: &Table,
    mut source: Source,
    plan: &Plan,
    unfinished: &Unfinished,
) -> Result<(u64, Vec<iceberg::spec::DataFile>), Error> {
    let failed = || "the data file cannot be written".to_owned();
    let metadata = table.metadata();
    let first = source.batches.next().await.transpose()?;
    let sample = first.as_ref().map(|batch| plan.apply(batch)).transpose()?;
    let properties = data_file::properties(&plan.target, sample.as_ref())?;
    let parquet = ParquetWriterBuilder::new(properties, metadata.current_schema().clone());
    let (locations, names) = unfinished.places();
    let rolling = RollingFileWriterBuilder::new_with_default_file_size(
        parquet,
        table.file_io().clone(),
        locations,
        names,
    );
    let mut writer = DataFileWriterBuilder::new(rolling)
        .build(None)
        .await
        .map_err(Error::iceberg(failed()))?;
    let mut batches = stream::iter(first.map(Ok)).chain(source.batches);
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer
            .write(plan.apply(&batch)?)
            .await
            .map_err(Error::iceberg(failed()))?;
        // Reading the file does not wait for anything; let others run.
        tokio::task::yield_now().await;
    }
    if rows == 0 {
        return Err(Error::Invalid("there are no rows".to_owned()));
    }
    let files = writer.close().await.map_err(Error::iceberg(failed()))?;
    memory::give_back(files.iter().map(|file| file.file_size_in_bytes()).sum());
    Ok((rows, files))
}
