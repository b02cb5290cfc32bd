//! `asgard features`: the tables that features come from, and the views over them.

mod apply;
mod look;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::cli::Remote;
use super::models::segment;
use super::output::{Column, Format, OutputArgs, message};
use crate::client::Client;
use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard features import customers.csv --table gold.customer_aggregates
  asgard features apply view.yaml
  asgard features materialize
  asgard features stats customer_churn_features
  asgard features usage customer_churn_features
  asgard features train-set --entities customers.csv -f churn:total_orders --out train.parquet
  asgard features repo ./feature_repo

A view in YAML or JSON has what POST /feast/features takes: name, entities, features, source.")]
pub(crate) struct FeaturesArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: FeaturesCommand,
}

#[derive(Debug, Subcommand)]
enum FeaturesCommand {
    /// Create the feature views of a file, or change those that are there
    Apply {
        /// A .yaml or .json file with one view or a list of them
        file: PathBuf,
        /// Check them against their tables, and only tell what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// List the feature views
    #[command(visible_alias = "ls")]
    List {
        /// Only views of this entity
        #[arg(long, value_name = "NAME")]
        entity: Option<String>,
        /// Only views with this tag
        #[arg(long, value_name = "KEY[=VALUE]")]
        tag: Option<String>,
        /// The project of the Feast SDK [default: default]
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Show a feature view
    Get {
        /// The feature view
        name: String,
    },
    /// Delete a feature view; its table stays
    #[command(visible_alias = "rm")]
    Delete {
        /// The feature view
        name: String,
    },
    /// Show how fresh, complete and spread the values of a view are
    Stats {
        /// The feature view
        name: String,
        /// The snapshot of the table [default: the newest]
        #[arg(long, value_name = "ID")]
        snapshot: Option<i64>,
    },
    /// List the loads of a view into the online store, the newest first
    Loads {
        /// The feature view
        name: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// List the jobs that read a view, and the models that came of them or predict with it
    Usage {
        /// The feature view
        name: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Load the newest values into the online store
    Materialize {
        /// The views [default: all that are meant for online reads]
        views: Vec<String>,
        /// The latest time of a value, in ISO 8601 [default: now]
        #[arg(long, value_name = "TIME")]
        end: Option<String>,
    },
    /// Join features to the rows of a file, as they were known at the rows' times
    TrainSet(TrainSetArgs),
    /// Append the rows of a file to an Iceberg table, which is made when it is not there
    Import(ImportArgs),
    /// List the Iceberg tables
    Tables {
        #[command(flatten)]
        catalog: CatalogArgs,
    },
    /// Write the feature_store.yaml with which the Feast SDK works on this server
    Repo {
        /// The folder to write it into
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Limit {
    /// How many, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u16>,
}

impl Limit {
    fn query(&self) -> Vec<(&'static str, String)> {
        let limit = self.limit.iter();
        limit.map(|limit| ("limit", limit.to_string())).collect()
    }
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// A .csv or .parquet file
    file: PathBuf,
    /// The table
    #[arg(long, value_name = "SCHEMA.TABLE", value_parser = table)]
    table: (String, String),
    #[command(flatten)]
    catalog: CatalogArgs,
}

#[derive(Debug, Args)]
struct TrainSetArgs {
    /// A .csv or .parquet file with the join keys and event_timestamp
    #[arg(long, value_name = "FILE")]
    entities: PathBuf,
    /// The features
    #[arg(short, long, num_args = 1.., value_name = "VIEW:FEATURE", required_unless_present = "service")]
    features: Vec<String>,
    /// A feature service instead
    #[arg(long, value_name = "NAME", conflicts_with = "features")]
    service: Option<String>,
    /// Call features VIEW__FEATURE
    #[arg(long)]
    full_feature_names: bool,
    /// Where to write: a .csv or .parquet file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct CatalogArgs {
    /// The Iceberg catalog [default: the local one]
    #[arg(long, value_name = "NAME")]
    catalog: Option<String>,
}

impl CatalogArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        self.catalog
            .iter()
            .map(|name| ("catalog", name.clone()))
            .collect()
    }
}

/// Parts `gold.orders`; the schema may have dots.
fn table(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('.') {
        Some((schema, name)) if !schema.is_empty() && !name.is_empty() => {
            Ok((schema.to_owned(), name.to_owned()))
        }
        _ => Err("name schema and table, such as gold.customer_aggregates".to_owned()),
    }
}

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("entities", "/entities"),
    ("features", "/features"),
    ("schema", "/source/schema"),
    ("table", "/source/table_name"),
    ("time", "/source/timestamp_field"),
    ("ttl, days", "/ttl_days"),
    ("tags", "/tags"),
    ("created", "/created_at"),
];

const TABLE_COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("schema", "/schema"),
    ("catalog", "/catalog"),
];

const MATERIALIZED: &[Column] = &[
    ("feature view", "/feature_view"),
    ("mode", "/mode"),
    ("rows read", "/rows_read"),
    ("written", "/entities_written"),
    ("entities", "/entities"),
    ("snapshot", "/snapshot_id"),
];

const IMPORTED: &[Column] = &[
    ("schema", "/schema"),
    ("table", "/name"),
    ("rows", "/rows"),
    ("made", "/created"),
    ("snapshot", "/snapshot_id"),
];

pub(crate) async fn run(context: &Context<'_>, args: &FeaturesArgs) -> anyhow::Result<()> {
    let client = context.client(&args.remote)?;
    let output = args.remote.output;
    match &args.command {
        FeaturesCommand::Apply { file, dry_run } => {
            apply::run(&client, file, *dry_run, output).await
        }
        FeaturesCommand::List {
            entity,
            tag,
            project,
        } => {
            let given = [("entity", entity), ("tag", tag), ("project", project)];
            let given = given
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.clone()?)));
            list(&client, given.collect(), output).await
        }
        FeaturesCommand::Get { name } => {
            let view = client.get(&view_path(name), &[]).await?;
            let shown = match output.format() {
                Format::Table | Format::Csv => named(view),
                _ => view,
            };
            Ok(output.one(&shown, COLUMNS)?)
        }
        FeaturesCommand::Delete { name } => {
            client.remove(&view_path(name)).await?;
            if !output.quiet {
                message(&format!("✓ feature view '{name}' is deleted"));
            }
            Ok(())
        }
        FeaturesCommand::Stats { name, snapshot } => {
            look::stats(&client, name, *snapshot, output).await
        }
        FeaturesCommand::Loads { name, limit } => look::loads(&client, name, limit, output).await,
        FeaturesCommand::Usage { name, limit } => look::usage(&client, name, limit, output).await,
        FeaturesCommand::Materialize { views, end } => {
            let views = (!views.is_empty()).then_some(views);
            let body = json!({"feature_views": views, "end_ts": end});
            let path = "/feast/materialize-incremental";
            let done = client.post(path, &body).await?;
            let items = done["materialized"].as_array().cloned();
            Ok(output.list(&done, &items.unwrap_or_default(), MATERIALIZED)?)
        }
        FeaturesCommand::TrainSet(args) => train_set(&client, args, output).await,
        FeaturesCommand::Import(args) => import(&client, args, output).await,
        FeaturesCommand::Tables { catalog } => {
            let tables = client.get("/feast/tables", &catalog.query()).await?;
            let items = tables["tables"].as_array().cloned().unwrap_or_default();
            Ok(output.list(&tables, &items, TABLE_COLUMNS)?)
        }
        FeaturesCommand::Repo { dir } => repo(&client, dir, output).await,
    }
}

