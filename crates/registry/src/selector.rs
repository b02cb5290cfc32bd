//! How a caller says which version it wants.

use crate::error::Error;
use crate::stage::Stage;

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The one with the greatest number.
    Latest,
    /// The one with this number.
    Number(i64),
    /// The one that an alias points at.
    Alias(String),
    /// The latest in a stage, in MLflow's spelling.
    Stage(String),
}

impl Selector {
    /// Reads `3`, `@champion`, `latest` or a stage; nothing is the latest.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn parse(text: Option<&str>) -> Result<Self, Error> {
        let text = text.unwrap_or_default().trim();
        if text.is_empty() || text.eq_ignore_ascii_case("latest") {
            return Ok(Self::Latest);
        }
        if let Some(alias) = text.strip_prefix('@') {
            return Ok(Self::Alias(alias.to_owned()));
        }
        if let Some(stage) = Stage::parse(text) {
            return Ok(Self::Stage(stage.as_str().to_owned()));
        }
        let number = text.parse().ok().filter(|number| *number > 0);
        number.map(Self::Number).ok_or_else(|| {
            Error::Invalid(format!(
                "{text:?} is not a version: it must be a number such as \"3\", an alias such as \
                 \"@champion\", a stage such as \"Production\", or \"latest\""
            ))
        })
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Alias(alias) => write!(f, "@{alias}"),
            Self::Stage(stage) => f.write_str(stage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_an_alias_a_stage_or_the_latest() {
        let read = |text| Selector::parse(Some(text)).unwrap();
        assert_eq!(Selector::parse(None).unwrap(), Selector::Latest);
        assert_eq!(read(""), Selector::Latest);
        assert_eq!(read("Latest"), Selector::Latest);
        assert_eq!(read("3"), Selector::Number(3));
        assert_eq!(read("@champion"), Selector::Alias("champion".to_owned()));
        assert_eq!(read("production"), Selector::Stage("Production".to_owned()));
        for wrong in ["0", "-1", "1.5", "v3", "champion", "99999999999999999999"] {
            assert!(Selector::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
