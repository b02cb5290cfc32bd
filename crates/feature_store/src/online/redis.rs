//! Online values in a store of the Redis protocol: a hash of rows for each view, and one of what is
//! known of the views.
//!
//! A script on the server compares a row with the one that it has: an older row never takes a newer
//! one's place, whichever server of asgard writes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisError, RetryMethod, Script, TlsCertificates,
};
use tokio::sync::Mutex;

use super::row::{Row, Stamp};
use crate::config::Config;
use crate::error::Error;

/// How long one operation may take, connecting to the store included, where nothing else is set.
const BUDGET: Duration = Duration::from_secs(2);

/// The pauses before rows are written again, about half a minute: a store that starts anew, or that
/// another load keeps busy, does not end a long load.
const PAUSES_MS: [u64; 7] = [250, 500, 1_000, 2_000, 4_000, 8_000, 14_000];

/// Rows in one call of the script: others wait while it runs.
pub(super) const TOGETHER: usize = 500;

/// What the names of keys begin with, where nothing else is set.
const PREFIX: &str = "asgard";

/// The bytes of a time before a row, in which later is larger.
const STAMP_BYTES: usize = 17;

/// Takes a view, its generation, and pairs of key and row; tells how many rows were not older than
/// what was there, or -1 when the view is of another generation. Bytes are compared one by one: the
/// order of texts depends on the server's language.
const UPSERT: &str = r"
local about = redis.call('HGET', KEYS[2], ARGV[1])
local generation = about and cjson.decode(about).generation or 0
if generation ~= tonumber(ARGV[2]) then
  return -1
end
local written = 0
for i = 3, #ARGV, 2 do
  local key, new = ARGV[i], ARGV[i + 1]
  local there = redis.call('HGET', KEYS[1], key)
  local newer = true
  if there then
    for at = 1, 17 do
      local a, b = string.byte(there, at) or 0, string.byte(new, at) or 0
      if a ~= b then
        newer = b > a
        break
      end
    end
  end
  if newer then
    redis.call('HSET', KEYS[1], key, new)
    written = written + 1
  end
end
return written
";

/// Sets what is known of a view where it still is what was read; removes its rows where that is asked.
const SWAP: &str = r"
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[4] == 'forget' then
  redis.call('UNLINK', KEYS[2])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
";

/// The store; cheap to clone.
#[derive(Clone)]
pub(crate) struct Redis {
    client: Arc<Client>,
    /// Without a password.
    shown: Arc<str>,
    budget: Duration,
    /// What the names of keys begin with.
    prefix: Arc<str>,
    connection: Arc<Mutex<Connection>>,
}

/// The connection that all use, and how many there were.
#[derive(Default)]
struct Connection {
    number: u64,
    open: Option<MultiplexedConnection>,
}

