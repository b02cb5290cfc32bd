//! The files of tables: in folders of this machine, or in buckets by the client that artifacts
//! have too (`object_store`), so that both find the same credentials.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws::{AwsKeys, AwsVariables};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, LocalFsStorage, OutputFile, S3_ACCESS_KEY_ID,
    S3_ENDPOINT, S3_PATH_STYLE_ACCESS, S3_REGION, S3_SECRET_ACCESS_KEY, S3_SESSION_TOKEN, Storage,
    StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use object_store::aws::AmazonS3;
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use super::clients::{Clients, For};

/// The schemes under which tables name files in buckets.
const S3_SCHEMES: [&str; 3] = ["s3", "s3a", "s3n"];

/// What makes the storage of a catalog's tables.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Files {
    /// Nothing here goes to another process, though the trait would allow it.
    #[serde(skip)]
    place: Place,
    #[serde(skip)]
    clients: Clients,
}

impl Files {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            clients: Clients::default(),
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

/// Where the files of a catalog's tables may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Whether tables may lie in folders of this machine. Only where the settings name one: who
    /// writes into a shared catalog must not choose which of this machine's files are read.
    pub(super) folders: bool,
    pub(super) s3: aws::Settings,
    pub(super) variables: AwsVariables,
}

#[typetag::serde(name = "AsgardFiles")]
impl StorageFactory for Files {
    fn build(&self, config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        let mut place = self.place.clone();
        let said = |name: &str| config.get(name).cloned();
        // What a catalog says comes after the settings: it may see the store by another address.
        let s3 = &mut place.s3;
        s3.endpoint = s3.endpoint.take().or_else(|| said(S3_ENDPOINT));
        s3.region = s3.region.take().or_else(|| said(S3_REGION));
        let style = || said(S3_PATH_STYLE_ACCESS).map(|text| text == "true");
        s3.path_style = s3.path_style.or_else(style);
        let keys = said(S3_ACCESS_KEY_ID).zip(said(S3_SECRET_ACCESS_KEY));
        let keys = keys.map(|(access_key_id, secret_access_key)| AwsKeys {
            access_key_id,
            secret_access_key,
            session_token: said(S3_SESSION_TOKEN),
        });
        let clients = self.clients.clone();
        let inner = Arc::new(Inner {
            place,
            keys,
            clients,
        });
        Ok(Arc::new(Opened { inner }))
    }
}

/// The storage of a catalog's tables, or of one table that came with credentials of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Opened {
    #[serde(skip)]
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    place: Place,
    /// Those that the catalog gave out; absent: the server's own.
    keys: Option<AwsKeys>,
    clients: Clients,
}

/// One file.
enum File {
    /// By the path that the table names.
    Local(LocalFsStorage),
    InBucket(AmazonS3, Key),
}

impl Opened {
    fn file(&self, path: &str) -> Result<File> {
        let invalid = |text: String| Error::new(ErrorKind::DataInvalid, text);
        let (scheme, rest) = path.split_once("://").unwrap_or(("file", path));
        if S3_SCHEMES.contains(&scheme) {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let key = Key::parse(key)
                .map_err(|e| invalid(format!("{path} is no path in a bucket")).with_source(e))?;
            return Ok(File::InBucket(self.bucket(bucket)?, key));
        }
        match scheme {
            "file" if self.inner.place.folders => Ok(File::Local(LocalFsStorage::new())),
            "file" => Err(invalid(format!(
                "{path} is a file of this machine, and the warehouse of this catalog is elsewhere"
            ))),
            _ => Err(Error::new(
                ErrorKind::FeatureUnsupported,
                format!(
                    "files in {scheme}:// cannot be read; tables may lie in s3:// or in folders"
                ),
            )),
        }
    }

    fn bucket(&self, name: &str) -> Result<AmazonS3> {
        let Inner {
            place,
            keys,
            clients,
        } = &*self.inner;
        let wanted = For {
            endpoint: place.s3.endpoint.clone(),
            region: place.s3.region.clone(),
            path_style: place.s3.path_style,
            keys: keys.clone(),
            bucket: name.to_owned(),
        };
        clients.get(wanted, || {
            let made = aws::client(&place.s3, &place.variables, name, keys.as_ref());
            made.map_err(|cause| Error::new(ErrorKind::DataInvalid, cause.to_string()))
        })
    }
}

/// A failure of a bucket, in the library's terms; whoever answers it finds the cause in `source`.
fn failed(path: &str) -> impl FnOnce(object_store::Error) -> Error {
    let path = path.to_owned();
    move |source| {
        let what = match &source {
            object_store::Error::NotFound { .. } => "is not there",
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => "may not be used",
            _ => "cannot be reached",
        };
        Error::new(ErrorKind::Unexpected, format!("{path} {what}")).with_source(source)
    }
}

