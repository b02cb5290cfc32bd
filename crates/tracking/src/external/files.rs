//! The external server's artifact proxy (`mlflow-artifacts`) as an object store: what the artifact
//! code asks of one. Only small files are written by it; clients' uploads are passed on as they are.

use axum::http::{Method, StatusCode, header};
use futures_util::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::Value;

use super::upstream::{ANSWER, Upstream, patient};

const STORE: &str = "mlflow-artifacts";

/// The files of an external server.
#[derive(Debug)]
pub(super) struct Proxied {
    upstream: Upstream,
}

impl Proxied {
    pub(super) fn new(upstream: Upstream) -> Self {
        Self { upstream }
    }

    /// One level of a folder. The server gives names relative to it.
    async fn entries(&self, folder: &str) -> Result<Vec<Value>> {
        let fields = [("path", folder)];
        let listed = self
            .upstream
            .get("2.0/mlflow-artifacts/artifacts", &fields, ANSWER)
            .await;
        match listed {
            Ok(mut listed) => match super::take(&mut listed, "/files") {
                Value::Array(entries) => Ok(entries),
                _ => Ok(Vec::new()),
            },
            Err(error) if super::is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The size of a file, when there is one of this name.
    async fn size(&self, file: &Path) -> Result<Option<u64>> {
        let key = file.as_ref();
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        let entries = self.entries(folder).await?;
        let found = entries.iter().find(|entry| {
            entry["path"].as_str() == Some(name) && !entry["is_dir"].as_bool().unwrap_or_default()
        });
        Ok(found.map(|entry| number(&entry["file_size"])))
    }
}

/// MLflow writes 64-bit numbers as numbers, other servers as text.
fn number(value: &Value) -> u64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or_else(text).unwrap_or_default()
}

fn failed(error: crate::error::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: STORE,
        source: error.into(),
    }
}

fn not_supported(operation: &str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("an external MLflow server is not asked to {operation}").into(),
    }
}

fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta {
        location,
        // The proxy does not tell it, and nothing asks.
        last_modified: Default::default(),
        size,
        e_tag: None,
        version: None,
    }
}

impl std::fmt::Display for Proxied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the artifacts of {}", self.upstream.url())
    }
}

#[async_trait::async_trait]
impl ObjectStore for Proxied {
    async fn put_opts(&self, at: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        let content: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        let request = self
            .upstream
            .artifact(Method::PUT, at.as_ref())
            .body(content);
        let answered = self.upstream.send(request, ANSWER).await.map_err(failed)?;
        let status = answered.status();
        if !status.is_success() {
            let body = self.upstream.read(answered).await.map_err(failed)?;
            self.upstream.json(status, &body).map_err(failed)?;
        }
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_supported("take a file in parts"))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        if options.range.is_some() {
            return Err(not_supported("give a part of a file"));
        }
        let not_found = || object_store::Error::NotFound {
            path: at.to_string(),
            source: "the external server has no such file".into(),
        };
        // Servers of 2.x answer a missing file with 500, and a file without its size.
        let Some(size) = self.size(at).await? else {
            return Err(not_found());
        };
        let request = self
            .upstream
            .artifact(Method::GET, at.as_ref())
            .header(header::ACCEPT_ENCODING, "identity");
        let answered = self.upstream.send(request, ANSWER).await.map_err(failed)?;
        let status = answered.status();
        if status == StatusCode::NOT_FOUND {
            return Err(not_found());
        }
        if !status.is_success() {
            let body = self.upstream.read(answered).await.map_err(failed)?;
            let told = self.upstream.json(status, &body);
            return Err(told.map_or_else(failed, |_| not_found()));
        }
        let lost = |source: std::io::Error| object_store::Error::Generic {
            store: STORE,
            source: source.into(),
        };
        let stream = exactly(size, patient(answered, ANSWER)).map(move |chunk| chunk.map_err(lost));
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream.boxed()),
            meta: meta(at.clone(), size),
            range: 0..size,
            attributes: Attributes::new(),
        })
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let refused = async { Err(not_supported("remove files")) };
        futures_util::stream::once(refused).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let refused = async { Err(not_supported("list all at once")) };
        futures_util::stream::once(refused).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.map_or("", AsRef::as_ref);
        let mut listed = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
        };
        for entry in self.entries(folder).await? {
            let name = entry["path"].as_str().unwrap_or_default();
            // A name of another server is text of a stranger.
            let Ok(path) = Path::parse(format!("{folder}/{name}").trim_start_matches('/')) else {
                continue;
            };
            match entry["is_dir"].as_bool() {
                Some(true) => listed.common_prefixes.push(path),
                _ => listed.objects.push(meta(path, number(&entry["file_size"]))),
            }
        }
        Ok(listed)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_supported("copy a file"))
    }
}

/// Fails when a file is not as long as it was said to be: a torn one must not pass for whole.
fn exactly(
    size: u64,
    stream: impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static,
) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static {
    let torn = move || std::io::Error::other(format!("the file is not of its {size} bytes"));
    let state = (Box::pin(stream), 0_u64);
    futures_util::stream::try_unfold(state, move |(mut stream, mut seen)| async move {
        match stream.next().await {
            Some(chunk) => {
                let chunk = chunk?;
                seen += chunk.len() as u64;
                if seen > size {
                    return Err(torn());
                }
                Ok(Some((chunk, (stream, seen))))
            }
            None if seen == size => Ok(None),
            None => Err(torn()),
        }
    })
}
