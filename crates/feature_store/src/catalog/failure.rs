//! What a failure of a catalog or of its storage means for who asked.

use web::Code;

/// Whether the other system does not answer now, or answers what cannot be used.
pub(crate) fn code_of(error: &iceberg::Error) -> Code {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(failed) = this.downcast_ref::<object_store::Error>() {
            return match failed {
                // What is left of the kinds are answers.
                object_store::Error::Generic { .. } => Code::Unavailable,
                _ => Code::BadGateway,
            };
        }
        cause = this.source();
    }
    Code::BadGateway
}
