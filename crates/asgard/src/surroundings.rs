//! The environment variables that asgard reads. No other file reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the process was given by its environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `ASGARD_URL`: the server that client commands speak to.
    pub url: Option<String>,
    /// `ASGARD_TOKEN`: the key that they send.
    pub token: Option<String>,
    /// `ASGARD_CONFIG`: the configuration file.
    pub config: Option<PathBuf>,
    /// `NO_COLOR` is set, or the terminal cannot show colour.
    pub no_color: bool,
    /// `ASGARD_NO_PROGRESS` is set.
    pub no_progress: bool,
    /// Where a user's programs keep their data: `XDG_DATA_HOME`, else `~/.local/share`.
    pub data_home: Option<PathBuf>,
    /// `ASGARD__SECTION__KEY` settings: the variable's name and its text, by `section.key`.
    pub settings: BTreeMap<String, (String, String)>,
    /// All variables that are text, for `environments` to choose what uv and Python need.
    pub host: Vec<(String, String)>,
}

/// What the names of settings begin with.
const SETTING: &str = "ASGARD__";

impl Surroundings {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        let host: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let home = || var("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        Self {
            url: var("ASGARD_URL"),
            token: var("ASGARD_TOKEN"),
            config: var("ASGARD_CONFIG").map(Into::into),
            no_color: var("NO_COLOR").is_some() || var("TERM").is_some_and(|t| t == "dumb"),
            no_progress: var("ASGARD_NO_PROGRESS").is_some(),
            data_home: var("XDG_DATA_HOME").map(Into::into).or_else(home),
            settings: settings(host.iter().cloned()),
            host,
        }
    }
}

fn settings(vars: impl Iterator<Item = (String, String)>) -> BTreeMap<String, (String, String)> {
    vars.filter_map(|(name, value)| {
        let key = name.strip_prefix(SETTING)?;
        let key = key.to_ascii_lowercase().replace("__", ".");
        Some((key, (name, value)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_underscores_part_the_section_from_the_key() {
        let vars = [
            ("ASGARD__DATABASE__MAX_CONNECTIONS", "4"),
            ("ASGARD_URL", "http://x"),
        ];
        let found = settings(vars.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        assert_eq!(found.len(), 1);
        assert_eq!(
            found["database.max_connections"],
            (
                "ASGARD__DATABASE__MAX_CONNECTIONS".to_owned(),
                "4".to_owned()
            )
        );
    }
}
