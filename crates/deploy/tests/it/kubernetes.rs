//! Deployments in a cluster, on a stand-in of one.

use std::time::{Duration, Instant};

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Fault};
use crate::server::{Server, ask, at, both_with};

/// Servers of both databases, each with a cluster of its own that it works in.
async fn in_clusters(work: impl AsyncFn(Server, Cluster)) {
    for server in 0..2 {
        let cluster = Cluster::start().await;
        let servers = both_with(|config| {
            config.kubernetes.kubeconfig = Some(cluster.kubeconfig.clone());
            config.kubernetes.service_port = cluster.port;
            config.kubernetes.fault_patience_s = 0;
            config.kubernetes.address_timeout_s = 60;
        });
        let server = servers.await.into_iter().nth(server).unwrap();
        work(server, cluster).await;
    }
}

/// Waits until the cluster is as `wanted`.
async fn until(what: &str, wanted: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(120);
    while !wanted() {
        assert!(Instant::now() < patience, "never: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn version(url: &Value) -> String {
    let (status, answer) = ask(url, &json!({})).await;
    assert_eq!(status, 200, "{answer:#}");
    answer["version"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_model_is_deployed_into_a_cluster_and_answers() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        // Busy and forgetful moments of the API server are waited out.
        cluster.refuse(&[429, 500, 410]);
        let deployed = server.deploy("iris", json!({})).await;
        assert_eq!(deployed["status"], "deployed");
        assert_eq!(
            deployed["target"], "kubernetes",
            "the default where there is a cluster"
        );
        assert_eq!(deployed["external_ip"], "127.0.0.1");
        let image = deployed["image"].as_str().unwrap();
        assert!(image.contains("@sha256:"), "{image}");
        let phases = deployed["phases"].as_array().unwrap().iter();
        let phases: Vec<_> = phases
            .map(|phase| phase["phase"].as_str().unwrap())
            .collect();
        assert_eq!(phases, ["building", "pushing", "deploying"]);
        let (id, url) = (&deployed["deployment_id"], &deployed["inference_url"]);
        assert_eq!(version(url).await, "1");
        let log = server.get(&at(id, "/logs")).await.expect(200).to_string();
        assert!(
            log.contains("all pods are ready") && log.contains("2 layers"),
            "{log}"
        );
        for kind in [
            "deployments",
            "services",
            "networkpolicies",
            "poddisruptionbudgets",
        ] {
            assert_eq!(cluster.names(kind).len(), 1, "{kind}");
        }

        server.wait(id, |d| d["ready_replicas"] == 1).await;
        let drift = server.get(&at(id, "/drift")).await.expect(200);
        assert_eq!(drift["differences"], json!([]), "{drift:#}");
        let name = cluster.names("deployments").remove(0);
        cluster.edit("deployments", &name, "/spec/replicas", json!(7));
        let drift = server.get(&at(id, "/drift")).await.expect(200);
        assert_eq!(
            drift["differences"],
            json!([format!(
                "Deployment asgard/{name}: spec.replicas: is 7, should be 1"
            )])
        );
        server
            .post(&at(id, "/scale"), json!({"replicas": 3}))
            .await
            .expect(200);
        until("three replicas", || {
            cluster.get("deployments", &name)["spec"]["replicas"] == 3
        })
        .await;
        server.wait(id, |d| d["ready_replicas"] == 3).await;

        // What somebody removed is made anew.
        cluster.put("deployments", &name, None);
        until("it is there again", || {
            !cluster.names("deployments").is_empty()
        })
        .await;

        server
            .send(Method::DELETE, &at(id, ""), &[], None)
            .await
            .expect(200);
        until("nothing is left", || cluster.is_empty()).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_new_version_takes_over_in_the_cluster_and_can_be_taken_back() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        let first = server.deploy("m", json!({})).await;
        let second = server.deploy("m", json!({})).await;
        let url = &second["inference_url"];
        assert_eq!(url, &first["inference_url"], "one address for one model");
        assert_eq!(version(url).await, "2");
        until("the first is gone", || {
            cluster.names("deployments").len() == 1
        })
        .await;

        let path = at(&second["deployment_id"], "/rollback");
        let back = server.post(&path, json!({})).await.expect(200);
        assert_eq!(back["image"], first["image"], "the same image");
        assert_eq!(version(url).await, "1");
        until("the second is gone", || {
            cluster.names("deployments").len() == 1
        })
        .await;

        let local = server
            .post(
                "/mlops/deploy",
                json!({"model_name": "m", "target": "local"}),
            )
            .await;
        assert_eq!(local.expect(409)["code"], "other_target");
        worker.stop().await;
    })
    .await;
}

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

#[tokio::test]
async fn a_canary_in_the_cluster_gets_its_share_of_the_pods() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        server.deploy("m", json!({})).await;
        let canary = server.deploy("m", json!({"canary_percent": 20})).await;
        let (id, url) = (&canary["deployment_id"], &canary["inference_url"]);
        let replicas = || {
            let names = cluster.names("deployments");
            let mut found: Vec<_> = names
                .iter()
                .map(|name| cluster.get("deployments", name)["status"]["readyReplicas"].as_u64())
                .collect();
            found.sort();
            found
        };
        until("four pods to one", || replicas() == [Some(1), Some(4)]).await;
        let mut counts = [0, 0];
        for _ in 0..50 {
            counts[version(url).await.parse::<usize>().unwrap() - 1] += 1;
        }
        assert_eq!(counts, [40, 10], "{}", server.name);

        server
            .post(&at(id, "/traffic"), json!({"percent": 100}))
            .await
            .expect(200);
        until("one is left", || replicas().len() == 1).await;
        assert_eq!(version(url).await, "2");
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn each_fault_of_a_cluster_is_told_with_its_fix_and_leaves_nothing() {
    for (fault, code, words) in [
        (Fault::Pull, "image_pull", "cannot be pulled"),
        (Fault::Crash, "crash_loop", "exit code 1"),
        (Fault::Unschedulable, "unschedulable", "Insufficient memory"),
        (Fault::Quota, "quota", "exceeded quota"),
        (
            Fault::NoBalancer,
            "load_balancer_pending",
            "no external address",
        ),
    ] {
        let cluster = Cluster::start().await;
        let [server, _] = both_with(|config| {
            config.kubernetes.kubeconfig = Some(cluster.kubeconfig.clone());
            config.kubernetes.fault_patience_s = 0;
            config.kubernetes.address_timeout_s = 1;
        })
        .await;
        cluster.suffer(fault);
        let worker = server.work();
        server.register("m", &[]).await;
        let failed = server
            .post("/mlops/deploy", json!({"model_name": "m"}))
            .await;
        let status = if fault == Fault::Crash { 422 } else { 502 };
        let failed = failed.expect(status);
        assert_eq!(failed["details"]["reason"], code, "{failed:#}");
        assert!(
            failed["message"].as_str().unwrap().contains(words),
            "{failed:#}"
        );
        assert!(failed["help"].is_string(), "{failed:#}");
        if fault == Fault::Crash {
            assert!(
                failed["details"].to_string().contains("no numpy"),
                "{failed:#}"
            );
        }
        until("nothing is left", || cluster.is_empty()).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn an_image_that_answers_without_the_key_is_not_deployed() {
    let cluster = Cluster::start().await;
    let [server, _] = both_with(|config| {
        config.kubernetes.kubeconfig = Some(cluster.kubeconfig.clone());
        config.kubernetes.service_port = cluster.port;
        config.kubernetes.fault_patience_s = 0;
        config.kubernetes.inference_key = Some("0123456789abcdef".repeat(2).into());
    })
    .await;
    let worker = server.work();
    server.register("m", &[]).await;
    // The pods of this cluster know of no key.
    let failed = server
        .post("/mlops/deploy", json!({"model_name": "m"}))
        .await;
    let failed = failed.expect(502);
    assert_eq!(failed["details"]["reason"], "address_open", "{failed:#}");
    assert!(!failed.to_string().contains("0123456789abcdef"));
    until("nothing is left", || cluster.is_empty()).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_in_the_middle_goes_on_and_a_removal_leaves_nothing() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        cluster.suffer(Fault::Slow);
        server.register("m", &[]).await;
        let ask = async |server: &Server| {
            let asked = server
                .post("/mlops/deploy?wait=false", json!({"model_name": "m"}))
                .await;
            asked.expect(202)["deployment_id"].clone()
        };
        let id = ask(&server).await;
        until("it rolls out", || !cluster.names("deployments").is_empty()).await;
        worker.stop().await;
        let server = server.restarted();
        cluster.suffer(Fault::None);
        let worker = server.work();
        let deployed = server.wait(&id, |d| d["status"] == "deployed").await;
        assert_eq!(version(&deployed["inference_url"]).await, "1");
        assert_eq!(cluster.names("deployments").len(), 1, "the same objects");

        cluster.suffer(Fault::Slow);
        let second = ask(&server).await;
        until("it rolls out", || cluster.names("deployments").len() == 2).await;
        for id in [&second, &id] {
            server
                .send(Method::DELETE, &at(id, ""), &[], None)
                .await
                .expect(200);
        }
        until("nothing is left", || cluster.is_empty()).await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_in_the_way_in_a_cluster_is_told() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        server.register("m", &[]).await;
        let deploy = async |more: Value| {
            let mut body = json!({"model_name": "m"});
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            server.post("/mlops/deploy", body).await
        };
        cluster.put(
            "services",
            "model-m",
            Some(json!({ "metadata": { "name": "model-m" } })),
        );
        let taken = deploy(json!({})).await.expect(502);
        assert_eq!(taken["details"]["reason"], "name_taken", "{taken:#}");
        until("only that is left", || {
            cluster.names("deployments").is_empty()
        })
        .await;
        assert_eq!(
            cluster.names("services"),
            ["model-m"],
            "what others made stays"
        );
        cluster.put("services", "model-m", None);

        let nowhere = deploy(json!({"namespace": "nowhere"})).await.expect(502);
        assert_eq!(nowhere["details"]["reason"], "no_namespace", "{nowhere:#}");
        // The Secret for pulls may be left alone; the rest may not.
        cluster.refuse(&[403, 403]);
        let forbidden = deploy(json!({})).await.expect(502);
        assert!(
            forbidden["help"].as_str().unwrap().contains("rbac.yaml"),
            "{forbidden:#}"
        );
        let tag = deploy(json!({"image": "registry.test/m:latest"}))
            .await
            .expect(422);
        assert!(tag.to_string().contains("a tag may move"), "{tag:#}");

        let image = format!("registry.test/m@sha256:{:064x}", 9);
        let scale = json!({"min_replicas": 2, "max_replicas": 4});
        let variables = json!({"A": "b", "API_KEY": "hunter22"});
        let body = json!({"image": image, "autoscale": scale, "environment": variables});
        let mut dry = body.clone();
        dry["model_name"] = json!("m");
        let plan = server
            .post("/mlops/deploy?dry_run=true", dry)
            .await
            .expect(200);
        assert_eq!(plan["objects"].as_array().unwrap().len(), 6, "{plan:#}");
        let missing = plan["differences"].as_array().unwrap();
        assert!(
            missing
                .iter()
                .all(|d| d.as_str().unwrap().ends_with("is not there")),
            "{plan:#}"
        );
        let shown = plan.to_string();
        assert!(
            shown.contains(r#"{"name":"API_KEY","value":"***"}"#) && !shown.contains("hunter22"),
            "{shown}"
        );
        assert!(cluster.is_empty());

        let deployed = deploy(body).await.expect(200);
        assert_eq!(deployed["image"], image);
        let name = cluster.names("deployments").remove(0);
        let container = "/spec/template/spec/containers/0/env";
        let made = cluster.get("deployments", &name);
        let variable = |name: &str, value: &str| json!({"name": name, "value": value});
        let own = [
            variable("HOME", "/tmp"),
            variable("ASGARD__SERVER__ALLOWED_HOSTS", "*"),
            variable("A", "b"),
            variable("API_KEY", "hunter22"),
            variable("ASGARD_MODEL_VARIABLES", "A,API_KEY"),
        ];
        assert_eq!(made.pointer(container), Some(&json!(own)));
        let other = format!("{container}/3/value");
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            // Right after a deployment everything is applied once more.
            cluster.edit("deployments", &name, &other, json!("hunter23"));
            let drift = server.get(&at(&deployed["deployment_id"], "/drift")).await;
            let drift = drift.expect(200)["differences"].to_string();
            assert!(!drift.contains("hunter"), "{drift}");
            if drift.contains("env[3].value: is not as it should be") {
                break;
            }
            assert!(Instant::now() < patience, "never: {drift}");
        }
        let name = cluster.names("horizontalpodautoscalers").remove(0);
        let scaler = cluster.get("horizontalpodautoscalers", &name);
        assert_eq!(scaler["spec"]["minReplicas"], 2);
        let path = at(&deployed["deployment_id"], "/scale");
        let scaled = server.post(&path, json!({"replicas": 3})).await.expect(409);
        assert_eq!(scaled["code"], "autoscaled");
        // Whatever the autoscaler chose stays when everything is applied again.
        cluster.edit("deployments", &name, "/spec/replicas", json!(4));
        cluster.edit(
            "poddisruptionbudgets",
            &name,
            "/spec/maxUnavailable",
            json!(9),
        );
        worker.stop().await;
        let server = server.restarted();
        let worker = server.work();
        until("it is applied again", || {
            cluster.get("poddisruptionbudgets", &name)["spec"]["maxUnavailable"] == 1
        })
        .await;
        assert_eq!(cluster.get("deployments", &name)["spec"]["replicas"], 4);
        worker.stop().await;
    })
    .await;
}
