//! A model as it is named on the command line.

/// Parts `churn`, `churn/3`, `churn@champion` and MLflow's `models:/churn/3`, `models:/churn@champion`
/// into the name and the version, which begins with `@` where it is an alias.
pub(super) fn parse(text: &str) -> (&str, Option<String>) {
    let text = text.strip_prefix("models:/").unwrap_or(text);
    // No name holds one of these.
    let Some(at) = text.find(['@', '/', ':']) else {
        return (text, None);
    };
    let (name, version) = text.split_at(at);
    (
        name,
        Some(version.trim_start_matches(['/', ':']).to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_model_may_be_named_with_a_version_or_an_alias() {
        for (text, name, version) in [
            ("churn", "churn", None),
            ("churn/3", "churn", Some("3")),
            ("churn:3", "churn", Some("3")),
            ("churn@champion", "churn", Some("@champion")),
            ("models:/churn", "churn", None),
            ("models:/churn/3", "churn", Some("3")),
            ("models:/churn@champion", "churn", Some("@champion")),
        ] {
            assert_eq!(parse(text), (name, version.map(str::to_owned)), "{text}");
        }
    }
}
