//! Versions over MLflow's routes: stages, tags, searches, owners.

use axum::http::Method;
use registry::{NewVersion, Selector};
use serde_json::{Value, json};

use crate::server::{Server, both, job};

fn id(version: &str) -> Value {
    json!({"name": "m", "version": version})
}

async fn stage(server: &Server, version: &str, stage: &str, archive: bool) -> Value {
    let mut body = id(version);
    body["stage"] = stage.into();
    body["archive_existing_versions"] = archive.into();
    let moved = server.post("model-versions/transition-stage", body).await;
    moved.ok()["model_version"]["current_stage"].clone()
}

#[tokio::test]
async fn a_version_is_made_described_and_deleted() {
    for server in both().await {
        let missing = json!({"name": "m", "source": "s3://bucket/x"});
        let refused = server.post("model-versions/create", missing.clone()).await;
        assert_eq!(refused.error(), (404, "RESOURCE_DOES_NOT_EXIST".into()));
        server.model("m").await;
        let run = server.run().await;
        let body = json!({
            "name": "m",
            "source": format!("{}/model", run.artifact_uri),
            "run_id": run.run_id,
            "description": "first",
            "tags": [{"key": "a", "value": "1"}],
        });
        let made = server.post("model-versions/create", body).await.ok();
        let made = &made["model_version"];
        assert_eq!(made["version"], "1");
        assert_eq!(made["status"], "READY");
        assert_eq!(made["current_stage"], "None");
        assert_eq!(made["run_id"], run.run_id);
        assert_eq!(made["tags"], json!([{"key": "a", "value": "1"}]));

        let mut body = id("1");
        body["description"] = "better".into();
        server
            .mlflow(Method::PATCH, "model-versions/update", body)
            .await
            .ok();
        let got = server.get("model-versions/get?name=m&version=1").await.ok();
        assert_eq!(got["model_version"]["description"], "better");
        let uri = server
            .get("model-versions/get-download-uri?name=m&version=1")
            .await
            .ok();
        assert_eq!(uri["artifact_uri"], format!("{}/model", run.artifact_uri));
        server.file(&run.artifact_uri, "model/MLmodel").await;
        let page = "/model-versions/get-artifact?name=m&version=1&path=MLmodel";
        let file = server
            .send_as(web::Identity::Local, Method::GET, page, Value::Null)
            .await;
        assert_eq!(file.body, "x");
        let presigned = format!("{page}&presigned=true");
        let file = server
            .send_as(web::Identity::Local, Method::GET, &presigned, Value::Null)
            .await;
        assert_eq!(file.status, 501);

        let deleted = server
            .mlflow(Method::DELETE, "model-versions/delete", id("1"))
            .await;
        assert_eq!(deleted.ok(), json!({}));
        for path in ["get", "get-download-uri"] {
            let gone = server
                .get(&format!("model-versions/{path}?name=m&version=1"))
                .await;
            assert_eq!(gone.error(), (404, "RESOURCE_DOES_NOT_EXIST".into()));
        }
        let wrong = server.get("model-versions/get?name=m&version=one").await;
        assert_eq!(wrong.error(), (400, "INVALID_PARAMETER_VALUE".into()));
    }
}

#[tokio::test]
async fn a_logged_model_lists_the_versions_that_are_made_of_it() {
    for server in both().await {
        let run = server.run().await;
        let logged = server.logged_model("forest", &run).await;
        server.model("forest").await;
        let tracking = server.registry.tracking();
        for listed in [
            r#"[{"name": "forest", "version": 1}]"#,
            r#"[{"name": "forest", "version": 1}, {"name": "forest", "version": 2}]"#,
        ] {
            let source = format!("models:/{}", logged.model_id);
            let body = json!({"name": "forest", "source": source, "model_id": logged.model_id});
            server.post("model-versions/create", body).await.ok();
            let logged = tracking.get_logged_model(&logged.model_id).await.unwrap();
            assert_eq!(logged.tags["mlflow.modelVersions"], listed);
        }
    }
}

