//! Online reads: the newest values of entities, as Feast's own server answers them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef};
use serde_json::Value;

use super::resolved::{Asked, Resolved, ResolvedViews};
use super::row::Row;
use super::{value, view};
use crate::FeatureStore;
use crate::answers::Held;
use crate::error::Error;
use crate::json;
use crate::on_demand::ViewColumns;

/// An online read.
#[derive(Debug, Clone)]
pub struct OnlineRequest {
    pub project: String,
    /// Join keys by name, each with its values: one for each entity.
    pub entities: BTreeMap<String, Vec<Value>>,
    /// `VIEW:FEATURE`, or else a feature service.
    pub features: Vec<String>,
    pub feature_service: Option<String>,
    pub full_feature_names: bool,
    /// Whether the answer tells which views it is of.
    pub name_views: bool,
}

/// The JSON of an answer, and the memory that is held for it.
#[derive(Debug)]
pub struct OnlineAnswer {
    pub json: Vec<u8>,
    pub(crate) held: Arc<Held>,
}

/// What a value of an answer takes at most, of those that have a width of their own: its text, its
/// status and its time. Longer ones are not counted.
const VALUE_BYTES: usize = 96;

/// The most bytes of an answer.
const MOST_BYTES: usize = 1 << 30;

/// The answer's text for a time that is not known.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

impl FeatureStore {
    /// The newest values of entities, as the JSON of Feast's server: one column after the other,
    /// the entities' own first.
    ///
    /// # Errors
    /// When a view, feature or join key is not there, or a key can never be one.
    pub async fn online_features(
        &self,
        request: OnlineRequest,
        now_us: i64,
    ) -> Result<OnlineAnswer, Error> {
        let asked = Asked {
            project: request.project,
            features: request.features,
            feature_service: request.feature_service,
            full_feature_names: request.full_feature_names,
            whole_views: false,
        };
        let resolved = self.resolve_online(asked).await?;
        let ResolvedViews {
            views,
            on_demand,
            join_keys,
        } = &*resolved;
        let mut entities = request.entities;
        let count = same_length(&entities)?;
        by_join_keys(&resolved, &mut entities);
        let columns = views.iter().map(|view| view.names.len());
        let computed = on_demand.iter().map(|used| used.features.len());
        let columns = entities.len() + columns.chain(computed).sum::<usize>();
        let held = self.hold_online(count, columns).await?;
        let mut answer = Answer::new(count);
        // What is no key is left out, as in Feast: it may be called like a feature.
        for (name, values) in &entities {
            if is_key(views, name) || join_keys.values().any(|key| key == name) {
                answer.entity(name, values);
            }
        }
        let mut sources = Vec::new();
        for resolved in views {
            let keys = keys(resolved, &entities, count)?;
            let rows = self.online.find(&resolved.rows, keys).await?;
            let oldest = match resolved.used.view.ttl_us {
                Some(ttl_us) if self.enforce_ttl => now_us.saturating_sub(ttl_us),
                _ => i64::MIN,
            };
            answer.view(resolved, &rows, oldest);
            if !on_demand.is_empty() {
                sources.push(view_columns(resolved, &rows, oldest)?);
            }
        }
        if !on_demand.is_empty() {
            let given = entities.into_iter();
            let given = given.map(|(name, values)| (name, Value::Array(values)));
            let given = json::to_batch(Value::Object(given.collect()))?;
            for used in on_demand {
                let computed = used.compute(&self.transforms, &given, count, &sources);
                let computed = computed.await?;
                for ((feature, _), column) in used.features.iter().zip(&computed) {
                    let name = used.answer_name(feature, request.full_feature_names);
                    answer.computed(&name, column)?;
                }
            }
        }
        metrics::counter!("feast_online_rows_total").increment(count as u64);
        let names = views.iter().map(|resolved| &*resolved.used.alias);
        Ok(OnlineAnswer {
            json: answer.finish(request.name_views.then(|| names.collect())),
            held,
        })
    }

    /// Waits until there is memory for so many values.
    async fn hold_online(&self, entities: usize, columns: usize) -> Result<Arc<Held>, Error> {
        let bytes = entities.saturating_mul(columns).saturating_mul(VALUE_BYTES);
        if bytes > MOST_BYTES {
            return Err(Error::Invalid(format!(
                "the answer would be larger than 1 GiB: ask about fewer than {entities} entities at once, or for fewer features"
            )));
        }
        self.answers.hold(bytes).await
    }
}

