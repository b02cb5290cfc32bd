//! One requirement of a list: PEP 508, from an index.
//!
//! Entries of a request reach uv as lines of a requirements file, where a line may also be an
//! option (`--index-url`), another file (`-r`), a path or a URL. So each entry is parsed here and
//! written anew; what is not one named requirement never gets there.

mod marker;
mod scanner;

use std::fmt;

use crate::error::Error;
use scanner::Scanner;

/// One requirement: `scikit-learn[extra]>=1.4; python_version >= "3.10"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    name: String,
    extras: Vec<String>,
    /// `>=1.4,<2`
    specifiers: Vec<String>,
    marker: Option<String>,
}

/// Why an entry is refused, and what to write.
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) help: String,
}

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            help: help.into(),
        }
    }
}

const EXAMPLE: &str =
    "write one requirement per entry, as in \"scikit-learn>=1.4\" or \"pandas[parquet]==2.2.*\"";

impl Requirement {
    /// Parses one entry.
    pub(crate) fn parse(entry: &str) -> Result<Self, Error> {
        read(entry).map_err(|refusal| Error::Requirement {
            entry: entry.to_owned(),
            reason: refusal.reason,
            help: refusal.help,
        })
    }

    /// The normalised project name (PEP 503): lower case, with `-` between its parts.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.extras.is_empty() {
            write!(f, "[{}]", self.extras.join(","))?;
        }
        f.write_str(&self.specifiers.join(","))?;
        match &self.marker {
            Some(marker) => write!(f, " ; {marker}"),
            None => Ok(()),
        }
    }
}

fn read(entry: &str) -> Result<Requirement, Refusal> {
    refuse_other_forms(entry.trim())?;
    let mut scanner = Scanner::new(entry);
    let name = scanner
        .identifier()
        .ok_or_else(|| Refusal::new("does not begin with a package name", EXAMPLE))?;
    let extras = extras(&mut scanner)?;
    scanner.skip_space();
    if scanner.take("@") {
        return Err(url_refusal());
    }
    let specifiers = specifiers(&mut scanner)?;
    scanner.skip_space();
    let marker = if scanner.take(";") {
        Some(marker::parse(&mut scanner)?)
    } else {
        None
    };
    scanner.skip_space();
    if !scanner.is_done() {
        return Err(Refusal::new(
            format!("has {:?} after the requirement", scanner.rest()),
            EXAMPLE,
        ));
    }
    Ok(Requirement {
        name: normalised(name),
        extras,
        specifiers,
        marker,
    })
}

/// Names the forms of a requirements file that are not a requirement from an index.
fn refuse_other_forms(entry: &str) -> Result<(), Refusal> {
    if entry.is_empty() {
        return Err(Refusal::new("is empty", EXAMPLE));
    }
    if entry.chars().any(|c| c.is_control()) {
        return Err(Refusal::new(
            "holds a line break or another control character",
            "give each requirement as an entry of its own",
        ));
    }
    if entry.starts_with('#') {
        return Err(Refusal::new(
            "is a comment",
            "leave comments out of the list",
        ));
    }
    if entry.starts_with('-') {
        return Err(Refusal::new(
            "is an option, not a package",
            "options such as -r, -e and --index-url are not taken from requests; the index is set by environments.index_url on the server",
        ));
    }
    if entry.contains("://") {
        return Err(url_refusal());
    }
    let file_ending = [".whl", ".tar.gz", ".zip", ".txt"];
    if entry.starts_with(['.', '/', '~', '\\'])
        || entry.contains(['/', '\\'])
        || file_ending.iter().any(|e| entry.ends_with(e))
    {
        return Err(Refusal::new(
            "is a path",
            "packages come from the package index; publish it there and name it",
        ));
    }
    Ok(())
}

fn url_refusal() -> Refusal {
    Refusal::new(
        "is a URL",
        "packages come from the package index; name the package and its version",
    )
}

fn extras(scanner: &mut Scanner<'_>) -> Result<Vec<String>, Refusal> {
    let mut extras = Vec::new();
    scanner.skip_space();
    if !scanner.take("[") {
        return Ok(extras);
    }
    loop {
        scanner.skip_space();
        if scanner.take("]") {
            break;
        }
        let bad = || Refusal::new("has a malformed list of extras", EXAMPLE);
        extras.push(normalised(scanner.identifier().ok_or_else(bad)?));
        scanner.skip_space();
        if scanner.take("]") {
            break;
        }
        if !scanner.take(",") {
            return Err(bad());
        }
    }
    extras.sort();
    extras.dedup();
    Ok(extras)
}

