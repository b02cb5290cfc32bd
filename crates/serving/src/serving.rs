//! The handle of serving, and the path of one prediction.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use environments::Environments;
use metrics::{counter, histogram};
use registry::Registry;
use sandbox::Sandbox;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Error;
use crate::fit::{Fitted, fit};
use crate::frame::Frame;
use crate::inference::{Engine, Inference, Prediction};
use crate::load::{Loader, Model};
use crate::models::Models;
use crate::resolve::Resolutions;
use crate::worker::Answer;

/// Walks through trees that are done at once, a millisecond's worth.
const LIGHT: usize = 10_000;

/// Answers for registered models; cheap to clone.
#[derive(Clone)]
pub struct Serving(Arc<Inner>);

struct Inner {
    registry: Registry,
    models: Models,
    resolutions: Resolutions,
    config: Config,
}

impl Serving {
    /// Serving of what `registry` holds; nothing is loaded until it is asked for.
    pub fn new(
        registry: Registry,
        environments: Environments,
        sandbox: Sandbox,
        config: Config,
        data_dir: &Path,
    ) -> Self {
        let loader = Loader {
            registry: registry.clone(),
            environments,
            sandbox,
            config: config.clone(),
            home: data_dir.join("serving"),
        };
        Self(Arc::new(Inner {
            registry,
            models: Models::new(loader),
            resolutions: Resolutions::default(),
            config,
        }))
    }

    /// Stops idle and deleted models until `shutdown`, then all of them.
    pub async fn work(self, shutdown: CancellationToken) {
        self.0.models.work(shutdown).await;
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
        // Names come from callers: only those of models become labels.
        let model = match &result {
            Err(Error::NoModels | Error::ModelNotFound { .. } | Error::Registry(_)) => {
                "unknown".to_owned()
            }
            _ => name,
        };
        let status = match &result {
            Ok(_) => "success",
            Err(error) if error.code().status().is_client_error() => "invalid",
            Err(_) => "error",
        };
        counter!("mlops_inference_requests_total", "model" => model.clone(), "status" => status)
            .increment(1);
        histogram!("mlops_inference_latency_seconds", "model" => model)
            .record(began.elapsed().as_secs_f64());
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
        let began = Instant::now();
        let Fitted { frame, mut notes } =
            fit(inference.inputs, &model.signature, &model.facts.features)
                .map_err(Error::Inputs)?;
        notes.extend(fresh.then(|| load_note(&model)));
        let wanted = inference.return_probabilities;
        if wanted {
            notes.extend(model.facts.no_probabilities.clone());
        }
        let timeout = inner.config.request_timeout();
        let (answer, engine) = match natively(&model, &frame, wanted).await {
            Some(answer) => (answer, Engine::Native),
            None => (
                model.queue.ask(frame, wanted, timeout).await?,
                Engine::Python,
            ),
        };
        Ok(Prediction {
            model_name: inference.model_name,
            model_version: version.version,
            predictions: answer.predictions,
            probabilities: answer.probabilities,
            notes,
            inference_time_ms: began.elapsed().as_secs_f64() * 1_000.0,
            engine,
        })
    }
}

/// Answers without Python what the model's engine was proven on.
async fn natively(model: &Model, frame: &Frame, probabilities: bool) -> Option<Answer> {
    let native = model.native.as_ref()?;
    if native.effort(frame) <= LIGHT {
        return native.answer(frame, probabilities);
    }
    // Long walks must not hold up other requests.
    let (native, frame) = (Arc::clone(native), frame.clone());
    let walked = tokio::task::spawn_blocking(move || native.answer(&frame, probabilities));
    walked.await.ok().flatten()
}

fn load_note(model: &Model) -> String {
    let seconds = model.load_time.as_secs_f64();
    format!("the model was loaded for this request, which took {seconds:.1} s")
}
