//! Environment markers: `python_version < "3.11" and os_name == "posix"`.

use super::Refusal;
use super::scanner::Scanner;

const VARIABLES: [&str; 12] = [
    "python_version",
    "python_full_version",
    "os_name",
    "sys_platform",
    "platform_release",
    "platform_system",
    "platform_version",
    "platform_machine",
    "platform_python_implementation",
    "implementation_name",
    "implementation_version",
    "extra",
];

const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

/// How deep parentheses may nest.
const DEPTH: usize = 16;

/// Reads a marker and writes it in one form.
pub(super) fn parse(scanner: &mut Scanner<'_>) -> Result<String, Refusal> {
    any(scanner, DEPTH).ok_or_else(|| {
        Refusal::new(
            format!("has a malformed marker near {:?}", scanner.rest()),
            "a marker is written as in: tomli>=2; python_version < \"3.11\"",
        )
    })
}

fn any(scanner: &mut Scanner<'_>, depth: usize) -> Option<String> {
    joined(scanner, "or", |s| joined(s, "and", |s| one(s, depth)))
}

fn joined(
    scanner: &mut Scanner<'_>,
    word: &str,
    part: impl Fn(&mut Scanner<'_>) -> Option<String>,
) -> Option<String> {
    let mut text = part(scanner)?;
    loop {
        scanner.skip_space();
        if !scanner.take(word) {
            return Some(text);
        }
        text = format!("{text} {word} {}", part(scanner)?);
    }
}

fn one(scanner: &mut Scanner<'_>, depth: usize) -> Option<String> {
    scanner.skip_space();
    if scanner.take("(") {
        let inner = any(scanner, depth.checked_sub(1)?)?;
        scanner.skip_space();
        return scanner.take(")").then(|| format!("({inner})"));
    }
    let left = value(scanner)?;
    let operator = operator(scanner)?;
    let right = value(scanner)?;
    Some(format!("{left} {operator} {right}"))
}

fn value(scanner: &mut Scanner<'_>) -> Option<String> {
    scanner.skip_space();
    if let Some(text) = scanner.quoted() {
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        let usable = text.chars().all(plain) && !text.contains(['"', '\'', '@', '\\', '/']);
        return usable.then(|| format!("\"{text}\""));
    }
    let name = scanner.take_while(|c| c.is_ascii_lowercase() || c == '_');
    VARIABLES.contains(&name).then(|| name.to_owned())
}

fn operator(scanner: &mut Scanner<'_>) -> Option<String> {
    scanner.skip_space();
    if let Some(found) = OPERATORS.into_iter().find(|o| scanner.take(o)) {
        return Some(found.to_owned());
    }
    let words = |scanner: &mut Scanner<'_>| {
        let word = scanner.take_while(|c| c.is_ascii_lowercase()).to_owned();
        scanner.skip_space();
        word
    };
    match words(scanner).as_str() {
        "in" => Some("in".to_owned()),
        "not" => (words(scanner) == "in").then(|| "not in".to_owned()),
        _ => None,
    }
}
