//! AWS Glue as a catalog: its JSON calls, signed here. `aws-sdk-glue` and what it needs would be
//! more crates to build than everything that this one call protocol takes.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws::{Address, Call, sign};
use iceberg::io::{FileIO, FileIOBuilder};
use iceberg::spec::{TableMetadata, TableMetadataBuilder};
use iceberg::table::Table;
use iceberg::{
    Catalog, Error, ErrorKind, MetadataLocation, Namespace, NamespaceIdent, Result, Runtime,
    TableCommit, TableCreation, TableIdent,
};
use object_store::aws::AmazonS3;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::files::Files;
use super::glue_table;
use super::settings::CatalogConfig;

/// A Glue data catalog of one account and region.
#[derive(Debug)]
pub(super) struct Glue {
    http: reqwest::Client,
    endpoint: reqwest::Url,
    region: String,
    /// The account's number, where it is another one than the credentials'.
    catalog_id: Option<String>,
    warehouse: Option<String>,
    /// Nothing is read by it: it has the credentials, and renews them.
    credentials: AmazonS3,
    files: FileIO,
    runtime: Runtime,
}

impl Glue {
    /// Nothing is asked of Glue yet.
    ///
    /// # Errors
    /// Says which setting or variable is wrong.
    pub(super) fn open(
        name: &str,
        config: &CatalogConfig,
        files: Files,
    ) -> std::result::Result<Self, crate::Error> {
        let invalid = |cause: aws::Cause| crate::Error::Invalid(cause.to_string());
        let settings = config.s3(name);
        let variables = &files.place().variables;
        let region = Address::of(&settings, variables).map_err(invalid)?.region;
        // The bucket's name does not matter: only the credentials are used.
        let credentials = aws::client(&settings, variables, "glue", None).map_err(invalid)?;
        let endpoint = config.glue_endpoint(name, &region, variables)?;
        let warehouse = config.warehouse.trim_end_matches('/');
        Ok(Self {
            http: super::http_client()?,
            endpoint,
            region,
            catalog_id: config.name.clone(),
            warehouse: (!warehouse.is_empty()).then(|| warehouse.to_owned()),
            credentials,
            files: FileIOBuilder::new(Arc::new(files)).build(),
            runtime: Runtime::current(),
        })
    }

