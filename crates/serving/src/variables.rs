//! The environment variables of a model's own code: what `os.environ` has for it beside what every
//! worker has.

use std::collections::BTreeMap;
use std::fmt;

/// Variables by their names. A value may be a secret: debug output shows the names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

/// The variable by which a model server learns which others of its environment are the model's.
const NAMES: &str = "ASGARD_MODEL_VARIABLES";

impl Variables {
    /// Those that the environment of a model server names as its model's.
    pub fn of_environment(environment: &[(String, String)]) -> Self {
        let find = |wanted: &str| environment.iter().find(|(name, _)| name == wanted);
        let named = find(NAMES).map_or("", |(_, names)| names).split(',');
        Self(
            named
                .filter_map(|name| find(name.trim()).cloned())
                .collect(),
        )
    }

    /// The environment from which a model server reads the same again.
    pub fn to_environment(&self) -> Vec<(String, String)> {
        let mut environment: Vec<_> = self.0.clone().into_iter().collect();
        environment.extend(self.names());
        environment
    }

    /// The variable that names the others, where there are any.
    pub fn names(&self) -> Option<(String, String)> {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        (!names.is_empty()).then(|| (NAMES.to_owned(), names.join(",")))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

impl From<BTreeMap<String, String>> for Variables {
    fn from(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_server_finds_the_models_variables_and_no_others() {
        let pairs = [("GREETING", "hello, you"), ("EMPTY", "")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = Variables::from(BTreeMap::from(pairs));
        let mut environment = variables.to_environment();
        environment.push(("PATH".to_owned(), "/bin".to_owned()));
        assert_eq!(Variables::of_environment(&environment), variables);
        assert_eq!(Variables::default().to_environment(), []);
        let plain = [("GREETING".to_owned(), "mine".to_owned())];
        assert_eq!(Variables::of_environment(&plain), Variables::default());
        assert_eq!(format!("{variables:?}"), r#"{"EMPTY", "GREETING"}"#);
    }
}