fn view_path(name: &str) -> String {
    format!("/feast/features/{}", segment(name))
}

/// All views that are wanted, however many pages they take.
async fn list(
    client: &Client,
    mut query: Vec<(&'static str, String)>,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let mut views = client.get("/feast/features", &query).await?;
    let mut next = views["next_page_token"].take();
    while let Some(token) = next.as_str() {
        query.retain(|(name, _)| *name != "page_token");
        query.push(("page_token", token.to_owned()));
        let mut page = client.get("/feast/features", &query).await?;
        if let (Some(views), Some(more)) = (
            views["feature_views"].as_array_mut(),
            page["feature_views"].as_array_mut(),
        ) {
            views.append(more);
        }
        next = page["next_page_token"].take();
    }
    let items = views["feature_views"].as_array().cloned();
    let items: Vec<Value> = items.unwrap_or_default().into_iter().map(named).collect();
    Ok(output.list(&views, &items, COLUMNS)?)
}

/// The features by name and type only: a table has no room for their columns.
fn named(mut view: Value) -> Value {
    let features = view["features"].as_array().cloned().unwrap_or_default();
    let features = features.iter().map(|feature| {
        let text = |key: &str| feature[key].as_str().unwrap_or_default();
        format!("{} {}", text("name"), text("dtype"))
    });
    view["features"] = features.collect();
    view
}

fn absent(file: &Path) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("there is no file {}", file.display()),
    )
}

