//! Work on the repository itself: `cargo xtask tidy` holds the structural rules and the ledger.

mod ledger;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a command line tool speaks on stderr")]
fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    if command.as_deref() != Some("tidy") {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::from(2);
    }
    match check(Path::new(tidy::ROOT)) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in &faults {
                eprintln!("tidy: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = tidy::check(root)?;
    faults.extend(ledger::check(root)?);
    Ok(faults)
}
