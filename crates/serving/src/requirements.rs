//! The Python environment of a model whose training environment is not known: made of what its files
//! list, without what its worker does not use.

use environments::{Environment, EnvironmentRequest, Environments};

use crate::error::Error;
use crate::load::{Files, read};
use crate::mlmodel::{self, MlModel};

/// Which packages a model's code needs, and which Python.
pub(crate) const REQUIREMENTS: &str = "requirements.txt";
pub(crate) const PYTHON: &str = "python_env.yaml";

/// The flavors that the worker loads by their own packages.
const DIRECT: [&str; 4] = ["sklearn", "xgboost", "lightgbm", "pytorch"];

/// The environment that a model's own requirements ask for.
pub(crate) fn request(
    listed: &str,
    python: Option<&str>,
    described: &MlModel,
) -> EnvironmentRequest {
    EnvironmentRequest {
        requirements: needed(mlmodel::requirements(listed), described),
        python: python.and_then(mlmodel::python_version),
        probe: probes(described),
    }
}

/// An environment made of a model's own requirements.
pub(crate) async fn environment(
    environments: &Environments,
    files: &Files,
    described: &MlModel,
) -> Result<Environment, Error> {
    let Some(listed) = read(&files.folder, REQUIREMENTS).await? else {
        return Err(no_environment(files));
    };
    let python = read(&files.folder, PYTHON).await?;
    let request = request(&listed, python.as_deref(), described);
    let progress = |step| {
        tracing::info!(model = %files.name, ?step, "preparing the environment of a model");
    };
    let made = environments.ensure(&request, &progress).await;
    made.map_err(|source| Error::Environment {
        name: files.name.clone(),
        version: files.version,
        source,
    })
}

pub(crate) fn no_environment(files: &Files) -> Error {
    Error::NoEnvironment {
        name: files.name.clone(),
        version: files.version,
    }
}

/// Whether the worker loads it without mlflow.
fn is_direct(described: &MlModel) -> bool {
    let loader = described
        .flavors
        .get("python_function")
        .and_then(|settings| settings.get("loader_module")?.as_str());
    let known = |module: &str| {
        let flavor = module.strip_prefix("mlflow.");
        flavor.is_some_and(|flavor| {
            DIRECT.contains(&flavor) && described.flavors.contains_key(flavor)
        })
    };
    described.flavors.contains_key("asgard.pickle") || loader.is_none_or(known)
}

/// What the model's worker needs of what was installed when the model was logged. mlflow itself
/// is half of the environment and not used by the direct loaders; pandas came with it.
fn needed(listed: Vec<String>, described: &MlModel) -> Vec<String> {
    if !is_direct(described) {
        return listed;
    }
    let is = |requirement: &str, name: &str| {
        requirement.strip_prefix(name).is_some_and(|rest| {
            !rest.starts_with(|c: char| c.is_alphanumeric() || "-_.".contains(c))
        })
    };
    let mlflow = ["mlflow", "mlflow-skinny", "mlflow-tracing"];
    let mut needed: Vec<String> = listed
        .into_iter()
        .filter(|requirement| !mlflow.iter().any(|name| is(requirement, name)))
        .collect();
    if !needed.iter().any(|requirement| is(requirement, "pandas")) {
        needed.push("pandas".to_owned());
    }
    needed
}

/// What the worker will import first.
fn probes(described: &MlModel) -> Vec<String> {
    let modules = [
        ("sklearn", "sklearn.ensemble"),
        ("xgboost", "xgboost"),
        ("lightgbm", "lightgbm"),
        ("pytorch", "torch"),
    ];
    let mut probes: Vec<String> = modules
        .iter()
        .filter(|(flavor, _)| described.flavors.contains_key(*flavor))
        .map(|(_, module)| (*module).to_owned())
        .collect();
    probes.push("pandas".to_owned());
    if !is_direct(described) {
        probes.push("mlflow.pyfunc".to_owned());
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_loader_needs_no_mlflow() {
        let direct = MlModel::parse(
            "flavors: {sklearn: {pickled_model: m}, python_function: {loader_module: mlflow.sklearn}}",
        )
        .unwrap();
        let listed = ["mlflow==3.17.2", "scikit-learn==1.9.1", "mlflow-extras==1"];
        let listed: Vec<String> = listed.map(str::to_owned).into();
        assert_eq!(
            needed(listed.clone(), &direct),
            ["scikit-learn==1.9.1", "mlflow-extras==1", "pandas"]
        );
        let custom =
            MlModel::parse("flavors: {python_function: {loader_module: mlflow.pyfunc.model}}")
                .unwrap();
        assert_eq!(needed(listed.clone(), &custom), listed);
    }
}