    /// One call; an answer that is a refusal becomes an error with the kind that `refused` gives
    /// its name.
    async fn call(
        &self,
        operation: &str,
        mut body: Value,
        refused: fn(&str) -> ErrorKind,
    ) -> Result<Value> {
        if let Some(id) = &self.catalog_id {
            body["CatalogId"] = json!(id);
        }
        let keys = aws::credentials(&self.credentials).await.map_err(|e| {
            Error::new(ErrorKind::Unexpected, "there are no AWS credentials").with_source(e)
        })?;
        let host = self.endpoint.host_str().unwrap_or_default();
        let host = match self.endpoint.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let target = format!("AWSGlue.{operation}");
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target.as_str()),
        ];
        let body = body.to_string();
        let call = Call {
            host: &host,
            service: "glue",
            region: &self.region,
            headers: &headers,
            body: &body,
        };
        let mut request = self.http.post(self.endpoint.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in sign(&call, &keys, OffsetDateTime::now_utc()) {
            request = request.header(name, value);
        }
        let answer = request.body(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() {
            return Ok(serde_json::from_str(&text)?);
        }
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let kind = said["__type"].as_str().unwrap_or_default();
        let kind = refused(kind.rsplit('#').next().unwrap_or_default());
        // As the REST client's errors are, so that both are explained alike.
        let error = Error::new(kind, "Glue refuses the call")
            .with_context("status", status.as_u16().to_string())
            .with_context("json", text);
        Err(error.with_retryable(kind == ErrorKind::CatalogCommitConflicts))
    }

    /// All pages of a list.
    async fn pages(
        &self,
        operation: &str,
        body: Value,
        list: &str,
        refused: fn(&str) -> ErrorKind,
    ) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut body = body;
        loop {
            let mut page = self.call(operation, body.clone(), refused).await?;
            if let Some(Value::Array(items)) = page.get_mut(list).map(Value::take) {
                all.extend(items);
            }
            match page.get("NextToken").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => body["NextToken"] = json!(next),
                _ => return Ok(all),
            }
        }
    }

    /// The entry of a table that is Iceberg's.
    async fn entry(&self, table: &TableIdent) -> Result<Value> {
        let body = json!({"DatabaseName": database(table.namespace())?, "Name": table.name()});
        let mut found = self.call("GetTable", body, table_errors).await?;
        let entry = found["Table"].take();
        if glue_table::is_iceberg(&entry) {
            return Ok(entry);
        }
        let text = format!("table {table} of Glue is not an Iceberg table");
        Err(Error::new(ErrorKind::DataInvalid, text))
    }

    async fn read(&self, table: &TableIdent, entry: &Value) -> Result<Table> {
        let location = glue_table::metadata_location(entry).ok_or_else(|| {
            let text = format!("table {table} of Glue names no metadata file");
            Error::new(ErrorKind::DataInvalid, text)
        })?;
        let metadata = TableMetadata::read_from(&self.files, location).await?;
        self.table(table, metadata, location)
    }

    fn table(&self, table: &TableIdent, metadata: TableMetadata, at: &str) -> Result<Table> {
        Table::builder()
            .file_io(self.files.clone())
            .metadata_location(at)
            .metadata(metadata)
            .identifier(table.clone())
            .runtime(self.runtime.clone())
            .build()
    }

    /// Where a new table goes: below its database's place, or below the warehouse.
    async fn location(&self, namespace: &NamespaceIdent, table: &str) -> Result<String> {
        let body = json!({"Name": database(namespace)?});
        let found = self.call("GetDatabase", body, database_errors).await?;
        if let Some(place) = found["Database"]["LocationUri"].as_str()
            && !place.is_empty()
        {
            return Ok(format!("{}/{table}", place.trim_end_matches('/')));
        }
        let warehouse = self.warehouse.as_ref().ok_or_else(|| {
            let text =
                "neither the database of Glue nor the setting warehouse says where new tables go";
            Error::new(ErrorKind::DataInvalid, text)
        })?;
        // As pyiceberg and Spark lay it out.
        Ok(format!("{warehouse}/{}.db/{table}", database(namespace)?))
    }
}

/// A database of Glue has one level.
fn database(namespace: &NamespaceIdent) -> Result<&str> {
    match namespace.as_ref().as_slice() {
        [name] => Ok(name),
        _ => Err(Error::new(
            ErrorKind::NamespaceNotFound,
            "schemas of Glue have one level",
        )),
    }
}

fn database_errors(name: &str) -> ErrorKind {
    match name {
        "EntityNotFoundException" => ErrorKind::NamespaceNotFound,
        "AlreadyExistsException" => ErrorKind::NamespaceAlreadyExists,
        _ => ErrorKind::Unexpected,
    }
}

fn table_errors(name: &str) -> ErrorKind {
    match name {
        "EntityNotFoundException" => ErrorKind::TableNotFound,
        "AlreadyExistsException" => ErrorKind::TableAlreadyExists,
        "ConcurrentModificationException" => ErrorKind::CatalogCommitConflicts,
        _ => ErrorKind::Unexpected,
    }
}

fn unsupported<T>(what: &str) -> Result<T> {
    let text = format!("{what} is not done through asgard");
    Err(Error::new(ErrorKind::FeatureUnsupported, text))
}

