//! `GET /mlops/doctor`: what this server found on its machine.

use axum::extract::State;
use environments::Environments;
use sandbox::{Mechanism, Sandbox};
use serde::Serialize;
use utoipa::ToSchema;
use web::{Json, Permission, Routes, Style};

/// The parts that are asked.
#[derive(Clone)]
pub(crate) struct Examined {
    pub(crate) sandbox: Sandbox,
    pub(crate) environments: Environments,
    pub(crate) keep_logs_days: u32,
}

pub(crate) fn routes(examined: Examined) -> Routes {
    Routes::new(Style::Asgard)
        .get("/mlops/doctor", Permission::ReadPlatform, get)
        .with_state(examined)
}

/// What works on the server's machine, and what would mend the rest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DoctorResponse {
    /// How user code is kept apart: `strict`, `user`, `landlock` or `none`.
    isolation: &'static str,
    sandbox: Vec<Finding>,
    environments: Vec<Finding>,
    /// What is kept on the disk, and for how long.
    storage: Vec<Finding>,
}

/// One mechanism of this machine, tried.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Finding {
    name: &'static str,
    available: bool,
    detail: String,
    /// What to do to get it.
    fix: Option<String>,
}

impl From<Mechanism> for Finding {
    fn from(mechanism: Mechanism) -> Self {
        Self {
            name: mechanism.name,
            available: mechanism.available,
            detail: mechanism.detail,
            fix: mechanism.fix,
        }
    }
}

impl Examined {
    /// Looks at everything again.
    pub(crate) async fn examine(&self) -> DoctorResponse {
        let list = |found: Vec<Mechanism>| found.into_iter().map(Finding::from).collect();
        DoctorResponse {
            isolation: self.sandbox.level().name(),
            sandbox: list(self.sandbox.report().to_vec()),
            environments: list(self.environments.doctor().await),
            storage: list(self.kept().await),
        }
    }

    async fn kept(&self) -> Vec<Mechanism> {
        let logs = match self.keep_logs_days {
            0 => "are never removed (jobs.keep_logs_days)".to_owned(),
            days => format!("are removed {days} days after the job's end (jobs.keep_logs_days)"),
        };
        let mut kept = self.environments.kept_in_words().await;
        kept.push(Mechanism::available("job logs", logs));
        kept
    }
}

/// Tells what works on the server's machine: isolation, uv, Python; and how to mend the rest.
#[utoipa::path(get, path = "/mlops/doctor", tag = "platform",
    responses((status = 200, body = DoctorResponse)))]
pub(crate) async fn get(State(examined): State<Examined>) -> Json<DoctorResponse> {
    Json(examined.examine().await)
}
