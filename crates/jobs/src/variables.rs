//! The environment variables that a caller may give to a job, or to a deployed model.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer};

/// The longest value, in bytes: the kernel takes no longer string (`MAX_ARG_STRLEN`).
const VALUE_LIMIT: usize = 127 * 1024;
/// The most names and values together, in bytes.
const TOTAL_LIMIT: usize = 256 * 1024;

/// Names that the platform sets itself, or that change which code runs before the script.
const REFUSED: [&str; 13] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "PWD",
    "SHELL",
    "IFS",
    "BASH_ENV",
    "ENV",
    "MLFLOW_RUN_ID",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "VIRTUAL_ENV",
];
const REFUSED_PREFIXES: [&str; 5] = ["LD_", "PYTHON", "MLFLOW_TRACKING_", "ASGARD_", "UV_"];
/// Harmless to the platform, useful to scripts.
const ALLOWED: [&str; 5] = [
    "PYTHONHASHSEED",
    "PYTHONWARNINGS",
    "PYTHONOPTIMIZE",
    "PYTHONFAULTHANDLER",
    "PYTHONTRACEMALLOC",
];

/// What is shown of a value that is not shown.
const HIDDEN: &str = "***";

/// Reads the variables of a stored request: with their values, as earlier versions wrote them, or
/// their names alone, where the values lie sealed beside them.
///
/// # Errors
/// When it is neither.
pub(crate) fn read_stored<'de, D: Deserializer<'de>>(
    stored: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Plain(BTreeMap<String, String>),
        Names(Vec<String>),
    }
    Ok(match Stored::deserialize(stored)? {
        Stored::Plain(variables) => variables,
        Stored::Names(names) => {
            let hidden = names.into_iter().map(|name| (name, HIDDEN.to_owned()));
            hidden.collect()
        }
    })
}

/// Finds what is wrong with a caller's variables: pairs of a name and a sentence.
pub fn check(variables: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    let mut total = 0;
    for (name, value) in variables {
        total += name.len() + value.len();
        let problem = if !is_name(name) {
            Some("is not a name for an environment variable: letters, digits and _ only, no digit first".to_owned())
        } else if is_refused(name) {
            Some(
                "is set by the platform or changes which code runs; choose another name".to_owned(),
            )
        } else if value.contains('\0') {
            Some("holds a NUL byte".to_owned())
        } else if value.len() > VALUE_LIMIT {
            Some(format!(
                "is longer than {VALUE_LIMIT} bytes; put the data where the script can read it"
            ))
        } else {
            None
        };
        wrong.extend(problem.map(|p| (name.clone(), p)));
    }
    if total > TOTAL_LIMIT {
        wrong.push((
            String::new(),
            format!("all variables together are longer than {TOTAL_LIMIT} bytes"),
        ));
    }
    wrong
}

