//! What can go wrong in the feature store.

use web::{ApiError, Code, FieldError};

use crate::dtype::Dtype;
use crate::table::TableRef;

/// A failure of the feature store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No catalog of that name is configured.
    #[error("there is no catalog {name:?}; there are: {}", known.join(", "))]
    UnknownCatalog { name: String, known: Vec<String> },
    /// The catalog has no such table.
    #[error(
        "table {table} does not exist; {}",
        there_is(tables, "the schema has no tables")
    )]
    UnknownTable {
        table: Box<TableRef>,
        tables: Vec<String>,
    },
    /// A column that the request names is not in the table.
    #[error("{table} has no column {column:?} ({role}); its columns are: {}", columns.join(", "))]
    UnknownColumn {
        table: Box<TableRef>,
        column: String,
        role: &'static str,
        columns: Vec<String>,
    },
    /// Nothing says which column holds the time of an event.
    #[error("{table}: {reason}")]
    NoTimestamp {
        table: Box<TableRef>,
        reason: String,
    },
    /// The declared type of a feature does not fit its column.
    #[error("feature {feature:?} is declared {declared} but column {column:?} of {table} is {actual}; that column can be read as {}", fitting.join(", "))]
    WrongType {
        table: Box<TableRef>,
        feature: String,
        column: String,
        declared: Dtype,
        actual: String,
        fitting: Vec<String>,
    },
    /// The request cannot be right whatever the tables hold.
    #[error("{0}")]
    Invalid(String),
    /// Fields of a request are refused.
    #[error("the request is refused: {}", .0.iter().map(|f| f.msg.as_str()).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldError>),
    /// A name that is not there.
    #[error("{kind} '{name}' not found; {}", there_is(known, "there are none yet"))]
    NotFound {
        kind: Kind,
        name: String,
        project: String,
        known: Vec<String>,
    },
    /// A feature that its view does not have.
    #[error("feature view '{view}' has no feature {feature:?}; it has: {}", known.join(", "))]
    UnknownFeature {
        view: String,
        feature: String,
        known: Vec<String>,
    },
    /// A table that a data set would be written over.
    #[error("table {0} exists already")]
    TableExists(Box<TableRef>),
    /// The caller may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// A name that is taken by a different definition.
    #[error("{kind} '{name}' exists already with another definition")]
    Exists { kind: Kind, name: String },
    /// A view that something else still uses.
    #[error("{0}")]
    InUse(String),
    /// Something else is doing it.
    #[error("{0}")]
    Busy(String),
    /// The values of a view were removed while others were on their way to them.
    #[error(
        "the online values of feature view '{view}' were removed while these were on their way: it was deleted, or has other join keys now"
    )]
    RemovedMeanwhile { view: String },
    /// It cannot be done now, but later.
    #[error("{what}")]
    Later { what: String, help: &'static str },
    /// A part of Feast that asgard does not have.
    #[error("{0}")]
    Unsupported(String),
    /// A value that an on-demand feature view takes of the request is not there.
    #[error(
        "on-demand feature view '{view}' takes {name:?}, which the rows of the request do not have"
    )]
    RequestData { view: String, name: String },
    /// The function of an on-demand feature view failed.
    #[error("on-demand feature view '{view}': {what}")]
    Transform {
        view: String,
        what: String,
        help: Option<&'static str>,
    },
    /// The Python environment of on-demand feature views cannot be made.
    #[error("the Python environment of on-demand feature views cannot be made")]
    Environment(#[source] Box<environments::Error>),
    /// A worker could not be started.
    #[error("the worker of an on-demand feature view cannot be started")]
    Sandbox(#[source] Box<sandbox::Error>),
    /// A value does not fit the type it must become.
    #[error("{what}")]
    Value {
        what: String,
        source: arrow_schema::ArrowError,
    },
    /// A file to import cannot be read.
    #[error("the file cannot be read as {format}")]
    File {
        format: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The catalog or its storage failed.
    #[error("{what}")]
    Iceberg {
        what: String,
        source: Box<iceberg::Error>,
    },
    /// Arrow refused data that asgard itself made.
    #[error("columnar data cannot be put together")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A protobuf message cannot be read.
    #[error("the message is not the protobuf it should be")]
    Protobuf(#[from] prost::DecodeError),
    /// The disk failed.
    #[error("{what}")]
    Io {
        what: String,
        source: std::io::Error,
    },
    /// The file of the online store failed.
    #[error("{what}")]
    Online {
        what: String,
        source: Option<Box<redb::Error>>,
    },
    /// The shared online store does not answer.
    #[error("the online store at {address} {}", away(source.as_ref(), *within))]
    OnlineAway {
        address: String,
        within: std::time::Duration,
        source: Option<redis::RedisError>,
    },
    /// What the online store knows of a view cannot be read.
    #[error("what the online store keeps of feature view '{view}' cannot be read: {why}")]
    OnlineEntry { view: String, why: String },
    /// The catalog's database failed.
    #[error("the database of catalog {catalog:?} does not answer")]
    CatalogDatabase {
        catalog: String,
        source: sqlx::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] db::Error),
}

/// The kinds of definitions, as messages name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Entity,
    FeatureView,
    FeatureService,
    DataSource,
    Project,
    /// Everything that is kept but that asgard does not compute.
    Other(&'static str),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Entity => "Entity",
            Self::FeatureView => "Feature view",
            Self::FeatureService => "Feature service",
            Self::DataSource => "Data source",
            Self::Project => "Project",
            Self::Other("on_demand_feature_view") => "On-demand feature view",
            Self::Other("stream_feature_view") => "Stream feature view",
            Self::Other("label_view") => "Label view",
            Self::Other("saved_dataset") => "Saved dataset",
            Self::Other("validation_reference") => "Validation reference",
            Self::Other("permission") => "Permission",
            Self::Other(name) => name,
        })
    }
}

