//! The log of a job: what is stored, what is kept of a huge one, how it is read and shown.
//!
//! A log is one sequence of bytes; a position counts every byte that ever came, also those that
//! were left out of the middle. Bytes are stored as they came and escaped only when shown.

mod pump;
mod writer;

pub use pump::cover_text;
pub(crate) use pump::{Line, ScriptFailure, pump};
pub(crate) use writer::{Limits, LogWriter};

/// Who wrote a part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The platform: phases, hints, what became of the job.
    Platform,
    Stdout,
    Stderr,
}

impl Stream {
    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            _ => Self::Platform,
        }
    }
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The position of its first byte.
    pub start: i64,
    pub stream: Stream,
    /// When it came, in epoch milliseconds.
    pub at: i64,
    pub content: Vec<u8>,
}

impl Chunk {
    /// The position after its last byte.
    pub fn end(&self) -> i64 {
        self.start + len(&self.content)
    }
}

fn len(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

/// Part of a log as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    pub text: String,
    /// Where to go on reading.
    pub next: i64,
}

/// Shows chunks from the position `from` on: bytes that are not UTF-8 as `\xNN`, a gap as a line.
pub(crate) fn show(chunks: &[Chunk], from: i64) -> Excerpt {
    let mut text = String::new();
    let mut next = from;
    for chunk in chunks.iter().filter(|c| c.end() > from) {
        if chunk.start > next {
            let left_out = chunk.start - next;
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&format!("[... {left_out} bytes of the log left out ...]\n"));
        }
        let skip = usize::try_from(from - chunk.start).unwrap_or(0);
        escape_into(&mut text, &chunk.content[skip..]);
        next = chunk.end();
    }
    Excerpt { text, next }
}

/// Appends bytes as text; what is not UTF-8 becomes `\xNN`.
pub(crate) fn escape_into(text: &mut String, bytes: &[u8]) {
    for part in bytes.utf8_chunks() {
        text.push_str(part.valid());
        for byte in part.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
}

/// How many bytes at the end of `bytes` begin a character whose rest has not come.
pub(crate) fn incomplete_tail(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    for (index, byte) in bytes.iter().enumerate().skip(from) {
        let needed = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => continue,
        };
        if index + needed > bytes.len() {
            return bytes.len() - index;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(start: i64, content: &[u8]) -> Chunk {
        Chunk {
            start,
            stream: Stream::Stdout,
            at: 0,
            content: content.to_vec(),
        }
    }

    #[test]
    fn a_log_is_read_from_any_byte() {
        let chunks = [chunk(0, b"one\n"), chunk(4, b"two\n")];
        assert_eq!(show(&chunks, 0).text, "one\ntwo\n");
        assert_eq!(
            show(&chunks, 5),
            Excerpt {
                text: "wo\n".into(),
                next: 8
            }
        );
        assert_eq!(
            show(&chunks, 8),
            Excerpt {
                text: String::new(),
                next: 8
            }
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_escaped() {
        assert_eq!(
            show(&[chunk(0, b"a\xff\xe2\x9c\x85")], 0).text,
            "a\\xff\u{2705}"
        );
    }

    #[test]
    fn what_was_left_out_is_said() {
        let chunks = [chunk(0, b"head\n"), chunk(105, b"tail\n")];
        assert_eq!(
            show(&chunks, 0).text,
            "head\n[... 100 bytes of the log left out ...]\ntail\n"
        );
        // Reading on after the head tells it too.
        assert!(show(&chunks[1..], 5).text.starts_with("[... 100 bytes"));
    }

    #[test]
    fn a_character_is_waited_for() {
        assert_eq!(incomplete_tail("x\u{2705}".as_bytes()), 0);
        assert_eq!(incomplete_tail(b"x\xe2\x9c"), 2);
        assert_eq!(incomplete_tail(b"x\xf0"), 1);
        assert_eq!(incomplete_tail(b"\xff\xff"), 0);
        assert_eq!(incomplete_tail(b""), 0);
    }
}