/// The newest values of entities, feature by feature.
#[derive(Debug, Clone, Default)]
pub struct OnlineColumns {
    /// The columns of the entities that are join keys of a view.
    pub join_keys: Vec<String>,
    pub features: Vec<OnlineColumn>,
    /// For each view the entities that it has no row of, by their place.
    pub unknown: Vec<(String, Vec<usize>)>,
}

/// The values of one feature; null where there is none.
#[derive(Debug, Clone)]
pub struct OnlineColumn {
    pub view: String,
    pub feature: String,
    pub values: Vec<Value>,
}

impl FeatureStore {
    /// The newest values of entities, of whole views (`VIEW`) and of features (`VIEW:FEATURE`).
    /// What is unknown, or too old where the ttl is enforced, is null.
    ///
    /// # Errors
    /// As for [`Self::online_features`].
    pub async fn online_columns(
        &self,
        project: &str,
        from: Vec<String>,
        entities: &BTreeMap<String, Vec<Value>>,
        now_us: i64,
    ) -> Result<OnlineColumns, Error> {
        let asked = Asked {
            project: project.to_owned(),
            features: from,
            feature_service: None,
            full_feature_names: true,
            whole_views: true,
        };
        let resolved = self.resolve_online(asked).await?;
        if let Some(used) = resolved.on_demand.first() {
            return Err(Error::Unsupported(format!(
                "'{}' is an on-demand feature view, which features_from does not compute: ask POST /feast/get-online-features, and send its features as inputs",
                used.alias
            )));
        }
        let count = same_length(entities)?;
        let mut answer = OnlineColumns::default();
        for resolved in &resolved.views {
            let keys = keys(resolved, entities, count)?;
            let rows = self.online.find(&resolved.rows, keys).await?;
            let oldest = match resolved.used.view.ttl_us {
                Some(ttl_us) if self.enforce_ttl => now_us.saturating_sub(ttl_us),
                _ => i64::MIN,
            };
            answer.view(resolved, &rows, oldest)?;
        }
        metrics::counter!("feast_online_rows_total").increment(count as u64);
        Ok(answer)
    }
}

impl OnlineColumns {
    fn view(
        &mut self,
        resolved: &Resolved,
        rows: &[Option<Row>],
        oldest_us: i64,
    ) -> Result<(), Error> {
        let used = &resolved.used;
        self.join_keys.extend(used.view.join_keys.iter().cloned());
        let found = rows.iter().map(|row| {
            let row = row.as_ref().filter(|row| row.stamp().us >= oldest_us)?;
            Found::new(resolved, row)
        });
        let found: Vec<Option<Found<'_>>> = found.collect();
        let unknown = (0..found.len()).filter(|row| found[*row].is_none());
        self.unknown.push((used.alias.clone(), unknown.collect()));
        for (feature, name) in used.features.iter().enumerate() {
            let values = found.iter().map(|found| {
                let Some(value) = found.as_ref().and_then(|found| found.value(feature)) else {
                    return Ok(Value::Null);
                };
                let mut json = Vec::new();
                value::write_json(value, &mut json);
                serde_json::from_slice(&json).map_err(|problem| {
                    Error::Invalid(format!(
                        "feature {}:{name} cannot be read: {problem}",
                        used.alias
                    ))
                })
            });
            self.features.push(OnlineColumn {
                view: used.alias.clone(),
                feature: name.clone(),
                values: values.collect::<Result<_, Error>>()?,
            });
        }
        Ok(())
    }
}

/// Whether a name is a join key of a view, as the request calls it.
fn is_key(views: &[Resolved], name: &str) -> bool {
    views.iter().any(|resolved| {
        let used = &resolved.used;
        let mut keys = used.view.join_keys.iter();
        keys.any(|key| used.join_key_map.get(key).unwrap_or(key) == name)
    })
}

/// Makes of the values what the views' keys are, as Feast does: those that come under the name of an
/// entity are its join key's, and digits as text are numbers where keys are.
fn by_join_keys(resolved: &ResolvedViews, entities: &mut BTreeMap<String, Vec<Value>>) {
    let views = &resolved.views;
    for (entity, key) in &resolved.join_keys {
        let missing = is_key(views, key) && !entities.contains_key(key);
        if missing
            && !is_key(views, entity)
            && let Some(values) = entities.get(entity)
        {
            entities.insert(key.clone(), values.clone());
        }
    }
    for resolved in views {
        let used = &resolved.used;
        let keys = used.view.join_keys.iter().zip(&used.view.join_key_types);
        for (key, dtype) in keys {
            let name = used.join_key_map.get(key).unwrap_or(key);
            for value in entities.get_mut(name).into_iter().flatten() {
                view::as_key(*dtype, value);
            }
        }
    }
}

