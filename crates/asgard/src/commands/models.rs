//! `asgard models`: what is registered.

use serde_json::Value;

use super::Context;
use super::cli::{ModelsArgs, ModelsCommand};
use super::output::Column;

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("version", "/latest_versions/0/version"),
    ("stage", "/latest_versions/0/stage"),
    ("run", "/latest_versions/0/run_id"),
    ("updated", "/updated_at"),
    ("description", "/description"),
];

const VERSION_COLUMNS: &[Column] = &[
    ("version", "/version"),
    ("stage", "/stage"),
    ("aliases", "/aliases"),
    ("run", "/run_id"),
    ("created", "/created_at"),
];

pub(crate) async fn run(context: &Context<'_>, args: &ModelsArgs) -> anyhow::Result<()> {
    let client = context.client(&args.remote)?;
    let output = args.remote.output;
    match &args.command {
        ModelsCommand::List => {
            let models = client.get("/mlops/models", &[]).await?;
            let items = models.as_array().cloned().unwrap_or_default();
            output.list(&models, &items, COLUMNS)?;
        }
        ModelsCommand::Get { name } => {
            let model = client
                .get(&format!("/mlops/models/{}", segment(name)), &[])
                .await?;
            output.one(
                &model,
                &[
                    ("name", "/name"),
                    ("description", "/description"),
                    ("tags", "/tags"),
                    ("created", "/created_at"),
                    ("updated", "/updated_at"),
                ],
            )?;
            if output.format() == super::output::Format::Table {
                let versions = model
                    .get("versions")
                    .or_else(|| model.get("latest_versions"))
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                output.list(&model, &versions, VERSION_COLUMNS)?;
            }
        }
    }
    Ok(())
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(byte as char);
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
