//! Which packages a job gets: its own list, the script's inline metadata, or the default set, and
//! what has to be there besides.

use std::collections::BTreeSet;

use environments::{EnvironmentRequest, Environments};

use crate::config::Config;
use crate::error::Error;
use crate::imports;
use crate::inline_metadata;
use crate::job::JobRequest;

/// The packages of a job and what to tell about their choice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) environment: EnvironmentRequest,
    /// The packages asked for, as the index names them.
    pub(crate) names: Vec<String>,
    /// The modules that the script imports.
    pub(crate) modules: BTreeSet<String>,
    /// Lines for the log.
    pub(crate) notes: Vec<String>,
}

/// Python versions to choose from by `requires-python`, the preferred first.
const PYTHONS: [&str; 5] = ["3.11", "3.12", "3.10", "3.13", "3.14"];

/// Plans the environment of a job.
///
/// # Errors
/// [`Error::Environments`] for an entry that is not a requirement, [`Error::Metadata`] for inline
/// metadata that cannot be read.
pub(crate) fn plan(request: &JobRequest, script: &str, config: &Config) -> Result<Plan, Error> {
    let mut notes = Vec::new();
    let metadata = inline_metadata::read(script).map_err(Error::Metadata)?;
    let inline = metadata.as_ref().and_then(|m| m.dependencies.clone());
    let (mut list, own) = match (&request.requirements, inline) {
        (Some(list), _) => (list.clone(), true),
        (None, Some(list)) => {
            notes.push("Requirements are taken from the script's inline metadata".to_owned());
            (list, true)
        }
        (None, None) => {
            notes.push(format!(
                "No requirements given: using the default packages ({})",
                config.default_requirements.join(", ")
            ));
            (config.default_requirements.clone(), false)
        }
    };
    let mut names = names_of(&list)?;
    if own {
        for requirement in &config.always_requirements {
            let name = names_of(std::slice::from_ref(requirement))?;
            if !names.is_superset(&name) {
                names.extend(name);
                list.push(requirement.clone());
            }
        }
    }
    let modules = imports::modules(script);
    for module in &modules {
        let Some(package) = imports::package_of(module) else {
            continue;
        };
        if provides(&names, package) {
            continue;
        }
        if imports::is_well_known(package) {
            notes.push(format!(
                "The script imports {module}: adding {package} to its requirements"
            ));
            names.insert(package.to_owned());
            list.push(package.to_owned());
        } else {
            notes.push(format!(
                "The script imports {module}, which its requirements may not provide; if the import fails, add the package that provides it to \"requirements\""
            ));
        }
    }
    let python = request.python.clone().or_else(|| {
        let requires = metadata?.requires_python?;
        inline_metadata::python_of(&requires, &PYTHONS)
    });
    let probe = modules
        .iter()
        .filter(|module| {
            imports::package_of(module).is_some_and(|package| provides(&names, package))
        })
        .cloned()
        .collect();
    Ok(Plan {
        environment: EnvironmentRequest {
            requirements: list,
            python,
            probe,
        },
        names: names.into_iter().collect(),
        modules,
        notes,
    })
}

fn names_of(list: &[String]) -> Result<BTreeSet<String>, Error> {
    Ok(Environments::parse_requirements(list)?
        .iter()
        .map(|requirement| requirement.name().to_owned())
        .collect())
}

/// Whether a list of packages brings a package along.
fn provides(names: &BTreeSet<String>, package: &str) -> bool {
    let normal = package.to_lowercase().replace(['_', '.'], "-");
    let brings =
        |name: &str, others: &[&str]| names.contains(name) && others.contains(&normal.as_str());
    names.contains(&normal)
        || names.iter().any(|name| is_variant(name, &normal))
        || brings(
            "mlflow",
            &[
                "numpy",
                "pandas",
                "scipy",
                "scikit-learn",
                "pyarrow",
                "matplotlib",
                "requests",
                "sqlalchemy",
                "cloudpickle",
                "joblib",
                "pyyaml",
                "pydantic",
                "skops",
                "gitpython",
                "python-dateutil",
            ],
        )
        || brings("scikit-learn", &["numpy", "scipy", "joblib"])
        || brings("pandas", &["numpy", "python-dateutil"])
}

/// Packages that come in several builds with the same module.
fn is_variant(name: &str, package: &str) -> bool {
    let stem = |text: &str| -> String {
        let mut text = text.to_owned();
        for suffix in [
            "-cpu",
            "-gpu",
            "-binary",
            "-headless",
            "-contrib",
            "-skinny",
        ] {
            text = text.replace(suffix, "");
        }
        text
    };
    stem(name) == stem(package)
}
