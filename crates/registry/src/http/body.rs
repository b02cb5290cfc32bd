//! The shapes of MLflow's answers about models and versions (`model_registry.proto`).

use serde::Serialize;
use tracking::wire::{Choice, KeyValue, required_value};

use crate::error::Error;
use crate::model::RegisteredModel;
use crate::version::ModelVersion;

#[derive(Serialize)]
pub(super) struct ModelBody {
    name: String,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    latest_versions: Vec<VersionBody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<KeyValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<AliasBody>,
}

#[derive(Serialize)]
pub(super) struct AliasBody {
    alias: String,
    version: String,
}

#[derive(Serialize)]
pub(super) struct VersionBody {
    name: String,
    version: String,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    current_stage: &'static str,
    description: String,
    source: String,
    run_id: String,
    run_link: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<KeyValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct ModelResponse {
    pub(super) registered_model: ModelBody,
}

#[derive(Serialize)]
pub(super) struct VersionResponse {
    pub(super) model_version: VersionBody,
}

impl From<RegisteredModel> for ModelBody {
    fn from(model: RegisteredModel) -> Self {
        let alias = |(alias, version): (String, i64)| AliasBody {
            alias,
            version: version.to_string(),
        };
        Self {
            name: model.name,
            creation_timestamp: model.created_at,
            last_updated_timestamp: model.updated_at,
            description: model.description,
            latest_versions: model.latest_versions.into_iter().map(Into::into).collect(),
            tags: fields(model.tags),
            aliases: model.aliases.into_iter().map(alias).collect(),
        }
    }
}

impl From<ModelVersion> for VersionBody {
    fn from(version: ModelVersion) -> Self {
        Self {
            name: version.name,
            version: version.version.to_string(),
            creation_timestamp: version.created_at,
            last_updated_timestamp: version.updated_at,
            current_stage: version.stage.as_str(),
            description: version.description,
            source: version.source,
            run_id: version.run_id.unwrap_or_default(),
            run_link: version.run_link.unwrap_or_default(),
            status: "READY",
            model_id: version.model_id,
            tags: fields(version.tags),
            aliases: version.aliases,
        }
    }
}

impl From<RegisteredModel> for ModelResponse {
    fn from(model: RegisteredModel) -> Self {
        Self {
            registered_model: model.into(),
        }
    }
}

impl From<ModelVersion> for VersionResponse {
    fn from(version: ModelVersion) -> Self {
        Self {
            model_version: version.into(),
        }
    }
}

fn fields(pairs: std::collections::BTreeMap<String, String>) -> Vec<KeyValue> {
    let field = |(key, value)| KeyValue {
        key: Some(key),
        value: Some(value),
    };
    pairs.into_iter().map(field).collect()
}

/// The number of a version in a request: `"3"` or `3`.
pub(super) fn version_number(version: Option<&Choice>) -> Result<i64, Error> {
    match required_value(version, "version")? {
        Choice::Number(number) => Ok(*number),
        Choice::Name(name) if name.is_empty() => {
            Err(tracking::Error::Missing("version".to_owned()).into())
        }
        Choice::Name(name) => Err(Error::Invalid(format!(
            "Parameter 'version' must be an integer, got '{name}'."
        ))),
    }
}
