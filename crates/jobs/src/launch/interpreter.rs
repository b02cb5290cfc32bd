//! An interpreter that waits for its script, and how it is handed over.

use std::net::TcpListener;

use futures_util::FutureExt as _;
use sandbox::Process;
use serde::Serialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdout;

use crate::data_dirs::DataDirs;
use crate::error::Error;

/// What fails when an interpreter does not take its script.
pub(crate) const HANDING_OVER: &str = "handing the script to its interpreter";

/// What the runner writes when its imports are done.
const READY: &[u8] = b"::asgard ready null::\n";

/// A Python that waits for the script it will run.
pub(crate) struct Interpreter {
    pub(crate) process: Process,
    pub(crate) output: Option<ChildStdout>,
    pub(crate) door: Option<TcpListener>,
    /// Those that its sandbox shows.
    pub(crate) data_dirs: DataDirs,
    ready: bool,
    /// Removed with the interpreter.
    _work_dir: Option<TempDir>,
}

/// What the runner reads.
#[derive(Serialize)]
pub(crate) struct Document<'d> {
    pub(crate) script: &'d str,
    pub(crate) file: &'d str,
    pub(crate) environment: Vec<(String, String)>,
    /// Files under the temporary folder: their paths there, and what is in them.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) autolog: bool,
    pub(crate) packages: Vec<Package>,
    /// The modules that the script imports.
    pub(crate) modules: Vec<String>,
    /// Modules that most models need.
    pub(crate) usual: [&'static str; 4],
}

/// A package of the environment that a model may need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) modules: Vec<String>,
}

impl Interpreter {
    /// A started process, and the work folder that goes with it.
    pub(super) fn new(
        mut process: Process,
        data_dirs: DataDirs,
        work_dir: Option<TempDir>,
    ) -> Self {
        let doors = process.take_doors().into_iter();
        Self {
            output: process.take_stdout(),
            door: doors.map(|(_, listener)| listener).next(),
            process,
            data_dirs,
            ready: false,
            _work_dir: work_dir,
        }
    }

    /// Whether the imports asked for are done. One that is not ready takes a script all the same,
    /// and begins it when they are.
    pub(crate) fn is_ready(&mut self) -> bool {
        if let Some(output) = &mut self.output
            && !self.ready
        {
            // Nothing else is written before the script begins, and this in one piece.
            let mut marker = [0; READY.len()];
            let read = output.read(&mut marker).now_or_never();
            self.ready = matches!(read, Some(Ok(n)) if marker[..n] == *READY);
        }
        self.ready
    }

    /// Hands over the script; the runner begins it. The future waits for the interpreter to read.
    pub(crate) fn begin(
        &mut self,
        document: &Document<'_>,
    ) -> Result<impl Future<Output = std::io::Result<()>> + use<>, Error> {
        let Some(mut stdin) = self.process.take_stdin() else {
            let gone = std::io::ErrorKind::BrokenPipe.into();
            return Err(Error::io(HANDING_OVER)(gone));
        };
        let bytes = serde_json::to_vec(document)
            .map_err(|error| Error::io("writing down a job")(error.into()))?;
        Ok(async move {
            stdin.write_all(&bytes).await?;
            stdin.shutdown().await
        })
    }

    /// A process that takes the place of an interpreter.
    #[cfg(test)]
    pub(crate) fn of(process: Process) -> Self {
        Self::new(process, DataDirs::now(&[]), None)
    }
}
