//! An S3 server with one bucket in a folder, for tests: it checks every signature, in headers and
//! in presigned URLs, and takes uploads in parts.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;

/// The name of the bucket.
pub const BUCKET: &str = "artifacts";
/// Who may use it.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7TESTKEY";
/// What requests to it are signed with.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYTESTKEY";

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A running server; it and all that it holds are gone when this is dropped.
pub struct Server {
    address: SocketAddr,
    dir: TempDir,
    /// The server ends when this end of the channel does.
    _running: tokio::sync::oneshot::Sender<()>,
}

impl Server {
    /// Starts a server on a free port, with an empty bucket in a folder of its own.
    ///
    /// # Errors
    /// When the folder or the port cannot be had.
    pub fn start() -> Result<Self, Error> {
        let dir = tempfile::tempdir()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let service = service(dir.path())?;
        let (running, ended) = tokio::sync::oneshot::channel();
        // A thread of its own serves tests with a runtime and tests without one.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                tokio::select! {
                    served = serve(listener, service) => served,
                    _ = ended => Ok(()),
                }
            })
        });
        Ok(Self {
            address,
            dir,
            _running: running,
        })
    }

    /// The address, `http://HOST:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the objects are files.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }
}

/// Serves a bucket in the folder `root` until the process ends.
///
/// # Errors
/// When the folder cannot be made or the listener fails.
pub fn run(listener: TcpListener, root: &Path) -> Result<(), Error> {
    let service = service(root)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(serve(listener, service))
}

fn service(root: &Path) -> Result<S3Service, Error> {
    std::fs::create_dir_all(root.join(BUCKET))?;
    let files = FileSystem::new(root).map_err(|e| format!("opening {}: {e:?}", root.display()))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    Ok(builder.build())
}

async fn serve(listener: TcpListener, service: S3Service) -> Result<(), Error> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            // A client that goes away in the middle is no failure of this server.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
