//! Which packages a job gets: its own list, the script's inline metadata, or the default set, and
//! what has to be there besides.

use std::collections::BTreeSet;

use environments::{Environment, EnvironmentRequest, Environments};

use crate::config::Config;
use crate::error::Error;
use crate::imports;
use crate::inline_metadata;
use crate::job::JobRequest;
use crate::launch::Package;

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

impl Plan {
    /// The packages that a model of this job may need: those that were asked for or are imported.
    /// MLflow names itself.
    pub(crate) fn packages_of(&self, environment: &Environment) -> Vec<Package> {
        let imported = self
            .modules
            .iter()
            .filter_map(|module| imports::package_of(module));
        let wanted: BTreeSet<String> = self
            .names
            .iter()
            .map(String::as_str)
            .chain(imported)
            .map(normal)
            .collect();
        environment
            .packages
            .iter()
            .filter(|(name, _)| wanted.contains(&normal(name)) && normal(name) != "mlflow")
            .map(|(name, version)| Package {
                name: name.clone(),
                version: version.clone(),
                modules: imports::modules_of(name),
            })
            .collect()
    }
}

/// A package's name as PEP 503 compares it.
fn normal(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

/// Python versions to choose from by `requires-python`, the preferred first.
const PYTHONS: [&str; 5] = ["3.11", "3.12", "3.10", "3.13", "3.14"];

/// The SDK with what its remote mode needs: alone it lacks gRPC, and says so by an import error.
const FEAST_BY_GRPC: &str = "feast[grpcio]";

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
    if names.contains("feast") && !list.iter().any(|entry| entry.contains(FEAST_BY_GRPC)) {
        notes.push(format!(
            "The Feast SDK speaks gRPC with this server: adding {FEAST_BY_GRPC}"
        ));
        list.push(FEAST_BY_GRPC.to_owned());
    }
    let python = request.python.clone().or_else(|| {
        let requires = metadata?.requires_python?;
        inline_metadata::python_of(&requires, &PYTHONS)
    });
    let probe = probe(&names, &modules, script);
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

/// What to import once at the end of a build, so that bytecode exists: what the script imports, and
/// what scripts with these packages load sooner or later.
fn probe(names: &BTreeSet<String>, modules: &BTreeSet<String>, script: &str) -> Vec<String> {
    let usual = names
        .iter()
        .flat_map(|name| imports::modules_of(name))
        .chain(modules.iter().cloned())
        .flat_map(|module| imports::companions(&module).iter().copied())
        .map(str::to_owned);
    let own = imports::dotted(script).into_iter().filter(|module| {
        let top = module.split('.').next().unwrap_or_default();
        imports::package_of(top).is_some_and(|package| provides(names, package))
    });
    usual
        .chain(own)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn names_of(list: &[String]) -> Result<BTreeSet<String>, Error> {
    Ok(Environments::parse_requirements(list)?
        .iter()
        .map(|requirement| requirement.name().to_owned())
        .collect())
}

/// Whether a list of packages brings a package along.
fn provides(names: &BTreeSet<String>, package: &str) -> bool {
    let normal = normal(package);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(requirements: Option<&[&str]>) -> JobRequest {
        JobRequest {
            script_name: "train".into(),
            script_file: "train.py".into(),
            experiment_name: "e".into(),
            model_name: "m".into(),
            requirements: requirements.map(|list| list.iter().map(|r| (*r).to_owned()).collect()),
            environment_vars: Default::default(),
            timeout_s: 300,
            tags: Default::default(),
            require_model: false,
            autolog: false,
            python: None,
            memory_bytes: None,
            cpus: None,
        }
    }

    fn planned(requirements: Option<&[&str]>, script: &str) -> Vec<String> {
        let plan = plan(&request(requirements), script, &Config::default()).unwrap();
        plan.environment.requirements
    }

    #[test]
    fn the_feast_sdk_brings_what_it_needs_to_speak_with_this_server() {
        for script in ["from feast import FeatureStore\n", "import os\n"] {
            let list = planned(Some(&["feast==0.67.0"]), script);
            assert!(list.contains(&FEAST_BY_GRPC.to_owned()), "{list:?}");
        }
        let whole = planned(Some(&["feast[grpcio]==0.67.0"]), "import feast\n");
        let feasts = whole.iter().filter(|entry| entry.starts_with("feast"));
        assert_eq!(feasts.count(), 1, "{whole:?}");
    }

    #[test]
    fn the_request_goes_before_the_script_and_the_script_before_the_defaults() {
        let script = "# /// script\n# dependencies = [\"rich\"]\n# ///\n";
        assert_eq!(planned(Some(&["tqdm"]), script)[0], "tqdm");
        assert_eq!(planned(None, script)[0], "rich");
        assert_eq!(planned(None, ""), Config::default().default_requirements);
    }

    #[test]
    fn a_users_own_pin_of_mlflow_is_kept() {
        let list = planned(Some(&["mlflow==2.16.2", "numpy"]), "");
        assert_eq!(list.iter().filter(|r| r.starts_with("mlflow")).count(), 1);
        assert_eq!(list.iter().filter(|r| r.starts_with("skops")).count(), 1);
    }

    #[test]
    fn a_package_that_the_script_imports_is_added_and_told() {
        let script = "import torch, json\nimport mycompany\nfrom PIL import Image\n";
        let plan = plan(&request(Some(&["numpy"])), script, &Config::default()).unwrap();
        let list = &plan.environment.requirements;
        assert!(list.contains(&"torch".to_owned()) && list.contains(&"pillow".to_owned()));
        assert!(!list.iter().any(|r| r.contains("mycompany") || r == "json"));
        assert!(plan.notes.iter().any(|n| n.contains("adding torch")));
        assert!(plan.notes.iter().any(|n| n.contains("mycompany")));
    }

    #[test]
    fn what_another_package_brings_is_not_added() {
        let list = planned(
            Some(&["tensorflow-cpu"]),
            "import tensorflow, sklearn, pandas\n",
        );
        assert!(
            !list.contains(&"tensorflow".to_owned()) && !list.contains(&"scikit-learn".to_owned())
        );
    }
}
