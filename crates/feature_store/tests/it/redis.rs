//! A real Redis server (or Valkey) for one test, and what happens when it goes away.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::app::{App, CUSTOMERS, customer_features};
use crate::online::delete_but_for_rows;

/// A server that listens on a socket in a folder of its own.
pub(crate) struct RedisServer {
    process: Child,
    dir: TempDir,
}

impl RedisServer {
    /// Starts one, where the machine has the program.
    pub(crate) fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let process = spawn(dir.path().join("redis.sock"))?;
        let server = Self { process, dir };
        server.wait();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.answers().unwrap_or(false) {
            assert!(Instant::now() < end, "the Redis server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it has read its file: until then it listens, and refuses what it is asked.
    fn answers(&self) -> std::io::Result<bool> {
        use std::io::{Read as _, Write as _};

        let mut asked = std::os::unix::net::UnixStream::connect(self.socket())?;
        asked.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        asked.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = spawn(self.socket()).unwrap();
        self.wait();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What it acknowledges is written to its file, so that it may be killed.
fn spawn(socket: PathBuf) -> Option<Child> {
    let start = |program: &str| {
        Command::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(socket.parent().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .ok()
    };
    start("redis-server").or_else(|| start("valkey-server"))
}

async fn trips(app: &App) -> (u16, serde_json::Value) {
    let asked = json!({
        "features": ["customer_features:total_orders"],
        "entities": {"customer_id": [1]}
    });
    let (status, body) = app.post("/feast/get-online-features", asked).await;
    (status.as_u16(), body)
}

/// A view can be made nevertheless.
async fn cannot_be_used(app: &App) {
    let (status, body) = app.import("customer_aggregates", CUSTOMERS).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = app.post("/feast/features", customer_features()).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = trips(app).await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn a_store_that_goes_away_is_told_with_the_fix_and_found_again() {
    let Some(mut app) = App::redis().await else {
        eprintln!("skipped: there is neither redis-server nor valkey-server");
        return;
    };
    app.customers().await;
    let load = json!({"feature_views": ["customer_features"], "end_ts": "2025-11-03"});
    let path = "/feast/materialize-incremental";
    let (status, body) = app.post(path, load.clone()).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = trips(&app).await;
    assert_eq!((status, &body["results"][1]["values"]), (200, &json!([4])));
    app.redis.as_mut().unwrap().kill();
    for (path, asked) in [
        (
            "/feast/get-online-features",
            json!({"features": ["customer_features:total_orders"], "entities": {"customer_id": [1]}}),
        ),
        (path, load.clone()),
    ] {
        let (status, body) = app.post(path, asked).await;
        assert_eq!(status, 503, "{body}");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains("the online store at"), "{message}");
        let help = body["help"].as_str().unwrap();
        assert!(help.contains("feature_store.redis_url"), "{help}");
    }
    app.redis.as_mut().unwrap().start_again();
    let (status, body) = trips(&app).await;
    assert_eq!((status, &body["results"][1]["values"]), (200, &json!([4])));
    let (_, body) = app.post(path, load).await;
    assert_eq!(body["materialized"][0]["mode"], "nothing", "{body}");
}

#[tokio::test]
async fn a_view_that_is_made_while_the_store_is_away_begins_without_the_rows_of_another() {
    let Some(mut app) = App::redis().await else {
        eprintln!("skipped: there is neither redis-server nor valkey-server");
        return;
    };
    app.customers().await;
    let load = json!({"feature_views": ["customer_features"], "end_ts": "2025-11-03"});
    let path = "/feast/materialize-incremental";
    let (status, body) = app.post(path, load.clone()).await;
    assert_eq!(status, 200, "{body}");
    let (_, body) = trips(&app).await;
    assert_eq!(body["results"][1]["values"], json!([4]));
    delete_but_for_rows(&app, "customer_features").await;
    app.redis.as_mut().unwrap().kill();
    let (status, body) = app.post("/feast/features", customer_features()).await;
    assert_eq!(status, 201, "{body}");
    app.redis.as_mut().unwrap().start_again();
    let (status, body) = trips(&app).await;
    let statuses = &body["results"][1]["statuses"];
    assert_eq!((status, statuses), (200, &json!(["NOT_FOUND"])), "{body}");
    let (status, body) = app.post(path, load).await;
    assert_eq!(status, 200, "{body}");
    let (_, body) = trips(&app).await;
    assert_eq!(body["results"][1]["values"], json!([4]));
}

/// A way to the server that breaks the connection at the first `breaks` writes of rows.
fn breaking(server: &RedisServer, breaks: usize) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream};

    let path = server.dir.path().join("breaking.sock");
    let (listener, to) = (UnixListener::bind(&path).unwrap(), server.socket());
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(breaks));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = UnixStream::connect(&to).await else {
                continue;
            };
            let left = left.clone();
            tokio::spawn(async move {
                let (mut asked, mut answers) = client.into_split();
                let (mut answered, mut questions) = server.into_split();
                let back = tokio::io::copy(&mut answered, &mut answers);
                let forth = async {
                    let mut bytes = vec![0; 1 << 16];
                    loop {
                        let read = asked.read(&mut bytes).await.unwrap_or(0);
                        let part = &bytes[..read];
                        let place =
                            |text: &[u8]| part.windows(text.len()).position(|at| at == text);
                        // The script of rows has their key before that of views.
                        let rows = place(b"EVALSHA").is_some()
                            && place(b"asgard:online:rows")
                                .zip(place(b"asgard:online:views"))
                                .is_some_and(|(rows, views)| rows < views);
                        let broken = rows
                            && left
                                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                                .is_ok();
                        if read == 0 || broken || questions.write_all(part).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! { _ = back => {}, () = forth => {} }
            });
        }
    });
    format!("redis+unix://{}", path.display())
}

#[tokio::test]
async fn rows_are_written_again_when_the_store_comes_back() {
    let Some(server) = RedisServer::start() else {
        eprintln!("skipped: there is neither redis-server nor valkey-server");
        return;
    };
    let app = App::with(&feature_store::Config {
        online: feature_store::OnlineStore::Redis,
        redis_url: Some(breaking(&server, 4)),
        redis_timeout_ms: Some(30_000),
        ..feature_store::Config::default()
    })
    .await;
    app.customers().await;
    let load = json!({"feature_views": ["customer_features"], "end_ts": "2025-11-03"});
    let (status, body) = app.post("/feast/materialize-incremental", load).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = trips(&app).await;
    assert_eq!((status, &body["results"][1]["values"]), (200, &json!([4])));
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mute.sock");
    let mute = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let app = App::with(&feature_store::Config {
        online: feature_store::OnlineStore::Redis,
        redis_url: Some(format!("redis+unix://{}", path.display())),
        ..feature_store::Config::default()
    })
    .await;
    cannot_be_used(&app).await;
    drop(mute);
}

#[tokio::test]
async fn of_writes_at_once_by_two_servers_the_newest_row_stays() {
    let Some(one) = App::redis().await else {
        eprintln!("skipped: there is neither redis-server nor valkey-server");
        return;
    };
    one.customers().await;
    let other = one.replica();
    let write = |app: &App, second: i64| {
        let df = json!({
            "customer_id": [1],
            "event_timestamp": [1_800_000_000 + second],
            "total_orders": [second],
            "avg_order_value": [1.0]
        });
        let body = json!({"feature_view_name": "customer_features", "df": df});
        let app = app.router.clone();
        async move { post(app, body).await }
    };
    // The newest in the middle, so that older ones come before and after it.
    let seconds = (0..60).map(|n| if n == 30 { 1_000 } else { n });
    let writes = seconds.map(|n| write(if n % 2 == 0 { &one } else { &other }, n));
    let written = futures_util::future::join_all(writes).await;
    assert!(written.iter().all(|status| *status == 200), "{written:?}");
    for app in [&one, &other] {
        let (_, body) = trips(app).await;
        assert_eq!(body["results"][1]["values"], json!([1_000]));
    }
}

async fn post(app: axum::Router, body: serde_json::Value) -> u16 {
    use tower::ServiceExt as _;

    let request = axum::http::Request::post("/feast/write-to-online-store")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body.to_string()))
        .unwrap();
    app.oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn servers_with_other_prefixes_do_not_see_each_others_values() {
    let Some(server) = RedisServer::start() else {
        eprintln!("skipped: there is neither redis-server nor valkey-server");
        return;
    };
    let with = |prefix: &str| feature_store::Config {
        online: feature_store::OnlineStore::Redis,
        redis_url: Some(server.url()),
        redis_timeout_ms: Some(30_000),
        redis_prefix: Some(prefix.to_owned()),
        ..feature_store::Config::default()
    };
    let one = App::with(&with("{team}:one")).await;
    let other = App::with(&with("{team}:other")).await;
    for app in [&one, &other] {
        app.customers().await;
    }
    let load = json!({"feature_views": ["customer_features"], "end_ts": "2025-11-03"});
    let path = "/feast/materialize-incremental";
    let (status, body) = one.post(path, load).await;
    assert_eq!(status, 200, "{body}");
    let (_, body) = trips(&one).await;
    assert_eq!(body["results"][1]["values"], json!([4]));
    let (_, body) = trips(&other).await;
    assert_eq!(body["results"][1]["values"], json!([null]));
}

