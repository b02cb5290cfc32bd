//! A lone pickle among a run's artifacts, made a model that MLflow and asgard can load.

use bytes::Bytes;
use tracking::{ArtifactEntry, Artifacts, Location};

use crate::launch::Package;

/// The module that loads the pickle for `mlflow.pyfunc`; it travels with the model.
const LOADER: &str = include_str!("../python/asgard_pickle.py");
const LOADER_MODULE: &str = "asgard_pickle";
const SUFFIXES: [&str; 3] = [".pkl", ".pickle", ".joblib"];

/// The one pickle of the folder `model`, by its path in the run; `None` when there is none or
/// when there are several, so that nobody knows which is meant.
pub(crate) fn find(files: &[ArtifactEntry]) -> Option<&str> {
    let mut pickles = files.iter().map(|file| file.path.as_str()).filter(|path| {
        path.strip_prefix("model/")
            .is_some_and(|name| !name.contains('/') && SUFFIXES.iter().any(|s| name.ends_with(s)))
    });
    let only = pickles.next()?;
    pickles.next().is_none().then_some(only)
}

/// Writes the files that make `model/NAME` a model into the folder beside it.
pub(crate) async fn wrap(
    artifacts: &Artifacts,
    folder: &Location,
    file_name: &str,
    run_id: &str,
    python_version: &str,
    packages: &[Package],
) -> Result<(), tracking::Error> {
    let requirements: String = packages
        .iter()
        .map(|package| format!("{}=={}\n", package.name, package.version))
        .collect();
    let python_env = format!(
        "python: {python_version}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"
    );
    for (name, content) in [
        ("MLmodel", mlmodel(file_name, run_id, python_version)),
        ("requirements.txt", requirements),
        ("python_env.yaml", python_env),
        ("code/asgard_pickle.py", LOADER.to_owned()),
    ] {
        artifacts
            .put_bytes(&folder.join(name)?, Bytes::from(content))
            .await?;
    }
    Ok(())
}

fn mlmodel(file_name: &str, run_id: &str, python_version: &str) -> String {
    let content = serde_json::json!({
        "artifact_path": "model",
        "flavors": {
            "asgard.pickle": { "model_path": file_name },
            "python_function": {
                "code": "code",
                "data": file_name,
                "env": { "virtualenv": "python_env.yaml" },
                "loader_module": LOADER_MODULE,
                "python_version": python_version,
            },
        },
        "run_id": run_id,
    });
    // JSON of this kind always has a YAML form.
    serde_yaml_ng::to_string(&content).unwrap_or_else(|_| content.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<ArtifactEntry> {
        paths
            .iter()
            .map(|path| ArtifactEntry {
                path: (*path).to_owned(),
                is_dir: false,
                size_bytes: Some(1),
                e_tag: None,
            })
            .collect()
    }

    #[test]
    fn only_a_lone_pickle_is_a_model() {
        assert_eq!(
            find(&files(&["model/model.pkl", "plot.png"])),
            Some("model/model.pkl")
        );
        assert_eq!(find(&files(&["model/m.joblib"])), Some("model/m.joblib"));
        assert_eq!(find(&files(&["model/a.pkl", "model/b.pkl"])), None);
        assert_eq!(find(&files(&["model.pkl", "model/deep/a.pkl"])), None);
    }

    #[test]
    fn the_model_file_names_the_pickle_and_its_loader() {
        let text = mlmodel("model.pkl", "abc", "3.11.7");
        assert!(
            text.contains("asgard.pickle:\n    model_path: model.pkl"),
            "{text}"
        );
        assert!(text.contains("loader_module: asgard_pickle"), "{text}");
    }
}
