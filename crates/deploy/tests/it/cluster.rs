//! A cluster in memory: an API server that stores what is applied, controllers that change statuses
//! when they are looked at, a load balancer that answers for the pods, and faults on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What pods of the cluster suffer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Pull,
    Crash,
    Unschedulable,
    Quota,
    NoBalancer,
    /// They do not get ready, as long as this stands.
    Slow,
}

pub(crate) struct Cluster {
    pub(crate) kubeconfig: PathBuf,
    /// Where its load balancer listens.
    pub(crate) port: u16,
    world: Arc<Mutex<World>>,
    _dir: TempDir,
}

/// The plural name of a kind, a namespace, a name.
type Key = (String, String, String);

struct World {
    objects: BTreeMap<Key, Value>,
    fault: Fault,
    /// Statuses that the next requests to change something are answered with.
    refusals: VecDeque<u16>,
    /// How often a Deployment was looked at since it was changed.
    looks: HashMap<Key, u32>,
    answered: usize,
    /// The version of the last change.
    version: u64,
    /// Whether the role of asgard is one of before it made Secrets other than `asgard-pull`.
    narrow: bool,
    /// An object that somebody applies again just before it is removed.
    raced: Option<(&'static str, &'static str)>,
}

type Shared = Arc<Mutex<World>>;

