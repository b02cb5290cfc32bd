//! What webhooks tell of: MLflow's events of the registry, and the ends of jobs.

use serde_json::{Value, json};

use crate::error::Error;

/// A kind of event: what it happened to, and what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Such as `model_version`.
    pub entity: &'static str,
    /// Such as `created`.
    pub action: &'static str,
}

const fn event(entity: &'static str, action: &'static str) -> Event {
    Event { entity, action }
}

impl Event {
    pub const MODEL_CREATED: Self = event("registered_model", "created");
    pub const VERSION_CREATED: Self = event("model_version", "created");
    pub const VERSION_TAG_SET: Self = event("model_version_tag", "set");
    pub const VERSION_TAG_DELETED: Self = event("model_version_tag", "deleted");
    pub const ALIAS_CREATED: Self = event("model_version_alias", "created");
    pub const ALIAS_DELETED: Self = event("model_version_alias", "deleted");
    pub const PROMPT_CREATED: Self = event("prompt", "created");
    pub const PROMPT_VERSION_CREATED: Self = event("prompt_version", "created");
    pub const PROMPT_TAG_SET: Self = event("prompt_tag", "set");
    pub const PROMPT_TAG_DELETED: Self = event("prompt_tag", "deleted");
    pub const PROMPT_VERSION_TAG_SET: Self = event("prompt_version_tag", "set");
    pub const PROMPT_VERSION_TAG_DELETED: Self = event("prompt_version_tag", "deleted");
    pub const PROMPT_ALIAS_CREATED: Self = event("prompt_alias", "created");
    pub const PROMPT_ALIAS_DELETED: Self = event("prompt_alias", "deleted");
    /// MLflow's gateway fires it; here nothing does, but scripts may ask for it.
    pub const BUDGET_EXCEEDED: Self = event("budget_policy", "exceeded");
    pub const JOB_COMPLETED: Self = event("job", "completed");
    pub const JOB_FAILED: Self = event("job", "failed");

    /// All events.
    pub const ALL: [Self; 17] = [
        Self::MODEL_CREATED,
        Self::VERSION_CREATED,
        Self::VERSION_TAG_SET,
        Self::VERSION_TAG_DELETED,
        Self::ALIAS_CREATED,
        Self::ALIAS_DELETED,
        Self::PROMPT_CREATED,
        Self::PROMPT_VERSION_CREATED,
        Self::PROMPT_TAG_SET,
        Self::PROMPT_TAG_DELETED,
        Self::PROMPT_VERSION_TAG_SET,
        Self::PROMPT_VERSION_TAG_DELETED,
        Self::PROMPT_ALIAS_CREATED,
        Self::PROMPT_ALIAS_DELETED,
        Self::BUDGET_EXCEEDED,
        Self::JOB_COMPLETED,
        Self::JOB_FAILED,
    ];

    /// Finds an event by its two words, in any case.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the events there are.
    pub fn find(entity: &str, action: &str) -> Result<Self, Error> {
        let same = |event: &Self| {
            event.entity.eq_ignore_ascii_case(entity) && event.action.eq_ignore_ascii_case(action)
        };
        Self::ALL.into_iter().find(same).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(Self::name).collect();
            Error::Invalid(format!(
                "Invalid webhook event '{entity}.{action}'. Valid events are: {}",
                known.join(", ")
            ))
        })
    }

    /// `entity.action`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.entity, self.action)
    }

    /// Whether MLflow's clients know it.
    pub fn is_mlflows(&self) -> bool {
        self.entity != "job"
    }

    /// What a test of a webhook tells of.
    pub(crate) fn example(&self) -> Value {
        let name = match self.entity.starts_with("prompt") {
            true => "example_prompt",
            false => "example_model",
        };
        let tags = json!({"example_key": "example_value"});
        match (self.entity, self.action) {
            ("job", status) => {
                json!({"job_id": "example", "status": status, "model_name": name})
            }
            ("budget_policy", _) => json!({"budget_policy_id": "example"}),
            ("registered_model" | "prompt", _) => {
                json!({"name": name, "tags": tags, "description": "An example"})
            }
            ("prompt_version", _) => {
                json!({"name": name, "version": "1", "template": "Hello {{name}}!", "tags": tags, "description": "An example"})
            }
            ("model_version", _) => {
                json!({"name": name, "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678", "tags": tags, "description": "An example"})
            }
            ("model_version_alias" | "prompt_alias", "created") => {
                json!({"name": name, "alias": "example_alias", "version": "1"})
            }
            ("model_version_alias" | "prompt_alias", _) => {
                json!({"name": name, "alias": "example_alias"})
            }
            ("prompt_tag", "set") => {
                json!({"name": name, "key": "example_key", "value": "example_value"})
            }
            ("prompt_tag", _) => json!({"name": name, "key": "example_key"}),
            (_, "set") => {
                json!({"name": name, "version": "1", "key": "example_key", "value": "example_value"})
            }
            _ => json!({"name": name, "version": "1", "key": "example_key"}),
        }
    }
}
