//! `asgard keys`: on the database itself, or through the server that holds it.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use web::{Role, Timestamp};

use super::Context;
use super::cli::LocalArgs;
use super::output::{Column, Format, message};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::http::keys::{CreateKeyResponse, KeyResponse, KeysResponse};
use crate::key::{self, Keys};
use crate::up;

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("id", "/id"),
    ("role", "/role"),
    ("valid", "/valid"),
    ("created", "/created_at"),
    ("expires", "/expires_at"),
    ("revoked", "/revoked_at"),
    ("last used", "/last_used_at"),
];

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard keys create --name ci --role runner --expires 90d
  asgard keys list
  asgard keys revoke ci

Works on the data directory when no server runs on it, else through that server (an open
loopback server lets you; elsewhere set ASGARD_TOKEN to an admin's key).")]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    local: LocalArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key; its text is printed this once
    Create {
        /// Who or what uses it
        #[arg(long)]
        name: String,
        /// Each role may do all that the one before it may
        #[arg(long, value_enum, default_value_t = RoleArg::Runner)]
        role: RoleArg,
        /// How long it is valid, such as 12h, 90d or 1y [default: until revoked]
        #[arg(long, value_name = "DURATION", value_parser = seconds)]
        expires: Option<u32>,
    },
    /// List the keys
    #[command(visible_alias = "ls")]
    List,
    /// End a key at once
    #[command(visible_alias = "rm")]
    Revoke {
        /// The id or the name
        key: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// reads
    Viewer,
    /// starts jobs, calls models, writes runs
    Runner,
    /// changes models: stages, aliases, deletes
    Editor,
    /// everything, keys too
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Runner => Self::Runner,
            RoleArg::Editor => Self::Editor,
            RoleArg::Admin => Self::Admin,
        }
    }
}

/// Where the keys are reached.
enum Place {
    Database(Keys, db::Db),
    Server(Client),
}

pub(crate) async fn run(context: &Context<'_>, args: &KeysArgs) -> anyhow::Result<()> {
    let output = args.local.remote.output;
    let place = place(context, &args.local).await?;
    let answer = act(&place, &args.command).await;
    if let Place::Database(_, db) = place {
        db.close().await;
    }
    let answer = answer?;
    match &args.command {
        KeysCommand::List => {
            let items = answer["keys"].as_array().cloned().unwrap_or_default();
            output.list(&answer, &items, COLUMNS)?;
        }
        KeysCommand::Create { .. } if output.format() == Format::Table => {
            super::output::line(answer["key"].as_str().unwrap_or_default())?;
            if !output.quiet {
                message(
                    "this text is shown once; send it as 'Authorization: Bearer KEY', or set ASGARD_TOKEN and MLFLOW_TRACKING_TOKEN to it",
                );
            }
        }
        KeysCommand::Create { .. } => output.one(&answer, COLUMNS)?,
        KeysCommand::Revoke { key } if output.format() == Format::Table => {
            if !output.quiet {
                message(&format!("the key {key} opens nothing any more"));
            }
        }
        KeysCommand::Revoke { .. } => output.one(&answer, COLUMNS)?,
    }
    Ok(())
}

async fn place(context: &Context<'_>, args: &LocalArgs) -> anyhow::Result<Place> {
    if let Some(server) = args.named_server(context)? {
        return Ok(Place::Server(server));
    }
    let settings = context.load(&args.flags())?.settings;
    let data_dir = up::data_dir(&settings, context.surroundings)?;
    match up::open_database(&settings, &data_dir).await {
        Ok(db) => Ok(Place::Database(Keys::new(db.clone()), db)),
        Err(error) if is_locked(&error) => Ok(Place::Server(args.holder(context, error)?)),
        Err(error) => Err(error),
    }
}

pub(super) fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(db::Error::Locked { .. }))
}

async fn act(place: &Place, command: &KeysCommand) -> anyhow::Result<Value> {
    match place {
        Place::Server(client) => Ok(ask(client, command).await?),
        Place::Database(keys, _) => Ok(change(keys, command, Timestamp::now().0).await?),
    }
}

async fn ask(client: &Client, command: &KeysCommand) -> Result<Value, Failure> {
    match command {
        KeysCommand::List => client.get("/mlops/keys", &[]).await,
        KeysCommand::Revoke { key } => {
            let path = format!("/mlops/keys/{}", super::models::segment(key));
            client.delete(&path).await
        }
        KeysCommand::Create {
            name,
            role,
            expires,
        } => {
            let role = Role::from(*role);
            let body = json!({ "name": name, "role": role, "expires_in_seconds": expires });
            client.post("/mlops/keys", &body).await
        }
    }
}

async fn change(keys: &Keys, command: &KeysCommand, now: i64) -> Result<Value, Failure> {
    Ok(match command {
        KeysCommand::List => json!(KeysResponse::new(keys.list().await.map_err(failure)?, now)),
        KeysCommand::Revoke { key } => {
            json!(KeyResponse::new(
                keys.revoke(key, now).await.map_err(failure)?,
                now
            ))
        }
        KeysCommand::Create {
            name,
            role,
            expires,
        } => {
            let end = expires.map(|seconds| now + i64::from(seconds) * 1000);
            let created = keys.create(name, (*role).into(), end, now).await;
            let (key, text) = created.map_err(failure)?;
            json!(CreateKeyResponse::new(key, text, now))
        }
    })
}

fn failure(error: key::Error) -> Failure {
    match &error {
        key::Error::NameTaken(_) => Failure::of(Exit::Conflict, &error)
            .help("choose another name, or revoke that key first"),
        key::Error::NotFound(_) => {
            Failure::of(Exit::NotFound, &error).help("'asgard keys list' shows the keys")
        }
        key::Error::BadName(_) => Failure::of(Exit::Usage, &error),
        key::Error::Random(_) | key::Error::Db(_) => Failure::of(Exit::Failure, &error),
    }
}

/// Reads `90d`, `12h`, `30m`, `45s` or `1y` as seconds.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let refused = || format!("{text:?} is not a duration such as 12h, 90d or 1y");
    let unit = text.chars().last().ok_or_else(refused)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'y' => 365 * 86_400,
        _ => return Err(refused()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| refused())?;
    count
        .checked_mul(factor)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations_are_written_as_people_write_them() {
        assert_eq!(seconds("90d"), Ok(90 * 86_400));
        assert_eq!(seconds("12h"), Ok(43_200));
        for wrong in ["", "d", "0d", "90", "-1d", "999y", "1é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
