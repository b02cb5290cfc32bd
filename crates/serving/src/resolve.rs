//! Which version a request means, without asking the database each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use registry::{ModelVersion, Registry, Selector};

use crate::error::Error;

/// How long an answer is kept: another server on the same database may change it unseen.
const KEPT: Duration = Duration::from_secs(1);
/// Answers that are kept at most.
const MOST: usize = 10_000;

/// Answers of the registry, each good until the registry changes.
#[derive(Default)]
pub(crate) struct Resolutions(Mutex<HashMap<Question, Resolution>>);

#[derive(PartialEq, Eq, Hash)]
struct Question {
    name: String,
    version: Option<String>,
}

struct Resolution {
    generation: u64,
    at: Instant,
    version: Arc<ModelVersion>,
}

impl Resolutions {
    /// The version that `name` and `version` mean now.
    ///
    /// # Errors
    /// [`Error::NoModels`], [`Error::ModelNotFound`], [`Error::VersionNotFound`], or what the
    /// registry says.
    pub(crate) async fn resolve(
        &self,
        registry: &Registry,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<ModelVersion>, Error> {
        let question = Question {
            name: name.to_owned(),
            version: version.map(str::to_owned),
        };
        let generation = registry.generation();
        if let Some(known) = self.known(&question, generation) {
            return Ok(known);
        }
        let selector = Selector::parse(version)?;
        let found = match registry.resolve(name, &selector).await {
            Ok(found) => Arc::new(found),
            Err(error) => return Err(explain(registry, name, version, error).await),
        };
        let resolution = Resolution {
            generation,
            at: Instant::now(),
            version: Arc::clone(&found),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(question, resolution);
        Ok(found)
    }

    fn known(&self, question: &Question, generation: u64) -> Option<Arc<ModelVersion>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let resolution = kept.get(question)?;
        let fresh = resolution.generation == generation && resolution.at.elapsed() < KEPT;
        fresh.then(|| Arc::clone(&resolution.version))
    }
}

/// The names that are most like one that is not there, the nearest first.
fn nearest(name: &str, mut existing: Vec<String>) -> Vec<String> {
    let likeness = |other: &String| strsim::jaro_winkler(name, other);
    existing.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    existing.truncate(EXISTING_SHOWN);
    existing
}

/// Turns the registry's "not found" into one that says what there is.
async fn explain(
    registry: &Registry,
    name: &str,
    version: Option<&str>,
    error: registry::Error,
) -> Error {
    match error {
        registry::Error::ModelNotFound(_) => match registry.names(EXISTING_COMPARED).await {
            Ok(existing) if existing.is_empty() => Error::NoModels,
            Ok(existing) => Error::ModelNotFound {
                name: name.to_owned(),
                existing: nearest(name, existing),
            },
            Err(error) => error.into(),
        },
        registry::Error::VersionNotFound { .. } | registry::Error::AliasNotFound { .. } => {
            Error::VersionNotFound {
                name: name.to_owned(),
                version: version.unwrap_or("latest").to_owned(),
            }
        }
        error => error.into(),
    }
}

/// How many models' names are compared with one that is not there, and how many of them are told.
const EXISTING_COMPARED: i64 = 1000;
const EXISTING_SHOWN: usize = 20;
