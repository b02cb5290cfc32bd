//! What the nodes of a cluster pull images with, where the settings of the cluster name nothing.

use std::pin::Pin;
use std::sync::Arc;

use crate::deployment::Failure;

/// The login for the registry that images are pushed to.
#[derive(Clone)]
pub struct PullLogin {
    /// What the names of images in that registry begin with: its host, and the path to it.
    pub registries: Vec<String>,
    pub find: FindLogin,
}

/// Finds the login that is valid now: the text of a file as `docker login` writes it, if there is
/// one. It is asked often.
pub type FindLogin = Arc<dyn Fn() -> LoginFound + Send + Sync>;

/// The login on its way.
pub type LoginFound = Pin<Box<dyn Future<Output = Result<Option<String>, Failure>> + Send>>;

impl PullLogin {
    /// Whether an image is, or will be, in that registry.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn is_for(&self, image: &str) -> bool {
        let is_below = |registry: &String| {
            let rest = image.strip_prefix(registry.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        image == crate::image::UNMADE || self.registries.iter().any(is_below)
    }
}
