//! New ids in MLflow's form.

use crate::error::Error;

/// 32 random hexadecimal digits: the id of a run, and what follows `m-` in a logged model's id.
pub(crate) fn random_hex() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
