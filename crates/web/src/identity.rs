//! Who calls, and what they may do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a route needs. Every route declares one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Anyone, without a key: health, documentation, the page itself.
    Public,
    /// Read experiments, runs, models, artifacts.
    ReadTracking,
    /// Write experiments, runs, logged models, versions, artifacts.
    WriteTracking,
    /// Give aliases and stages to versions; a job to those that it made itself.
    PromoteVersions,
    /// Change or remove what others rely on.
    ManageModels,
    /// Read jobs, their scripts and logs.
    ReadJobs,
    /// Start and cancel jobs.
    RunJobs,
    /// Report a running job's progress: for the job itself.
    ReportProgress,
    /// Ask a model for predictions.
    Predict,
    /// Read deployments and their logs.
    ReadDeployments,
    /// Deploy models, which trains scripts, and change what is deployed.
    Deploy,
    /// Read feature definitions and values.
    ReadFeatures,
    /// Define features, load tables, write values.
    WriteFeatures,
    /// Read the platform's state.
    ReadPlatform,
    /// Keys, settings, everything.
    Administer,
}

/// What a key was made for; each role may do all that the one before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema, Hash,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Runner,
    Editor,
    Admin,
}

impl Role {
    /// The least role that has a permission.
    pub fn needed_for(permission: Permission) -> Self {
        match permission {
            Permission::Public
            | Permission::ReadTracking
            | Permission::ReadJobs
            | Permission::ReadDeployments
            | Permission::ReadFeatures
            | Permission::ReadPlatform => Self::Viewer,
            Permission::RunJobs
            | Permission::Predict
            | Permission::WriteTracking
            | Permission::WriteFeatures => Self::Runner,
            Permission::PromoteVersions | Permission::ManageModels | Permission::Deploy => {
                Self::Editor
            }
            Permission::ReportProgress | Permission::Administer => Self::Admin,
        }
    }

    /// All roles, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Runner, Self::Editor, Self::Admin];

    /// Reads a role's name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Runner => "runner",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody that we know.
    Anonymous,
    /// Anyone on an open loopback address.
    Local,
    /// The holder of an API key.
    Key {
        id: String,
        name: String,
        role: Role,
    },
    /// A running training job: reads tracking and features, writes what is its own.
    Job { job_id: String },
}

impl Identity {
    /// Whether this caller has a permission.
    pub fn may(&self, permission: Permission) -> bool {
        match self {
            _ if permission == Permission::Public => true,
            Self::Anonymous => false,
            Self::Local => true,
            Self::Key { role, .. } => *role >= Role::needed_for(permission),
            Self::Job { .. } => matches!(
                permission,
                Permission::ReadTracking
                    | Permission::WriteTracking
                    | Permission::PromoteVersions
                    | Permission::ReportProgress
                    | Permission::ReadFeatures
            ),
        }
    }

    /// The job that calls, if a job calls.
    pub fn job_id(&self) -> Option<&str> {
        match self {
            Self::Job { job_id } => Some(job_id),
            _ => None,
        }
    }

    /// What tells this caller from all others: names of keys may be given twice.
    pub fn id(&self) -> String {
        match self {
            Self::Key { id, .. } => format!("key:{id}"),
            other => other.label(),
        }
    }

    /// A name for logs.
    pub fn label(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Local => "local".to_owned(),
            Self::Key { name, .. } => format!("key:{name}"),
            Self::Job { job_id } => format!("job:{job_id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_may_track_but_not_start_jobs_or_manage_models() {
        let job = Identity::Job { job_id: "j".into() };
        assert!(job.may(Permission::WriteTracking) && job.may(Permission::PromoteVersions));
        for denied in [
            Permission::RunJobs,
            Permission::ReadJobs,
            Permission::ManageModels,
            Permission::Predict,
            Permission::ReadDeployments,
            Permission::Deploy,
            Permission::WriteFeatures,
            Permission::Administer,
        ] {
            assert!(!job.may(denied), "{denied:?}");
        }
    }

    #[test]
    fn an_unknown_caller_may_only_what_is_public() {
        assert!(Identity::Anonymous.may(Permission::Public));
        assert!(!Identity::Anonymous.may(Permission::ReadPlatform));
    }
}
