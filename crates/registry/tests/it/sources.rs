//! What a version may have as its source, and where that leads.

use registry::NewVersion;
use serde_json::json;

use crate::server::{Server, both};

async fn location(server: &Server, new: NewVersion) -> Result<String, String> {
    let new = NewVersion {
        name: "m".to_owned(),
        ..new
    };
    let made = server.registry.create_version(new).await;
    made.map(|v| v.location).map_err(|e| e.to_string())
}

fn source(text: &str) -> NewVersion {
    NewVersion {
        source: text.to_owned(),
        ..NewVersion::default()
    }
}

#[tokio::test]
async fn uris_of_runs_models_and_artifacts_lead_to_the_same_files() {
    for server in both().await {
        server.model("m").await;
        let run = server.run().await;
        server.file(&run.artifact_uri, "model/MLmodel").await;
        let logged = server.logged_model("forest", &run).await;
        let in_run = format!("{}/model", run.artifact_uri);

        let runs_uri = source(&format!("runs:/{}/model", run.run_id));
        assert_eq!(
            location(&server, runs_uri.clone()).await,
            Ok(in_run.clone())
        );
        let first = server.registry.get_version("m", 1).await.unwrap();
        assert_eq!(first.run_id.as_ref(), Some(&run.run_id));
        assert_eq!(first.source, runs_uri.source);
        assert_eq!(location(&server, source(&in_run)).await, Ok(in_run.clone()));

        let by_name = source(&format!("runs:/{}/forest", run.run_id));
        let by_id = source(&format!("models:/{}", logged.model_id));
        for new in [by_name, by_id, source(&logged.artifact_uri)] {
            let text = new.source.clone();
            let found = location(&server, new).await;
            assert_eq!(found, Ok(logged.artifact_uri.clone()), "{text}");
        }
        let third = server.registry.get_version("m", 4).await.unwrap();
        assert_eq!(third.model_id, Some(logged.model_id));
        assert_eq!(third.run_id.as_ref(), Some(&run.run_id));

        server.registry.set_alias("m", "first", 1).await.unwrap();
        for copied in ["models:/m/1", "models:/m@first"] {
            assert_eq!(location(&server, source(copied)).await, Ok(in_run.clone()));
        }
        let place = server.registry.location(&first).await.unwrap();
        assert_eq!(place.uri(), in_run);
    }
}

#[tokio::test]
async fn addresses_elsewhere_are_kept_but_never_read() {
    for server in both().await {
        server.model("m").await;
        for text in [
            "s3://bucket/model",
            "gs://bucket/a b/model",
            "https://example.org/models/x?y=1",
            "dbfs:/models/x",
            "dummy-source",
            "prompt-template",
        ] {
            assert_eq!(location(&server, source(text)).await, Ok(text.to_owned()));
        }
        let unknown = NewVersion {
            run_id: Some("of another server".to_owned()),
            ..source("runs:/of another server/model")
        };
        let text = unknown.source.clone();
        assert_eq!(location(&server, unknown).await, Ok(text.clone()));
        assert!(location(&server, source(&text)).await.is_err());
        let version = server.registry.get_version("m", 1).await.unwrap();
        let elsewhere = server.registry.location(&version).await.unwrap_err();
        assert!(elsewhere.to_string().contains("s3://bucket/model"));
    }
}

#[tokio::test]
async fn paths_of_this_machine_and_ways_out_are_refused() {
    for server in both().await {
        server.model("m").await;
        let run = server.run().await;
        let other = server.run().await;
        let (id, root) = (&run.run_id, &run.artifact_uri);
        let outside = server.dir.path().join("artifacts").display().to_string();
        for text in [
            "/etc/passwd".to_owned(),
            "etc/passwd".to_owned(),
            "./model".to_owned(),
            "file:///etc/passwd".to_owned(),
            "file:/etc/passwd".to_owned(),
            "FILE:///etc/passwd".to_owned(),
            "file://localhost/etc/passwd".to_owned(),
            "C:\\models\\x".to_owned(),
            "C:/models/x".to_owned(),
            outside,
            format!("{root}/../../x"),
            format!("{root}/%2e%2e/%2e%2e/x"),
            format!("{root}/..%2f..%2fx"),
            format!("{root}/%252e%252e/x"),
            format!("{root}/..\\..\\x"),
            format!("{root}/a;b"),
            format!("{root}/a\0b"),
            format!("runs:/{id}/../../x"),
            format!("runs:/{id}/%2e%2e/x"),
            format!("runs://{id}/model"),
            "runs:/".to_owned(),
            "models:/".to_owned(),
            "models:/m-0123456789abcdef0123456789abcdef".to_owned(),
            "models://m/1".to_owned(),
            "mlflow-artifacts:/".to_owned(),
            "mlflow-artifacts:/0".to_owned(),
            "mlflow-artifacts://host/0/x".to_owned(),
            format!("mlflow-artifacts:/9/{id}/artifacts/model"),
            format!("mlflow-artifacts:/0/{id}/artifactsx/model"),
            "s3://bucket/../x".to_owned(),
            "https://example.org/a/..%2f..%2fb".to_owned(),
        ] {
            for run_id in [None, Some(id.clone())] {
                let new = NewVersion {
                    run_id,
                    // A tag never changes what is checked (CVE-2026-2614).
                    tags: vec![("mlflow.prompt.is_prompt".to_owned(), "true".to_owned())],
                    ..source(&text)
                };
                let refused = location(&server, new).await;
                assert!(refused.is_err(), "{} {text:?}: {refused:?}", server.name);
            }
        }
        let mixed = NewVersion {
            run_id: Some(other.run_id.clone()),
            ..source(&format!("{root}/model"))
        };
        assert!(location(&server, mixed).await.is_err());
        let mixed = NewVersion {
            run_id: Some(other.run_id),
            ..source(&format!("runs:/{id}/model"))
        };
        assert!(location(&server, mixed).await.is_err());
        assert!(server.registry.get_version("m", 1).await.is_err());
    }
}

#[tokio::test]
async fn a_path_inside_the_runs_own_folder_is_that_folder() {
    let [server, _] = both().await;
    server.model("m").await;
    let run = server.run().await;
    let root = tracking::Location::parse_uri(&run.artifact_uri).unwrap();
    let artifacts = server.registry.tracking().artifacts();
    let folder = artifacts.local_dir(&root).unwrap();
    for text in [
        format!("{}/model", folder.display()),
        format!("file://{}/model", folder.display()),
    ] {
        let new = NewVersion {
            run_id: Some(run.run_id.clone()),
            ..source(&text)
        };
        let expected = format!("{}/model", run.artifact_uri);
        assert_eq!(location(&server, new).await, Ok(expected));
    }
}

#[tokio::test]
async fn a_refused_source_is_the_callers_mistake() {
    let [server, _] = both().await;
    server.model("m").await;
    let body = json!({"name": "m", "source": "/etc/passwd"});
    let refused = server.post("model-versions/create", body).await;
    assert_eq!(refused.error(), (400, "INVALID_PARAMETER_VALUE".into()));
    assert!(
        refused.json()["message"]
            .as_str()
            .unwrap()
            .starts_with("Invalid model version source: '/etc/passwd'.")
    );
}