/// A local file that is not there, which the library says only in words.
fn lost(path: &str) -> impl FnOnce(Error) -> Error {
    let path = path.to_owned();
    move |error| {
        if !error.message().ends_with("(os error 2)") {
            return error;
        }
        let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
        Error::new(error.kind(), format!("{path} is not there")).with_source(cause)
    }
}

#[async_trait]
#[typetag::serde(name = "AsgardFiles")]
impl Storage for Opened {
    async fn exists(&self, path: &str) -> Result<bool> {
        match self.file(path)? {
            File::Local(files) => files.exists(path).await,
            File::InBucket(bucket, key) => match bucket.head(&key).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(failed(path)(error)),
            },
        }
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        match self.file(path)? {
            File::Local(files) => files.metadata(path).await.map_err(lost(path)),
            File::InBucket(bucket, key) => {
                let found = bucket.head(&key).await.map_err(failed(path))?;
                Ok(FileMetadata { size: found.size })
            }
        }
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        match self.file(path)? {
            File::Local(files) => files.read(path).await.map_err(lost(path)),
            File::InBucket(bucket, key) => {
                let found = bucket.get(&key).await.map_err(failed(path))?;
                found.bytes().await.map_err(failed(path))
            }
        }
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        match self.file(path)? {
            File::Local(files) => files.reader(path).await.map_err(lost(path)),
            File::InBucket(bucket, key) => Ok(Box::new(Reader {
                bucket,
                key,
                path: path.to_owned(),
            })),
        }
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        match self.file(path)? {
            File::Local(files) => files.write(path, bytes).await,
            File::InBucket(bucket, key) => {
                let put = bucket.put(&key, bytes.into()).await;
                put.map(drop).map_err(failed(path))
            }
        }
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        match self.file(path)? {
            File::Local(files) => files.writer(path).await,
            File::InBucket(bucket, key) => Ok(Box::new(Writer {
                into: BufWriter::new(Arc::new(bucket), key),
                path: path.to_owned(),
            })),
        }
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.file(path)? {
            File::Local(files) => files.delete(path).await,
            File::InBucket(bucket, key) => bucket.delete(&key).await.map_err(failed(path)),
        }
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        match self.file(path)? {
            File::Local(files) => files.delete_prefix(path).await,
            File::InBucket(bucket, key) => {
                let below: Vec<_> = bucket
                    .list(Some(&key))
                    .try_collect()
                    .await
                    .map_err(failed(path))?;
                for file in below {
                    bucket.delete(&file.location).await.map_err(failed(path))?;
                }
                Ok(())
            }
        }
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        while let Some(path) = paths.next().await {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct Reader {
    bucket: AmazonS3,
    key: Key,
    path: String,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let read = self.bucket.get_range(&self.key, range).await;
        read.map_err(failed(&self.path))
    }
}

/// Small files go in one request, larger ones in parts.
struct Writer {
    into: BufWriter,
    path: String,
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.into.put(bytes).await.map_err(failed(&self.path))
    }

    async fn close(&mut self) -> Result<()> {
        self.into.shutdown().await.map_err(|source| {
            let kept = match source.downcast::<object_store::Error>() {
                Ok(cause) => return failed(&self.path)(cause),
                Err(source) => source,
            };
            let text = format!("{} cannot be written", self.path);
            Error::new(ErrorKind::Unexpected, text).with_source(kept)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::clients::MOST_CLIENTS;

    #[test]
    fn tables_with_the_same_store_and_credentials_share_a_client() {
        let files = Files::new(Place {
            s3: aws::Settings {
                endpoint: Some("http://127.0.0.1:1".to_owned()),
                ..aws::Settings::default()
            },
            ..Place::default()
        });
        let open = |bucket: &str, key: &str| {
            let said = [
                (S3_ACCESS_KEY_ID, key),
                (S3_SECRET_ACCESS_KEY, "secret"),
                (S3_REGION, "us-east-1"),
            ];
            let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let storage = files.build(&StorageConfig::from_props(said.into()));
            // What a table does with it makes the client, and asks nothing.
            let path = format!("s3://{bucket}/table/file.parquet");
            futures_util::FutureExt::now_or_never(storage.unwrap().reader(&path))
                .unwrap()
                .unwrap();
            files.clients.0.lock().unwrap().len()
        };
        assert_eq!([open("lake", "a"), open("lake", "a")], [1, 1]);
        assert_eq!([open("lake", "b"), open("other", "b")], [2, 3]);
        for key in 0..100 {
            assert!(open("lake", &key.to_string()) <= MOST_CLIENTS);
        }
    }
}