#[async_trait]
impl Catalog for Glue {
    async fn list_namespaces(
        &self,
        parent: Option<&NamespaceIdent>,
    ) -> Result<Vec<NamespaceIdent>> {
        if parent.is_some() {
            return Ok(Vec::new());
        }
        let list = self.pages("GetDatabases", json!({}), "DatabaseList", database_errors);
        let databases = list.await?;
        let names = databases.iter().filter_map(|d| d["Name"].as_str());
        Ok(names
            .map(|name| NamespaceIdent::new(name.to_owned()))
            .collect())
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<Namespace> {
        let input = json!({"Name": database(namespace)?, "Parameters": properties});
        let body = json!({"DatabaseInput": input});
        self.call("CreateDatabase", body, database_errors).await?;
        Ok(Namespace::with_properties(namespace.clone(), properties))
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> Result<Namespace> {
        let body = json!({"Name": database(namespace)?});
        self.call("GetDatabase", body, database_errors).await?;
        Ok(Namespace::new(namespace.clone()))
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        match self.get_namespace(namespace).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NamespaceNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let body = json!({"DatabaseName": database(namespace)?});
        let list = self.pages("GetTables", body, "TableList", database_errors);
        let tables = list.await?;
        let tables = tables.iter().filter(|entry| glue_table::is_iceberg(entry));
        let names = tables.filter_map(|entry| entry["Name"].as_str());
        Ok(names
            .map(|name| TableIdent::new(namespace.clone(), name.to_owned()))
            .collect())
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        creation: TableCreation,
    ) -> Result<Table> {
        let table = TableIdent::new(namespace.clone(), creation.name.clone());
        let location = match &creation.location {
            Some(location) => location.clone(),
            None => self.location(namespace, table.name()).await?,
        };
        let creation = TableCreation {
            location: Some(location.clone()),
            ..creation
        };
        let built = TableMetadataBuilder::from_table_creation(creation)?.build()?;
        let metadata = built.metadata;
        let at = MetadataLocation::new_with_metadata(location, &metadata);
        metadata.write_to(&self.files, &at).await?;
        let at = at.to_string();
        let input = glue_table::input(table.name(), &metadata, &at, None);
        let body = json!({"DatabaseName": database(namespace)?, "TableInput": input});
        self.call("CreateTable", body, table_errors).await?;
        self.table(&table, metadata, &at)
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        let entry = self.entry(table).await?;
        self.read(table, &entry).await
    }

    async fn table_exists(&self, table: &TableIdent) -> Result<bool> {
        match self.entry(table).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::TableNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn update_table(&self, commit: TableCommit) -> Result<Table> {
        let table = commit.identifier().clone();
        let entry = self.entry(&table).await?;
        let staged = commit.apply(self.read(&table, &entry).await?)?;
        let at = staged.metadata_location_result()?.to_owned();
        staged
            .metadata()
            .write_to(staged.file_io(), &at.parse()?)
            .await?;
        let input = glue_table::input(table.name(), staged.metadata(), &at, Some(&entry));
        let body = json!({
            "DatabaseName": database(table.namespace())?,
            "TableInput": input,
            "SkipArchive": true,
            // Glue refuses when somebody else has written since the entry was read.
            "VersionId": entry["VersionId"],
        });
        self.call("UpdateTable", body, table_errors).await?;
        Ok(staged)
    }

    async fn update_namespace(&self, _: &NamespaceIdent, _: HashMap<String, String>) -> Result<()> {
        unsupported("changing a schema")
    }

    async fn drop_namespace(&self, _: &NamespaceIdent) -> Result<()> {
        unsupported("dropping a schema")
    }

    async fn drop_table(&self, _: &TableIdent) -> Result<()> {
        unsupported("dropping a table")
    }

    async fn purge_table(&self, _: &TableIdent) -> Result<()> {
        unsupported("dropping a table")
    }

    async fn rename_table(&self, _: &TableIdent, _: &TableIdent) -> Result<()> {
        unsupported("renaming a table")
    }

    async fn register_table(&self, _: &TableIdent, _: String) -> Result<Table> {
        unsupported("registering a table")
    }
}
