//! The `AWS_*` variables of the server's environment.

use std::collections::BTreeMap;

/// The variables by which Amazon's own tools find credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AwsVariables(BTreeMap<String, String>);

impl AwsVariables {
    /// Keeps the `AWS_*` ones of `variables`.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let kept = variables
            .into_iter()
            .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty());
        Self(kept.collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for AwsVariables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Their values are secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::AwsVariables;

    #[test]
    fn the_secrets_of_the_environment_are_never_printed() {
        let secret = ("AWS_SECRET_ACCESS_KEY".to_owned(), "s3cret".to_owned());
        let shown = format!("{:?}", AwsVariables::from_variables([secret]));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY"), "{shown}");
    }
}