#[tokio::test]
async fn stages_move_and_the_newest_of_each_is_known() {
    for server in both().await {
        server.model("m").await;
        for _ in 0..4 {
            server.version("m").await;
        }
        assert_eq!(stage(&server, "1", "production", false).await, "Production");
        assert_eq!(stage(&server, "2", "PRODUCTION", false).await, "Production");
        assert_eq!(stage(&server, "3", "Staging", true).await, "Staging");
        let latest = async |stages: Value| {
            let body = json!({"name": "m", "stages": stages});
            let answer = server.post("registered-models/get-latest-versions", body);
            let answer = answer.await.ok();
            let versions = answer["model_versions"].as_array().cloned();
            let versions = versions.unwrap_or_default();
            let shown = versions.iter().map(|v| v["version"].as_str().unwrap());
            shown.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(latest(json!([])).await, ["2", "3", "4"]);
        assert_eq!(latest(json!(["production"])).await, ["2"]);
        assert_eq!(latest(json!(["Archived"])).await, Vec::<String>::new());
        let by_query = server
            .get("registered-models/get-latest-versions?name=m&stages=Staging&stages=None")
            .await
            .ok();
        assert_eq!(by_query["model_versions"].as_array().unwrap().len(), 2);

        assert_eq!(stage(&server, "4", "Production", true).await, "Production");
        assert_eq!(latest(json!(["Archived"])).await, ["2"]);
        for (stage, archive) in [("Live", false), ("None", true), ("Archived", true)] {
            let mut body = id("4");
            body["stage"] = stage.into();
            body["archive_existing_versions"] = archive.into();
            let refused = server.post("model-versions/transition-stage", body).await;
            let expected = (400, "INVALID_PARAMETER_VALUE".into());
            assert_eq!(refused.error(), expected, "{stage}");
        }
    }
}

#[tokio::test]
async fn a_selector_finds_its_version_and_says_what_is_missing() {
    for server in both().await {
        let registry = &server.registry;
        let resolve = async |which: &str| {
            let which = Selector::parse(Some(which)).unwrap();
            let found = registry.resolve("m", &which).await;
            found.map(|v| v.version).map_err(|e| e.to_string())
        };
        assert_eq!(
            resolve("latest").await.unwrap_err(),
            "Registered Model with name=m not found"
        );
        server.model("m").await;
        assert_eq!(
            resolve("latest").await.unwrap_err(),
            "Model Version (name=m, version=latest) not found"
        );
        for _ in 0..3 {
            server.version("m").await;
        }
        let before = registry.generation();
        registry.set_alias("m", "champion", 2).await.unwrap();
        assert!(registry.generation() > before);
        stage(&server, "1", "Production", false).await;
        assert_eq!(resolve("").await, Ok(3));
        assert_eq!(resolve("1").await, Ok(1));
        assert_eq!(resolve("@champion").await, Ok(2));
        assert_eq!(resolve("Production").await, Ok(1));
        assert_eq!(
            resolve("7").await.unwrap_err(),
            "Model Version (name=m, version=7) not found"
        );
        assert_eq!(
            resolve("@Champion").await.unwrap_err(),
            "Registered model alias Champion not found."
        );
        assert!(resolve("Staging").await.is_err());
        let which = Selector::Alias("champion".to_owned());
        let champion = registry.resolve("m", &which).await;
        assert_eq!(champion.unwrap().aliases, ["champion"]);
    }
}

#[tokio::test]
async fn what_a_job_registers_carries_its_id_and_only_it_may_change_it() {
    for server in both().await {
        server.model("m").await;
        let run = server.run().await;
        let body = json!({"name": "m", "source": format!("runs:/{}/model", run.run_id)});
        let path = "/api/2.0/mlflow/model-versions/create";
        let made = server.send_as(job("m-1"), Method::POST, path, body).await;
        assert_eq!(made.ok()["model_version"]["version"], "1");
        let of_job = server.registry.versions_of_job("m-1").await.unwrap();
        assert_eq!(of_job.len(), 1);

        for (caller, expected) in [
            (job("2"), 403),
            (job("m-1"), 200),
            (web::Identity::Local, 200),
        ] {
            let mut tag = id("1");
            tag["key"] = "k".into();
            tag["value"] = "v".into();
            let path = "/api/2.0/mlflow/model-versions/set-tag";
            let set = server
                .send_as(caller.clone(), Method::POST, path, tag)
                .await;
            assert_eq!(set.status.as_u16(), expected, "{caller:?}");
        }
        let path = "/api/2.0/mlflow/model-versions/delete";
        let deleted = server
            .send_as(job("m-1"), Method::DELETE, path, id("1"))
            .await;
        assert_eq!(deleted.error(), (403, "PERMISSION_DENIED".into()));
        server
            .registry
            .set_version_tag("m", 1, "asgard.environment", "key")
            .await
            .unwrap();
        let version = server.registry.get_version("m", 1).await.unwrap();
        assert_eq!(version.tags["asgard.environment"], "key");
    }
}

async fn found(server: &Server, filter: &str, rest: &str) -> Vec<String> {
    let filter = filter
        .replace('%', "%25")
        .replace(' ', "%20")
        .replace('`', "%60")
        .replace('>', "%3E");
    let path = format!("model-versions/search?filter={filter}&{rest}");
    let answer = server.get(&path).await.ok();
    let versions = answer["model_versions"].as_array().cloned();
    let shown = |v: &Value| {
        let (name, version) = (v["name"].as_str().unwrap(), v["version"].as_str().unwrap());
        format!("{name}{version}")
    };
    versions.unwrap_or_default().iter().map(shown).collect()
}

#[tokio::test]
async fn searches_filter_order_and_page() {
    for server in both().await {
        for name in ["a", "b"] {
            server.model(name).await;
        }
        let run = server.version("a").await["run_id"].clone();
        let run = run.as_str().unwrap();
        server.version("a").await;
        server.version("b").await;
        let tag = json!({"name": "a", "version": "2", "key": "k", "value": "v"});
        server.post("model-versions/set-tag", tag).await.ok();
        for (filter, expected) in [
            ("name='a'", vec!["a1", "a2"]),
            ("name ILIKE 'B%'", vec!["b1"]),
            ("name = 'a' AND version_number > 1", vec!["a2"]),
            ("version_number = '1'", vec!["a1", "b1"]),
            ("tags.k = 'v'", vec!["a2"]),
            (&format!("run_id = '{run}'"), vec!["a1"]),
            (&format!("run_id IN ('{run}', 'x')"), vec!["a1"]),
            (
                "source_path LIKE 'mlflow-artifacts:%'",
                vec!["a1", "a2", "b1"],
            ),
            ("name = 'none'", vec![]),
        ] {
            let order = "order_by=name&order_by=version_number%20ASC";
            assert_eq!(found(&server, filter, order).await, expected, "{filter}");
        }
        let by_update = found(&server, "", "order_by=creation_timestamp%20ASC").await;
        assert_eq!(by_update.len(), 3);
        let page = found(&server, "", "max_results=2&order_by=name%20DESC").await;
        assert_eq!(page, ["b1", "a2"]);
        for wrong in [
            "filter=version_number%3D1.5",
            "filter=version_number%20LIKE%20'1'",
            "filter=stage%3D'x'",
            "filter=tags.k%20IN%20('v')",
            "order_by=stage",
            "max_results=200001",
        ] {
            let refused = server.get(&format!("model-versions/search?{wrong}")).await;
            let expected = (400, "INVALID_PARAMETER_VALUE".into());
            assert_eq!(refused.error(), expected, "{} {wrong}", server.name);
        }
    }
}

#[tokio::test]
async fn versions_made_at_once_get_numbers_of_their_own() {
    for server in both().await {
        server.model("m").await;
        let making = (0..16).map(|_| {
            let registry = server.registry.clone();
            tokio::spawn(async move {
                let new = NewVersion {
                    name: "m".to_owned(),
                    source: "s3://bucket/model".to_owned(),
                    ..NewVersion::default()
                };
                registry.create_version(new).await.unwrap().version
            })
        });
        let mut numbers = Vec::new();
        for made in making.collect::<Vec<_>>() {
            numbers.push(made.await.unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=16).collect::<Vec<_>>(), "{}", server.name);
    }
}

#[tokio::test]
async fn a_copied_version_has_the_environment_of_the_one_it_is_a_copy_of() {
    for server in both().await {
        server.model("m").await;
        server.model("prod").await;
        server.version("m").await;
        let key = "asgard.environment";
        server
            .registry
            .set_version_tag("m", 1, key, "true")
            .await
            .unwrap();
        // `MlflowClient.copy_model_version` sends the tags of what it copies.
        let tags = json!([{"key": key, "value": "forged"}, {"key": "a", "value": "b"}]);
        let body = json!({"name": "prod", "source": "models:/m/1", "tags": tags});
        server.post("model-versions/create", body).await.ok();
        let copy = server.registry.get_version("prod", 1).await.unwrap();
        assert_eq!(copy.tags[key], "true", "{}", server.name);
        assert_eq!(copy.tags["a"], "b");
    }
}

#[tokio::test]
async fn callers_leave_alone_the_tags_that_the_server_sets() {
    for server in both().await {
        server.model("m").await;
        server.version("m").await;
        let key = "asgard.environment";
        let tag = json!({"name": "m", "version": "1", "key": key, "value": "other"});
        let refused = server.post("model-versions/set-tag", tag.clone()).await;
        assert_eq!(refused.error(), (400, "INVALID_PARAMETER_VALUE".into()));
        assert!(refused.json()["message"].to_string().contains("'asgard.'"));
        let refused = server
            .mlflow(Method::DELETE, "model-versions/delete-tag", tag)
            .await;
        assert_eq!(refused.status, 400);
        let run = server.run().await;
        server.file(&run.artifact_uri, "model/MLmodel").await;
        let tags = json!([{"key": key, "value": "other"}]);
        let source = format!("runs:/{}/model", run.run_id);
        let body = json!({"name": "m", "source": source, "tags": tags});
        let refused = server.post("model-versions/create", body).await;
        assert_eq!(refused.status, 400);
        let body = json!({"model_name": "m", "run_id": run.run_id, "tags": {key: "other"}});
        let refused = server
            .send_as(web::Identity::Local, Method::POST, "/mlops/registry", body)
            .await;
        assert_eq!(refused.status, 400);
    }
}

#[tokio::test]
async fn a_server_hears_of_changes_that_another_one_makes() {
    let [_, server] = both().await;
    let other = registry::Registry::new(server.db.clone(), server.registry.tracking().clone());
    let stop = tokio_util::sync::CancellationToken::new();
    let work = tokio::spawn(other.clone().work(stop.clone()));
    let grows = async |from: u64| {
        let since = std::time::Instant::now();
        while other.generation() <= from {
            assert!(since.elapsed() < std::time::Duration::from_secs(60));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        other.generation()
    };
    let listening = grows(0).await;
    server
        .post("registered-models/create", json!({"name": "m"}))
        .await;
    grows(listening).await;
    stop.cancel();
    work.await.unwrap();
}
