//! The last lines that a process wrote, which tell why it failed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// The longest line, in bytes; what is longer goes on in the next.
const LINE_BYTES: u64 = 2_000;

/// The last lines of a stream, kept while its process lives and read when it fails.
#[derive(Debug, Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// Follows a stream to its end in a task of its own, keeps the last `most` lines, and tells each.
    pub fn follow(
        stream: impl AsyncRead + Send + Unpin + 'static,
        most: usize,
        told: impl Fn(&str) + Send + 'static,
    ) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = (&mut stream)
                .take(LINE_BYTES)
                .read_until(b'\n', &mut line)
                .await
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                told(&text);
                kept.push(text, most);
            }
        });
        lines
    }

    fn push(&self, line: String, most: usize) {
        let mut lines = self.lock();
        if lines.len() == most {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines, oldest first.
    pub fn all(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    /// The last line.
    pub fn last(&self) -> Option<String> {
        self.lock().back().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_long_ones_are_cut() {
        let (mut process, stderr) = tokio::io::duplex(64);
        let (sender, mut told) = mpsc::unbounded_channel();
        let lines = LastLines::follow(stderr, 2, move |line| {
            sender.send(line.len()).unwrap();
        });
        assert_eq!(lines.last(), None);
        let text = format!("first\nsecond\r\n{}", "x".repeat(2_001));
        process.write_all(text.as_bytes()).await.unwrap();
        drop(process);
        let mut lengths = Vec::new();
        while let Some(length) = told.recv().await {
            lengths.push(length);
        }
        assert_eq!(lengths, [5, 6, 2_000, 1]);
        assert_eq!(lines.all(), ["x".repeat(2_000), "x".to_owned()]);
        assert_eq!(lines.last().as_deref(), Some("x"));
    }
}
