//! The log: text on terminals, JSON elsewhere, always on stderr.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::{Config, LogFormat};

/// Sends the log to stderr, panics included.
///
/// # Errors
/// When `server.log_level` is no level and no list of directives.
pub fn log_to_stderr(config: &Config, color: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level)
        .with_context(|| format!("server.log_level {:?} cannot be used", config.log_level))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        subscriber
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .init();
    } else {
        // People read it: which module says something is for machines.
        subscriber
            .with_ansi(terminal && color)
            .with_target(false)
            .init();
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, message, "panicked");
    }));
    Ok(())
}
