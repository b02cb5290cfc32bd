//! The Secrets that asgard makes in a cluster: what nodes pull images with, and the variables of models.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{in_clusters, until};
use crate::cluster::Cluster;
use crate::server::{Server, at, version};

#[tokio::test]
async fn nodes_pull_with_the_login_that_asgard_has_now() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        let login = || {
            let secret = cluster.find("secrets", "asgard-pull")?;
            assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
            let encoded = secret["data"][".dockerconfigjson"].as_str().unwrap();
            Some(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
        };
        let pull_secrets = |name: &str| {
            let deployment = cluster.get("deployments", name);
            deployment["spec"]["template"]["spec"]["imagePullSecrets"].clone()
        };
        let first = server.deploy("m", json!({})).await;
        assert_eq!(login().as_deref(), Some("first"));
        let name = cluster.names("deployments").remove(0);
        assert_eq!(pull_secrets(&name), json!([{ "name": "asgard-pull" }]));
        for path in ["", "/logs", "/drift"] {
            let path = at(&first["deployment_id"], path);
            let shown = server.get(&path).await.expect(200).to_string();
            assert!(!shown.contains(&STANDARD.encode("first")), "{shown}");
        }
        let drift = server.get(&at(&first["deployment_id"], "/drift")).await;
        assert_eq!(drift.expect(200)["differences"], json!([]));

        // A password ends, and somebody removes things.
        server.log_in_as("second");
        until("it is renewed", || login().as_deref() == Some("second")).await;
        cluster.put("secrets", "asgard-pull", None);
        until("it is there again", || login().is_some()).await;

        // What others pushed is not pulled with it.
        let image = format!("elsewhere.test/m@sha256:{:064x}", 9);
        let other = server.deploy("other", json!({ "image": image })).await;
        let names = cluster.names("deployments");
        let others = names.iter().find(|name| name.contains("other")).unwrap();
        assert_eq!(pull_secrets(others), Value::Null);

        let remove = async |deployment: &Value| {
            let path = at(&deployment["deployment_id"], "");
            let removed = server.send(Method::DELETE, &path, &[], None).await;
            removed.expect(200);
        };
        remove(&other).await;
        until("one is left", || cluster.names("deployments").len() == 1).await;
        assert!(login().is_some(), "the other deployment needs it");
        remove(&first).await;
        until("nothing is left", || cluster.is_empty()).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_key_is_overcome_by_deploying_again_with_the_variables() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        let variables = json!({"environment": {"DB_PASSWORD": "correct-horse"}});
        let first = server.deploy("m", variables.clone()).await;
        worker.stop().await;
        let server = server.with_another_key();
        let worker = server.work();
        let (id, url) = (&first["deployment_id"], &first["inference_url"]);
        // Its pods go on; what would make them anew is refused.
        assert_eq!(version(url).await, "1");
        let canary = json!({"model_name": "m", "canary_percent": 20});
        let refused = server.post("/mlops/deploy", canary).await.expect(503);
        assert_eq!(
            refused["details"]["reason"], "variables_sealed",
            "{refused:#}"
        );
        let help = refused["help"].as_str().unwrap();
        assert!(help.contains("server.secret_key"), "{help}");
        let scaled = server.post(&at(id, "/scale"), json!({"replicas": 3})).await;
        assert_eq!(scaled.expect(409)["code"], "variables_sealed");
        let told = "is left as it is in the cluster";
        server.log_has(id, told, 1).await;

        server.deploy("m", variables).await;
        server.wait(id, |d| d["live"] == false).await;
        until("the first is gone", || {
            cluster.names("deployments").len() == 1
        })
        .await;
        assert_eq!(version(url).await, "2");
        // Each look at the cluster found it, and it was told once.
        let log = server.get(&at(id, "/logs")).await.expect(200).to_string();
        assert_eq!(log.matches(told).count(), 1, "{log}");
        worker.stop().await;
    })
    .await;
}

/// The variables in the Secret of a deployment's own name.
fn variables(cluster: &Cluster, name: &str) -> Value {
    let secret = cluster.get("secrets", name);
    assert_eq!(secret["type"], "Opaque");
    let labels = &secret["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/managed-by"], "asgard");
    let pairs = secret["data"].as_object().unwrap().iter();
    let decoded = pairs.map(|(name, value)| {
        let value = STANDARD.decode(value.as_str().unwrap()).unwrap();
        (name.clone(), Value::from(String::from_utf8(value).unwrap()))
    });
    Value::Object(decoded.collect())
}

