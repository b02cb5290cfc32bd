//! The MLmodel file: which flavors can load a model, and what it takes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::signature::Signature;

/// The name of the file that makes a folder a model.
pub(crate) const FILE: &str = "MLmodel";

/// The flavors that may be answered without Python.
const NATIVE_FLAVORS: [&str; 4] = ["sklearn", "xgboost", "lightgbm", "asgard.pickle"];

/// What serving needs of an MLmodel file.
#[derive(Debug, Clone, Default)]
pub(crate) struct MlModel {
    /// Each flavor's settings, as the worker gets them.
    pub(crate) flavors: BTreeMap<String, Value>,
    pub(crate) signature: Signature,
    /// The file in the model's folder with an input example.
    pub(crate) example: Option<String>,
    pub(crate) run_id: Option<String>,
    /// The signature as MLflow wrote it, for people to read.
    pub(crate) inputs: Option<Value>,
    pub(crate) outputs: Option<Value>,
}

#[derive(Deserialize)]
struct File {
    run_id: Option<String>,
    #[serde(default)]
    flavors: BTreeMap<String, Value>,
    signature: Option<SignatureText>,
    saved_input_example_info: Option<Value>,
}

#[derive(Deserialize)]
struct SignatureText {
    inputs: Option<String>,
    outputs: Option<String>,
}

impl MlModel {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
        let (inputs, outputs) = file
            .signature
            .map_or((None, None), |s| (s.inputs, s.outputs));
        let signature = match &inputs {
            Some(inputs) => Signature::parse(inputs).map_err(|e| format!("its signature: {e}"))?,
            None => Signature::Absent,
        };
        let shown = |text: Option<String>| serde_json::from_str(&text?).ok();
        if file.flavors.is_empty() {
            return Err("it names no flavor that could load the model".to_owned());
        }
        Ok(Self {
            flavors: file.flavors,
            signature,
            run_id: file.run_id,
            inputs: shown(inputs),
            outputs: shown(outputs),
            example: file
                .saved_input_example_info
                .and_then(|info| Some(info.get("artifact_path")?.as_str()?.to_owned())),
        })
    }

    /// Whether it is of a kind that may be answered without Python.
    pub(crate) fn may_be_native(&self) -> bool {
        let mut flavors = NATIVE_FLAVORS.iter();
        flavors.any(|flavor| self.flavors.contains_key(*flavor))
    }
}

/// Reads the Python version of a `python_env.yaml`: `python: 3.11.7` gives `3.11`.
pub(crate) fn python_version(python_env: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct PythonEnv {
        python: Option<String>,
    }
    let version = serde_yaml_ng::from_str::<PythonEnv>(python_env)
        .ok()?
        .python?;
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Some(format!("{major}.{minor}")),
        _ => Some(version),
    }
}

/// Reads the requirements of a model's `requirements.txt`: one an entry, without comments.
pub(crate) fn requirements(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM_FOREST: &str = r#"
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.skops
    predict_fn: predict
    python_version: 3.11.7
  sklearn:
    code: null
    pickled_model: model.skops
    serialization_format: skops
    sklearn_version: 1.9.1
    skops_trusted_types:
    - sklearn.tree._tree.Tree
mlflow_version: 3.17.2
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  serving_input_path: serving_input_example.json
  type: dataframe
signature:
  inputs: '[{"type": "double", "name": "f0", "required": true}, {"type": "double",
    "name": "f1", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: null
utc_time_created: '2026-11-21 09:41:27.220567'
"#;

    #[test]
    fn the_file_that_mlflow_writes_is_read() {
        let model = MlModel::parse(RANDOM_FOREST).unwrap();
        assert_eq!(model.flavors["sklearn"]["serialization_format"], "skops");
        assert!(matches!(&model.signature, Signature::Columns(c) if c.len() == 2));
        assert_eq!(model.example.as_deref(), Some("input_example.json"));
    }

    #[test]
    fn a_model_without_signature_or_example_is_a_model() {
        let model = MlModel::parse("flavors: {sklearn: {pickled_model: model.pkl}}").unwrap();
        assert_eq!(model.signature, Signature::Absent);
        assert_eq!(model.example, None);
        assert!(MlModel::parse("flavors: {}").is_err());
    }

    #[test]
    fn the_environment_files_are_read() {
        assert_eq!(python_version("python: 3.11.7\n").as_deref(), Some("3.11"));
        let text = "# pinned\nmlflow==3.17.2\nnumpy==2.4.6  # the one we had\n\nscipy\n";
        assert_eq!(
            requirements(text),
            ["mlflow==3.17.2", "numpy==2.4.6", "scipy"]
        );
    }
}