fn is_name(name: &str) -> bool {
    name.len() <= 256
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_refused(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    !ALLOWED.contains(&upper.as_str())
        && (REFUSED.contains(&upper.as_str())
            || REFUSED_PREFIXES
                .iter()
                .any(|prefix| upper.starts_with(prefix)))
}

/// The variables as a job document shows them: names only, except for short plain settings.
///
/// A value can be a secret; its name often says so, and a long or random-looking value may be one
/// too. Numbers, booleans and paths are what settings are made of.
pub fn redacted(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    variables
        .iter()
        .map(|(name, value)| {
            let shown = if is_secret(name, value) {
                HIDDEN.to_owned()
            } else {
                value.clone()
            };
            (name.clone(), shown)
        })
        .collect()
}

/// Values that must not be seen in a log, as they are and as programs usually write them, the
/// longest first: one may hold another. Shorter ones than six bytes are left out, as covering them
/// would make the log unreadable.
pub fn secrets(variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut secrets: Vec<String> = variables
        .iter()
        .filter(|(name, value)| is_secret(name, value))
        // Logs come by lines.
        .flat_map(|(_, value)| std::iter::once(value.as_str()).chain(value.lines()))
        .filter(|text| text.len() >= 6)
        .flat_map(as_written)
        .collect();
    secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

/// A value in the encodings of URLs, JSON, Basic authentication and hexadecimal digits.
fn as_written(value: &str) -> [String; 6] {
    let json = serde_json::Value::from(value).to_string();
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = BASE64_STANDARD_NO_PAD.encode(value);
    [
        value.to_owned(),
        json.get(1..json.len() - 1).unwrap_or_default().to_owned(),
        utf8_percent_encode(value, &RESERVED).to_string(),
        base64.replace('+', "-").replace('/', "_"),
        base64,
        hex,
    ]
}

/// What RFC 3986 has encoded in a part of a URL.
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Whether libraries read a variable when they are loaded, so that an interpreter which has loaded
/// them already would not see it.
pub(crate) fn is_read_at_import(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    const PREFIXES: [&str; 19] = [
        "PYTHON",
        "OMP_",
        "MKL_",
        "OPENBLAS_",
        "BLIS_",
        "VECLIB_",
        "NUMEXPR_",
        "NUMBA_",
        "KMP_",
        "GOMP_",
        "CUDA_",
        "NVIDIA_",
        "TF_",
        "MPL",
        "MLFLOW_",
        "SKLEARN_",
        "NPY_",
        "LC_",
        "MALLOC_",
    ];
    ["TZ", "LANG"].contains(&upper.as_str()) || PREFIXES.iter().any(|p| upper.starts_with(p))
}

/// Whether a value is hidden, in documents as in logs.
fn is_secret(name: &str, value: &str) -> bool {
    names_secret(name)
        || value.len() > 64
        || value.contains("://") && value.contains('@')
        || !value
            .chars()
            .all(|c| c.is_alphanumeric() || "._-/,:= ".contains(c))
}

fn names_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    [
        "SECRET",
        "TOKEN",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "KEY",
        "CREDENTIAL",
        "AUTH",
        "DSN",
        "CONN",
    ]
    .iter()
    .any(|word| upper.contains(word))
        || upper
            .split('_')
            .any(|word| ["PASS", "PWD", "PGPASS"].contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn the_documented_variables_are_taken() {
        let fine = of(&[
            ("DATA_PATH", "/data/customers.csv"),
            ("N_ESTIMATORS", "100"),
            ("USE_FEAST", "true"),
            ("PYTHONHASHSEED", "0"),
        ]);
        assert!(check(&fine).is_empty());
    }

    #[test]
    fn variables_that_would_change_the_platform_are_refused() {
        for name in [
            "LD_PRELOAD",
            "PYTHONPATH",
            "PATH",
            "MLFLOW_TRACKING_URI",
            "mlflow_tracking_token",
            "MLFLOW_RUN_ID",
            "A=B",
            "1X",
            "",
        ] {
            assert_eq!(check(&of(&[(name, "x")])).len(), 1, "{name:?}");
        }
        assert_eq!(
            check(&of(&[("BIG", &"x".repeat(VALUE_LIMIT + 1))])).len(),
            1
        );
        assert_eq!(check(&of(&[("NUL", "a\0b")])).len(), 1);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = redacted(&of(&[
            ("DATA_PATH", "/data/a.csv"),
            ("DB_PASSWORD", "hunter2"),
            ("URL", "postgres://u:p@h/d"),
        ]));
        let usual = redacted(&of(&[
            ("DB_PASS", "x1"),
            ("PGPASS", "x1"),
            ("SMTP_PWD", "x1"),
        ]));
        assert!(usual.values().all(|value| value == "***"), "{usual:?}");
        assert_eq!(redacted(&of(&[("N_PASSES", "10")]))["N_PASSES"], "10");
        assert_eq!(shown["DATA_PATH"], "/data/a.csv");
        assert_eq!(
            (shown["DB_PASSWORD"].as_str(), shown["URL"].as_str()),
            ("***", "***")
        );
    }

    #[test]
    fn what_a_document_hides_is_covered_in_the_log() {
        let variables = of(&[
            ("DATA_PATH", "/data/a.csv"),
            ("URL", "postgres://u:p@h/d"),
            ("DB_PASSWORD", "hunter22"),
            ("OTHER_TOKEN", "hunter22/more"),
            ("SHORT_KEY", "1"),
        ]);
        let secrets = secrets(&variables);
        for shown in [
            "postgres://u:p@h/d",
            "postgres%3A%2F%2Fu%3Ap%40h%2Fd",
            "cG9zdGdyZXM6Ly91OnBAaC9k",
            "hunter22/more",
            "hunter22",
            "68756e7465723232",
        ] {
            assert!(secrets.iter().any(|secret| secret == shown), "{shown}");
        }
        assert!(secrets.is_sorted_by_key(|secret| std::cmp::Reverse(secret.len())));
        assert!(!secrets.iter().any(|secret| secret == "1"));
    }
}
