//! One question to a loaded model: fitted, answered by its engine or its worker, counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};

use crate::error::Error;
use crate::fit::{Fitted, fit};
use crate::frame::Frame;
use crate::inference::{Engine, Prediction};
use crate::inputs::Inputs;
use crate::load::Model;
use crate::worker::Answer;

/// Walks through trees that are done at once, a millisecond's worth.
const LIGHT: usize = 10_000;

/// An answer, and how it came about.
#[derive(Debug)]
pub(crate) struct Answered {
    answer: Answer,
    engine: Engine,
    pub(crate) notes: Vec<String>,
    inference_time_ms: f64,
}

impl Answered {
    /// Says whose answer it is.
    pub(crate) fn of(self, model_name: String, model_version: i64) -> Prediction {
        Prediction {
            model_name,
            model_version,
            predictions: self.answer.predictions,
            probabilities: self.answer.probabilities,
            notes: self.notes,
            inference_time_ms: self.inference_time_ms,
            engine: self.engine,
        }
    }
}

impl Model {
    /// Answers a question.
    ///
    /// # Errors
    /// When the columns do not fit the model, or its code fails or takes too long.
    pub(crate) async fn answer(
        &self,
        inputs: Inputs,
        probabilities: bool,
        timeout: Duration,
    ) -> Result<Answered, Error> {
        let began = Instant::now();
        let Fitted { frame, mut notes } =
            fit(inputs, &self.described.signature, &self.facts.features).map_err(Error::Inputs)?;
        if probabilities {
            notes.extend(self.facts.no_probabilities.clone());
        }
        let (answer, engine) = match self.natively(&frame, probabilities).await {
            Some(answer) => (answer, Engine::Native),
            None => (
                self.queue.ask(frame, probabilities, timeout).await?,
                Engine::Python,
            ),
        };
        Ok(Answered {
            answer,
            engine,
            notes,
            inference_time_ms: began.elapsed().as_secs_f64() * 1_000.0,
        })
    }

    /// Answers without Python what the model's engine was proven on.
    async fn natively(&self, frame: &Frame, probabilities: bool) -> Option<Answer> {
        let native = self.native.as_ref()?;
        if native.effort(frame) <= LIGHT {
            return native.answer(frame, probabilities);
        }
        // Long walks must not hold up other requests.
        let (native, frame) = (Arc::clone(native), frame.clone());
        let walked = tokio::task::spawn_blocking(move || native.answer(&frame, probabilities));
        walked.await.ok().flatten()
    }
}

/// Counts a question to the model `name`, and how it ended.
pub(crate) fn count(name: String, result: &Result<Prediction, Error>, took: Duration) {
    // Names come from callers: only those of models become labels.
    let model = match result {
        Err(Error::NoModels | Error::ModelNotFound { .. } | Error::Registry(_)) => {
            "unknown".to_owned()
        }
        _ => name,
    };
    let status = match result {
        Ok(_) => "success",
        Err(error) if error.code().status().is_client_error() => "invalid",
        Err(_) => "error",
    };
    counter!("mlops_inference_requests_total", "model" => model.clone(), "status" => status)
        .increment(1);
    histogram!("mlops_inference_latency_seconds", "model" => model).record(took.as_secs_f64());
}
