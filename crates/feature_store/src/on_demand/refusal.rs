//! Why a function was not computed, and what to do about it.

use std::time::Duration;

use super::OnDemandView;
use super::worker::Failure;
use crate::error::Error;

pub(super) fn failed(view: &OnDemandView, failure: Failure) -> Error {
    let (what, help) = match failure {
        Failure::Refused(error) => return error,
        Failure::Raised(what) if what.starts_with("ModuleNotFoundError") => (
            what,
            Some("add the package to feature_store.on_demand.requirements in asgard.toml"),
        ),
        Failure::Raised(what) if what.starts_with("NameError") => (
            what,
            Some(
                "import inside of the function what it uses, or apply the view with the Python that the server runs functions in (feature_store.on_demand.python)",
            ),
        ),
        Failure::Raised(what) if what.starts_with("MemoryError") => (what, Some(MEMORY)),
        Failure::Raised(what) => (what, None),
        Failure::Died(how) if how.starts_with("ran out of memory") => {
            (format!("its function {how}"), Some(MEMORY))
        }
        Failure::Died(how) => (format!("the worker of its function {how}"), None),
    };
    Error::Transform {
        view: view.name.clone(),
        what,
        help,
    }
}

fn later(view: &OnDemandView, what: &str, help: &'static str) -> Error {
    Error::Later {
        what: format!("on-demand feature view '{}': {what}", view.name),
        help,
    }
}

pub(super) fn busy(view: &OnDemandView) -> Error {
    later(
        view,
        "the workers of functions are busy with other requests, and none became free in time",
        "ask again later, for fewer rows at once, or raise feature_store.on_demand.max_workers",
    )
}

pub(super) fn not_started(view: &OnDemandView, within: Duration) -> Error {
    later(
        view,
        &format!(
            "the worker of its function did not start within {} s",
            within.as_secs()
        ),
        "ask again when the machine has less to do; what the function imports counts too",
    )
}

pub(super) fn stopping(view: &OnDemandView) -> Error {
    later(view, "the server stops", "ask again when it is back")
}

const MEMORY: &str = "ask for fewer rows, or raise feature_store.on_demand.memory_bytes";

pub(super) fn too_long(view: &OnDemandView, within: Duration) -> Error {
    let seconds = within.as_secs_f64();
    Error::Transform {
        view: view.name.clone(),
        what: format!("its function did not end within {seconds} s and was stopped"),
        help: Some(
            "ask for fewer rows, make it faster, or raise feature_store.on_demand.timeout_ms",
        ),
    }
}
