//! Telling webhooks what happened, in the transaction in which it happens. What is told is what
//! MLflow tells (`mlflow/webhooks/types.py`).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use webhooks::Event;

use crate::Registry;
use crate::error::Error;
use crate::model::RegisteredModel;
use crate::store::models;
use crate::version::ModelVersion;

/// The tags that make a registered model a prompt, and hold its text.
const IS_PROMPT_TAG: &str = "mlflow.prompt.is_prompt";
const PROMPT_TYPE_TAG: &str = "_mlflow_prompt_type";
const PROMPT_TEXT_TAG: &str = "mlflow.prompt.text";

fn is_prompt(tags: &BTreeMap<String, String>) -> bool {
    tags.get(IS_PROMPT_TAG)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The tags of a prompt that are not MLflow's own.
fn own_tags(tags: &BTreeMap<String, String>) -> Value {
    let inner = [IS_PROMPT_TAG, PROMPT_TYPE_TAG, PROMPT_TEXT_TAG];
    let own = tags
        .iter()
        .filter(|(key, _)| !inner.contains(&key.as_str()));
    json!(own.collect::<BTreeMap<_, _>>())
}

fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Registry {
    async fn tell(&self, tx: &mut db::Tx, event: Event, data: &Value) -> Result<(), Error> {
        if let Some(webhooks) = &self.webhooks {
            webhooks.record(tx, event, data).await?;
        }
        Ok(())
    }

    /// Tells of a thing of a model: one event for models, another for prompts.
    async fn tell_either(
        &self,
        tx: &mut db::Tx,
        name: &str,
        [of_model, of_prompt]: [Option<Event>; 2],
        data: &Value,
    ) -> Result<(), Error> {
        if self.webhooks.is_none() {
            return Ok(());
        }
        let model = models::find(tx, name).await?;
        let event = match model.is_some_and(|model| is_prompt(&model.tags)) {
            true => of_prompt,
            false => of_model,
        };
        match event {
            Some(event) => self.tell(tx, event, data).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn tell_model_created(
        &self,
        tx: &mut db::Tx,
        model: &RegisteredModel,
    ) -> Result<(), Error> {
        let (event, tags) = match is_prompt(&model.tags) {
            true => (Event::PROMPT_CREATED, own_tags(&model.tags)),
            false => (Event::MODEL_CREATED, json!(model.tags)),
        };
        let description = text(&model.description);
        let data = json!({"name": model.name, "tags": tags, "description": description});
        self.tell(tx, event, &data).await
    }

    pub(crate) async fn tell_version_created(
        &self,
        tx: &mut db::Tx,
        version: &ModelVersion,
    ) -> Result<(), Error> {
        let mut data = json!({
            "name": version.name,
            "version": version.version.to_string(),
            "description": text(&version.description),
        });
        let event = if is_prompt(&version.tags) {
            data["template"] = json!(version.tags.get(PROMPT_TEXT_TAG));
            data["tags"] = own_tags(&version.tags);
            Event::PROMPT_VERSION_CREATED
        } else {
            data["source"] = json!(version.source);
            data["run_id"] = json!(version.run_id);
            data["tags"] = json!(version.tags);
            Event::VERSION_CREATED
        };
        self.tell(tx, event, &data).await
    }

    /// A tag of a model was set, or removed when there is no value: MLflow tells that of prompts.
    pub(crate) async fn tell_model_tag(
        &self,
        tx: &mut db::Tx,
        name: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), Error> {
        let mut data = json!({"name": name, "key": key});
        let event = match value {
            Some(value) => {
                data["value"] = json!(value);
                Event::PROMPT_TAG_SET
            }
            None => Event::PROMPT_TAG_DELETED,
        };
        self.tell_either(tx, name, [None, Some(event)], &data).await
    }

    /// A tag of a version was set, or removed when there is no value.
    pub(crate) async fn tell_version_tag(
        &self,
        tx: &mut db::Tx,
        (name, version): (&str, i64),
        key: &str,
        value: Option<&str>,
    ) -> Result<(), Error> {
        let mut data = json!({"name": name, "version": version.to_string(), "key": key});
        let events = match value {
            Some(value) => {
                data["value"] = json!(value);
                [Event::VERSION_TAG_SET, Event::PROMPT_VERSION_TAG_SET]
            }
            None => [
                Event::VERSION_TAG_DELETED,
                Event::PROMPT_VERSION_TAG_DELETED,
            ],
        };
        self.tell_either(tx, name, events.map(Some), &data).await
    }

    /// An alias was set to a version, or removed when there is none.
    pub(crate) async fn tell_alias(
        &self,
        tx: &mut db::Tx,
        name: &str,
        alias: &str,
        version: Option<i64>,
    ) -> Result<(), Error> {
        let mut data = json!({"name": name, "alias": alias});
        let events = match version {
            Some(version) => {
                data["version"] = json!(version.to_string());
                [Event::ALIAS_CREATED, Event::PROMPT_ALIAS_CREATED]
            }
            None => [Event::ALIAS_DELETED, Event::PROMPT_ALIAS_DELETED],
        };
        self.tell_either(tx, name, events.map(Some), &data).await
    }
}
