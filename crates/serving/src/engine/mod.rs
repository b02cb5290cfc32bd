//! Answers without Python, for models whose arithmetic is known.
//!
//! When such a model is loaded, its worker dumps its numbers, and both answer the same rows. Only
//! if every bit is the same does this engine answer from then on. What it was not compared on
//! (text, infinity, missing numbers where Python refuses them) still goes to the worker.

mod numbers;
mod probe;
mod proofs;
mod walk;

use std::time::Duration;

use numbers::Numbers;
pub(crate) use proofs::{MOST_MODEL_BYTES, Proofs, Subject};

use crate::fit::{Features, fit};
use crate::frame::{Buffer, Form, Frame, Layout};
use crate::signature::Signature;
use crate::worker::{Answer, Failure, Worker};

/// How long the comparison may take before the model is left to Python.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most numbers of an answer that is given here.
const MOST_ANSWERED: usize = 1 << 24;
/// Integers up to here have a float of their own.
const EXACT: u64 = 1 << 53;

/// A model that has been proven to answer here as it does in Python.
#[derive(Debug)]
pub(crate) struct Native {
    numbers: Numbers,
    /// The layout that was compared.
    layout: Layout,
    /// Whether missing numbers were compared too; Python may refuse them.
    missing: bool,
}

/// What came of the attempt.
pub(crate) enum Proof {
    /// With the numbers as the worker dumped them.
    Proven(Box<Native>, Vec<u8>),
    /// The worker answers, for this reason.
    Python(String),
    /// The worker did not survive the attempt, or it took too long here and now: another may do.
    Lost,
}

impl Native {
    /// Compares with the worker.
    pub(crate) async fn prove(
        worker: &mut Worker,
        signature: &Signature,
        features: &Features,
    ) -> Proof {
        match tokio::time::timeout(PATIENCE, compare(worker, signature, features)).await {
            Ok(Ok((native, dump))) => Proof::Proven(Box::new(native), dump),
            Ok(Err(Some(reason))) => Proof::Python(reason),
            Ok(Err(None)) | Err(_) => Proof::Lost,
        }
    }

    /// Of numbers that were compared before. `None` when they do not fit the model.
    fn of(dump: &[u8], signature: &Signature, features: &Features, missing: bool) -> Option<Self> {
        let numbers = Numbers::read(dump, features.count)?;
        let layout = frame(&numbers, signature, features, false)?.layout;
        Some(Self {
            numbers,
            layout,
            missing,
        })
    }

    /// Answers, if this frame is one of those that were compared.
    pub(crate) fn answer(&self, frame: &Frame, probabilities: bool) -> Option<Answer> {
        let answered = frame.rows.checked_mul(self.numbers.head.answered())?;
        if answered > MOST_ANSWERED || !self.knows(&frame.layout) {
            return None;
        }
        let rows = self.rows(frame)?;
        let mut answer = self.numbers.answer(&rows, probabilities);
        answer.probabilities = answer.probabilities.filter(|_| probabilities);
        Some(answer)
    }

    /// How much work a frame is: walks from a root to a leaf, about.
    pub(crate) fn effort(&self, frame: &Frame) -> usize {
        frame.rows.saturating_mul(self.numbers.walks)
    }

    /// The names of an array's columns mean nothing to the model; those of a table do.
    fn knows(&self, layout: &Layout) -> bool {
        let (known, asked) = (&self.layout.columns, &layout.columns);
        let names = || known.iter().zip(asked).all(|((a, _), (b, _))| a == b);
        self.layout.form == layout.form
            && known.len() == asked.len()
            && (layout.form != Form::Table || names())
    }

    /// The frame's rows one after the other.
    fn rows(&self, frame: &Frame) -> Option<Vec<f64>> {
        let width = frame.columns.len();
        let mut rows = vec![0.0; width * frame.rows];
        for (at, column) in frame.columns.iter().enumerate() {
            let cells = rows.iter_mut().skip(at).step_by(width);
            match column {
                Buffer::F64(v) => cells.zip(v).for_each(|(cell, x)| *cell = *x),
                Buffer::F32(v) => cells.zip(v).for_each(|(cell, x)| *cell = f64::from(*x)),
                Buffer::I32(v) => cells.zip(v).for_each(|(cell, x)| *cell = f64::from(*x)),
                Buffer::I64(v) if v.iter().all(|x| x.unsigned_abs() <= EXACT) => {
                    cells.zip(v).for_each(|(cell, x)| *cell = *x as f64);
                }
                _ => return None,
            }
        }
        // Python refuses what is infinite, in 32 bits too.
        let usual = |x: &f64| (*x as f32).is_finite() || (self.missing && x.is_nan());
        rows.iter().all(usual).then_some(rows)
    }
}

/// `Err(None)` when the worker is gone.
async fn compare(
    worker: &mut Worker,
    signature: &Signature,
    features: &Features,
) -> Result<(Native, Vec<u8>), Option<String>> {
    let dump = worker.dump().await?;
    let numbers = Numbers::read(&dump, features.count)
        .ok_or_else(|| Some("its trees are not understood".to_owned()))?;
    let rows = |missing| {
        frame(&numbers, signature, features, missing)
            .ok_or_else(|| Some("its columns are not all numbers".to_owned()))
    };
    let (whole, holed) = (rows(false)?, rows(true)?);
    let native = Native {
        layout: whole.layout.clone(),
        numbers,
        missing: true,
    };
    let (same_bits, native) = same(worker, native, whole).await?;
    if !same_bits {
        return Err(Some("it does not give the same bits".to_owned()));
    }
    let (same_bits, mut native) = same(worker, native, holed).await?;
    native.missing = same_bits;
    Ok((native, dump))
}

/// Rows to compare, as the worker gets them.
fn frame(
    numbers: &Numbers,
    signature: &Signature,
    features: &Features,
    missing: bool,
) -> Option<Frame> {
    let inputs = probe::inputs(numbers, signature, features.names.as_deref(), missing)?;
    Some(fit(inputs, signature, features).ok()?.frame)
}

/// Whether both answer the same bits; a worker that raises an exception answers nothing.
async fn same(
    worker: &mut Worker,
    native: Native,
    frame: Frame,
) -> Result<(bool, Native), Option<String>> {
    let python = match worker.ask(&frame, true).await {
        Ok(answer) => answer,
        Err(Failure::Raised(_) | Failure::TooLong) => return Ok((false, native)),
        Err(Failure::Died(_)) => return Err(None),
    };
    // The trees come from foreign code: their walks must not hold up requests.
    let walked = tokio::task::spawn_blocking(move || {
        let ours = native.answer(&frame, true);
        (ours.is_some_and(|ours| ours.same_bits(&python)), native)
    });
    walked
        .await
        .map_err(|_| Some("its trees cannot be walked".to_owned()))
}
