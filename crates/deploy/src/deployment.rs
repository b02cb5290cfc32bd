//! A deployment: what was asked for, where it stands, what came of it.

use jobs::Problem;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::Code;

use crate::environment::Environment;

/// A deployment as it stands in the database, without its script and log.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: String,
    pub order: Order,
    /// The machine that it runs on, or will.
    pub machine: String,
    /// Who asked.
    pub created_by: String,
    pub state: State,
    /// How many times a server has taken it up.
    pub attempt: i64,
    /// The training job, for a script.
    pub training_job_id: Option<String>,
    pub run_id: Option<String>,
    /// The version that is deployed; known from the start, except for a script.
    pub model_version: Option<i64>,
    pub replicas: u32,
    /// The share of the endpoint's requests that it gets, in percent.
    pub traffic: u32,
    pub timings: Vec<Timing>,
    pub failure: Option<Failure>,
    /// Epoch milliseconds, like all times here.
    pub created_at: i64,
    /// When it was deployed or failed.
    pub completed_at: Option<i64>,
    /// When another deployment took its place.
    pub retired_at: Option<i64>,
    /// The image that it runs from, by digest; none for processes on a machine.
    pub image: Option<String>,
}

/// What a caller asks for, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub namespace: String,
    pub model_name: String,
    pub target: Target,
    /// Whether a script is trained first.
    pub trains: bool,
    /// The version to deploy, where none is trained.
    pub model_version: Option<i64>,
    pub replicas: u32,
    /// Of one replica.
    pub memory_bytes: Option<u64>,
    /// Of one replica.
    pub cpus: Option<f64>,
    /// The share that it gets beside what is deployed already; absent: it takes its place.
    pub canary_percent: Option<u32>,
    /// The deployment that a rollback goes back to.
    pub rollback_to: Option<String>,
    /// An image that is there already.
    #[serde(default)]
    pub image: Option<String>,
    /// Variables of the model's code in its replicas.
    #[serde(default)]
    pub environment: Environment,
    /// Bounds in which the cluster chooses the number of replicas.
    #[serde(default)]
    pub autoscale: Option<Autoscale>,
}

/// How a cluster chooses the number of replicas by their load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Autoscale {
    #[schema(minimum = 1, maximum = 10)]
    pub min_replicas: u32,
    #[schema(minimum = 1, maximum = 10)]
    pub max_replicas: u32,
    /// The load that it aims at, in percent of the processors asked for.
    #[serde(default = "Autoscale::cpu_percent")]
    #[schema(minimum = 1, maximum = 100, default = 70)]
    pub cpu_percent: u32,
}

impl Autoscale {
    fn cpu_percent() -> u32 {
        70
    }
}

/// Where a deployment runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeploymentTarget)]
pub enum Target {
    /// Supervised processes on the server's machine.
    #[default]
    Local,
    /// Pods of a Kubernetes cluster.
    Kubernetes,
}

impl Target {
    /// The word in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeploymentState)]
pub enum State {
    Training,
    Building,
    Pushing,
    Deploying,
    Deployed,
    Failed,
}

impl State {
    const ALL: [Self; 6] = [
        Self::Training,
        Self::Building,
        Self::Pushing,
        Self::Deploying,
        Self::Deployed,
        Self::Failed,
    ];

    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Building => "building",
            Self::Pushing => "pushing",
            Self::Deploying => "deploying",
            Self::Deployed => "deployed",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Deployed | Self::Failed)
    }
}

/// When a phase began and ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub phase: State,
    pub started_at: i64,
    pub ended_at: Option<i64>,
}

/// Why a deployment failed, and who can mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub fault: Fault,
    pub problem: Problem,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The script, its requirements or its model.
    Script,
    /// Something that asgard uses: the package index, a registry, a cluster.
    Outside,
    /// This server or its machine.
    Server,
}

impl Fault {
    /// What a held request is answered with.
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Script => Code::Unprocessable,
            Self::Outside => Code::BadGateway,
            Self::Server => Code::Unavailable,
        }
    }
}

/// How the replicas of a live deployment are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    pub(crate) ready: usize,
    pub(crate) failure: Option<Failure>,
}

