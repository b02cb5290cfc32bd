//! Whether a training script can leave a model, told from its text before anything is run.
//!
//! Only what is certain is refused: a script that never names mlflow, or that names it and calls
//! nothing that could store a model. Comments and strings do not count.

/// Calls that leave a model, or may.
const LEAVES_MODEL: [&str; 7] = [
    "log_model",
    "log_artifact",
    "log_artifacts",
    "save_model",
    "register_model",
    "create_model_version",
    "autolog",
];

/// What a script lacks to be deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It does not use MLflow at all.
    Mlflow,
    /// It uses MLflow, and logs no model.
    Model,
}

impl Missing {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Mlflow => "no_mlflow",
            Self::Model => "no_model_logged",
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Mlflow => "the script does not use mlflow, so no model of it could be deployed",
            Self::Model => "the script logs no model that could be deployed",
        }
    }

    pub(crate) fn help(self) -> &'static str {
        "your script MUST: 1. import mlflow 2. train 3. call log_model:\n\
         \x20   import mlflow, mlflow.sklearn\n\
         \x20   with mlflow.start_run():\n\
         \x20       model.fit(X, y)\n\
         \x20       mlflow.sklearn.log_model(model, \"model\")\n\
         or set autolog to true; when a package of yours logs the model, set skip_script_check to true"
    }
}

/// Looks at a script.
///
/// # Errors
/// What it lacks.
pub(crate) fn script(text: &str) -> Result<(), Missing> {
    let words = words(text);
    let has = |name: &str| words.iter().any(|word| word == name);
    if !has("mlflow") {
        return Err(Missing::Mlflow);
    }
    if !LEAVES_MODEL.iter().any(|name| has(name)) {
        return Err(Missing::Model);
    }
    Ok(())
}

/// The names in a script's code, without comments and strings.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        rest = match c {
            '#' => rest.find('\n').map_or("", |end| &rest[end..]),
            '"' | '\'' => after_string(rest, c),
            _ => &rest[c.len_utf8()..],
        };
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What follows the string that `text` begins with. A string that is not closed ends with its
/// line, as Python would have it.
fn after_string(text: &str, quote: char) -> &str {
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let (end, long) = if text.starts_with(&triple) {
        (triple, true)
    } else {
        (quote.to_string(), false)
    };
    let mut rest = &text[end.len()..];
    loop {
        if rest.is_empty() {
            return rest;
        }
        if let Some(after) = rest.strip_prefix(&end) {
            return after;
        }
        if !long && rest.starts_with('\n') {
            return rest;
        }
        let escaped = rest.strip_prefix('\\');
        rest = escaped.unwrap_or(rest);
        let mut chars = rest.chars();
        chars.next();
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_logs_a_model_passes() {
        for good in [
            "import mlflow\nmlflow.sklearn.log_model(m, \"model\")\n",
            "from mlflow.sklearn import log_model\nlog_model(m, 'model')",
            "import mlflow; mlflow.autolog()",
            "import mlflow\nx = 'it''s'\nmlflow.log_artifact('model.pkl', artifact_path='model')",
            "\"\"\"A docstring with 'quotes' \\\"\"\" inside\"\"\"\nimport mlflow\nmlflow.register_model(u, n)",
        ] {
            assert_eq!(script(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_a_script_only_talks_about_does_not_count() {
        assert_eq!(
            script("# import mlflow\nprint('mlflow.log_model')"),
            Err(Missing::Mlflow)
        );
        assert_eq!(
            script("'''\nimport mlflow\nmlflow.autolog()\n'''"),
            Err(Missing::Mlflow)
        );
        assert_eq!(
            script("import mlflow\nmlflow.log_metric('log_model', 1)  # log_model"),
            Err(Missing::Model)
        );
        assert_eq!(script(""), Err(Missing::Mlflow));
    }

    #[test]
    fn broken_strings_end_somewhere() {
        for odd in [
            "'",
            "\"\"\"",
            "x = 'open\nimport mlflow\nmlflow.autolog()",
            "'\\",
        ] {
            let _ = script(odd);
        }
        assert_eq!(script("x = 'open\nimport mlflow\nmlflow.autolog()"), Ok(()));
    }
}
