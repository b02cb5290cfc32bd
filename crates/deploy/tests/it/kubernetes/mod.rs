//! Deployments in a cluster, on a stand-in of one.

mod faults;
mod secrets;

use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::json;

use crate::cluster::{Cluster, Fault};
use crate::server::{Server, at, both_with, version};

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
async fn an_autoscaler_owns_the_number_of_pods() {
    in_clusters(async |server, cluster| {
        let worker = server.work();
        let image = format!("registry.test/m@sha256:{:064x}", 9);
        let scale = json!({"min_replicas": 2, "max_replicas": 4});
        let body = json!({"image": image, "autoscale": scale});
        let deployed = server.deploy("m", body).await;
        assert_eq!(deployed["image"], image);
        let name = cluster.names("horizontalpodautoscalers").remove(0);
        let scaler = cluster.get("horizontalpodautoscalers", &name);
        assert_eq!(scaler["spec"]["minReplicas"], 2);
        let path = at(&deployed["deployment_id"], "/scale");
        let scaled = server.post(&path, json!({"replicas": 3})).await.expect(409);
        assert_eq!(scaled["code"], "autoscaled");
        // Whatever the autoscaler chose stays when everything is applied again.
        cluster.edit("deployments", &name, "/spec/replicas", json!(4));
        let unavailable = "/spec/maxUnavailable";
        cluster.edit("poddisruptionbudgets", &name, unavailable, json!(9));
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
