//! Aliases over MLflow's routes.

use axum::http::Method;
use serde_json::json;

use crate::server::both;

#[tokio::test]
async fn an_alias_points_moves_and_goes_with_its_version() {
    for server in both().await {
        server.model("m").await;
        server.version("m").await;
        server.version("m").await;
        let path = "registered-models/alias";
        for version in ["1", "2"] {
            let alias = json!({"name": "m", "alias": "champion", "version": version});
            server.post(path, alias).await.ok();
            let got = server
                .get("registered-models/alias?name=m&alias=champion")
                .await
                .ok();
            assert_eq!(got["model_version"]["version"], version);
            assert_eq!(got["model_version"]["aliases"], json!(["champion"]));
        }
        let first = server.registry.get_version("m", 1).await.unwrap();
        assert!(first.aliases.is_empty());

        let version = json!({"name": "m", "version": "2"});
        server
            .mlflow(Method::DELETE, "model-versions/delete", version)
            .await
            .ok();
        let gone = server
            .get("registered-models/alias?name=m&alias=champion")
            .await;
        assert_eq!(gone.error(), (400, "INVALID_PARAMETER_VALUE".into()));
        assert_eq!(
            gone.json()["message"],
            "Registered model alias champion not found."
        );
        for _ in 0..2 {
            let alias = json!({"name": "m", "alias": "champion"});
            server.mlflow(Method::DELETE, path, alias).await.ok();
        }
    }
}

#[tokio::test]
async fn reserved_aliases_and_missing_versions_are_refused() {
    for server in both().await {
        server.model("m").await;
        server.version("m").await;
        for (alias, version, status) in [
            ("latest", "1", 400),
            ("Latest", "1", 400),
            ("v12", "1", 400),
            ("a b", "1", 400),
            ("", "1", 400),
            ("ok", "9", 404),
            ("ok", "x", 400),
        ] {
            let body = json!({"name": "m", "alias": alias, "version": version});
            let refused = server.post("registered-models/alias", body).await;
            assert_eq!(refused.error().0, status, "{alias} {version}");
        }
        let body = json!({"name": "none", "alias": "ok", "version": "1"});
        let refused = server.post("registered-models/alias", body).await;
        assert_eq!(refused.error().0, 404, "{}", server.name);
    }
}
