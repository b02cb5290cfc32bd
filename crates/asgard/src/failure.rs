//! How a command fails: an exit code, what happened, what to do.

use std::fmt;

/// The exit codes of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Failure = 1,
    Usage = 2,
    /// Cancelled or declined.
    Cancelled = 3,
    /// Not authenticated, or not allowed.
    Denied = 4,
    /// The job ended without success.
    Unsuccessful = 5,
    NotFound = 6,
    Conflict = 7,
    /// Still going on when the waiting time was over.
    Pending = 8,
    Unreachable = 9,
    Interrupted = 130,
}

/// A command's failure as it is told to the user.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    message: String,
    help: Option<String>,
    request_id: Option<String>,
}

impl Failure {
    /// A failure with a message that says what was attempted and on what.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            help: None,
            request_id: None,
        }
    }

    /// A failure with the words of an error and its causes.
    pub fn of(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(exit, chain(error))
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Names the request that the server's log knows.
    #[must_use]
    pub fn request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, "\nrequest id: {id}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// An error and its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        // An error that shows its cause by itself says it once.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}
