//! Laying the sources of settings over each other, and refusing what none of the crates knows.

use std::path::{Path, PathBuf};

use aws::AwsVariables;
use environments::HostEnvironment;
use figment::error::{Error, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Loaded, Refused, Settings, origin};
use crate::surroundings::Surroundings;

/// The file that is read from the current directory when none is named.
const FILE: &str = "asgard.toml";

/// Settings from the command line: the flag's name, the key, the value.
pub type Flags = Vec<(&'static str, &'static str, Value)>;

/// Loads all settings.
///
/// # Errors
/// [`Refused`] when a file cannot be read or parsed, a key is unknown or a value does not fit; it
/// names the key and where it came from.
pub fn load(
    surroundings: &Surroundings,
    file: Option<&Path>,
    flags: &Flags,
) -> Result<Loaded, Refused> {
    let file = file
        .map(Path::to_owned)
        .or_else(|| surroundings.config.clone());
    let base = base(file)?;
    let mut variables: Vec<Variable> = surroundings
        .settings
        .iter()
        .map(|(key, (name, text))| Variable::new(key, name, text))
        .collect();
    loop {
        let mut figment = base.clone();
        for variable in &variables {
            figment = figment.merge(Layer::one(
                format!("environment variable {}", variable.name),
                &variable.key,
                variable.value(),
            ));
        }
        for (flag, key, value) in flags {
            figment = figment.merge(Layer::one(format!("flag {flag}"), key, value.clone()));
        }
        let error = match figment.extract::<Settings>() {
            Ok(mut settings) => {
                let host = surroundings.host.clone();
                settings.artifacts.aws = AwsVariables::from_variables(host.clone());
                settings.feature_store.aws = settings.artifacts.aws.clone();
                settings.images.aws = settings.artifacts.aws.clone();
                settings.environments.host = HostEnvironment::from_variables(host);
                return Ok(Loaded {
                    settings,
                    origins: origin::of(&figment),
                });
            }
            Err(error) => error,
        };
        // A variable has no type: `3.11` reads as a number until the key asks for text.
        let reread = variables
            .iter_mut()
            .find(|v| v.key == error.path.join("."))
            .is_some_and(|v| v.read_as(&error.kind));
        if !reread {
            return Err(refused(&figment, error));
        }
    }
}

fn base(file: Option<PathBuf>) -> Result<Figment, Refused> {
    let defaults =
        Value::serialize(Settings::default()).map_err(|e| refused(&Figment::new(), e))?;
    let mut figment = Figment::from(Layer {
        name: origin::DEFAULT.to_owned(),
        dict: defaults.into_dict().unwrap_or_default(),
    });
    match file {
        Some(path) if !path.is_file() => {
            return Err(Refused {
                message: format!("cannot read the configuration file {}", path.display()),
                help: "name an existing file by --config, or leave the flag out".to_owned(),
            });
        }
        Some(path) => figment = figment.merge(Toml::file_exact(path)),
        None if Path::new(FILE).is_file() => figment = figment.merge(Toml::file_exact(FILE)),
        None => {}
    }
    Ok(figment)
}

struct Variable {
    key: String,
    name: String,
    text: String,
    form: Form,
}

#[derive(PartialEq, Eq)]
enum Form {
    Guessed,
    Text,
    List,
}

impl Variable {
    fn new(key: &str, name: &str, text: &str) -> Self {
        Self {
            key: key.to_owned(),
            name: name.to_owned(),
            text: text.to_owned(),
            form: Form::Guessed,
        }
    }

    fn value(&self) -> Value {
        match self.form {
            Form::Guessed => match self.text.parse::<Value>() {
                Ok(value) => value,
                Err(never) => match never {},
            },
            Form::Text => Value::from(self.text.as_str()),
            Form::List => Value::from(
                self.text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .collect::<Vec<_>>(),
            ),
        }
    }

    /// Takes the form that the error asks for; false when it has been tried.
    fn read_as(&mut self, kind: &Kind) -> bool {
        let Kind::InvalidType(_, expected) = kind else {
            return false;
        };
        let form = if expected.contains("string") {
            Form::Text
        } else if expected.contains("sequence") {
            Form::List
        } else {
            return false;
        };
        let changed = self.form != form;
        self.form = form;
        changed
    }
}

/// One source of settings under a name that a message can say.
struct Layer {
    name: String,
    dict: Dict,
}