fn specifiers(scanner: &mut Scanner<'_>) -> Result<Vec<String>, Refusal> {
    const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];
    let mut specifiers = Vec::new();
    let parenthesised = scanner.take("(");
    loop {
        scanner.skip_space();
        if scanner.is_done() || scanner.peek() == Some(';') || scanner.peek() == Some(')') {
            break;
        }
        let operator = OPERATORS
            .into_iter()
            .find(|o| scanner.take(o))
            .ok_or_else(|| {
                let hint = if scanner.peek() == Some('=') {
                    "compare versions with ==".to_owned()
                } else {
                    EXAMPLE.to_owned()
                };
                Refusal::new(
                    format!(
                        "has {:?} where a version comparison was expected",
                        scanner.rest()
                    ),
                    hint,
                )
            })?;
        scanner.skip_space();
        let version = scanner.take_while(is_version_character);
        check_version(operator, version)?;
        specifiers.push(format!("{operator}{version}"));
        scanner.skip_space();
        if !scanner.take(",") {
            break;
        }
    }
    scanner.skip_space();
    if parenthesised && !scanner.take(")") {
        return Err(Refusal::new("has no closing parenthesis", EXAMPLE));
    }
    specifiers.sort();
    Ok(specifiers)
}

fn is_version_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '*' | '+' | '!' | '-' | '_')
}

fn check_version(operator: &str, version: &str) -> Result<(), Refusal> {
    let begins_well = version.starts_with(|c: char| c.is_ascii_digit() || c == 'v');
    if !begins_well {
        return Err(Refusal::new(
            format!("has no version after {operator}"),
            EXAMPLE,
        ));
    }
    let star_is_fine = match version.strip_suffix(".*") {
        Some(prefix) => matches!(operator, "==" | "!=") && !prefix.contains('*'),
        None => !version.contains('*'),
    };
    if star_is_fine {
        Ok(())
    } else {
        Err(Refusal::new(
            format!("has a * that {operator} does not allow"),
            "a version may end in .* after == and != only",
        ))
    }
}

fn normalised(name: &str) -> String {
    let mut normalised = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|p| !p.is_empty()) {
        if !normalised.is_empty() {
            normalised.push('-');
        }
        normalised.push_str(&part.to_ascii_lowercase());
    }
    normalised
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(entry: &str) -> String {
        Requirement::parse(entry).unwrap().to_string()
    }

    fn refused(entry: &str) -> String {
        Requirement::parse(entry).unwrap_err().to_string()
    }

    #[test]
    fn requirements_are_read_and_written_anew() {
        assert_eq!(
            written(" Scikit_Learn >= 1.4 , < 2"),
            "scikit-learn<2,>=1.4"
        );
        assert_eq!(
            written("pandas[Parquet, aws]==2.2.*"),
            "pandas[aws,parquet]==2.2.*"
        );
        assert_eq!(written("six (>=1.16)"), "six>=1.16");
        assert_eq!(written("torch==2.5.0+cpu"), "torch==2.5.0+cpu");
        assert_eq!(written("x~=1!2.0rc1"), "x~=1!2.0rc1");
        assert_eq!(
            written("tomli>=2 ; python_version<'3.11' and (os_name == \"posix\" or extra=='a')"),
            "tomli>=2 ; python_version < \"3.11\" and (os_name == \"posix\" or extra == \"a\")"
        );
        assert_eq!(
            written("a; sys_platform not in 'win32 darwin'"),
            "a ; sys_platform not in \"win32 darwin\""
        );
    }

    #[test]
    fn what_is_not_one_requirement_is_refused_by_name() {
        for (entry, reason) in [
            ("", "is empty"),
            ("-r /etc/passwd", "is an option"),
            ("--index-url https://example.org/simple", "is an option"),
            ("-e .", "is an option"),
            ("six\n--index-url x", "holds a line break"),
            ("six\u{2028}x", "has \"\\u{2028}x\""),
            ("git+https://example.org/a.git", "is a URL"),
            ("a @ file:///etc/passwd", "is a URL"),
            ("a@b", "is a URL"),
            ("./local", "is a path"),
            ("/tmp/a.whl", "is a path"),
            ("a.whl", "is a path"),
            ("# six", "is a comment"),
            ("six=1.0", "version comparison was expected"),
            ("six==", "has no version"),
            ("six>=1.*", "has a *"),
            ("six 1.0", "version comparison was expected"),
            ("six==1.0 --hash=sha256:00", "after the requirement"),
            ("six[", "malformed list of extras"),
            ("six; python_version", "marker"),
            ("six; os.system('x')", "marker"),
        ] {
            let message = refused(entry);
            assert!(message.contains(reason), "{entry:?}: {message}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_one_line_that_reads_the_same(entry in "\\PC{0,40}") {
            if let Ok(requirement) = Requirement::parse(&entry) {
                let text = requirement.to_string();
                prop_assert!(!text.contains('\n') && !text.starts_with('-'));
                prop_assert!(!text.contains("://") && !text.contains('@'));
                prop_assert_eq!(Requirement::parse(&text).unwrap(), requirement);
            }
        }
    }
}
