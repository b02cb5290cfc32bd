//! New ids in MLflow's form.

use crate::error::Error;

/// 32 random hexadecimal digits: the id of a run, and what follows `m-` in a logged model's id.
pub(crate) fn random_hex() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

const ADJECTIVES: [&str; 32] = [
    "able",
    "amused",
    "auspicious",
    "bald",
    "bold",
    "brave",
    "bright",
    "calm",
    "capable",
    "clean",
    "clever",
    "dapper",
    "debonair",
    "delicate",
    "efficient",
    "fun",
    "gifted",
    "grandiose",
    "hilarious",
    "honorable",
    "industrious",
    "kindly",
    "legendary",
    "marvelous",
    "nimble",
    "orderly",
    "popular",
    "rare",
    "selective",
    "skillful",
    "thoughtful",
    "wise",
];
const NOUNS: [&str; 32] = [
    "ant", "bear", "bee", "bird", "boar", "carp", "cat", "colt", "crab", "crow", "deer", "doe",
    "dove", "eel", "elk", "fish", "fox", "goat", "hare", "hog", "horse", "kit", "lamb", "loon",
    "mole", "moose", "owl", "pig", "ram", "shark", "stoat", "wren",
];

/// A name for a run that got none: `calm-owl-217`, as MLflow makes them.
pub(crate) fn random_name() -> Result<String, Error> {
    let mut bytes = [0_u8; 4];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
    let adjective = ADJECTIVES[usize::from(bytes[0]) % ADJECTIVES.len()];
    let noun = NOUNS[usize::from(bytes[1]) % NOUNS.len()];
    let number = u16::from_be_bytes([bytes[2], bytes[3]]) % 1_000;
    Ok(format!("{adjective}-{noun}-{number}"))
}