async fn import(client: &Client, args: &ImportArgs, output: OutputArgs) -> anyhow::Result<()> {
    let (_, kind) = form_of(&args.file)?;
    let opened = open(&args.file).await?;
    let (schema, name) = &args.table;
    let path = format!("/feast/tables/{}/{}", segment(schema), segment(name));
    let query = args.catalog.query();
    let answer = client.upload(&path, &query, kind, opened).await?;
    let answer: Value = serde_json::from_slice(&answer).context("the answer is not JSON")?;
    if output.format() != Format::Table {
        return Ok(output.one(&answer, IMPORTED)?);
    }
    if !output.quiet {
        let made = answer["created"] == true;
        message(&format!(
            "✓ {} rows {} {schema}.{name}, snapshot {}",
            answer["rows"],
            if made { "made" } else { "were added to" },
            answer["snapshot_id"]
        ));
    }
    Ok(())
}

/// The name and the content type of a file's form.
fn form_of(file: &Path) -> Result<(&'static str, &'static str), Failure> {
    match file.extension().and_then(|e| e.to_str()) {
        Some("csv") => Ok(("csv", "text/csv")),
        Some("parquet") => Ok(("parquet", "application/vnd.apache.parquet")),
        _ => {
            let message = format!("{} is neither .csv nor .parquet", file.display());
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

async fn open(file: &Path) -> anyhow::Result<tokio::fs::File> {
    match tokio::fs::File::open(file).await {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(absent(file).into()),
        opened => opened.with_context(|| format!("cannot read {}", file.display())),
    }
}

async fn train_set(client: &Client, args: &TrainSetArgs, output: OutputArgs) -> anyhow::Result<()> {
    let (_, kind) = form_of(&args.entities)?;
    let (format, _) = form_of(&args.out)?;
    let opened = open(&args.entities).await?;
    let full = args.full_feature_names.to_string();
    let mut query = vec![("format", format.to_owned()), ("full_feature_names", full)];
    match &args.service {
        Some(service) => query.push(("feature_service", service.clone())),
        None => query.push(("features", args.features.join(","))),
    }
    let table = client
        .upload("/feast/historical", &query, kind, opened)
        .await?;
    std::fs::write(&args.out, &table)
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    if !output.quiet {
        message(&format!("✓ {}", args.out.display()));
    }
    Ok(())
}

async fn repo(client: &Client, dir: &Path, output: OutputArgs) -> anyhow::Result<()> {
    let yaml = client.text("/feast/repo", &[]).await?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join("feature_store.yaml");
    std::fs::write(&path, yaml).with_context(|| format!("cannot write {}", path.display()))?;
    if !output.quiet {
        message(&format!("✓ {} speaks to {}", path.display(), client.url()));
        message(&format!(
            "next: pip install 'feast[grpcio]', then FeatureStore(repo_path={:?})",
            dir.display().to_string()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_with_its_schema() {
        assert_eq!(table("gold.t"), Ok(("gold".into(), "t".into())));
        assert_eq!(table("a.b.t"), Ok(("a.b".into(), "t".into())));
        assert!(table("t").is_err() && table("gold.").is_err());
    }
}
