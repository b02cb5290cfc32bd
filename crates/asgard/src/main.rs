//! The `asgard` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    asgard::commands::main()
}
