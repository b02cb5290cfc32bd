//! The phases of a job on stderr: one line each with its time, and a spinner while it lasts.

use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::message;

/// The phase that reports progress.
pub(crate) const SCRIPT: &str = "script";

/// What is told about a job while it runs.
pub(crate) struct Phases {
    bar: Option<ProgressBar>,
    color: bool,
    quiet: bool,
    current: Option<(&'static str, Instant)>,
    /// What to add to the line of the current phase.
    detail: Option<String>,
    /// The script's last words, without an end of line yet, and whether they are for stderr. A
    /// spinner would wipe such a line away.
    held: Option<(String, bool)>,
}

impl Phases {
    pub(crate) fn new(live: bool, color: bool, quiet: bool) -> Self {
        let bar = (live && !quiet).then(|| {
            let bar = ProgressBar::new_spinner();
            let template = "{spinner} {msg} {elapsed}";
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_spinner())
                    .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "),
            );
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            color,
            quiet,
            current: None,
            detail: None,
            held: None,
        }
    }

    /// Begins a phase that began at `at`; the one before has ended well then.
    pub(crate) fn begin(&mut self, name: &'static str, at: Instant) {
        if self.current.is_some_and(|(current, _)| current == name) {
            return;
        }
        self.finish(true, at);
        self.current = Some((name, at));
        if let Some(bar) = &self.bar {
            bar.reset_elapsed();
            bar.set_message(name);
        }
    }

    /// Adds something to the line of the current phase.
    pub(crate) fn detail(&mut self, detail: String) {
        self.detail = Some(detail);
    }

    /// Shows how far the script is, from 0.0 to 1.0.
    pub(crate) fn progress(&mut self, progress: f64) {
        if let (Some(bar), Some((SCRIPT, _))) = (&self.bar, self.current) {
            bar.set_message(format!("{SCRIPT} {:.0} %", progress * 100.0));
        }
    }

    /// Ends the current phase.
    pub(crate) fn end(&mut self, well: bool) {
        self.finish(well, Instant::now());
    }

    fn finish(&mut self, well: bool, at: Instant) {
        let detail = self.detail.take();
        let Some((name, started)) = self.current.take() else {
            return;
        };
        let text = match detail {
            Some(detail) => format!("{name} {detail}"),
            None => name.to_owned(),
        };
        self.mark(well, &text, Some(at - started));
    }

    /// A line of its own: `✓ text 0.8 s`.
    pub(crate) fn mark(&mut self, well: bool, text: &str, took: Option<Duration>) {
        let (sign, code) = if well { ("✓", 32) } else { ("✗", 31) };
        let sign = self.colored(code, sign);
        let took = took.map_or_else(String::new, |t| {
            format!(" {}", self.colored(2, &format!("{:.1} s", t.as_secs_f64())))
        });
        self.line(&format!("{sign} {text}{took}"));
    }

    /// A line that is not data.
    pub(crate) fn line(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        self.break_line();
        self.apart(|| message(text));
    }

    /// A line of the platform, beside the script's own.
    pub(crate) fn aside(&mut self, text: &str) {
        let text = self.colored(2, text);
        self.line(&text);
    }

    /// What the script wrote.
    pub(crate) fn script(&mut self, text: &str, to_stderr: bool) -> std::io::Result<()> {
        if self.bar.is_none() {
            return write_to(to_stderr, text);
        }
        let mut text = text.to_owned();
        match self.held.take() {
            Some((held, stream)) if stream == to_stderr => text.insert_str(0, &held),
            Some((held, stream)) => self.apart(|| write_to(stream, &format!("{held}\n")))?,
            None => {}
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let rest = text.split_off(whole);
        self.held = (!rest.is_empty()).then_some((rest, to_stderr));
        self.apart(|| write_to(to_stderr, &text))
    }

    /// Takes the spinner away.
    pub(crate) fn close(&mut self) {
        self.break_line();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn break_line(&mut self) {
        if let Some((held, to_stderr)) = self.held.take() {
            // A reader that left is noticed at the next line.
            let _ = self.apart(|| write_to(to_stderr, &format!("{held}\n")));
        }
    }

    fn apart<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn colored(&self, code: u8, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn write_to(stderr: bool, text: &str) -> std::io::Result<()> {
    if stderr {
        return std::io::stderr().lock().write_all(text.as_bytes());
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