/// A view's features as columns, for functions.
fn view_columns(
    resolved: &Resolved,
    rows: &[Option<Row>],
    oldest_us: i64,
) -> Result<ViewColumns, Error> {
    let used = &resolved.used;
    let found = rows.iter().map(|row| {
        let row = row.as_ref().filter(|row| row.stamp().us >= oldest_us)?;
        Found::new(resolved, row)
    });
    let found: Vec<Option<Found<'_>>> = found.collect();
    let columns = used.features.iter().enumerate().map(|(index, name)| {
        let values = found.iter().map(|found| found.as_ref()?.value(index));
        let dtype = used.view.feature(name)?.dtype;
        let column = value::column(dtype, &values.collect::<Vec<_>>());
        let column = column.ok_or_else(|| {
            Error::Invalid(format!(
                "online values of feature {}:{name} are of another type than {dtype}: load them anew with POST /feast/materialize",
                used.view.name
            ))
        })?;
        Ok((name.clone(), column))
    });
    columns.collect()
}

/// How many entities there are; a view without join keys is asked about one thing.
fn same_length(entities: &BTreeMap<String, Vec<Value>>) -> Result<usize, Error> {
    let Some((first, values)) = entities.first_key_value() else {
        return Ok(1);
    };
    let other = entities.iter().find(|(_, v)| v.len() != values.len());
    match other {
        Some((name, others)) => Err(Error::Invalid(format!(
            "entities: {first:?} has {} values, {name:?} has {}: give as many of each",
            values.len(),
            others.len()
        ))),
        None => Ok(values.len()),
    }
}