/// What a deployment is in a cluster: the objects, and what the cluster has otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = ClusterPlan)]
pub(crate) struct Plan {
    /// As they are applied, by server-side apply.
    #[schema(value_type = Vec<Object>)]
    pub(crate) objects: Vec<serde_json::Value>,
    /// Such as `Service asgard/model-iris: is not there`; empty when the cluster is as it should.
    pub(crate) differences: Vec<String>,
    /// What asgard's role does not allow it to compare, such as Secrets, and why.
    pub(crate) unread: Vec<String>,
}

impl Failure {
    /// A failure told in words: its code, title, what happened, and what to do.
    pub fn new(
        fault: Fault,
        code: &str,
        title: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        Self {
            fault,
            problem: Problem {
                code: code.to_owned(),
                error: title.to_owned(),
                message: message.into(),
                details: None,
                help,
            },
        }
    }
}

impl Deployment {
    /// A deployment that is asked for and nowhere stored yet.
    pub(crate) fn asked_for(order: Order, now: i64) -> Self {
        Self {
            id: ulid::Ulid::new().to_string().to_lowercase(),
            machine: String::new(),
            created_by: String::new(),
            state: State::Building,
            attempt: 0,
            training_job_id: None,
            run_id: None,
            model_version: order.model_version,
            replicas: order.replicas,
            traffic: 0,
            timings: Vec::new(),
            failure: None,
            created_at: now,
            completed_at: None,
            retired_at: None,
            image: None,
            order,
        }
    }

    /// The namespace and model name, which all deployments of its endpoint share.
    pub(crate) fn endpoint(&self) -> (String, String) {
        (self.order.namespace.clone(), self.order.model_name.clone())
    }

    /// Whether its processes should run and be reached.
    pub fn is_live(&self) -> bool {
        self.state == State::Deployed && self.retired_at.is_none()
    }

    /// The percent of the requests that it begins with, beside what is live already.
    pub(crate) fn first_share(&self, others: &[Self]) -> u32 {
        match self.order.canary_percent {
            Some(percent) if !others.is_empty() => percent,
            _ => 100,
        }
    }

    /// Seconds from the request to the end, once there is one.
    #[expect(
        clippy::cast_precision_loss,
        reason = "durations of deployments fit a float exactly"
    )]
    pub fn duration_seconds(&self) -> Option<f64> {
        Some((self.completed_at? - self.created_at).max(0) as f64 / 1000.0)
    }

    /// The timings after `state` begins at `now`: what was under way has ended then. A phase that
    /// is taken up again goes on.
    pub(crate) fn timings_in(&self, state: State, now: i64) -> Vec<Timing> {
        let mut timings = self.timings.clone();
        let goes_on = |timing: &&mut Timing| timing.ended_at.is_none();
        if let Some(last) = timings.last_mut().filter(goes_on) {
            if last.phase == state {
                return timings;
            }
            last.ended_at = Some(now);
        }
        if !state.is_final() {
            timings.push(Timing {
                phase: state,
                started_at: now,
                ended_at: None,
            });
        }
        timings
    }
}

#[cfg(test)]
impl Order {
    /// The first version of a model on this machine.
    pub(crate) fn example() -> Self {
        Self {
            namespace: "asgard".to_owned(),
            model_name: "m".to_owned(),
            target: Target::Local,
            trains: false,
            model_version: Some(1),
            replicas: 1,
            memory_bytes: None,
            cpus: None,
            canary_percent: None,
            rollback_to: None,
            image: None,
            environment: Environment::default(),
            autoscale: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_go_on_after_a_restart() {
        let mut deployment = Deployment::asked_for(Order::example(), 0);
        deployment.timings = deployment.timings_in(State::Building, 10);
        deployment.timings = deployment.timings_in(State::Building, 20);
        deployment.timings = deployment.timings_in(State::Deploying, 30);
        deployment.timings = deployment.timings_in(State::Deployed, 50);
        let told: Vec<_> = deployment
            .timings
            .iter()
            .map(|t| (t.phase, t.started_at, t.ended_at))
            .collect();
        assert_eq!(
            told,
            [
                (State::Building, 10, Some(30)),
                (State::Deploying, 30, Some(50))
            ]
        );
    }

    #[test]
    fn words_are_read_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("running"), None);
    }
}
