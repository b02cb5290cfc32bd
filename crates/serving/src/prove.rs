//! Comparing models with Python before anybody asks them: those versions that the registry says are
//! complete, one at a time. A request that comes meanwhile joins; what a server did not come to
//! before it ended is compared at the first request.

use environments::Environment;
use futures_util::TryStreamExt as _;
use registry::{Announced, ModelVersion, Selector};
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracking::{Artifacts, Location};

use crate::engine::MOST_MODEL_BYTES;
use crate::error::Error;
use crate::load::{FILE_BYTES, Loader};
use crate::mlmodel::{self, MlModel};
use crate::models::Models;
use crate::requirements::{PYTHON, REQUIREMENTS, request};

/// A pickle names the class of its model at its beginning.
const HEAD_BYTES: usize = 256;

/// The modules of the classes whose numbers the worker can dump.
const MODULES: [&str; 4] = ["sklearn.ensemble", "sklearn.tree", "xgboost", "lightgbm"];

impl Models {
    /// Proves what is `announced`, until `shutdown`.
    pub(crate) async fn prove_announced(
        &self,
        mut announced: Receiver<Announced>,
        shutdown: CancellationToken,
    ) {
        loop {
            let next = shutdown.run_until_cancelled(announced.recv()).await;
            let version = match next {
                Some(Ok(version)) => version,
                Some(Err(RecvError::Lagged(count))) => {
                    tracing::debug!(count, "models are proven when they are first asked");
                    continue;
                }
                Some(Err(RecvError::Closed)) | None => return,
            };
            let proving = self.prove_told(&version);
            let Some(Err(error)) = shutdown.run_until_cancelled(proving).await else {
                continue;
            };
            let Announced { name, version } = version;
            // It will be told to whoever asks the model.
            tracing::debug!(model = name, version, %error, "a model is not proven ahead");
        }
    }

    async fn prove_told(&self, announced: &Announced) -> Result<(), Error> {
        let selector = Selector::Number(announced.version);
        let registry = &self.loader().registry;
        let version = registry.resolve(&announced.name, &selector).await?;
        self.prove(&version).await
    }

    /// Proves a version if that may come to something and was not tried yet. Whoever does it already,
    /// for this version or another, is waited for.
    pub(crate) async fn prove(&self, version: &ModelVersion) -> Result<(), Error> {
        let config = &self.loader().maker.config;
        if !config.native || !config.prove_models {
            return Ok(());
        }
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(Error::Stopping);
        };
        if self.loader().is_promising(version).await? {
            self.load_unasked(version).await?;
        }
        Ok(())
    }
}

impl Loader {
    /// Whether a model may have numbers to prove of which nothing is known yet, and all that this takes
    /// is here already. The files of others need not be brought here.
    async fn is_promising(&self, version: &ModelVersion) -> Result<bool, Error> {
        let location = self.registry.location(version).await?;
        let described = self.stored_text(&location, mlmodel::FILE).await?;
        // One that is missing or unreadable promises nothing; its first question tells what is wrong.
        let described = MlModel::parse(&described.unwrap_or_default()).unwrap_or_default();
        if !described.may_be_native()
            || !self.begins_like_trees(&location, &described).await?
            || self.is_too_large(&location).await?
        {
            return Ok(false);
        }
        let environment = match self.tagged_environment(version).await {
            Some(environment) => Some(environment),
            None => self.built_environment(&location, &described).await?,
        };
        let Some(environment) = environment else {
            return Ok(false);
        };
        let files = self.files(version).await?;
        let subject = self.maker.subject(&files, &described, &environment).await;
        Ok(match subject {
            Some(subject) => !self.maker.proofs.knows(&subject).await,
            // What came of it could not be kept.
            None => false,
        })
    }

    /// Whether a model has so many bytes that no proof of it is kept.
    async fn is_too_large(&self, folder: &Location) -> Result<bool, Error> {
        let files = self.artifacts().list_all(folder).await?;
        let bytes: u64 = files.iter().filter_map(|file| file.size_bytes).sum();
        Ok(bytes > MOST_MODEL_BYTES)
    }

    /// The environment of a model's own requirements, if it was built before.
    async fn built_environment(
        &self,
        folder: &Location,
        described: &MlModel,
    ) -> Result<Option<Environment>, Error> {
        let Some(environments) = &self.maker.environments else {
            return Ok(None);
        };
        let Some(listed) = self.stored_text(folder, REQUIREMENTS).await? else {
            return Ok(None);
        };
        let python = self.stored_text(folder, PYTHON).await?;
        let request = request(&listed, python.as_deref(), described);
        Ok(environments.find_built(&request).await)
    }

    /// A file of a folder in the artifact store; `None` where there is none, or one that is larger
    /// than such files are.
    async fn stored_text(&self, folder: &Location, file: &str) -> Result<Option<String>, Error> {
        use tracking::Error::{ArtifactNotFound, ArtifactTooLarge};
        match self.artifacts().read(&folder.join(file)?, FILE_BYTES).await {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(ArtifactNotFound { .. } | ArtifactTooLarge { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the file of a model begins as one of those whose numbers are known. Only a pickle tells;
    /// what is missed here is compared when the model is asked.
    async fn begins_like_trees(
        &self,
        folder: &Location,
        described: &MlModel,
    ) -> Result<bool, Error> {
        let Some(file) = pickle(described) else {
            return Ok(true);
        };
        let mut content = self.artifacts().get(&folder.join(file)?).await?.stream;
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES
            && let Some(chunk) = content.try_next().await?
        {
            head.extend_from_slice(&chunk);
        }
        head.truncate(HEAD_BYTES);
        Ok(is_like_trees(&head))
    }

    fn artifacts(&self) -> &Artifacts {
        self.registry.tracking().artifacts()
    }
}

/// The pickle of a model that is one.
fn pickle(described: &MlModel) -> Option<&str> {
    let named = |flavor: &str, key: &str| {
        let settings = described.flavors.get(flavor)?;
        let form = settings.get("serialization_format").and_then(Value::as_str);
        let is_pickle = form.is_none_or(|form| form != "skops");
        settings
            .get(key)
            .and_then(Value::as_str)
            .filter(|_| is_pickle)
    };
    named("sklearn", "pickled_model").or_else(|| named("asgard.pickle", "model_path"))
}

/// Whether the beginning of a pickle names a model whose numbers are known.
fn is_like_trees(head: &[u8]) -> bool {
    MODULES.iter().any(|module| {
        let wanted = module.as_bytes();
        head.windows(wanted.len()).any(|part| part == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pickle_tells_at_its_beginning_whether_it_may_be_trees() {
        assert!(is_like_trees(
            b"\x80\x05\x95\x8c\x18sklearn.ensemble._forest\x94"
        ));
        assert!(!is_like_trees(
            b"\x80\x05\x95\x8c\x1esklearn.linear_model._logistic\x94"
        ));
    }

    #[test]
    fn a_pickle_is_found_by_its_flavor() {
        let of = |text: &str| pickle(&MlModel::parse(text).unwrap()).map(str::to_owned);
        let pickled = "flavors: {sklearn: {pickled_model: model.pkl}}";
        assert_eq!(of(pickled).as_deref(), Some("model.pkl"));
        let own = "flavors: {asgard.pickle: {model_path: m.pkl}}";
        assert_eq!(of(own).as_deref(), Some("m.pkl"));
        let other = "flavors: {sklearn: {pickled_model: m, serialization_format: skops}}";
        assert_eq!(of(other), None);
        assert_eq!(of("flavors: {xgboost: {data: model.ubj}}"), None);
    }
}