/// A server that speaks TLS and nothing else, with a certificate of an authority of its own: the
/// address, and the authority's certificate. None where the machine has no such server.
struct TlsServer {
    process: Child,
    url: String,
    dir: TempDir,
}

impl TlsServer {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        certify(dir.path())?;
        // A port that was free may be taken when the server wants it.
        let (process, url) = (0..10).find_map(|_| Self::listening(&dir))?;
        Some(Self { process, url, dir })
    }

    fn listening(dir: &TempDir) -> Option<(Child, String)> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let file = |name: &str| dir.path().join(name);
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--bind", "127.0.0.1"])
            .args(["--tls-auth-clients", "no", "--tls-port", &port.to_string()])
            .arg("--tls-cert-file")
            .arg(file("server.pem"))
            .arg("--tls-key-file")
            .arg(file("server.key"))
            .arg("--tls-ca-cert-file")
            .arg(file("ca.pem"))
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        loop {
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some((process, format!("rediss://localhost:{port}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes an authority and a certificate of it for `localhost`.
fn certify(dir: &std::path::Path) -> Option<()> {
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        let done = command.args(args).current_dir(dir).stderr(Stdio::null());
        done.stdout(Stdio::null())
            .status()
            .ok()?
            .success()
            .then_some(())
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ];
    let ca = [
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca.key",
    ];
    openssl(&[&ca[..], &["-out", "ca.pem"], &key[..]].concat())?;
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let asked = [
        "req",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ];
    openssl(&[&asked[..], &key[..]].concat())?;
    let signed = [
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "server.csr",
        "-out",
        "server.pem",
    ];
    let by = [
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
    ];
    openssl(&[&signed[..], &by[..]].concat())
}

#[tokio::test]
async fn a_server_with_tls_is_trusted_by_its_own_authority_and_not_without() {
    let Some(server) = TlsServer::start() else {
        eprintln!("skipped: there is no redis-server that speaks TLS, or no openssl");
        return;
    };
    let with = |redis_ca_file| feature_store::Config {
        online: feature_store::OnlineStore::Redis,
        redis_url: Some(server.url.clone()),
        redis_timeout_ms: Some(30_000),
        redis_ca_file,
        ..feature_store::Config::default()
    };
    let app = App::with(&with(Some(server.dir.path().join("ca.pem")))).await;
    app.customers().await;
    let load = json!({"feature_views": ["customer_features"], "end_ts": "2025-11-03"});
    let (status, body) = app.post("/feast/materialize-incremental", load).await;
    assert_eq!(status, 200, "{body}");
    let (_, body) = trips(&app).await;
    assert_eq!(body["results"][1]["values"], json!([4]));
    let stranger = App::with(&with(None)).await;
    cannot_be_used(&stranger).await;
}
