//! Registered models over MLflow's routes.

use axum::http::Method;
use serde_json::{Value, json};
use web::Identity;

use crate::server::{Server, both, job};

#[tokio::test]
async fn a_model_is_made_described_renamed_and_deleted() {
    for server in both().await {
        let body = json!({
            "name": "iris",
            "description": "flowers",
            "tags": [{"key": "team", "value": "a"}, {"key": "team", "value": "b"}],
        });
        let made = server
            .post("registered-models/create", body.clone())
            .await
            .ok();
        let made = &made["registered_model"];
        assert_eq!(made["description"], "flowers");
        assert_eq!(made["tags"], json!([{"key": "team", "value": "b"}]));
        assert!(made["creation_timestamp"].is_i64());
        let again = server.post("registered-models/create", body).await;
        assert_eq!(again.error(), (400, "RESOURCE_ALREADY_EXISTS".into()));
        assert_eq!(
            again.json()["message"],
            "Registered Model (name=iris) already exists."
        );

        server.version("iris").await;
        let alias = json!({"name": "iris", "alias": "champion", "version": "1"});
        server.post("registered-models/alias", alias).await.ok();
        server.model("taken").await;
        let rename = json!({"name": "iris", "new_name": "taken"});
        let refused = server.post("registered-models/rename", rename).await;
        assert_eq!(refused.error(), (400, "RESOURCE_ALREADY_EXISTS".into()));
        let rename = json!({"name": "iris", "new_name": "iris 2"});
        let renamed = server.post("registered-models/rename", rename).await.ok();
        let renamed = &renamed["registered_model"];
        assert_eq!(renamed["latest_versions"][0]["name"], "iris 2");
        assert_eq!(
            renamed["aliases"],
            json!([{"alias": "champion", "version": "1"}])
        );
        let old = server.get("registered-models/get?name=iris").await;
        assert_eq!(old.error(), (404, "RESOURCE_DOES_NOT_EXIST".into()));

        let update = json!({"name": "iris 2", "description": "more flowers"});
        let updated = server
            .mlflow(Method::PATCH, "registered-models/update", update)
            .await
            .ok();
        assert_eq!(updated["registered_model"]["description"], "more flowers");

        let name = json!({"name": "iris 2"});
        let path = "registered-models/delete";
        server.mlflow(Method::DELETE, path, name.clone()).await.ok();
        let gone = server.mlflow(Method::DELETE, path, name).await;
        assert_eq!(gone.error(), (404, "RESOURCE_DOES_NOT_EXIST".into()));
        let version = server
            .get("model-versions/get?name=iris%202&version=1")
            .await;
        assert_eq!(version.error().0, 404, "{}", server.name);
    }
}

#[tokio::test]
async fn versions_count_on_until_the_model_is_made_anew() {
    for server in both().await {
        server.model("m").await;
        for expected in ["1", "2"] {
            assert_eq!(server.version("m").await["version"], expected);
        }
        let newest = json!({"name": "m", "version": "2"});
        server
            .mlflow(Method::DELETE, "model-versions/delete", newest)
            .await
            .ok();
        assert_eq!(server.version("m").await["version"], "3");
        let name = json!({"name": "m"});
        server
            .mlflow(Method::DELETE, "registered-models/delete", name)
            .await
            .ok();
        server.model("m").await;
        assert_eq!(server.version("m").await["version"], "1");
    }
}

#[tokio::test]
async fn tags_are_set_and_removed() {
    for server in both().await {
        server.model("m").await;
        for value in ["a", "b", ""] {
            let tag = json!({"name": "m", "key": "team", "value": value});
            server.post("registered-models/set-tag", tag).await.ok();
        }
        let tag = json!({"name": "none", "key": "team", "value": "a"});
        let missing = server.post("registered-models/set-tag", tag).await;
        assert_eq!(missing.error().0, 404);
        let tag = json!({"name": "m", "value": "a"});
        let keyless = server.post("registered-models/set-tag", tag).await;
        assert_eq!(keyless.error(), (400, "INVALID_PARAMETER_VALUE".into()));
        let model = server.registry.get_model("m").await.unwrap();
        assert_eq!(model.tags["team"], "");
        for _ in 0..2 {
            let tag = json!({"name": "m", "key": "team"});
            let path = "registered-models/delete-tag";
            server.mlflow(Method::DELETE, path, tag).await.ok();
        }
        let model = server.registry.get_model("m").await.unwrap();
        assert!(model.tags.is_empty(), "{}", server.name);
    }
}

async fn found(server: &Server, query: &str) -> (Vec<String>, Value) {
    let answer = server
        .get(&format!("registered-models/search?{query}"))
        .await
        .ok();
    let models = answer["registered_models"].as_array().cloned();
    let names = models.unwrap_or_default();
    let names = names
        .iter()
        .map(|model| model["name"].as_str().unwrap().to_owned());
    (names.collect(), answer["next_page_token"].clone())
}

