//! The registry of an external MLflow server: what asgard itself asks of it. What clients ask is
//! passed on (`http/external.rs`).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tracking::wire::{Int, KeyValue, List, pairs};
use tracking::{External, Kind, Location, Owner, Question, Stamp, is_missing, take};

use crate::error::Error;
use crate::model::RegisteredModel;
use crate::search::Search;
use crate::selector::Selector;
use crate::stage::Stage;
use crate::version::{ModelVersion, NewVersion, version_not_found};

/// The most that MLflow gives on a page of models.
const PAGE: &str = "1000";

#[derive(Deserialize, Default)]
#[serde(default)]
struct ModelBody {
    name: String,
    description: String,
    creation_timestamp: Option<Int>,
    last_updated_timestamp: Option<Int>,
    latest_versions: Vec<VersionBody>,
    tags: List<KeyValue>,
    aliases: Vec<AliasBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AliasBody {
    alias: String,
    version: Option<Int>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct VersionBody {
    name: String,
    version: Option<Int>,
    source: String,
    run_id: Option<String>,
    run_link: Option<String>,
    model_id: Option<String>,
    current_stage: String,
    description: String,
    creation_timestamp: Option<Int>,
    last_updated_timestamp: Option<Int>,
    tags: List<KeyValue>,
    aliases: Vec<String>,
}

/// The id of a version's stamp.
pub(crate) fn stamp_id(name: &str, version: impl std::fmt::Display) -> String {
    format!("{name}/{version}")
}

fn number(value: Option<Int>) -> i64 {
    value.map_or(0, |Int(number)| number)
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn read<T: serde::de::DeserializeOwned + Default>(
    external: &External,
    value: Value,
) -> Result<T, Error> {
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(value).map_err(|error| {
        tracking::Error::ExternalAnswer {
            url: external.url().to_owned(),
            status: 502,
            error_code: None,
            message: format!("its answer is not MLflow's: {error}"),
        }
        .into()
    })
}

/// `key = 'value'` of a filter; MLflow knows no way to write a quote within quotes.
fn equals(key: &str, value: &str) -> String {
    match value.contains('\'') {
        true => format!("{key} = \"{value}\""),
        false => format!("{key} = '{value}'"),
    }
}

impl VersionBody {
    fn into_version(self, makers: &HashMap<String, String>) -> Result<ModelVersion, Error> {
        let version = number(self.version);
        Ok(ModelVersion {
            job_id: makers.get(&stamp_id(&self.name, version)).cloned(),
            version,
            // Where that is, the server is asked when the files are wanted.
            location: self.source.clone(),
            source: self.source,
            run_id: given(self.run_id),
            run_link: given(self.run_link),
            model_id: given(self.model_id),
            stage: Stage::parse(&self.current_stage).unwrap_or_default(),
            description: self.description,
            tags: pairs(self.tags, "tags")?.into_iter().collect(),
            aliases: self.aliases,
            created_at: number(self.creation_timestamp),
            updated_at: number(self.last_updated_timestamp),
            name: self.name,
        })
    }
}

/// The versions of bodies, with the jobs that made them.
async fn versions(
    external: &External,
    bodies: Vec<VersionBody>,
) -> Result<Vec<ModelVersion>, Error> {
    let id =
        |body: &VersionBody| stamp_id(&body.name, body.version.as_ref().map_or(0, |Int(n)| *n));
    let ids: Vec<String> = bodies.iter().map(id).collect();
    let stamps = external.stamps_of(Kind::ModelVersion, &ids).await?;
    let makers = stamps.into_iter().map(|stamp| (stamp.id, stamp.job_id));
    let makers: HashMap<String, String> = makers.collect();
    bodies
        .into_iter()
        .map(|body| body.into_version(&makers))
        .collect()
}

async fn one_version(external: &External, body: Value) -> Result<ModelVersion, Error> {
    let body: VersionBody = read(external, body)?;
    let mut found = versions(external, vec![body]).await?;
    Ok(found.remove(0))
}

async fn models(
    external: &External,
    bodies: Vec<ModelBody>,
) -> Result<Vec<RegisteredModel>, Error> {
    let names: Vec<String> = bodies.iter().map(|body| body.name.clone()).collect();
    let stamps = external.stamps_of(Kind::RegisteredModel, &names).await?;
    let makers = stamps.into_iter().map(|stamp| (stamp.id, stamp.job_id));
    let mut makers: HashMap<String, String> = makers.collect();
    let mut models = Vec::new();
    for body in bodies {
        let alias = |body: AliasBody| (body.alias, number(body.version));
        models.push(RegisteredModel {
            job_id: makers.remove(&body.name),
            name: body.name,
            description: body.description,
            tags: pairs(body.tags, "tags")?.into_iter().collect(),
            aliases: body.aliases.into_iter().map(alias).collect(),
            latest_versions: versions(external, body.latest_versions).await?,
            created_at: number(body.creation_timestamp),
            updated_at: number(body.last_updated_timestamp),
        });
    }
    Ok(models)
}

/// How many registered models there are.
pub(crate) async fn count(external: &External) -> Result<i64, Error> {
    let (mut count, mut token) = (0, String::new());
    loop {
        let mut fields = vec![("max_results", PAGE)];
        if !token.is_empty() {
            fields.push(("page_token", &token));
        }
        let page = external.get_for_status("2.0/mlflow/registered-models/search", &fields);
        let page = page.await?;
        count += page["registered_models"].as_array().map_or(0, Vec::len) as i64;
        match page["next_page_token"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return Ok(count),
        }
    }
}

/// A page of models by name, and the token of the next one.
pub(crate) async fn search(
    external: &External,
    search: &Search,
) -> Result<(Vec<RegisteredModel>, Option<String>), Error> {
    let most = search.max_results.unwrap_or(100).to_string();
    let mut fields = vec![("max_results", most.as_str()), ("order_by", "name ASC")];
    if !search.filter.is_empty() {
        fields.push(("filter", &search.filter));
    }
    if let Some(token) = &search.page_token {
        fields.push(("page_token", token));
    }
    let mut page = external
        .get("2.0/mlflow/registered-models/search", &fields)
        .await?;
    let next = page["next_page_token"].as_str().map(str::to_owned);
    let bodies = read(external, take(&mut page, "/registered_models"))?;
    Ok((models(external, bodies).await?, given(next)))
}

pub(crate) async fn get_model(external: &External, name: &str) -> Result<RegisteredModel, Error> {
    let fields = [("name", name)];
    let found = external.get("2.0/mlflow/registered-models/get", &fields);
    let mut found = found.await.map_err(|error| match is_missing(&error) {
        true => Error::ModelNotFound(name.to_owned()),
        false => error.into(),
    })?;
    let body = read(external, take(&mut found, "/registered_model"))?;
    Ok(models(external, vec![body]).await?.remove(0))
}

/// Makes a model unless there is one of this name.
pub(crate) async fn create_model_if_missing(
    external: &External,
    name: &str,
    job_id: Option<&str>,
) -> Result<(), Error> {
    let fields = json!({ "name": name });
    let made = external.post("2.0/mlflow/registered-models/create", &fields);
    match made.await {
        Err(tracking::Error::ExternalAnswer {
            error_code: Some(code),
            ..
        }) if code == "RESOURCE_ALREADY_EXISTS" => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => stamp(external, Kind::RegisteredModel, name.to_owned(), job_id).await,
    }
}

async fn stamp(
    external: &External,
    kind: Kind,
    id: String,
    job_id: Option<&str>,
) -> Result<(), Error> {
    let Some(job_id) = job_id else {
        return Ok(());
    };
    let stamp = Stamp {
        id,
        job_id: job_id.to_owned(),
        artifact_uri: None,
    };
    Ok(external.stamp(kind, &stamp).await?)
}

/// The newest versions of a model, at most `most`.
pub(crate) async fn versions_of_model(
    external: &External,
    name: &str,
    most: &str,
) -> Result<Vec<ModelVersion>, Error> {
    let filter = equals("name", name);
    let fields = [
        ("filter", filter.as_str()),
        ("order_by", "version_number DESC"),
        ("max_results", most),
    ];
    let mut found = external
        .get("2.0/mlflow/model-versions/search", &fields)
        .await?;
    let bodies = read(external, take(&mut found, "/model_versions"))?;
    versions(external, bodies).await
}

/// The versions that a job made, oldest first; those that are gone are passed over.
pub(crate) async fn versions_of_job(
    external: &External,
    job_id: &str,
) -> Result<Vec<ModelVersion>, Error> {
    let mut found = Vec::new();
    for stamp in external.stamps_of_job(Kind::ModelVersion, job_id).await? {
        let Some((name, version)) = stamp.id.rsplit_once('/') else {
            continue;
        };
        match get_version(external, name, version).await {
            Ok(version) => found.push(version),
            Err(Error::VersionNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The names and numbers of the versions that a job made, as they were noted here: some may be gone.
pub(crate) async fn version_names_of_job(
    external: &External,
    job_id: &str,
) -> Result<Vec<(String, i64)>, Error> {
    let stamps = external.stamps_of_job(Kind::ModelVersion, job_id).await?;
    let named = stamps.iter().filter_map(|stamp| {
        let (name, version) = stamp.id.rsplit_once('/')?;
        Some((name.to_owned(), version.parse().ok()?))
    });
    Ok(named.collect())
}

async fn get_version(
    external: &External,
    name: &str,
    version: &str,
) -> Result<ModelVersion, Error> {
    let fields = [("name", name), ("version", version)];
    let found = external.get("2.0/mlflow/model-versions/get", &fields).await;
    let mut found = found.map_err(|error| match is_missing(&error) {
        true => version_not_found(name, version),
        false => error.into(),
    })?;
    one_version(external, take(&mut found, "/model_version")).await
}

/// The version that a selector means now.
pub(crate) async fn resolve(
    external: &External,
    name: &str,
    which: &Selector,
) -> Result<ModelVersion, Error> {
    match which {
        Selector::Number(number) => {
            let found = get_version(external, name, &number.to_string()).await;
            if let Err(Error::VersionNotFound { .. }) = found {
                get_model(external, name).await?;
            }
            found
        }
        Selector::Latest => {
            let mut newest = versions_of_model(external, name, "1").await?;
            if newest.is_empty() {
                get_model(external, name).await?;
                return Err(version_not_found(name, which));
            }
            Ok(newest.remove(0))
        }
        Selector::Alias(alias) => {
            let model = get_model(external, name).await?;
            let number = model
                .aliases
                .get(alias)
                .ok_or_else(|| Error::AliasNotFound {
                    name: name.to_owned(),
                    alias: alias.clone(),
                })?;
            get_version(external, name, &number.to_string()).await
        }
        Selector::Stage(stage) => {
            let model = get_model(external, name).await?;
            let mut latest = model.latest_versions.into_iter();
            let found = latest.find(|version| version.stage.as_str() == stage);
            found.ok_or_else(|| version_not_found(name, which))
        }
    }
}

/// Adds a version; with `once`, answers with the one that has the same source if there is one.
pub(crate) async fn add_version(
    external: &External,
    new: NewVersion,
    once: bool,
) -> Result<ModelVersion, Error> {
    if once {
        let known = versions_of_model(external, &new.name, PAGE).await?;
        let same = |version: &ModelVersion| version.source == new.source;
        if let Some(known) = known.into_iter().find(same) {
            return Ok(known);
        }
    }
    let tags = new.tags.iter();
    let tags = tags.map(|(key, value)| json!({ "key": key, "value": value }));
    let mut fields = json!({
        "name": new.name,
        "source": new.source,
        "tags": tags.collect::<Vec<_>>(),
    });
    let optional = [
        ("run_id", &new.run_id),
        ("run_link", &new.run_link),
        ("model_id", &new.model_id),
        ("description", &new.description),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            fields[key] = json!(value);
        }
    }
    let mut made = external
        .post("2.0/mlflow/model-versions/create", &fields)
        .await?;
    let mut version = one_version(external, take(&mut made, "/model_version")).await?;
    let id = stamp_id(&version.name, version.version);
    stamp(external, Kind::ModelVersion, id, new.job_id.as_deref()).await?;
    version.job_id = new.job_id;
    Ok(version)
}

pub(crate) async fn set_version_tag(
    external: &External,
    name: &str,
    version: i64,
    key: &str,
    value: &str,
) -> Result<(), Error> {
    let fields =
        json!({ "name": name, "version": version.to_string(), "key": key, "value": value });
    external
        .post("2.0/mlflow/model-versions/set-tag", &fields)
        .await?;
    Ok(())
}

/// Where the files of a version are: what `models:/` and `runs:/` sources mean, the server knows.
pub(crate) async fn location(external: &External, version: &ModelVersion) -> Result<String, Error> {
    let number = version.version.to_string();
    let fields = [("name", version.name.as_str()), ("version", &number)];
    let found = external.get("2.0/mlflow/model-versions/get-download-uri", &fields);
    let found = found.await.map_err(|error| match is_missing(&error) {
        true => version_not_found(&version.name, &number),
        false => error.into(),
    })?;
    Ok(found["artifact_uri"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// The version whose files a place belongs to. What a version's source means may have to be asked
/// of the server, so only those are looked at whose source names the run or logged model in whose
/// folder the place is.
pub(crate) async fn find_around(
    external: &External,
    question: &Question,
) -> Result<Option<(String, i64)>, tracking::Error> {
    let place = &question.place;
    let (within, asks) = match Owner::of(place) {
        Some(Owner::Run(id) | Owner::LoggedModel(id)) => (id, true),
        Some(Owner::Trace(_)) => return Ok(None),
        // The folder of an experiment with a place of its own.
        None => (first_name(place), false),
    };
    let filter = format!("source_path LIKE '%{within}%'");
    let mut token = String::new();
    loop {
        let mut fields = vec![("filter", filter.as_str()), ("max_results", PAGE)];
        if !token.is_empty() {
            fields.push(("page_token", &token));
        }
        let search = external.get("2.0/mlflow/model-versions/search", &fields);
        let mut page = search.await?;
        for version in page["model_versions"].as_array().into_iter().flatten() {
            if let Some(found) = is_around(external, question, version, asks).await? {
                return Ok(Some(found));
            }
        }
        match take(&mut page, "/next_page_token") {
            Value::String(next) if !next.is_empty() => token = next,
            _ => return Ok(None),
        }
    }
}

/// The first folder of a place, with `LIKE`'s sign for any character where quotes would be read.
fn first_name(place: &Location) -> String {
    let first = place.key().split('/').next().unwrap_or_default();
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    first
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

/// The name and number of a version in an answer, where a place is among its files.
async fn is_around(
    external: &External,
    question: &Question,
    version: &Value,
    asks: bool,
) -> Result<Option<(String, i64)>, tracking::Error> {
    let text = |key: &str| version[key].as_str().unwrap_or_default();
    let number = match &version["version"] {
        Value::Number(number) => number.to_string(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let (name, mut source) = (text("name"), text("source").to_owned());
    if asks && !source.starts_with("mlflow-artifacts:") {
        let fields = [("name", name), ("version", number.as_str())];
        let asked = external.get("2.0/mlflow/model-versions/get-download-uri", &fields);
        match asked.await {
            Ok(answer) => {
                source = answer["artifact_uri"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            }
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    // What lies elsewhere is not changed by this server.
    let Ok(files) = Location::parse_uri(&source) else {
        return Ok(None);
    };
    let below = question.with_all_below && files.is_within(&question.place);
    if !below && !question.place.is_within(&files) {
        return Ok(None);
    }
    let id = stamp_id(name, &number);
    let made = external.stamp_of(Kind::ModelVersion, &id).await?;
    let made = made.map(|stamp| stamp.job_id);
    if made.is_some() && made == question.not_by_job {
        return Ok(None);
    }
    Ok(Some((name.to_owned(), number.parse().unwrap_or_default())))
}
