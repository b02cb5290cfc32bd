//! The last lines that a worker wrote to standard error.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStderr;

const LINES: usize = 40;
const LINE_BYTES: u64 = 2_000;

/// Kept while the worker lives and read when it fails.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// Follows the stream to its end in a task of its own.
    pub(crate) fn follow(stderr: ChildStderr, label: String) -> Self {
        let log = Self::default();
        let kept = log.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stderr);
            let mut line = Vec::new();
            loop {
                line.clear();
                let mut limited = (&mut stream).take(LINE_BYTES);
                match limited.read_until(b'\n', &mut line).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                        tracing::debug!(model = %label, line = %text, "a model wrote");
                        kept.push(text);
                    }
                }
            }
        });
        log
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines, oldest first.
    pub(crate) fn last(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}
