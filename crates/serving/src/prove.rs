//! Comparing models with Python before anybody asks them: those versions that the registry says are
//! complete, one at a time. A request that comes meanwhile joins; what a server did not come to
//! before it ended is compared at the first request.

use std::path::Path;

use environments::Environment;
use futures_util::TryStreamExt as _;
use registry::{Announced, ModelVersion, Selector};
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracking::Location;

use crate::error::Error;
use crate::load::{FILE_BYTES, Files, Loader, describe, environment_request};
use crate::mlmodel::{self, MlModel};
use crate::models::Models;

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
    /// is here already.
    async fn is_promising(&self, version: &ModelVersion) -> Result<bool, Error> {
        let location = self.registry.location(version).await?;
        // Files of other models need not be brought here.
        if !self.described_at(&location).await?.may_be_native() {
            return Ok(false);
        }
        let files = self.files(version).await?;
        let described = describe(&files).await?;
        if !begins_like_trees(&files.folder, &described).await {
            return Ok(false);
        }
        let Some(environment) = self.built_environment(&files, &described).await? else {
            return Ok(false);
        };
        let subject = self.maker.subject(&files, &described, &environment).await;
        Ok(match subject {
            Some(subject) => !self.maker.proofs.knows(&subject).await,
            // What came of it could not be kept.
            None => false,
        })
    }

    /// The environment that a model would be loaded in, if it is there.
    async fn built_environment(
        &self,
        files: &Files,
        described: &MlModel,
    ) -> Result<Option<Environment>, Error> {
        if files.environment.is_some() {
            return Ok(files.environment.clone());
        }
        let Some(environments) = &self.maker.environments else {
            return Ok(None);
        };
        let Some(request) = environment_request(files, described).await? else {
            return Ok(None);
        };
        Ok(environments.find_built(&request).await)
    }

    /// The MLmodel file of a folder in the artifact store; one that is no such file says nothing.
    async fn described_at(&self, folder: &Location) -> Result<MlModel, Error> {
        let file = folder.join(mlmodel::FILE)?;
        let mut content = self.registry.tracking().artifacts().get(&file).await?;
        if content.size_bytes > FILE_BYTES {
            return Ok(MlModel::default());
        }
        let mut text = Vec::new();
        while let Some(chunk) = content.stream.try_next().await? {
            text.extend_from_slice(&chunk);
        }
        Ok(MlModel::parse(&String::from_utf8_lossy(&text)).unwrap_or_default())
    }
}

/// Whether the file of a model begins as one of those whose numbers are known. Only a pickle tells;
/// what is missed here is compared when the model is asked.
async fn begins_like_trees(folder: &Path, described: &MlModel) -> bool {
    let named = |flavor: &str, key: &str| {
        let settings = described.flavors.get(flavor)?;
        let form = settings.get("serialization_format").and_then(Value::as_str);
        let is_pickle = form.is_none_or(|form| form != "skops");
        settings
            .get(key)
            .and_then(Value::as_str)
            .filter(|_| is_pickle)
    };
    let pickle = named("sklearn", "pickled_model").or_else(|| named("asgard.pickle", "model_path"));
    let Some(file) = pickle else {
        return true;
    };
    let Ok(head) = head(&folder.join(file)).await else {
        return false;
    };
    MODULES.iter().any(|module| {
        let wanted = module.as_bytes();
        head.windows(wanted.len()).any(|part| part == wanted)
    })
}

async fn head(file: &Path) -> std::io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;
    let mut head = Vec::new();
    let file = tokio::fs::File::open(file).await?;
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).await?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pickle_tells_at_its_beginning_whether_it_may_be_trees() {
        let folder = tempfile::tempdir().unwrap();
        let described = |text: &str| MlModel::parse(text).unwrap();
        let pickled = described("flavors: {sklearn: {pickled_model: model.pkl}}");
        let file = folder.path().join("model.pkl");
        std::fs::write(&file, b"\x80\x05\x95\x8c\x18sklearn.ensemble._forest\x94").unwrap();
        assert!(begins_like_trees(folder.path(), &pickled).await);
        std::fs::write(
            &file,
            b"\x80\x05\x95\x8c\x1esklearn.linear_model._logistic\x94",
        )
        .unwrap();
        assert!(!begins_like_trees(folder.path(), &pickled).await);
        let other = "flavors: {sklearn: {pickled_model: m, serialization_format: skops}}";
        assert!(begins_like_trees(folder.path(), &described(other)).await);
        let boosted = described("flavors: {xgboost: {data: model.ubj}}");
        assert!(begins_like_trees(folder.path(), &boosted).await);
    }
}