/// The names of the Secrets of deployments.
fn own_secrets(cluster: &Cluster) -> BTreeSet<String> {
    let names = cluster.names("secrets").into_iter();
    names.filter(|name| name != "asgard-pull").collect()
}

async fn remove(server: &Server, deployment: &Value) {
    let path = at(&deployment["deployment_id"], "");
    let removed = server.send(Method::DELETE, &path, &[], None).await;
    removed.expect(200);
}

#[tokio::test]
async fn each_deployment_has_its_variables_in_a_secret_of_its_own() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        let with = |price: &str| json!({"environment": {"PRICES": price, "API_KEY": "hunter22"}});
        let first = server.deploy("m", with("$(HOME) $5")).await;
        let name = cluster.names("deployments").remove(0);
        assert_eq!(own_secrets(&cluster), [name.clone()].into());
        let kept = json!({"PRICES": "$(HOME) $5", "API_KEY": "hunter22"});
        assert_eq!(variables(&cluster, &name), kept);
        let made = cluster.get("deployments", &name);
        let env = made.pointer("/spec/template/spec/containers/0/env");
        let of_secret = |key: &str| {
            let taken = json!({"secretKeyRef": {"name": name, "key": key}});
            json!({"name": key, "valueFrom": taken})
        };
        let wanted = json!([
            {"name": "HOME", "value": "/tmp"},
            {"name": "ASGARD__SERVER__ALLOWED_HOSTS", "value": "*"},
            of_secret("API_KEY"),
            of_secret("PRICES"),
            {"name": "ASGARD_MODEL_VARIABLES", "value": "API_KEY,PRICES"},
        ]);
        assert_eq!(env, Some(&wanted));

        // One that takes its place has others, and whoever goes back gets those of before.
        let second = server.deploy("m", with("2")).await;
        until("the first is gone", || own_secrets(&cluster).len() == 1).await;
        let name = cluster.names("deployments").remove(0);
        assert_eq!(variables(&cluster, &name)["PRICES"], "2");
        let path = at(&second["deployment_id"], "/rollback");
        let back = server.post(&path, json!({})).await.expect(200);
        assert_eq!(back["rollback_to"], first["deployment_id"]);
        until("the second is gone", || own_secrets(&cluster).len() == 1).await;
        let name = cluster.names("deployments").remove(0);
        assert_eq!(variables(&cluster, &name), kept);

        // One without variables has none.
        server.deploy("m", json!({})).await;
        until("the other is gone", || own_secrets(&cluster).is_empty()).await;
        let all = server.get("/mlops/deployments?live=true").await.expect(200);
        remove(&server, &all["deployments"][0]).await;
        until("nothing is left", || cluster.is_empty()).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn no_value_of_a_variable_is_shown() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        server.register("m", &[("requirements.txt", "")]).await;
        let body =
            json!({"model_name": "m", "environment": {"A": "plain-b", "API_KEY": "hunter22"}});
        let dry = server.post("/mlops/deploy?dry_run=true", body.clone());
        let plan = dry.await.expect(200);
        let objects = plan["objects"].as_array().unwrap().iter();
        let (secrets, others): (Vec<_>, Vec<_>) =
            objects.partition(|object| object["kind"] == "Secret");
        assert_eq!(secrets.len(), 2, "{plan:#}");
        assert_eq!(secrets[1]["data"], json!({"A": "***", "API_KEY": "***"}));
        let mut others = others.iter();
        assert!(others.all(|o| o.get("data").is_none()), "{plan:#}");
        let differences = plan["differences"].as_array().unwrap();
        let mut missing = differences.iter().map(|d| d.as_str().unwrap());
        assert!(missing.all(|d| d.ends_with("is not there")), "{plan:#}");
        let is_hidden = |text: &str| {
            let values = ["plain-b", "hunter22"];
            let encoded = values.map(|value| STANDARD.encode(value));
            let shown = |value: &str| text.contains(value);
            !values.iter().any(|v| shown(v)) && !encoded.iter().any(|v| shown(v))
        };
        assert!(is_hidden(&plan.to_string()), "{plan:#}");
        assert!(cluster.is_empty());

        let deployed = server.post("/mlops/deploy", body).await.expect(200);
        let id = &deployed["deployment_id"];
        let name = cluster.names("deployments").remove(0);
        let drift = async || server.get(&at(id, "/drift")).await.expect(200);
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            // Right after a deployment everything is applied once more.
            cluster.edit("secrets", &name, "/data/API_KEY", json!("b3RoZXI="));
            let found = drift().await;
            assert!(is_hidden(&found.to_string()), "{found:#}");
            let told = format!("Secret asgard/{name}: data.API_KEY: is not as it should be");
            if found["differences"] == json!([told]) {
                break;
            }
            assert!(Instant::now() < patience, "never: {found:#}");
        }
        for path in ["", "/logs"] {
            let shown = server.get(&at(id, path)).await.expect(200).to_string();
            assert!(is_hidden(&shown), "{shown}");
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_read_secrets_is_told_and_the_rest_is_looked_at() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        cluster.narrow_role(true);
        server.register("m", &[("requirements.txt", "")]).await;
        let body = json!({"model_name": "m", "environment": {"API_KEY": "hunter22"}});
        let dry = server.post("/mlops/deploy?dry_run=true", body.clone());
        let plan = dry.await.expect(200);
        let unread = plan["unread"][0].as_str().unwrap();
        assert!(unread.starts_with("Secret asgard/model-m-"), "{plan:#}");
        assert!(unread.contains("is forbidden"), "{plan:#}");
        let differences = plan["differences"].to_string();
        assert!(
            differences.contains("Deployment asgard/model-m-"),
            "{plan:#}"
        );

        // What cannot be kept as a Secret is not put elsewhere, and its removal is not held up.
        let failed = server.post("/mlops/deploy", body.clone()).await.expect(502);
        assert_eq!(
            failed["details"]["reason"], "cluster_forbidden",
            "{failed:#}"
        );
        assert!(failed["help"].as_str().unwrap().contains("rbac.yaml"));
        assert!(!failed.to_string().contains("hunter22"), "{failed:#}");
        until("nothing is left", || cluster.is_empty()).await;

        // Who has no variables needs no such right.
        let bare = json!({"model_name": "m"});
        server.post("/mlops/deploy", bare).await.expect(200);
        cluster.narrow_role(false);
        let deployed = server.post("/mlops/deploy", body).await.expect(200);
        cluster.narrow_role(true);
        let drift = server.get(&at(&deployed["deployment_id"], "/drift")).await;
        let drift = drift.expect(200);
        assert_eq!(drift["unread"].as_array().unwrap().len(), 1, "{drift:#}");
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn without_a_right_to_secrets_only_what_has_variables_stays_as_it_is() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        let with = json!({"environment": {"API_KEY": "hunter22"}});
        let first = server.deploy("m", with).await;
        let id = &first["deployment_id"];
        let name = cluster.names("deployments").remove(0);
        let spec = || cluster.get("deployments", &name)["spec"].clone();
        let before = spec();

        // As after an upgrade of a server that had its role from an earlier version.
        cluster.narrow_role(true);
        let canary = server.deploy("m", json!({"canary_percent": 50})).await;
        assert_eq!(canary["status"], "deployed", "{canary:#}");
        let body = json!({"replicas": 4});
        server.post(&at(id, "/scale"), body).await.expect(200);
        let other = |other: &String| *other != name;
        let pods = || {
            let other = cluster.names("deployments").into_iter().find(other);
            cluster.get("deployments", &other.unwrap())["spec"]["replicas"].clone()
        };
        until("the other has its share", || pods() == 2).await;
        assert_eq!(spec(), before);
        server
            .log_has(id, "the cluster is not as it should be", 1)
            .await;
        server.log_has(id, "rbac.yaml", 1).await;

        cluster.narrow_role(false);
        until("what was left is made", || spec()["replicas"] == 2).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn servers_that_race_over_a_pull_secret_fail_no_deployment() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        // Another server makes it in the same moment.
        cluster.refuse(&[409, 409]);
        let first = server.deploy("m", json!({})).await;
        let versions = || {
            let secret = cluster.get("secrets", "asgard-pull");
            secret["metadata"]["resourceVersion"].clone()
        };
        let before = versions();
        let other = server.deploy("other", json!({})).await;
        assert_ne!(versions(), before, "whoever needs it says so");

        // The last deployment that this server knows of goes, while another server begins one.
        remove(&server, &other).await;
        cluster.race("secrets", "asgard-pull");
        remove(&server, &first).await;
        until("it was about to be removed", || cluster.has_raced()).await;
        until("the rest is gone", || {
            let kinds = ["deployments", "services", "networkpolicies"];
            kinds.iter().all(|kind| cluster.names(kind).is_empty())
        })
        .await;
        assert_eq!(cluster.names("secrets"), ["asgard-pull"]);

        // The next one that goes takes it along.
        let last = server.deploy("m", json!({})).await;
        remove(&server, &last).await;
        until("nothing is left", || cluster.is_empty()).await;
        worker.stop().await;
    })
    .await;
}
