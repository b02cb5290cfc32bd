//! A sandboxed Python process that holds one function; `python/transform.py` has the messages.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_select::concat::concat_batches;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use environments::Environment;
use sandbox::{LastLines, Limits, Mount, Network, Process, Sandbox, Spec};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use super::Function;
use super::folder::Folder;
use crate::error::Error;
use crate::stream;

/// The worker's program.
const PROGRAM: &str = include_str!("../../python/transform.py");
const PROGRAM_INSIDE: &str = "/asgard/transform.py";
const WORK_INSIDE: &str = "/work";

/// The longest JSON of an answer, and the longest table, which may be so long in any case, longer by
/// this for each value that was asked for, and never longer than that: a worker runs foreign code.
const LONGEST_TOLD: u32 = 1 << 20;
const TABLE: u64 = 256 << 20;
const TABLE_VALUE: u64 = 256;
const LONGEST_TABLE: u64 = 2 << 30;
/// How much memory an answer gets before its first byte is there.
const FIRST_PART: u64 = 1 << 20;

/// What a worker may use beside memory: its files, all of them where they are in memory, and each
/// where they are on the disk.
const TMP_BYTES: u64 = 64 * 1024 * 1024;
const FILE_BYTES: u64 = TMP_BYTES;
const PROCESSES: u32 = 256;
const OPEN_FILES: u64 = 256;

/// How long a dead worker may take to be seen dead, and how many of its lines are kept.
const PATIENCE: Duration = Duration::from_secs(5);
const LINES: usize = 10;

/// Where and in what workers run.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) sandbox: Sandbox,
    pub(super) environment: Environment,
    /// A folder of the host for the program, and for workers where they have no private files.
    pub(super) home: PathBuf,
    pub(super) memory_bytes: u64,
}

/// A started worker. Dropping it kills it.
pub(super) struct Worker {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    said: LastLines,
    _folder: Folder,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The function raised; the worker lives.
    Raised(String),
    /// The worker is gone, and how.
    Died(String),
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

#[derive(Deserialize)]
struct Told {
    error: Option<Raised>,
}

#[derive(Deserialize)]
struct Raised {
    kind: String,
    message: String,
    place: String,
}

impl Worker {
    /// Starts a worker and hands it its function.
    pub(super) async fn start(launch: &Launch, function: &Function) -> Result<Self, Failure> {
        let prepared = prepare(launch.home.clone()).await;
        let failed = Error::io("the worker of an on-demand feature view cannot be started");
        let (program, folder) = prepared.map_err(failed)?;
        let spec = spec(launch, &program, folder.path());
        let spawned = launch.sandbox.spawn(spec).await;
        let mut process = spawned.map_err(|source| Error::Sandbox(Box::new(source)))?;
        let pipes = (
            process.take_stdin(),
            process.take_stdout(),
            process.take_stderr(),
        );
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Failure::Died("has no pipes".to_owned()));
        };
        let mut worker = Self {
            process,
            stdin,
            stdout: BufReader::with_capacity(1 << 16, stdout),
            said: LastLines::follow(stderr, LINES, |line| {
                tracing::debug!(line, "an on-demand feature view wrote");
            }),
            _folder: folder,
        };
        let told = json!({
            "name": function.name,
            "text": function.text,
            "body": STANDARD.encode(&function.body),
            "mode": function.mode,
            "singleton": function.singleton,
        });
        worker.exchange(&told, &[], 0).await?;
        Ok(worker)
    }

    /// Has the features of some rows computed. Not to be asked again after [`Failure::Died`], nor
    /// when this future was dropped before its end.
    pub(super) async fn ask(
        &mut self,
        asked: &Value,
        rows: RecordBatch,
    ) -> Result<RecordBatch, Failure> {
        let count = rows.num_rows();
        let features = asked["features"].as_array().map_or(0, Vec::len);
        let rows = in_background(move || encode(&rows)).await?;
        let values = (count as u64).saturating_mul(features as u64);
        let answer = self.exchange(asked, &rows, values).await?;
        drop(rows);
        // Foreign code wrote it: what it breaks is its own answer.
        let table = tokio::task::spawn_blocking(move || decode(&answer, count)).await;
        match table {
            Ok(Ok(table)) => Ok(table),
            _ => Err(Failure::Died("answered with what is no table".to_owned())),
        }
    }

    async fn exchange(
        &mut self,
        told: &Value,
        rows: &[u8],
        values: u64,
    ) -> Result<Vec<u8>, Failure> {
        let (told, answer) = match self.speak(told, rows, longest(values)).await {
            Ok(spoken) => spoken,
            Err(cause) => return Err(Failure::Died(self.end(&cause).await)),
        };
        match told.error {
            None => Ok(answer),
            Some(Raised {
                kind,
                message,
                place,
            }) => Err(Failure::Raised(match place.as_str() {
                "" => format!("{kind}: {message}"),
                place => format!("{kind}: {message} ({place})"),
            })),
        }
    }

    async fn speak(
        &mut self,
        told: &Value,
        rows: &[u8],
        longest: u64,
    ) -> Result<(Told, Vec<u8>), String> {
        let broken = |error: std::io::Error| error.to_string();
        let text = told.to_string();
        let mut head = (text.len() as u32).to_le_bytes().to_vec();
        head.extend((rows.len() as u64).to_le_bytes());
        head.extend(text.as_bytes());
        self.stdin.write_all(&head).await.map_err(broken)?;
        self.stdin.write_all(rows).await.map_err(broken)?;
        self.stdin.flush().await.map_err(broken)?;
        let told = self.stdout.read_u32_le().await.map_err(broken)?;
        let table = self.stdout.read_u64_le().await.map_err(broken)?;
        if told > LONGEST_TOLD || table > longest {
            return Err(format!("announced {told} and {table} bytes"));
        }
        let told = self.take(told.into()).await?;
        let told = serde_json::from_slice(&told).map_err(|error| error.to_string())?;
        Ok((told, self.take(table).await?))
    }

    async fn take(&mut self, length: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(length.min(FIRST_PART) as usize);
        let mut part = (&mut self.stdout).take(length);
        let read = part.read_to_end(&mut bytes).await;
        match read.map_err(|error| error.to_string())? as u64 == length {
            true => Ok(bytes),
            false => Err("ended in the middle of an answer".to_owned()),
        }
    }

    /// Waits for the end of a worker that no longer speaks, and says how it came.
    async fn end(&mut self, cause: &str) -> String {
        let waited = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        let how = match waited {
            Ok(Ok(exit)) if exit.out_of_memory => "ran out of memory".to_owned(),
            Ok(Ok(exit)) => match (exit.signal, exit.code) {
                (Some(signal), _) => format!("was killed by signal {signal}"),
                (None, code) => format!("ended with code {}", code.unwrap_or_default()),
            },
            _ => {
                self.process.kill().await;
                format!("broke off ({cause})")
            }
        };
        match self.said.last().filter(|line| !line.is_empty()) {
            Some(line) => format!("{how}; it last wrote: {line}"),
            None => how,
        }
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn encode(rows: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    Ok(writer.into_inner()?)
}

/// How long the table of an answer of so many values may be.
fn longest(values: u64) -> u64 {
    let more = values.saturating_mul(TABLE_VALUE);
    TABLE.saturating_add(more).min(LONGEST_TABLE)
}

/// The table of an answer to `count` rows.
fn decode(answer: &[u8], count: usize) -> Result<RecordBatch, Error> {
    let rows = stream::rows(answer)?;
    if rows != count {
        return Err(Error::Invalid(format!("{rows} rows came for {count}")));
    }
    let reader = StreamReader::try_new(answer, None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// The program on disk, whole whoever else writes it too, and a folder of the worker's own.
async fn prepare(home: PathBuf) -> std::io::Result<(PathBuf, Folder)> {
    let written = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&home)?;
        let path = home.join("transform.py");
        let mut part = tempfile::NamedTempFile::new_in(&home)?;
        part.write_all(PROGRAM.as_bytes())?;
        part.persist(&path)?;
        Ok((path, Folder::new_in(&home)?))
    });
    written.await?
}