impl Redis {
    /// A store by its address; it is connected to when it is first asked.
    ///
    /// # Errors
    /// When that is no address, or another setting cannot be used.
    pub(crate) fn new(url: &str, config: &Config) -> Result<Self, Error> {
        let client = open(url, config.redis_ca_file.as_deref())?;
        let shown = client.get_connection_info().addr().to_string().into();
        let budget = config.redis_timeout_ms.map(Duration::from_millis);
        let prefix = config.redis_prefix.as_deref().unwrap_or(PREFIX);
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:{}".contains(c);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(fits) {
            return Err(Error::Invalid(format!(
                "feature_store.redis_prefix is {prefix:?}: use up to 64 letters, digits and _ - . : {{ }}"
            )));
        }
        Ok(Self {
            client: Arc::new(client),
            shown,
            budget: budget.unwrap_or(BUDGET),
            prefix: prefix.into(),
            connection: Arc::default(),
        })
    }

    /// The hash of what is known of views.
    fn about_key(&self) -> String {
        format!("{}:online:views", self.prefix)
    }

    fn rows_of(&self, view: &str) -> String {
        format!("{}:online:rows:{view}", self.prefix)
    }

    /// What is known of a view.
    pub(super) async fn about(&self, view: &str) -> Result<Option<String>, Error> {
        let mut command = redis::cmd("HGET");
        command.arg(self.about_key()).arg(view);
        self.ask(&Asked::Command(command)).await
    }

    /// Sets what is known of a view, unless another server was faster: false then.
    pub(super) async fn swap_about(
        &self,
        view: &str,
        before: Option<&str>,
        after: &str,
        forget: bool,
    ) -> Result<bool, Error> {
        let script = Script::new(SWAP);
        let mut call = script.key(self.about_key());
        call.key(self.rows_of(view)).arg(view);
        call.arg(before.unwrap_or_default()).arg(after);
        call.arg(if forget { "forget" } else { "keep" });
        self.ask(&Asked::Script(call)).await
    }

    /// Writes rows, and tells how many were newer than what was there; nothing is written when the
    /// view is of another generation. Rows may be written twice, so a store that does not answer is
    /// asked again for a while.
    pub(super) async fn upsert(
        &self,
        view: &str,
        generation: u64,
        rows: &[(Box<[u8]>, Row)],
    ) -> Result<Option<u64>, Error> {
        let script = Script::new(UPSERT);
        let mut call = script.key(self.rows_of(view));
        call.key(self.about_key()).arg(view).arg(generation);
        for (key, row) in rows {
            let mut bytes = sortable(row.stamp()).to_vec();
            bytes.extend(row.bytes());
            call.arg(&**key).arg(bytes);
        }
        let asked = Asked::Script(call);
        let written = |answer: i64| u64::try_from(answer).ok();
        for pause_ms in PAUSES_MS {
            match self.ask(&asked).await {
                Err(error) if may_pass(&error) => {
                    tracing::warn!(error = %error.message(), pause_ms, "rows are written again after a pause");
                }
                answer => return answer.map(written),
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        self.ask(&asked).await.map(written)
    }

    /// The rows of some keys, in their order.
    pub(super) async fn find(&self, view: &str, keys: &[&[u8]]) -> Result<Vec<Option<Row>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(self.rows_of(view)).arg(keys);
        let found: Vec<Option<Vec<u8>>> = self.ask(&Asked::Command(command)).await?;
        let rows = found.into_iter().map(|kept| {
            let Some(kept) = kept else { return Ok(None) };
            let row = kept.get(STAMP_BYTES..).and_then(Row::kept);
            row.map(Some).ok_or_else(|| Error::OnlineEntry {
                view: view.to_owned(),
                why: "a row of it is too short".to_owned(),
            })
        });
        rows.collect()
    }

    /// How many entities a view has.
    pub(super) async fn count(&self, view: &str) -> Result<usize, Error> {
        let mut command = redis::cmd("HLEN");
        command.arg(self.rows_of(view));
        self.ask(&Asked::Command(command)).await
    }

    async fn ask<T: FromRedisValue>(&self, asked: &Asked<'_>) -> Result<T, Error> {
        let away = |source: Option<RedisError>| Error::OnlineAway {
            address: self.shown.to_string(),
            within: self.budget,
            source,
        };
        let mut used = None;
        let tried = self.try_twice(asked, &mut used);
        match tokio::time::timeout(self.budget, tried).await {
            Ok(answer) => answer.map_err(|error| away(Some(error))),
            Err(_) => {
                // What answers so late is not waited for again.
                used.into_iter().for_each(|number| self.give_up(number));
                Err(away(None))
            }
        }
    }

    /// A connection may have ended while nobody used it. Every question may be asked twice.
    async fn try_twice<T: FromRedisValue>(
        &self,
        asked: &Asked<'_>,
        used: &mut Option<u64>,
    ) -> Result<T, RedisError> {
        let (number, connection) = self.connected().await?;
        *used = Some(number);
        match asked.ask(connection).await {
            Err(error) if error.is_io_error() || error.is_connection_dropped() => {
                self.give_up(number);
                let (number, connection) = self.connected().await?;
                *used = Some(number);
                asked.ask(connection).await
            }
            answer => answer,
        }
    }

    /// Has the next question make a new connection, unless there is one already. Whoever has the
    /// lock is making it.
    fn give_up(&self, number: u64) {
        if let Ok(mut connection) = self.connection.try_lock()
            && connection.number == number
        {
            connection.open = None;
        }
    }

    async fn connected(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = &connection.open {
            return Ok((connection.number, open.clone()));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.budget))
            .set_response_timeout(Some(self.budget));
        let new = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        connection.number += 1;
        connection.open = Some(new.clone());
        Ok((connection.number, new))
    }
}

/// A client of the server, which is not asked yet.
fn open(url: &str, ca_file: Option<&Path>) -> Result<Client, Error> {
    let wrong = |error: RedisError| {
        Error::Invalid(format!(
            "feature_store.redis_url is no address of a Redis server ({error}): give redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER], or rediss:// where it speaks TLS"
        ))
    };
    let Some(ca_file) = ca_file else {
        return Client::open(url).map_err(wrong);
    };
    if !url.starts_with("rediss://") {
        return Err(Error::Invalid(
            "feature_store.redis_ca_file is for servers that speak TLS: give rediss:// in feature_store.redis_url, or leave it out"
                .to_owned(),
        ));
    }
    let unusable = |why: &dyn std::fmt::Display| {
        Error::Invalid(format!(
            "feature_store.redis_ca_file {} cannot be used ({why}): give a file with certificates in PEM form",
            ca_file.display()
        ))
    };
    let root_cert = std::fs::read(ca_file).map_err(|error| unusable(&error))?;
    if !String::from_utf8_lossy(&root_cert).contains("-----BEGIN CERTIFICATE-----") {
        return Err(unusable(&"there is no certificate in it"));
    }
    let trusted = TlsCertificates {
        client_tls: None,
        root_cert: Some(root_cert),
    };
    Client::open(url).map_err(wrong)?;
    Client::build_with_tls(url, trusted).map_err(|error| unusable(&error))
}

