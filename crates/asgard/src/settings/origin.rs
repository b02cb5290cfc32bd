//! Where each setting came from, for `asgard config show --origin`.

use figment::value::Value;
use figment::{Figment, Metadata, Source};
use serde::Serialize;

/// The name of the layer of defaults.
pub(crate) const DEFAULT: &str = "default";

/// A setting as it may be shown: passwords hidden.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    pub key: String,
    pub value: serde_json::Value,
    pub origin: String,
}

pub(crate) fn of(figment: &Figment) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Ok(value) = figment.extract::<Value>() {
        walk(figment, String::new(), &value, &mut settings);
    }
    settings
}

fn walk(figment: &Figment, key: String, value: &Value, into: &mut Vec<Setting>) {
    if let Value::Dict(_, dict) = value {
        for (name, value) in dict {
            let key = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            walk(figment, key, value, into);
        }
        return;
    }
    into.push(Setting {
        value: match value {
            Value::Empty(..) => shown(value),
            _ if is_secret(&key) => "***".into(),
            _ => shown(value),
        },
        origin: figment
            .get_metadata(value.tag())
            .map_or_else(|| DEFAULT.to_owned(), name),
        key,
    });
}

pub(crate) fn name(metadata: &Metadata) -> String {
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        _ => metadata.name.to_string(),
    }
}

fn shown(value: &Value) -> serde_json::Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    hide(&mut value);
    value
}

/// Whether a setting is a credential by its name.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or_default();
    let names = [
        "token",
        "password",
        "secret_key",
        "credential",
        "inference_key",
    ];
    names.contains(&name)
}

/// Hides the password of every URL that has one.
fn hide(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = without_password(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some((login, host)) = rest[..end].rsplit_once('@') else {
        return text.to_owned();
    };
    let user = login.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***@{host}{}", &rest[end..])
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_in_a_url_is_hidden() {
        let hidden = without_password("https://u:p@index.example/simple");
        assert_eq!(hidden, "https://u:***@index.example/simple");
        assert_eq!(without_password("s3://bucket/a@b"), "s3://bucket/a@b");
        assert_eq!(without_password("plain"), "plain");
    }
}