impl Layer {
    fn one(name: String, key: &str, value: Value) -> Self {
        let dict = figment::util::nest(key, value)
            .into_dict()
            .unwrap_or_default();
        Self { name, dict }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn refused(figment: &Figment, error: Error) -> Refused {
    let path = error.path.join(".");
    let at = |key: &str| {
        figment
            .find_metadata(key)
            .or(error.metadata.as_ref())
            .map_or_else(String::new, |m| format!(" ({})", origin::name(m)))
    };
    match &error.kind {
        Kind::UnknownField(field, known) => {
            // figment's path ends in the field itself.
            let key = if path.is_empty() { field } else { &path };
            let what = if key.contains('.') { "key" } else { "section" };
            Refused {
                message: format!("unknown {what} {key:?} in the configuration{}", at(key)),
                help: format!(
                    "{}; 'asgard config show' lists every key",
                    nearest(field, known)
                ),
            }
        }
        kind if !path.is_empty() => Refused {
            message: format!("{path} cannot be used: {kind}{}", at(&path)),
            help: "'asgard config show --origin' shows every value and where it comes from"
                .to_owned(),
        },
        kind => Refused {
            message: format!("the configuration cannot be read: {kind}{}", at("")),
            help: "mend the file; it is TOML: [section] and key = value lines".to_owned(),
        },
    }
}

/// Names the known word that shares most with a mistyped one, else all of them.
fn nearest(word: &str, known: &[&str]) -> String {
    let distance = |a: &str, b: &str| -> usize {
        let b: Vec<char> = b.chars().collect();
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, ca) in a.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, cb) in b.iter().enumerate() {
                let cost = diagonal + usize::from(ca != *cb);
                diagonal = row[j + 1];
                row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[b.len()]
    };
    match known.iter().min_by_key(|k| distance(word, k)) {
        Some(best) if distance(word, best) <= 3 => format!("did you mean {best:?}?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Surroundings {
        let settings = vars
            .iter()
            .map(|(key, text)| {
                let name = format!("ASGARD__{}", key.to_ascii_uppercase().replace('.', "__"));
                ((*key).to_owned(), (name, (*text).to_owned()))
            })
            .collect();
        Surroundings {
            settings,
            ..Surroundings::default()
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn each_source_outdoes_the_one_before() {
        let toml = file("[server]\nlisten = '127.0.0.1:1'\nlog_level = 'warn'\n");
        let env = with(&[
            ("server.listen", "127.0.0.1:2"),
            ("server.stop_timeout_ms", "7"),
        ]);
        let flags: Flags = vec![("--listen", "server.listen", Value::from("127.0.0.1:3"))];
        let server = load(&env, Some(toml.path()), &flags)
            .unwrap()
            .settings
            .server;
        assert_eq!(server.listen, "127.0.0.1:3");
        assert_eq!(server.stop_timeout_ms, 7);
        assert_eq!(server.log_level, "warn");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name_and_origin() {
        let toml = file("[server]\nlistne = 'x'\n");
        let error = load(&with(&[]), Some(toml.path()), &vec![]).err().unwrap();
        assert!(error.to_string().contains("\"server.listne\""), "{error}");
        assert!(
            error
                .to_string()
                .contains(&toml.path().display().to_string()),
            "{error}"
        );
        assert!(
            error.help.contains("did you mean \"listen\"?"),
            "{}",
            error.help
        );

        let error = load(&with(&[("databas.url", "x")]), None, &vec![])
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("unknown section \"databas\""),
            "{error}"
        );
        assert!(
            error.to_string().contains("ASGARD__DATABAS__URL"),
            "{error}"
        );
    }

    #[test]
    fn a_variable_takes_the_type_of_its_key() {
        let env = with(&[
            ("server.allowed_hosts", "a.example, b.example"),
            ("server.log_level", "3.11"),
        ]);
        let server = load(&env, None, &vec![]).unwrap().settings.server;
        assert_eq!(server.allowed_hosts, ["a.example", "b.example"]);
        assert_eq!(server.log_level, "3.11");
        let error = load(&with(&[("server.stop_timeout_ms", "soon")]), None, &vec![]);
        let error = error.err().unwrap().to_string();
        assert!(error.contains("server.stop_timeout_ms"), "{error}");
        assert!(error.contains("ASGARD__SERVER__STOP_TIMEOUT_MS"), "{error}");
    }
}
