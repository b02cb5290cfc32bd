//! The image of a model version: made by what the binary passes in, or named by the request.

use std::pin::Pin;
use std::sync::Arc;

use registry::ModelVersion;
use tokio::sync::mpsc;

use crate::deployment::{Failure, Fault};

/// Makes the image of a model version, brings it to a registry and names it by its digest
/// (`registry/name@sha256:…`). It may be asked again for the same version, and is cut short when
/// the deployment is removed.
pub type MakeImage = Arc<dyn Fn(ImageOrder) -> ImageMade + Send + Sync>;

/// The image on its way.
pub type ImageMade = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send>>;

/// Of what an image is made, and who is told how it goes.
pub struct ImageOrder {
    pub version: ModelVersion,
    pub steps: mpsc::UnboundedSender<ImageStep>,
}

/// A step in the making of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageStep {
    /// A line for the deployment's log.
    Line(String),
    /// It is built and on its way to the registry.
    Pushing,
}

/// What stands for an image that is made when the model is deployed.
pub(crate) const UNMADE: &str = "MADE-WHEN-DEPLOYED";

/// Nothing makes images here, and the request names none.
pub(crate) fn none() -> Failure {
    Failure::new(
        Fault::Server,
        "no_image",
        "No image",
        "the target kubernetes runs images, and this server makes none: no registry is configured",
        Some("configure a registry for images, or name one of the model that is there already: \"image\": \"REGISTRY/NAME@sha256:DIGEST\"".to_owned()),
    )
}
