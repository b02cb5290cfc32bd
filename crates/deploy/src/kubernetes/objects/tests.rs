//! The objects as they are applied, whole: `tests/manifests` checks the same files by the schemas of
//! Kubernetes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Shape;
use crate::cluster::ServiceType;
use crate::config::Config;
use crate::deployment::{Autoscale, Deployment, Order, Target};
use crate::environment::{Environment, Opened};
use crate::kubernetes::pull_secret;
use crate::pull::{LoginFound, PullLogin};

fn deployment(id: &str, version: i64, traffic: u32) -> Opened {
    of_order(id, version, traffic, |_| ())
}

fn of_order(id: &str, version: i64, traffic: u32, change: impl Fn(&mut Order)) -> Opened {
    let mut order = Order {
        namespace: "asgard".to_owned(),
        model_name: "churn_predictor".to_owned(),
        target: Target::Kubernetes,
        trains: false,
        model_version: Some(version),
        replicas: 2,
        memory_bytes: None,
        cpus: None,
        canary_percent: None,
        rollback_to: None,
        image: None,
        environment: Environment::default(),
        autoscale: None,
    };
    change(&mut order);
    let deployment = Deployment {
        id: id.to_owned(),
        traffic,
        run_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
        image: Some(format!("registry.example.com/churn@sha256:{version:064x}")),
        ..Deployment::asked_for(order, 0)
    };
    deployment.into()
}

fn bodies(config: &Config, members: &[Opened]) -> Vec<Value> {
    let objects = Shape::new(config, None).endpoint(members);
    objects.into_iter().map(|object| object.body).collect()
}

#[test]
fn one_deployment_behind_a_load_balancer() {
    let members = [deployment("01j9z3k0v8c4m5n6p7q8r9s0t1", 3, 100)];
    insta::assert_json_snapshot!("load_balancer", bodies(&Config::default(), &members));
}

#[test]
fn everything_that_can_be_set_behind_an_ingress() {
    let mut config = Config::default();
    let cluster = &mut config.kubernetes;
    cluster.service_type = ServiceType::NodePort;
    cluster.ingress_host = Some("{model}.{namespace}.example.com".to_owned());
    cluster.ingress_class = Some("nginx".to_owned());
    cluster.ingress_tls_secret = Some("models-tls".to_owned());
    let issuer = ("cert-manager.io/issuer".to_owned(), "ca".to_owned());
    cluster.ingress_annotations = BTreeMap::from([issuer]);
    cluster.pull_secret = Some("ecr-credentials".to_owned());
    cluster.service_account = Some("models".to_owned());
    cluster.egress = true;
    cluster.inference_key = Some("0123456789abcdef".repeat(4).into());
    let member = of_order("01j9z3k0v8c4m5n6p7q8r9s0t1", 3, 100, |order| {
        order.memory_bytes = Some(2 << 30);
        order.cpus = Some(1.5);
        order.environment = Environment::Plain(BTreeMap::from([
            ("LOG".to_owned(), "debug".to_owned()),
            ("PRICE".to_owned(), "$(HOME) $5".to_owned()),
        ]));
        order.autoscale = Some(Autoscale {
            min_replicas: 2,
            max_replicas: 6,
            cpu_percent: 70,
        });
    });
    let objects = bodies(&config, &[member]);
    assert_eq!(objects[0]["kind"], "Secret", "before the pods that take it");
    let deployment = &objects[1];
    assert_eq!(
        deployment["spec"]["replicas"],
        Value::Null,
        "the autoscaler owns it"
    );
    assert!(!deployment.to_string().contains("debug"));
    insta::assert_json_snapshot!("ingress", objects);
}

#[test]
fn what_asgard_pushed_is_pulled_by_the_secret_that_it_makes() {
    let pull = PullLogin {
        registries: vec!["registry.example.com".to_owned()],
        find: Arc::new(|| -> LoginFound { unreachable!("objects are made without the login") }),
    };
    let pulled_by = |pull, config: &Config, image: &str| {
        let mut member = deployment("01j9z3k0v8c4m5n6p7q8r9s0t1", 3, 100);
        member.image = Some(format!("{image}@sha256:{:064x}", 3));
        let objects = Shape::new(config, pull).endpoint(&[member]);
        objects.into_iter().map(|o| o.body).collect::<Vec<_>>()
    };
    let secrets = "/spec/template/spec/imagePullSecrets";
    let own = "registry.example.com/churn";
    let mut config = Config::default();
    let other = pulled_by(Some(pull.clone()), &config, "registry.example.org/churn");
    assert_eq!(other[0].pointer(secrets), None);

    let mut objects = pulled_by(Some(pull.clone()), &config, own);
    let mut secret = pull_secret::pull_secret("asgard").body;
    secret["data"] = json!({ ".dockerconfigjson": "eyJhdXRocyI6IHt9fQ==" });
    objects.insert(0, secret);
    insta::assert_json_snapshot!("pull_secret", objects);

    config.kubernetes.pull_secret = Some("named".to_owned());
    let named = pulled_by(None, &config, own);
    assert_eq!(
        named[0].pointer(secrets),
        Some(&json!([{ "name": "named" }]))
    );
}

#[test]
fn pods_answer_to_the_names_that_lead_to_them() {
    let names = |config: &Config| {
        let objects = bodies(config, &[deployment("01j9z3k0v8c4m5n6p7q8r9s0t1", 3, 100)]);
        let variables = objects[0].pointer("/spec/template/spec/containers/0/env");
        let variables = variables.unwrap().as_array().unwrap().iter();
        let mut named = variables.filter(|one| one["name"] == "ASGARD__SERVER__ALLOWED_HOSTS");
        named.next().unwrap()["value"].as_str().unwrap().to_owned()
    };
    let mut config = Config::default();
    assert_eq!(names(&config), "*", "the cloud chooses the name");
    config.kubernetes.service_type = ServiceType::ClusterIp;
    config.kubernetes.allowed_hosts = vec!["models.example.org".to_owned()];
    let found = names(&config);
    let found: Vec<&str> = found.split(',').collect();
    let service = found[0].split('.').next().unwrap();
    assert!(found.contains(&"models.example.org"), "{found:?}");
    for end in ["", ".asgard", ".asgard.svc", ".asgard.svc.cluster.local"] {
        let name = format!("{service}{end}");
        assert!(found.contains(&name.as_str()), "{name}: {found:?}");
    }
    config.kubernetes.ingress_host = Some("{model}.example.com".to_owned());
    assert!(names(&config).contains(&format!("{service}.example.com")));
}

#[test]
fn a_canary_shares_the_service() {
    let stable = deployment("01j9z3k0v8c4m5n6p7q8r9s0t1", 3, 80);
    let canary = deployment("01j9z3k0v8c4m5n6p7q8r9s0t2", 4, 20);
    let objects = bodies(&Config::default(), &[stable, canary]);
    let of_kind = |kind: &str| {
        objects
            .iter()
            .filter(|o| o["kind"] == kind)
            .collect::<Vec<_>>()
    };
    let pods: Vec<_> = of_kind("Deployment")
        .iter()
        .map(|o| o["spec"]["replicas"].clone())
        .collect();
    assert_eq!(pods, [4, 1]);
    let [service] = of_kind("Service")[..] else {
        panic!("one service");
    };
    let endpoint = service["metadata"]["labels"]["asgard/endpoint"].clone();
    assert_eq!(
        service["spec"]["selector"],
        json!({ "asgard/endpoint": endpoint })
    );
}
