//! Reading what went wrong from what uv said.

use super::Output;
use crate::error::Error;

/// The domain error behind a failed uv command.
pub(crate) fn failure(attempt: &'static str, output: &Output) -> Error {
    let said = output.stderr.trim();
    let message = message(said);
    let output = said.to_owned();
    if said.contains("No solution found") {
        let help = help(&message, said);
        return Error::Unsatisfiable {
            message,
            help,
            output,
        };
    }
    let needs_build = said.contains("building from source is disabled")
        || said.contains("has no usable wheel")
        || said.contains("--no-build");
    if needs_build {
        return Error::Unsatisfiable {
            message,
            help: SOURCE_BUILD.to_owned(),
            output,
        };
    }
    let network = [
        "Failed to fetch",
        "error sending request",
        "dns error",
        "timed out",
        "Could not connect",
        "Failed to download",
        "invalid peer certificate",
    ];
    if network.iter().any(|sign| said.contains(sign)) {
        return Error::Index { message, output };
    }
    Error::Build {
        attempt,
        message,
        output,
    }
}

const SOURCE_BUILD: &str = "choose a version that has a wheel for this Python, or set environments.allow_source_builds = true to build from source in the build sandbox";

fn help(message: &str, said: &str) -> String {
    if said.contains("building from source is disabled") || message.contains("no usable wheels") {
        return SOURCE_BUILD.to_owned();
    }
    if message.contains("not found in the package registry") {
        return "check the spelling, and that the package is on the index that environments.index_url names".to_owned();
    }
    if message.contains("no wheels with a matching Python")
        || message.contains("does not satisfy Python")
    {
        return "ask for another Python version, or for a version of the package that supports this one".to_owned();
    }
    if message.contains("there is no version of") || message.contains("only the following versions")
    {
        return "ask for a version that exists, or leave the version out".to_owned();
    }
    "loosen one of the requirements that exclude each other".to_owned()
}

/// The cause in one line: uv writes `error: WHAT`, then causes, wrapped or marked by a tree.
fn message(said: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in said.lines() {
        let line = line
            .trim()
            .trim_start_matches(['×', '╰', '├', '─', '▶', '│', ' ']);
        if line.is_empty() {
            continue;
        }
        if line.starts_with("hint:") {
            break;
        }
        // Chatter before the error.
        if line.starts_with("error:") {
            lines.clear();
        }
        let line = line
            .trim_start_matches("error: ")
            .trim_start_matches("cause: ");
        lines.push(line.to_owned());
    }
    match lines.as_slice() {
        [] => "it failed without a word".to_owned(),
        [what, cause @ ..] if what.contains("No solution found") && !cause.is_empty() => {
            sentence(&cause.join(" "))
        }
        all => all.join(": "),
    }
}

/// Takes the frame off `Because X, we can conclude that your requirements are unsatisfiable.`
fn sentence(cause: &str) -> String {
    const END: &str = ", we can conclude that your requirements are unsatisfiable.";
    match cause.strip_prefix("Because ") {
        Some(rest) => rest.strip_suffix(END).unwrap_or(rest).to_owned(),
        None => cause.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stderr: &str) -> Error {
        failure(
            "resolving the requirements",
            &Output {
                success: false,
                stdout: String::new(),
                stderr: stderr.to_owned(),
            },
        )
    }

    #[test]
    fn a_version_that_does_not_exist_is_named() {
        let error = read(
            "error: No solution found when resolving dependencies\n  cause: Because there is no version of six==99 and you require six==99, we can conclude that your requirements are unsatisfiable.\n",
        );
        assert_eq!(
            error.to_string(),
            "there is no version of six==99 and you require six==99"
        );
        assert!(error.help().unwrap().contains("a version that exists"));
        assert!(error.is_invalid_request());
    }

    #[test]
    fn older_uv_draws_a_tree() {
        let error = read(
            "  × No solution found when resolving dependencies:\n  ╰─▶ Because sixy was not found in the package registry and you require\n      sixy, we can conclude that your requirements are unsatisfiable.\n",
        );
        assert_eq!(
            error.to_string(),
            "sixy was not found in the package registry and you require sixy"
        );
        assert!(error.help().unwrap().contains("spelling"));
    }

    #[test]
    fn a_package_without_a_wheel_names_the_setting() {
        let error = read(
            "error: No solution found when resolving dependencies\n  cause: Because all versions of sklearn have no usable wheels and you require sklearn, we can conclude that your requirements are unsatisfiable.\n\nhint: Wheels are required for `sklearn` because building from source is disabled for all packages (i.e., with `--no-build`)\n",
        );
        assert!(error.help().unwrap().contains("allow_source_builds"));
        assert_eq!(
            error.to_string(),
            "all versions of sklearn have no usable wheels and you require sklearn"
        );
    }

    #[test]
    fn an_index_that_does_not_answer_is_not_the_requests_fault() {
        let error = read(
            "error: Request failed after 1 retry in 1.8s\n  cause: Failed to fetch: http://127.0.0.1:9/simple/tabulate/\n  cause: tcp connect error\n",
        );
        assert!(matches!(error, Error::Index { .. }));
        assert!(!error.is_invalid_request());
    }
}