fn spec(launch: &Launch, program: &Path, scratch: &Path) -> Spec {
    let mut mounts = launch.environment.mounts();
    let (program, work_dir) = if launch.sandbox.has_private_files() {
        mounts.push(Mount {
            host: program.to_owned(),
            inside: PROGRAM_INSIDE.into(),
            writable: false,
        });
        (Path::new(PROGRAM_INSIDE), Path::new(WORK_INSIDE))
    } else {
        mounts.push(Mount::read_only(program));
        mounts.push(Mount::writable(scratch));
        (program, scratch)
    };
    let mut path = launch.environment.bin().into_os_string();
    path.push(":/usr/bin:/bin");
    let variables: [(OsString, OsString); 4] = [
        ("PATH".into(), path),
        ("HOME".into(), work_dir.into()),
        ("LANG".into(), "C.UTF-8".into()),
        ("OMP_NUM_THREADS".into(), "1".into()),
    ];
    Spec {
        program: launch.environment.python.clone(),
        args: vec!["-I".into(), "-B".into(), program.into()],
        env: variables.into(),
        work_dir: work_dir.to_owned(),
        mounts,
        limits: Limits {
            memory_bytes: Some(launch.memory_bytes),
            cpus: None,
            processes: Some(PROCESSES),
            open_files: Some(OPEN_FILES),
            file_size_bytes: Some(FILE_BYTES),
            tmp_bytes: Some(TMP_BYTES),
        },
        network: Network::None,
        stdin: true,
        listener: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, NullArray};

    use super::*;
    use crate::stream::testing::{announcing, written};

    #[test]
    fn an_answer_has_as_many_bytes_and_rows_as_it_says_and_as_were_asked_for() {
        let table =
            |column: ArrayRef| written(&RecordBatch::try_from_iter([("total", column)]).unwrap());
        let numbers = table(Arc::new(Int64Array::from(vec![1, 2, 3])));
        assert_eq!(decode(&numbers, 3).unwrap().num_rows(), 3);
        assert!(decode(&numbers, 2).is_err());
        assert!(decode(&announcing(1 << 46), 3).is_err());
        let nulls = table(Arc::new(NullArray::new(1 << 40)));
        assert!(decode(&nulls, 3).is_err());
        assert_eq!(longest(0), 256 << 20);
        assert!(longest(1_000) < 257 << 20 && longest(u64::MAX) == 2 << 30);
    }
}
