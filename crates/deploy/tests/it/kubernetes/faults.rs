//! What a cluster refuses or suffers from, told with its fix.

use serde_json::{Value, json};

use super::{in_clusters, until};
use crate::cluster::{Cluster, Fault};
use crate::server::both_with;

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
        worker.stop().await;
    })
    .await;
}
