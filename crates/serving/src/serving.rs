//! The handle of serving, and the path of one prediction.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use environments::Environments;
use registry::{ModelVersion, Registry};
use sandbox::Sandbox;
use tokio_util::sync::CancellationToken;

use crate::answer::count;
use crate::config::Config;
use crate::copies::Copies;
use crate::engine::Proofs;
use crate::error::Error;
use crate::features_from::{Filled, OnlineFeatures, explain};
use crate::inference::{Inference, Prediction};
use crate::load::{Loader, Maker, Model};
use crate::model_server::ModelFolder;
use crate::models::Models;
use crate::resolve::Resolutions;
use crate::variables::Variables;

/// Answers for registered models; cheap to clone.
#[derive(Clone)]
pub struct Serving(Arc<Inner>);

struct Inner {
    registry: Registry,
    models: Models,
    resolutions: Resolutions,
    config: Config,
    online: Option<OnlineFeatures>,
}

impl Serving {
    /// Serving of what `registry` holds; nothing is loaded until it is asked for. `online` fills the
    /// columns that requests leave to the feature store.
    pub fn new(
        registry: Registry,
        environments: Environments,
        sandbox: Sandbox,
        config: Config,
        data_dir: &Path,
        online: Option<OnlineFeatures>,
    ) -> Self {
        let home = data_dir.join("serving");
        let loader = Loader {
            registry: registry.clone(),
            copies: Copies::new(home.join("models"), config.copies_limit_bytes),
            maker: Maker {
                environments: Some(environments),
                sandbox,
                config: config.clone(),
                proofs: Proofs::of_server(data_dir),
                home,
                variables: Variables::default(),
            },
        };
        Self(Arc::new(Inner {
            registry,
            models: Models::new(loader),
            resolutions: Resolutions::default(),
            config,
            online,
        }))
    }

    /// Stops idle and deleted models and proves new ones until `shutdown`, then stops all of them.
    /// What is registered after this call is proven.
    pub fn work(self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send {
        let announced = self.0.registry.announced();
        async move {
            let models = &self.0.models;
            let proving = models.prove_announced(announced, shutdown.clone());
            tokio::join!(models.work(shutdown.clone()), proving);
        }
    }

    /// Has the files of a version and its environment ready on this machine, for a process of its
    /// own to serve it, whose model's code finds `variables`.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub async fn prepare(
        &self,
        version: &ModelVersion,
        variables: &Variables,
    ) -> Result<ModelFolder, Error> {
        self.0.models.prepare(version, variables).await
    }

    /// As [`prepare`](Self::prepare), for what ran before: takes a proof that there is, but makes none,
    /// which would hold up whoever waits for it to run again.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub async fn prepare_again(&self, version: &ModelVersion) -> Result<ModelFolder, Error> {
        let prepared = self.0.models.loader().prepare(version).await?;
        Ok(prepared.model)
    }

    /// Asks a model.
    ///
    /// # Errors
    /// When there is no such model or version, the columns do not fit it, it cannot be loaded, or
    /// its code fails.
    pub async fn predict(&self, inference: Inference) -> Result<Prediction, Error> {
        let began = Instant::now();
        let name = inference.model_name.clone();
        let result = self.answer(inference).await;
        count(name, &result, began.elapsed());
        result
    }

    async fn answer(&self, inference: Inference) -> Result<Prediction, Error> {
        let inner = &*self.0;
        let wanted = inference.model_version.as_deref();
        let version = inner
            .resolutions
            .resolve(&inner.registry, &inference.model_name, wanted)
            .await?;
        let (model, fresh) = inner.models.get(&version).await?;
        let wanted = inference.return_probabilities;
        let timeout = inner.config.request_timeout();
        let filled = match inference.features_from {
            from if from.is_empty() => Filled::nothing(inference.inputs),
            from => {
                let online = inner.online.as_ref();
                let named = (version.name.clone(), version.version);
                Filled::look_up(online, &model, named, inference.inputs, from).await?
            }
        };
        let (inputs, names, notes) = filled.apart();
        let answered = model.answer(inputs, wanted, timeout).await;
        let mut answered = answered.map_err(|error| explain(error, &names, &notes))?;
        answered.notes.extend(notes);
        answered.notes.extend(fresh.then(|| load_note(&model)));
        Ok(answered.of(inference.model_name, version.version))
    }
}

fn load_note(model: &Model) -> String {
    let seconds = model.load_time.as_secs_f64();
    format!("the model was loaded for this request, which took {seconds:.1} s")
}