#[tokio::test]
async fn searches_filter_order_and_page_and_leave_prompts_out() {
    for server in both().await {
        for name in ["b", "A", "a", "C"] {
            server.model(name).await;
            let tag = json!({"name": name, "key": "kind", "value": format!("k{name}")});
            server.post("registered-models/set-tag", tag).await.ok();
        }
        let prompt = json!({
            "name": "prompt",
            "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}],
        });
        server.post("registered-models/create", prompt).await.ok();
        assert_eq!(server.registry.count().await.unwrap(), 4);

        for (query, expected) in [
            ("", vec!["A", "C", "a", "b"]),
            ("order_by=name%20DESC", vec!["b", "a", "C", "A"]),
            ("filter=name%3D'a'", vec!["a"]),
            ("filter=name%20!%3D%20'a'", vec!["A", "C", "b"]),
            ("filter=name%20ILIKE%20'a'", vec!["A", "a"]),
            ("filter=name%20LIKE%20'%25'", vec!["A", "C", "a", "b"]),
            ("filter=tags.kind%20%3D%20'kb'", vec!["b"]),
            ("filter=tags.kind%20!%3D%20'kb'", vec!["A", "C", "a"]),
            (
                "filter=tags.%60mlflow.prompt.is_prompt%60%20%3D%20'true'",
                vec!["prompt"],
            ),
            (
                "filter=tags.%60mlflow.prompt.is_prompt%60%20!%3D%20'true'%20AND%20name%3D'a'",
                vec!["a"],
            ),
        ] {
            assert_eq!(found(&server, query).await.0, expected, "{query}");
        }
        let (first, token) = found(&server, "max_results=3").await;
        assert_eq!(first, ["A", "C", "a"]);
        let token = token.as_str().unwrap().replace('=', "%3D");
        let (second, none) = found(&server, &format!("max_results=3&page_token={token}")).await;
        assert_eq!((second, none), (vec!["b".to_owned()], Value::Null));

        for wrong in [
            "max_results=0",
            "max_results=1001",
            "max_results=x",
            "page_token=x",
            "filter=name%20%3E%20'a'",
            "filter=run_id%3D'a'",
            "filter=name%3D'a'%20OR%20name%3D'b'",
            "order_by=creation_timestamp",
            "order_by=name%2Ctimestamp",
        ] {
            let refused = server
                .get(&format!("registered-models/search?{wrong}"))
                .await;
            assert_eq!(
                refused.error(),
                (400, "INVALID_PARAMETER_VALUE".into()),
                "{} {wrong}",
                server.name
            );
        }
    }
}

#[tokio::test]
async fn hostile_names_are_refused_or_only_names() {
    let [server, _] = both().await;
    for name in ["", " ", "a/b", "../x", "models:x", "..", "a\nb"] {
        let body = json!({ "name": name });
        let refused = server.post("registered-models/create", body).await;
        assert_eq!(refused.error().0, 400, "{name:?}");
    }
    for name in [
        "$(reboot)",
        "`x`",
        "'; DROP TABLE model_versions; --",
        "ü 模型",
    ] {
        server.model(name).await;
        assert_eq!(server.version(name).await["version"], "1");
    }
}

#[tokio::test]
async fn a_job_registers_but_does_not_manage() {
    for server in both().await {
        let path = |verb: &str| format!("/api/2.0/mlflow/registered-models/{verb}");
        let body = json!({"name": "own"});
        let send = async |caller: Identity, method: Method, verb: &str, body: Value| {
            let answer = server.send_as(caller, method, &path(verb), body).await;
            answer.status.as_u16()
        };
        assert_eq!(send(job("1"), Method::POST, "create", body).await, 200);
        server.model("other").await;
        for (name, expected) in [("own", 200), ("other", 403)] {
            let tag = json!({"name": name, "key": "k", "value": "v"});
            assert_eq!(send(job("1"), Method::POST, "set-tag", tag).await, expected);
            let text = json!({"name": name, "description": "x"});
            assert_eq!(
                send(job("1"), Method::PATCH, "update", text).await,
                expected
            );
        }
        for (method, verb) in [
            (Method::DELETE, "delete"),
            (Method::POST, "rename"),
            (Method::DELETE, "delete-tag"),
        ] {
            let body = json!({"name": "own", "new_name": "x"});
            let status = send(job("1"), method.clone(), verb, body.clone()).await;
            assert_eq!(status, 403, "{method} {verb}");
            let status = send(Identity::Anonymous, method, verb, body).await;
            assert_eq!(status, 401, "{verb}");
        }
    }
}

#[tokio::test]
async fn a_text_that_no_database_keeps_is_the_callers_mistake() {
    for server in both().await {
        let body = json!({"model_name": "m", "run_id": "a\0b"});
        let answer = server.send_as(Identity::Local, Method::POST, "/mlops/registry", body);
        let answer = answer.await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status.as_u16(), 400, "{}: {text}", server.name);
        assert!(text.contains("NUL"), "{text}");
    }
}
