//! Names of objects: any model's name becomes one that Kubernetes takes (RFC 1035 labels).

use sha2::{Digest as _, Sha256};

/// What is kept of a model's name, so that all that is added fits into 63 characters.
const KEPT: usize = 36;
/// The length of the ending, in hexadecimal digits.
const ENDING: usize = 10;

/// The name of an endpoint's objects. Names that differ in what Kubernetes does not take get
/// different endings; the prefix keeps them apart from everything else in the namespace.
pub(crate) fn endpoint_name(model_name: &str) -> String {
    let lower = model_name.to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let slug: String = lower.chars().map(plain).take(KEPT).collect();
    let slug = slug.trim_matches('-');
    if slug == model_name && !has_ending(slug) {
        return format!("model-{slug}");
    }
    let hash = format!("{:x}", Sha256::digest(model_name.as_bytes()));
    let hash = &hash[..ENDING];
    match slug {
        "" => format!("model-{hash}"),
        slug => format!("model-{slug}-{hash}"),
    }
}

/// Whether a name could be taken for one that was given an ending.
fn has_ending(slug: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let ending = slug.rsplit('-').next().unwrap_or_default();
    ending.len() == ENDING && ending.bytes().all(hex)
}

/// The name of a deployment's own objects.
pub(crate) fn workload_name(model_name: &str, deployment_id: &str) -> String {
    // The end of a ULID is what chance made of it.
    let end = deployment_id.len().saturating_sub(8);
    format!("{}-{}", endpoint_name(model_name), &deployment_id[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_gets_a_name_that_kubernetes_takes() {
        assert_eq!(endpoint_name("iris"), "model-iris");
        let long = "x".repeat(300);
        let names = [
            "churn_predictor",
            "churn-predictor",
            "Churn.Predictor",
            "Ärger 模型",
            "---",
            &long,
        ];
        // A name that looks like one with an ending gets another.
        let taken = endpoint_name("Churn").replace("model-", "");
        assert_ne!(endpoint_name(&taken), endpoint_name("Churn"));
        let made: std::collections::BTreeSet<_> = names.iter().map(|n| endpoint_name(n)).collect();
        assert_eq!(made.len(), names.len(), "{made:?}");
        for name in names.map(|n| workload_name(n, "01j9z3k0v8c4m5n6p7q8r9s0t1")) {
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.starts_with("model-") && name.ends_with("-q8r9s0t1"),
                "{name}"
            );
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
        }
    }
}