/// The key of each entity; none where a part of it is null, or rows are about other things.
fn keys(
    resolved: &Resolved,
    entities: &BTreeMap<String, Vec<Value>>,
    count: usize,
) -> Result<Vec<Option<Box<[u8]>>>, Error> {
    let used = &resolved.used;
    let keys = used.view.join_keys.iter().zip(&used.view.join_key_types);
    let keys = keys.map(|(key, dtype)| {
        let name = used.join_key_map.get(key).unwrap_or(key);
        match entities.get(name) {
            Some(values) => Ok((name, *dtype, values)),
            None => Err(Error::Invalid(format!(
                "entities has no {name:?}, the join key of feature view '{}'; it has: {}",
                used.view.name,
                entities.keys().cloned().collect::<Vec<_>>().join(", ")
            ))),
        }
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if !resolved.rows.about().may_be_read_as(&used.view) {
        // The rows are about other things, or there are none.
        return Ok(vec![None; count]);
    }
    let whole = (0..count).map(|index| {
        let mut bytes = Vec::with_capacity(16);
        let mut whole = true;
        for (name, dtype, values) in &keys {
            whole &= view::push_key(name, *dtype, &values[index], &mut bytes)?;
        }
        Ok(whole.then(|| bytes.into()))
    });
    whole.collect()
}

/// The JSON of an answer, growing.
struct Answer {
    json: Vec<u8>,
    names: Vec<String>,
    count: usize,
}

impl Answer {
    fn new(count: usize) -> Self {
        Self {
            json: b"{\"results\":[".to_vec(),
            names: Vec::new(),
            count,
        }
    }

    /// A column of the entities themselves.
    fn entity(&mut self, name: &str, values: &[Value]) {
        let values = values.iter().map(Value::to_string).collect::<Vec<_>>();
        let statuses = vec!["PRESENT"; self.count];
        let times = vec![NO_TIME; self.count];
        self.column(name, values.join(",").as_bytes(), &statuses, &times);
    }

    /// The columns of a view.
    fn view(&mut self, resolved: &Resolved, rows: &[Option<Row>], oldest_us: i64) {
        let times: Vec<String> = rows
            .iter()
            .map(|row| {
                row.as_ref()
                    .map_or(NO_TIME.to_owned(), |r| utc(r.stamp().us))
            })
            .collect();
        let times: Vec<&str> = times.iter().map(String::as_str).collect();
        let found: Vec<Option<Found<'_>>> = rows
            .iter()
            .map(|row| row.as_ref().and_then(|row| Found::new(resolved, row)))
            .collect();
        for (feature, name) in resolved.names.iter().enumerate() {
            let mut json = Vec::with_capacity(self.count * 12);
            let mut statuses = Vec::with_capacity(self.count);
            for found in &found {
                if !json.is_empty() {
                    json.push(b',');
                }
                let value = found.as_ref().and_then(|found| found.value(feature));
                let too_old = found.as_ref().is_some_and(|f| f.us < oldest_us);
                match value {
                    _ if too_old => json.extend(b"null"),
                    Some(value) => value::write_json(value, &mut json),
                    None => json.extend(b"null"),
                }
                statuses.push(match value {
                    _ if too_old => "OUTSIDE_MAX_AGE",
                    Some(_) => "PRESENT",
                    None => "NOT_FOUND",
                });
            }
            self.column(name, &json, &statuses, &times);
        }
    }

    /// A column that a function computed.
    fn computed(&mut self, name: &str, column: &ArrayRef) -> Result<(), Error> {
        let encode = value::encoder(column)?;
        let (mut json, mut bytes) = (Vec::new(), Vec::new());
        for row in 0..column.len() {
            if row > 0 {
                json.push(b',');
            }
            bytes.clear();
            encode(row, &mut bytes);
            value::write_json(&bytes, &mut json);
        }
        let statuses = vec!["PRESENT"; self.count];
        self.column(name, &json, &statuses, &vec![NO_TIME; self.count]);
        Ok(())
    }

    fn column(&mut self, name: &str, values: &[u8], statuses: &[&str], times: &[&str]) {
        if !self.names.is_empty() {
            self.json.push(b',');
        }
        self.names.push(name.to_owned());
        self.json.extend(b"{\"values\":[");
        self.json.extend(values);
        self.json.extend(b"],\"statuses\":[");
        self.texts(statuses);
        self.json.extend(b"],\"event_timestamps\":[");
        self.texts(times);
        self.json.extend(b"]}");
    }

    /// Texts that need no escaping.
    fn texts(&mut self, texts: &[&str]) {
        for (index, text) in texts.iter().enumerate() {
            self.json
                .extend(if index == 0 { &b"\""[..] } else { b",\"" });
            self.json.extend(text.as_bytes());
            self.json.push(b'"');
        }
    }

    fn finish(mut self, views: Option<BTreeSet<&str>>) -> Vec<u8> {
        let mut metadata = serde_json::json!({ "feature_names": self.names });
        if let Some(views) = views {
            let views = views.iter().map(|name| serde_json::json!({ "name": name }));
            metadata["feature_view_metadata"] = views.collect();
        }
        self.json.extend(b"],\"metadata\":");
        self.json.extend(metadata.to_string().as_bytes());
        self.json.push(b'}');
        self.json
    }
}

/// A row with its values apart.
struct Found<'r> {
    us: i64,
    places: Arc<[Option<usize>]>,
    values: Vec<&'r [u8]>,
}

impl<'r> Found<'r> {
    fn new(resolved: &Resolved, row: &'r Row) -> Option<Self> {
        Some(Self {
            us: row.stamp().us,
            places: resolved.places(row.layout())?,
            values: row.values().collect(),
        })
    }

    fn value(&self, feature: usize) -> Option<&'r [u8]> {
        let place = self.places.get(feature).copied().flatten()?;
        self.values.get(place).copied()
    }
}

/// A time as protobuf writes it in JSON: with as many digits as it needs.
pub(crate) fn utc(us: i64) -> String {
    let at = i128::from(us) * 1000;
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp_nanos(at) else {
        return NO_TIME.to_owned();
    };
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    let us = at.microsecond();
    // Writing to a text cannot fail.
    let _ = match (us, us % 1000) {
        (0, _) => Ok(()),
        (_, 0) => write!(text, ".{:03}", us / 1000),
        _ => write!(text, ".{us:06}"),
    };
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, MIGRATIONS};

    #[tokio::test]
    async fn an_answer_that_would_take_all_memory_is_refused() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let free = store.answers.free_bytes();
        let held = store.hold_online(100_000, 3).await.unwrap();
        assert!(store.answers.free_bytes() <= free - 100_000 * 3 * VALUE_BYTES);
        drop(held);
        let refused = store.hold_online(6_000_000, 3).await.unwrap_err();
        assert!(refused.to_string().contains("fewer than"), "{refused}");
    }

    #[test]
    fn times_have_as_many_digits_as_they_need() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_500_000), "1970-01-01T00:00:01.500Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999999Z");
    }
}