/// Whether the same question may be answered later.
fn may_pass(error: &Error) -> bool {
    let Error::OnlineAway { source, .. } = error else {
        return false;
    };
    source.as_ref().is_none_or(|error| {
        error.is_io_error()
            || error.is_connection_dropped()
            || matches!(
                error.retry_method(),
                RetryMethod::WaitAndRetry | RetryMethod::RefreshSlotsAndRetry
            )
    })
}

enum Asked<'a> {
    Command(redis::Cmd),
    Script(redis::ScriptInvocation<'a>),
}

impl Asked<'_> {
    async fn ask<T: FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
    ) -> Result<T, RedisError> {
        match self {
            Self::Command(command) => command.query_async(&mut connection).await,
            Self::Script(call) => call.invoke_async(&mut connection).await,
        }
    }
}

/// A time as bytes in which later is larger.
fn sortable(stamp: Stamp) -> [u8; STAMP_BYTES] {
    let ordered = |value: i64| (value as u64 ^ (1 << 63)).to_be_bytes();
    let mut bytes = [0; STAMP_BYTES];
    bytes[..8].copy_from_slice(&ordered(stamp.us));
    if let Some(created) = stamp.created {
        bytes[8] = 1;
        bytes[9..].copy_from_slice(&ordered(created));
    }
    bytes
}

#[cfg(test)]
pub(super) mod testing {
    use std::os::unix::net::UnixStream;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;

    /// A real server for one test, which listens on a socket in a folder of its own.
    pub(crate) struct Server {
        process: Child,
        dir: TempDir,
    }

    impl Server {
        /// Starts one, where the machine has the program.
        pub(crate) fn start() -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("redis.sock");
            let spawn = |program: &str| {
                Command::new(program)
                    .args(["--port", "0", "--save", "", "--unixsocket"])
                    .arg(&socket)
                    .arg("--dir")
                    .arg(dir.path())
                    .stdout(Stdio::null())
                    .spawn()
                    .ok()
            };
            let process = spawn("redis-server").or_else(|| spawn("valkey-server"))?;
            let server = Self { process, dir };
            let end = Instant::now() + Duration::from_secs(60);
            while UnixStream::connect(&socket).is_err() {
                assert!(Instant::now() < end, "the Redis server did not start");
                std::thread::sleep(Duration::from_millis(10));
            }
            Some(server)
        }

        pub(crate) fn store(&self) -> Redis {
            let socket = self.dir.path().join("redis.sock");
            let config = Config {
                // This machine may be busy.
                redis_timeout_ms: Some(30_000),
                ..Config::default()
            };
            Redis::new(&format!("redis+unix://{}", socket.display()), &config).unwrap()
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_times_are_larger_bytes() {
        let at = |us, created| sortable(Stamp { us, created });
        let ordered = [
            at(i64::MIN, None),
            at(-1, Some(5)),
            at(0, None),
            at(0, Some(i64::MIN)),
            at(0, Some(-1)),
            at(0, Some(1)),
            at(1, None),
            at(i64::MAX, Some(i64::MAX)),
        ];
        assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
    }

    #[test]
    fn an_address_shows_no_password() {
        for scheme in ["redis", "rediss"] {
            let url = format!("{scheme}://me:secret@cache:6380/2");
            let store = Redis::new(&url, &Config::default()).unwrap();
            assert_eq!(&*store.shown, "cache:6380");
        }
        let refused = Redis::new("http://cache", &Config::default());
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("redis://"), "{refused}");
    }

    #[test]
    fn settings_that_cannot_be_used_are_told() {
        let prefix = |text: &str| Config {
            redis_prefix: Some(text.to_owned()),
            ..Config::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let ca = |text: &str| {
            let path = dir.path().join("ca.pem");
            std::fs::write(&path, text).unwrap();
            Config {
                redis_ca_file: Some(path),
                ..Config::default()
            }
        };
        let tls = "rediss://cache";
        for (url, config, words) in [
            ("redis://cache", prefix(""), "redis_prefix"),
            ("redis://cache", prefix("a b"), "redis_prefix"),
            ("redis://cache", ca(""), "give rediss://"),
            (tls, ca("nothing"), "no certificate"),
        ] {
            let refused = Redis::new(url, &config).err().unwrap().to_string();
            assert!(refused.contains(words), "{refused}");
        }
        let store = Redis::new("redis://cache", &prefix("{team}:one")).unwrap();
        assert_eq!(
            store.rows_of("default/v"),
            "{team}:one:online:rows:default/v"
        );
        assert_eq!(store.about_key(), "{team}:one:online:views");
    }
}
