//! asgard's own routes: the models, and registering by hand.

use axum::http::Method;
use registry::{NewVersion, Registration, Registry, Subject};
use serde_json::{Value, json};
use tracking::{Config, External, Kind, LoggedModelStatus, Stamp, Tracking};
use web::Identity;
use web::testing::Answer;

use crate::server::{Server, both, job};

async fn get(server: &Server, path: &str) -> Answer {
    server
        .send_as(Identity::Local, Method::GET, path, Value::Null)
        .await
}

async fn register(server: &Server, body: Value) -> Answer {
    server
        .send_as(Identity::Local, Method::POST, "/mlops/registry", body)
        .await
}

#[tokio::test]
async fn models_are_an_array_even_when_there_are_none() {
    for server in both().await {
        assert_eq!(get(&server, "/mlops/models").await.ok(), json!([]));
        server.model("b").await;
        server.model("a").await;
        server.version("a").await;
        server.registry.set_alias("a", "champion", 1).await.unwrap();
        let models = get(&server, "/mlops/models").await.ok();
        let first = &models[0];
        assert_eq!(first["name"], "a", "{}", server.name);
        assert_eq!(first["aliases"], json!({"champion": "1"}));
        assert_eq!(first["latest_versions"][0]["version"], "1");
        assert_eq!(first["latest_versions"][0]["stage"], "None");
        assert!(first["created_at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(models[1]["latest_versions"], json!([]));

        let page = get(&server, "/mlops/models?limit=1").await;
        let token = page.headers["x-next-page-token"].to_str().unwrap();
        let next = format!("/mlops/models?limit=1&page_token={token}").replace("==", "%3D%3D");
        let next = get(&server, &next).await;
        assert!(!next.headers.contains_key("x-next-page-token"));
        assert_eq!(next.ok()[0]["name"], "b");
    }
}

#[tokio::test]
async fn one_model_shows_its_versions_and_a_missing_one_teaches() {
    for server in both().await {
        let missing = get(&server, "/mlops/models/iris").await;
        assert_eq!(missing.status, 404);
        let body = missing.json();
        assert_eq!(body["code"], "model_not_found");
        assert!(body["help"].as_str().unwrap().contains("/mlops/models"));
        assert!(body["detail"].as_str().unwrap().contains("iris"));

        server.model("iris").await;
        server.version("iris").await;
        server.version("iris").await;
        let model = get(&server, "/mlops/models/iris").await.ok();
        assert_eq!(model["versions"][0]["version"], "2");
        assert_eq!(model["versions"][1]["version"], "1");
        assert_eq!(model["latest_versions"][0]["version"], "2");
    }
}

#[tokio::test]
async fn registering_a_run_twice_is_one_version() {
    for server in both().await {
        let run = server.run().await;
        server.file(&run.artifact_uri, "plots/a.png").await;
        server.file(&run.artifact_uri, "model/MLmodel").await;
        let body = json!({
            "model_name": "iris",
            "run_id": run.run_id,
            "description": "by hand",
            "tags": {"team": "a"},
        });
        for _ in 0..2 {
            let answer = register(&server, body.clone()).await;
            assert_eq!(answer.status, 201);
            let answer = answer.json();
            assert_eq!(answer["version"], "1", "{}", server.name);
            assert_eq!(answer["status"], "registered");
            assert_eq!(answer["run_id"], run.run_id);
            assert_eq!(answer["model_name"], "iris");
            assert!(answer["created_at"].is_string());
        }
        let version = server.registry.get_version("iris", 1).await.unwrap();
        assert_eq!(version.location, format!("{}/model", run.artifact_uri));
        assert_eq!(version.tags["team"], "a");
        let mut other = body;
        other["model_name"] = "flowers".into();
        assert_eq!(register(&server, other).await.ok()["version"], "1");
    }
}

#[tokio::test]
async fn registering_at_once_is_one_version_too() {
    for server in both().await {
        let run = server.run().await;
        server.file(&run.artifact_uri, "model/MLmodel").await;
        let registering: Vec<_> = (0..8)
            .map(|_| {
                let registration = Registration {
                    model_name: "iris".to_owned(),
                    subject: Subject::Run(run.run_id.clone()),
                    description: None,
                    tags: Vec::new(),
                    job_id: None,
                };
                let registry = server.registry.clone();
                tokio::spawn(async move { registry.register(registration).await.unwrap() })
            })
            .collect();
        for registered in registering {
            assert_eq!(registered.await.unwrap().version, 1, "{}", server.name);
        }
        assert_eq!(
            server
                .registry
                .create_version(NewVersion {
                    name: "iris".to_owned(),
                    source: "s3://bucket/x".to_owned(),
                    ..NewVersion::default()
                })
                .await
                .unwrap()
                .version,
            2
        );
    }
}

#[tokio::test]
async fn a_logged_model_comes_before_the_runs_folders() {
    for server in both().await {
        let run = server.run().await;
        server.file(&run.artifact_uri, "old/MLmodel").await;
        let unfinished = server.logged_model("unfinished", &run).await;
        let logged = server.logged_model("forest", &run).await;
        server.file(&logged.artifact_uri, "MLmodel").await;
        let tracking = server.registry.tracking();
        let ready = LoggedModelStatus::Ready;
        let finalized = tracking.finalize_logged_model(&logged.model_id, ready, &Identity::Local);
        finalized.await.unwrap();
        // A newer one still waits for the rest of its files.
        let pending = server.logged_model("pending", &run).await;
        server.file(&pending.artifact_uri, "MLmodel").await;
        let body = json!({"model_name": "iris", "run_id": run.run_id});
        let answer = register(&server, body).await.ok();
        assert_eq!(answer["model_id"], logged.model_id, "{}", server.name);
        assert_eq!(answer["run_id"], run.run_id);
        let by_id = json!({"model_name": "iris", "model_id": logged.model_id});
        assert_eq!(register(&server, by_id).await.ok()["version"], "1");

        let tracking = server.registry.tracking();
        let linked = tracking.get_logged_model(&logged.model_id).await.unwrap();
        assert_eq!(
            linked.tags["mlflow.modelVersions"],
            r#"[{"name": "iris", "version": 1}]"#
        );

        let empty = json!({"model_name": "iris", "model_id": unfinished.model_id});
        assert_eq!(register(&server, empty).await.status, 422);
    }
}

#[tokio::test]
async fn a_run_without_a_model_is_told_what_it_holds() {
    for server in both().await {
        let run = server.run().await;
        server.file(&run.artifact_uri, "plots/a.png").await;
        server.file(&run.artifact_uri, "model/model.pkl").await;
        let body = json!({"model_name": "iris", "run_id": run.run_id});
        let answer = register(&server, body).await;
        assert_eq!(answer.status, 422);
        let answer = answer.json();
        assert_eq!(answer["code"], "no_model");
        assert_eq!(
            answer["details"]["artifacts"],
            json!(["model/model.pkl", "plots/a.png"])
        );
        assert!(answer["help"].as_str().unwrap().contains("log_model"));
        assert_eq!(get(&server, "/mlops/models").await.ok(), json!([]));

        let unknown = json!({"model_name": "iris", "run_id": "0".repeat(32)});
        let answer = register(&server, unknown).await;
        assert_eq!(answer.status, 404, "{}", server.name);
        assert!(answer.json()["help"].is_string());
        for wrong in [
            json!({"model_name": "iris"}),
            json!({"model_name": " ", "run_id": run.run_id}),
            json!({"run_id": run.run_id}),
        ] {
            let answer = register(&server, wrong.clone()).await;
            assert_eq!(answer.status, 422, "{wrong}");
            assert!(answer.json()["detail"][0]["loc"].is_array());
        }
    }
}

#[tokio::test]
async fn a_job_registers_under_its_own_id() {
    let [server, _] = both().await;
    let run = server.run().await;
    server.file(&run.artifact_uri, "model/MLmodel").await;
    let body = json!({"model_name": "iris", "run_id": run.run_id});
    let answer = server
        .send_as(job("j"), Method::POST, "/mlops/registry", body)
        .await;
    assert_eq!(answer.status, 201);
    let versions = server.registry.versions_of_job("j").await.unwrap();
    assert_eq!(versions.len(), 1);
}

#[tokio::test]
async fn versions_of_a_job_are_told_of_without_asking_an_external_server() {
    for server in both().await {
        // Nobody answers there.
        let config = Config {
            uri: Some("http://127.0.0.1:9".to_owned()),
            ..Config::default()
        };
        let external = External::of(&config, server.db.clone()).unwrap().unwrap();
        for version in ["model/1", "other/2"] {
            let stamp = Stamp {
                id: version.to_owned(),
                job_id: "j".to_owned(),
                artifact_uri: None,
            };
            let stamped = external.stamp(Kind::ModelVersion, &stamp).await;
            stamped.unwrap();
        }
        let db = server.db.clone();
        let registry = Registry::new(db.clone(), Tracking::at(external, db));
        let mut announced = registry.announced();
        let own = Some(("model".to_owned(), 1));
        registry.announce_of_job("j", own).await.unwrap();
        for (name, version) in [("model", 1), ("other", 2)] {
            let told = announced.try_recv().unwrap();
            assert_eq!((told.name.as_str(), told.version), (name, version));
        }
        assert!(announced.try_recv().is_err(), "{}", server.name);
    }
}

#[test]
fn the_own_routes_are_described() {
    let document = serde_json::to_value(registry::openapi()).unwrap();
    for path in ["/mlops/models", "/mlops/models/{name}", "/mlops/registry"] {
        assert!(document["paths"].get(path).is_some(), "{path}");
    }
    assert!(
        document["components"]["schemas"]
            .get("ModelDetail")
            .is_some()
    );
}