impl Cluster {
    pub(crate) async fn start() -> Self {
        let world = Arc::new(Mutex::new(World {
            objects: BTreeMap::new(),
            fault: Fault::None,
            refusals: VecDeque::new(),
            looks: HashMap::new(),
            answered: 0,
            version: 0,
            narrow: false,
            raced: None,
        }));
        let api = serve(Router::new().fallback(api).with_state(Arc::clone(&world))).await;
        let port = serve(
            Router::new()
                .fallback(balance)
                .with_state(Arc::clone(&world)),
        )
        .await;
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("config");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://127.0.0.1:{api}") } }],
            "users": [{ "name": "u", "user": { "token": "t" } }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self {
            kubeconfig,
            port,
            world,
            _dir: dir,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn suffer(&self, fault: Fault) {
        self.world().fault = fault;
    }

    /// Has the next requests to change something answered with these statuses.
    pub(crate) fn refuse(&self, statuses: &[u16]) {
        self.world().refusals.extend(statuses);
    }

    /// Takes the right to Secrets other than `asgard-pull` from asgard's role, or gives it.
    pub(crate) fn narrow_role(&self, narrow: bool) {
        self.world().narrow = narrow;
    }

    /// Has somebody apply an object again just before asgard's next request to remove it.
    pub(crate) fn race(&self, plural: &'static str, name: &'static str) {
        self.world().raced = Some((plural, name));
    }

    /// Whether that has happened.
    pub(crate) fn has_raced(&self) -> bool {
        self.world().raced.is_none()
    }

    /// The names of all objects of a kind.
    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        let world = self.world();
        let of_kind = world.objects.keys().filter(|key| key.0 == plural);
        of_kind.map(|key| key.2.clone()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.world().objects.is_empty()
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Value {
        let found = self.find(plural, name);
        found.unwrap_or_else(|| panic!("no {plural} {name}"))
    }

    pub(crate) fn find(&self, plural: &str, name: &str) -> Option<Value> {
        let world = self.world();
        let mut objects = world.objects.iter();
        let found = objects.find(|(key, _)| key.0 == plural && key.2 == name);
        found.map(|(_, object)| object.clone())
    }

    /// Changes an object as somebody else would.
    pub(crate) fn edit(&self, plural: &str, name: &str, pointer: &str, value: Value) {
        let mut world = self.world();
        let mut of_kind = world.objects.iter_mut();
        let (_, object) = of_kind
            .find(|(key, _)| key.0 == plural && key.2 == name)
            .unwrap();
        *object.pointer_mut(pointer).unwrap() = value;
    }

    /// Puts in an object that somebody else made, or takes one out.
    pub(crate) fn put(&self, plural: &str, name: &str, object: Option<Value>) {
        let key = (plural.to_owned(), "asgard".to_owned(), name.to_owned());
        match object {
            Some(object) => self.world().objects.insert(key, object),
            None => self.world().objects.remove(&key),
        };
    }
}

async fn serve(router: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    port
}

fn failure(code: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(code).unwrap();
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": status.canonical_reason().unwrap().replace(' ', "") });
    (status, Json(body)).into_response()
}

/// The API server.
async fn api(State(world): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    assert_eq!(parts.headers[header::AUTHORIZATION], "Bearer t");
    let mut world = world.lock().unwrap();
    if parts.method == Method::PATCH
        && let Some(code) = world.refusals.pop_front()
    {
        return failure(code, "said so");
    }
    let path: Vec<&str> = parts
        .uri
        .path()
        .split('/')
        .skip_while(|s| *s != "namespaces")
        .collect();
    let (namespace, plural) = (path[1], path[2]);
    if namespace != "asgard" {
        return failure(404, &format!("namespaces {namespace:?} not found"));
    }
    let name = path.get(3).copied().unwrap_or_default();
    if world.narrow && plural == "secrets" && name != "asgard-pull" {
        let message = format!("secrets {name:?} is forbidden: User \"asgard\" cannot do that");
        return failure(403, &message);
    }
    let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
    match (parts.method, plural, path.len()) {
        (Method::GET, "pods", 3) => list("PodList", world.pods(&query)),
        (Method::GET, "events", 3) => list("EventList", Vec::new()),
        (Method::GET, "pods", 5) => "Traceback\nImportError: no numpy".into_response(),
        (Method::PATCH, _, 4) => {
            assert_eq!(
                parts.headers[header::CONTENT_TYPE],
                "application/apply-patch+yaml"
            );
            assert!(query.contains("fieldManager=asgard"), "{query}");
            Json(world.apply(key, serde_json::from_slice(&body).unwrap())).into_response()
        }
        (Method::GET, _, 4) => match world.look(&key) {
            Some(object) => Json(object).into_response(),
            None => failure(404, &format!("{plural} {name:?} not found")),
        },
        (Method::DELETE, _, 4) if world.was_changed(&key, &body) => {
            failure(409, "the object has been modified")
        }
        (Method::DELETE, _, 4) => match world.objects.remove(&key) {
            Some(object) => Json(object).into_response(),
            None => failure(404, &format!("{plural} {name:?} not found")),
        },
        (method, ..) => failure(405, &format!("{method} {path:?}")),
    }
}

fn list(kind: &str, items: Vec<Value>) -> Response {
    let list = json!({ "kind": kind, "apiVersion": "v1", "metadata": {}, "items": items });
    Json(list).into_response()
}

impl World {
    /// Server-side apply, for one manager: what it does not name stays.
    fn apply(&mut self, key: Key, mut object: Value) -> Value {
        let before = self.objects.get(&key).cloned().unwrap_or(json!({}));
        if key.0 == "deployments" && object["spec"]["replicas"].is_null() {
            let replicas = before["spec"]["replicas"].as_i64().unwrap_or(1);
            object["spec"]["replicas"] = json!(replicas);
        }
        let changed = before["spec"] != object["spec"];
        let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + i64::from(changed));
        object["status"] = before["status"].clone();
        // What is applied as it is keeps its version.
        object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        if object != before {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        if changed {
            self.looks.insert(key.clone(), 0);
        }
        self.objects.insert(key, object.clone());
        object
    }

    /// Whether an object is another than the one that somebody asks to remove; somebody may just now
    /// have made it so.
    fn was_changed(&mut self, key: &Key, body: &[u8]) -> bool {
        if self
            .raced
            .is_some_and(|(plural, name)| (plural, name) == (&*key.0, &*key.2))
        {
            self.raced = None;
            self.version += 1;
            let version = json!(self.version.to_string());
            if let Some(object) = self.objects.get_mut(key) {
                object["metadata"]["resourceVersion"] = version;
            }
        }
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let seen = &asked["preconditions"]["resourceVersion"];
        let there = self.objects.get(key);
        !seen.is_null() && there.is_some_and(|there| there["metadata"]["resourceVersion"] != *seen)
    }

    /// An object as it is now; its controller goes on with each look.
    fn look(&mut self, key: &Key) -> Option<Value> {
        let fault = self.fault;
        let looks = self.looks.entry(key.clone()).or_default();
        *looks += 1;
        let looks = *looks;
        let object = self.objects.get_mut(key)?;
        match key.0.as_str() {
            "deployments" => object["status"] = rollout(object, fault, looks),
            "services" if object["spec"]["type"] == "LoadBalancer" => {
                let given = looks > 2 && fault != Fault::NoBalancer;
                let ingress = if given {
                    json!([{ "ip": "127.0.0.1" }])
                } else {
                    json!([])
                };
                object["status"] = json!({ "loadBalancer": { "ingress": ingress } });
            }
            _ => {}
        }
        Some(object.clone())
    }

    fn pods(&self, query: &str) -> Vec<Value> {
        let deployments = self
            .objects
            .iter()
            .filter(|(key, _)| key.0 == "deployments");
        let id = |object: &Value| object["metadata"]["labels"]["asgard/deployment"].clone();
        let mut asked =
            deployments.filter(|(_, object)| query.contains(id(object).as_str().unwrap()));
        asked
            .next()
            .map(|(_, object)| pod(object, self.fault))
            .into_iter()
            .collect()
    }
}

/// The status of a Deployment: first that of its last generation, as complete as it was.
fn rollout(object: &Value, fault: Fault, looks: u32) -> Value {
    let generation = object["metadata"]["generation"].as_i64().unwrap();
    let wanted = &object["spec"]["replicas"];
    if looks == 1 {
        return json!({ "observedGeneration": generation - 1, "replicas": wanted, "updatedReplicas": wanted,
            "availableReplicas": wanted, "readyReplicas": wanted,
            "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }] });
    }
    let ready = looks > 2 && matches!(fault, Fault::None | Fault::NoBalancer);
    let ready = if ready { wanted.clone() } else { json!(0) };
    let mut status = json!({ "observedGeneration": generation, "replicas": wanted, "updatedReplicas": wanted,
        "availableReplicas": ready, "readyReplicas": ready });
    if fault == Fault::Quota {
        status["conditions"] = json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "pods \"x\" is forbidden: exceeded quota: small" }]);
    }
    if fault == Fault::Unschedulable && looks > 4 {
        status["conditions"] = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" }]);
    }
    status
}

fn pod(deployment: &Value, fault: Fault) -> Value {
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    let waiting = |reason: &str, last: Value| {
        json!({ "containerStatuses": [{ "name": "model", "image": image, "imageID": "", "ready": false,
            "restartCount": 2, "lastState": last,
            "state": { "waiting": { "reason": reason, "message": "Back-off" } } }] })
    };
    let status = match fault {
        Fault::Pull => waiting("ImagePullBackOff", json!({})),
        Fault::Crash => waiting(
            "CrashLoopBackOff",
            json!({ "terminated": { "exitCode": 1, "reason": "Error" } }),
        ),
        Fault::Unschedulable => json!({ "conditions": [{ "type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient memory." }] }),
        _ => json!({}),
    };
    json!({ "metadata": { "name": "pod-1", "namespace": "asgard" }, "spec": { "containers": [] }, "status": status })
}

/// The load balancer: each pod that the Service selects answers in turn.
async fn balance(State(world): State<Shared>) -> Response {
    let mut world = world.lock().unwrap();
    world.answered += 1;
    let service = world.objects.iter().find(|(key, _)| key.0 == "services");
    let Some((_, service)) = service else {
        return failure(503, "no service");
    };
    let selector = service["spec"]["selector"].as_object().unwrap();
    let deployments = world
        .objects
        .iter()
        .filter(|(key, _)| key.0 == "deployments");
    let selected = deployments
        .map(|(_, deployment)| deployment)
        .filter(|deployment| {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            selector.iter().all(|(key, value)| labels[key] == *value)
        });
    let pods = selected.flat_map(|deployment| {
        let pods = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0);
        (0..pods).map(|_| &deployment["metadata"]["annotations"]["asgard/model-version"])
    });
    let pods: Vec<&Value> = pods.collect();
    match pods.get(world.answered % pods.len().max(1)) {
        Some(version) => Json(json!({ "version": version })).into_response(),
        None => failure(503, "no pods"),
    }
}
