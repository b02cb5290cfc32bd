//! Carrying a script's output into its log: whole lines and whole characters where they come
//! whole, hidden progress lines taken out, known secrets covered.

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Duration, timeout};

use super::{LogWriter, Stream, incomplete_tail};

/// How long the beginning of a line may wait for its end.
const PARTIAL_LINE: Duration = Duration::from_millis(200);
/// The longest line that is held together.
const LINE_LIMIT: usize = 32 * 1024;

/// What a line of output says to the platform.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// `::asgard progress 0.4::`, or shorter `::progress 0.4::`: how far the script is.
    Progress(f64),
    /// The runner has done its imports and waits for the script.
    Ready,
    /// The runner begins the script.
    Begun,
    /// The script ended with an error.
    Failed(ScriptFailure),
    /// The runner has something to tell the reader of the log.
    Note(String),
}

/// How a script failed, as the runner saw it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ScriptFailure {
    /// The exception's class.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) traceback: Option<String>,
    /// The line of the script.
    pub(crate) line: Option<u32>,
    /// The module that could not be imported.
    pub(crate) module: Option<String>,
}

impl Line {
    /// Reads a line that stands alone between its line breaks.
    fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?.trim();
        let inner = text.strip_prefix("::")?.strip_suffix("::")?;
        let (word, content) = inner
            .strip_prefix("asgard ")
            .or_else(|| Some(inner).filter(|text| text.starts_with("progress ")))?
            .split_once(' ')?;
        match word {
            "progress" => {
                let value: f64 = content.trim().parse().ok()?;
                (0.0..=1.0)
                    .contains(&value)
                    .then_some(Self::Progress(value))
            }
            "ready" => Some(Self::Ready),
            "begun" => Some(Self::Begun),
            "failed" => serde_json::from_str(content).ok().map(Self::Failed),
            "note" => serde_json::from_str(content).ok().map(Self::Note),
            _ => None,
        }
    }

    /// The same with known secrets covered: what a line says is shown, in the log or as an error.
    fn covered(self, secrets: &[String]) -> Self {
        let cover = |text: String| cover_text(&text, secrets);
        match self {
            Self::Failed(failure) => Self::Failed(ScriptFailure {
                kind: cover(failure.kind),
                message: cover(failure.message),
                traceback: failure.traceback.map(cover),
                line: failure.line,
                module: failure.module.map(cover),
            }),
            Self::Note(text) => Self::Note(cover(text)),
            Self::Progress(_) | Self::Ready | Self::Begun => self,
        }
    }
}

/// Reads `output` to its end into `log`, handing progress lines to `said`.
pub(crate) async fn pump(
    mut output: impl AsyncRead + Unpin,
    stream: Stream,
    log: LogWriter,
    secrets: std::sync::Arc<[String]>,
    said: impl Fn(Line) + Send,
) {
    let takes_markers = stream == Stream::Stdout;
    let mut held: Vec<u8> = Vec::new();
    let mut line_begins = true;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let wait = if held.is_empty() {
            Duration::from_secs(3600)
        } else {
            PARTIAL_LINE
        };
        let read = match timeout(wait, output.read(&mut buffer)).await {
            Ok(Ok(n)) => n,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a script's output ended with an error");
                0
            }
            Err(_) => {
                // A prompt or a progress bar: shown without its line's end.
                let whole = held.len() - incomplete_tail(&held);
                if whole > 0 && !begins_marker(&held) {
                    let rest = held.split_off(whole);
                    log.write(stream, cover(std::mem::replace(&mut held, rest), &secrets))
                        .await;
                    line_begins = false;
                }
                continue;
            }
        };
        held.extend_from_slice(&buffer[..read]);
        let end = read == 0;
        let mut ready = match held.iter().rposition(|b| *b == b'\n') {
            _ if end => held.len(),
            Some(last) => last + 1,
            None if held.len() > LINE_LIMIT => held.len() - incomplete_tail(&held),
            None => 0,
        };
        if ready > 0 {
            let rest = held.split_off(ready);
            let lines = std::mem::replace(&mut held, rest);
            let ended = lines.ends_with(b"\n");
            let shown = if takes_markers {
                take_markers(lines, line_begins, &|line: Line| {
                    said(line.covered(&secrets))
                })
            } else {
                lines
            };
            line_begins = ended;
            log.write(stream, cover(shown, &secrets)).await;
            ready = 0;
        }
        debug_assert_eq!(ready, 0);
        if end {
            return;
        }
    }
}