fn away(cause: Option<&redis::RedisError>, within: std::time::Duration) -> String {
    match cause {
        Some(cause) => format!("cannot be used: {cause}"),
        None => format!("does not answer within {} seconds", within.as_secs_f64()),
    }
}

fn there_is(names: &[String], none: &str) -> String {
    if names.is_empty() {
        none.to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

impl Error {
    pub(crate) fn iceberg(what: impl Into<String>) -> impl FnOnce(iceberg::Error) -> Self {
        let what = what.into();
        move |source| Self::Iceberg {
            what,
            source: Box::new(source),
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn online(what: impl Into<String>) -> impl FnOnce(redb::Error) -> Self {
        let what = what.into();
        move |source| Self::Online {
            what,
            source: Some(Box::new(source)),
        }
    }

    /// A load that ends with its server.
    pub(crate) fn stopping() -> Self {
        Self::Later {
            what: "the server stops, and the load with it".to_owned(),
            help: "ask again when it is back: what was written stays, and nothing is written twice",
        }
    }

    /// A write to the online values of a view (`PROJECT/VIEW`) that are not there any more.
    pub(crate) fn removed_meanwhile(view: &str) -> Self {
        Self::RemovedMeanwhile {
            view: view.rsplit('/').next().unwrap_or(view).to_owned(),
        }
    }

    /// A read that names neither features nor a service, or both.
    pub(crate) fn too_many_in_json(most: usize) -> Self {
        Self::Invalid(format!(
            "there are more than {most} rows between these times: ask for format parquet, arrow or csv, or for a shorter span"
        ))
    }

    pub(crate) fn nothing_asked() -> Self {
        Self::Invalid("give either features, a list of VIEW:FEATURE, or feature_service".to_owned())
    }

    /// A read whose answer would have a column twice.
    pub(crate) fn same_name(name: &str) -> Self {
        Self::Invalid(format!(
            "two features would be called {name:?}; ask for full_feature_names"
        ))
    }

    pub(crate) fn value(what: impl Into<String>) -> impl FnOnce(arrow_schema::ArrowError) -> Self {
        let what = what.into();
        move |source| Self::Value { what, source }
    }

    /// The kind of error, for whoever answers it.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } | Self::UnknownTable { .. } => Code::NotFound,
            Self::Exists { .. } | Self::TableExists(_) => Code::AlreadyExists,
            Self::Forbidden(_) => Code::Forbidden,
            Self::Fields(_) | Self::Transform { .. } => Code::Unprocessable,
            Self::Environment(error) if error.is_invalid_request() => Code::Unprocessable,
            Self::Environment(_)
            | Self::Sandbox(_)
            | Self::OnlineEntry { .. }
            | Self::Later { .. }
            | Self::OnlineAway { .. } => Code::Unavailable,
            Self::InUse(_) | Self::Busy(_) | Self::RemovedMeanwhile { .. } => Code::Conflict,
            Self::UnknownCatalog { .. }
            | Self::UnknownColumn { .. }
            | Self::UnknownFeature { .. }
            | Self::NoTimestamp { .. }
            | Self::WrongType { .. }
            | Self::Invalid(_)
            | Self::RequestData { .. }
            | Self::Value { .. }
            | Self::File { .. }
            | Self::Protobuf(_) => Code::Invalid,
            Self::Unsupported(_) => Code::NotImplemented,
            Self::Iceberg { source, .. } => crate::catalog::code_of(source),
            Self::CatalogDatabase { .. } => Code::Unavailable,
            Self::Db(error) if error.is_full() => Code::InsufficientStorage,
            Self::Db(error) if error.is_refused_text() => Code::Invalid,
            Self::Db(error) if error.is_unavailable() => Code::Unavailable,
            _ if self.is_full() => Code::InsufficientStorage,
            Self::Arrow(_) | Self::Io { .. } | Self::Db(_) | Self::Online { .. } => Code::Internal,
        }
    }

    /// Whether the disk has no room left, of what is no catalog's or database's.
    fn is_full(&self) -> bool {
        let io = match self {
            Self::Io { source, .. } => Some(source),
            Self::Online { source, .. } => match source.as_deref() {
                Some(redb::Error::Io(source)) => Some(source),
                _ => None,
            },
            _ => None,
        };
        io.is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
    }

    /// Whether the same request may be answered a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Later { .. } | Self::OnlineAway { .. } | Self::CatalogDatabase { .. } => true,
            Self::Db(error) => error.is_unavailable(),
            _ => false,
        }
    }

    /// What to do next.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::UnknownCatalog { .. } => {
                "add it under [feature_store.catalogs] in asgard.toml".to_owned()
            }
            Self::UnknownTable { table, .. } => format!(
                "feature views read Iceberg tables that exist; make this one from a file: POST the file to /feast/tables/{}/{} (text/csv or application/vnd.apache.parquet)",
                table.schema, table.name
            ),
            Self::NoTimestamp { .. } => "name the column in source.timestamp_field".to_owned(),
            Self::NotFound {
                kind: Kind::FeatureView,
                ..
            } => "GET /feast/features lists the feature views, POST /feast/features creates one"
                .to_owned(),
            Self::Iceberg { source, .. } => return crate::catalog::help(source).map(str::to_owned),
            Self::CatalogDatabase { catalog, .. } => {
                format!("see that its database runs, and feature_store.catalogs.{catalog}.uri")
            }
            Self::OnlineAway { .. } => {
                "see whether it runs and whether feature_store.redis_url is right; what was answered is kept there, and asking again writes nothing twice"
                    .to_owned()
            }
            Self::OnlineEntry { view, .. } => format!(
                "a newer asgard wrote it, or it is damaged: start that version again; or delete the view (DELETE /feast/features/{}), define it again and materialize it",
                view.rsplit('/').next().unwrap_or(view)
            ),
            Self::Transform { help, .. } => (*help)?.to_owned(),
            Self::Later { help, .. } => (*help).to_owned(),
            Self::Environment(error) => error.help()?.to_owned(),
            Self::Sandbox(error) => error.help()?.to_owned(),
            Self::RequestData { name, .. } => {
                format!("send {name:?} as a column of the entity rows")
            }
            Self::TableExists(_) => {
                "give another path, or allow_overwrite=True to put the new rows in its place"
                    .to_owned()
            }
            Self::Busy(_) => "wait until it is done; nothing is lost by asking again".to_owned(),
            Self::RemovedMeanwhile { .. } => {
                "send it again if the view is still there: it is taken by what the view is now".to_owned()
            }
            Self::Exists {
                kind: Kind::FeatureView,
                ..
            } => "PUT /feast/features/NAME changes it; or choose another name".to_owned(),
            Self::Exists { .. } => "delete it first, or choose another name".to_owned(),
            _ => return None,
        })
    }

    /// The message with its causes, where they tell the caller something.
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        if let Self::Iceberg { source, .. } = self {
            return format!("{text}: {}", crate::catalog::explain(source));
        }
        if matches!(
            self,
            Self::Value { .. }
                | Self::File { .. }
                | Self::Protobuf(_)
                | Self::Environment(_)
                | Self::Sandbox(_)
        ) {
            let mut source = std::error::Error::source(self);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
        }
        text
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if let Error::Fields(fields) = error {
            return Self::fields(fields);
        }
        let code = error.code();
        if code == Code::Internal {
            return Self::internal(&error);
        }
        if code == Code::InsufficientStorage {
            return Self::storage_full(&error);
        }
        if code == Code::Invalid && matches!(error, Error::Db(_)) {
            return Self::nul();
        }
        let mut api = Self::new(code, error.message());
        if error.may_pass() {
            api = api.retry_after(1);
        }
        match error.help() {
            Some(help) => api.help(help),
            None => api,
        }
    }
}