fn begins_marker(line: &[u8]) -> bool {
    line.starts_with(b"::asgard ") || line.starts_with(b"::progress")
}

/// Takes the lines for the platform out of `lines`.
fn take_markers(lines: Vec<u8>, line_begins: bool, said: &impl Fn(Line)) -> Vec<u8> {
    if !lines.windows(2).any(|pair| pair == b"::") {
        return lines;
    }
    let mut shown = Vec::with_capacity(lines.len());
    for (index, line) in lines.split_inclusive(|b| *b == b'\n').enumerate() {
        match Line::parse(line).filter(|_| index > 0 || line_begins) {
            Some(marker) => {
                // The runner breaks the line before a marker, in case the script left one open.
                if shown == b"\n" || shown.ends_with(b"\n\n") {
                    shown.pop();
                }
                said(marker);
            }
            None => shown.extend_from_slice(line),
        }
    }
    shown
}

/// Puts stars in the place of known secret values.
pub fn cover_text(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// Covers known secret values.
fn cover(bytes: Vec<u8>, secrets: &[String]) -> Vec<u8> {
    let mut bytes = bytes;
    for secret in secrets {
        let secret = secret.as_bytes();
        while let Some(at) = bytes
            .windows(secret.len().max(1))
            .position(|part| part == secret)
        {
            bytes.splice(at..at + secret.len(), *b"***");
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_read_and_others_are_not() {
        assert_eq!(
            Line::parse(b"::asgard progress 0.4::\n"),
            Some(Line::Progress(0.4))
        );
        assert_eq!(
            Line::parse(b"::progress 1.0::\r\n"),
            Some(Line::Progress(1.0))
        );
        for other in [
            &b"::progress 40::"[..],
            b"::progress x::",
            b"progress 0.4",
            b"say ::progress 0.4::",
            b"::progress nan::",
        ] {
            assert_eq!(Line::parse(other), None);
        }
    }

    #[test]
    fn progress_lines_are_kept_out_of_the_log() {
        let seen = std::cell::RefCell::new(Vec::new());
        let said = |line| seen.borrow_mut().push(line);
        let shown = take_markers(b"a\n::progress 0.5::\nb\n".to_vec(), true, &said);
        assert_eq!(shown, b"a\nb\n");
        assert_eq!(*seen.borrow(), [Line::Progress(0.5)]);
    }

    #[test]
    fn the_runner_tells_how_a_script_failed() {
        let line = "::asgard failed {\"type\": \"ValueError\", \"message\": \"bad \u{2705}\", \"line\": 3}::\n";
        let Some(Line::Failed(failure)) = Line::parse(line.as_bytes()) else {
            panic!("not read")
        };
        assert_eq!(
            (failure.kind.as_str(), failure.line),
            ("ValueError", Some(3))
        );
        assert_eq!(Line::parse(b"::asgard begun null::"), Some(Line::Begun));
        assert_eq!(Line::parse(b"::asgard other null::"), None);
    }

    #[test]
    fn secrets_are_covered() {
        assert_eq!(
            cover(b"key hunter22 and hunter22".to_vec(), &["hunter22".into()]),
            b"key *** and ***"
        );
    }

    #[test]
    fn secrets_are_covered_in_what_the_runner_says() {
        // In the marker's JSON the secret is escaped, so it shows only when the line is read.
        let secrets = ["p\"ss\nwörd".to_owned()];
        let text = serde_json::to_string(&format!("bad {}!", secrets[0])).unwrap();
        for line in [
            format!("::asgard note {text}::"),
            format!(
                "::asgard failed {{\"type\": {text}, \"message\": {text}, \"traceback\": {text}, \"module\": {text}}}::"
            ),
        ] {
            let seen = std::cell::RefCell::new(Vec::new());
            let said = |line: Line| seen.borrow_mut().push(line.covered(&secrets));
            take_markers(line.into_bytes(), true, &said);
            let seen = format!("{:?}", seen.borrow());
            assert!(seen.contains("bad ***!") && !seen.contains("rd!"), "{seen}");
        }
    }
}
