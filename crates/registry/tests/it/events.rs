//! What webhooks are told of the registry: noted with the change itself, or not at all.

use axum::http::Method;
use serde_json::{Value, json};
use tracking::{Artifacts, ArtifactsConfig, Tracking};
use web::Identity;
use web::testing::{request, send_as};
use webhooks::{Config, Event, NewWebhook, Webhooks};

use registry::{NewVersion, Registry};

#[tokio::test]
async fn every_change_that_mlflow_tells_is_noted_and_no_other() {
    let migrations = [
        tracking::MIGRATIONS,
        registry::MIGRATIONS,
        webhooks::MIGRATIONS,
    ];
    for db in db::testing::both(&migrations).await {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(&ArtifactsConfig::default(), dir.path()).unwrap();
        let tracking = Tracking::new((*db).clone(), artifacts);
        // Nothing works here: what is noted stays to be looked at.
        let webhooks = Webhooks::new(
            (*db).clone(),
            Config::default(),
            db::Seal::with_key(&[7; 32]),
        );
        let registry = Registry::new((*db).clone(), tracking).with_webhooks(webhooks.clone());
        let hook = NewWebhook {
            name: "all".to_owned(),
            url: "https://example.com/".to_owned(),
            events: Event::ALL.to_vec(),
            ..NewWebhook::default()
        };
        let hook = webhooks.create(hook).await.unwrap();
        let prompt = [("mlflow.prompt.is_prompt".to_owned(), "true".to_owned())];
        registry
            .create_model("m", "flowers", &[], None)
            .await
            .unwrap();
        assert!(registry.create_model("m", "", &[], None).await.is_err());
        registry.create_model("p", "", &prompt, None).await.unwrap();
        let version = NewVersion {
            name: "m".to_owned(),
            source: "s3://bucket/model".to_owned(),
            tags: vec![("a".to_owned(), "b".to_owned())],
            ..NewVersion::default()
        };
        registry.create_version(version).await.unwrap();
        registry.set_version_tag("m", 1, "k", "v").await.unwrap();
        registry.delete_version_tag("m", 1, "k").await.unwrap();
        registry.set_alias("m", "champion", 1).await.unwrap();
        let router = registry::routes(registry.clone()).into_router();
        let alias = json!({"name": "m", "alias": "champion"});
        let path = "/api/2.0/mlflow/registered-models/alias";
        let request = request(Method::DELETE, path, Some(&alias));
        send_as(&router, Identity::Local, request).await.ok();
        for model in ["m", "p"] {
            registry
                .set_model_tag(model, "k", "v", &Identity::Local)
                .await
                .unwrap();
        }
        let mut log = webhooks.deliveries(&hook.webhook_id, 100).await.unwrap();
        log.sort_by_key(|delivery| delivery.event.clone());
        let events: Vec<&str> = log.iter().map(|delivery| delivery.event.as_str()).collect();
        assert_eq!(
            events,
            [
                "model_version.created",
                "model_version_alias.created",
                "model_version_alias.deleted",
                "model_version_tag.deleted",
                "model_version_tag.set",
                "prompt.created",
                "prompt_tag.set",
                "registered_model.created",
            ],
            "{}",
            db.name
        );
        let body: Value = serde_json::from_str(&log[0].body).unwrap();
        assert_eq!(
            body["data"],
            json!({"name": "m", "version": "1", "source": "s3://bucket/model", "run_id": null,
                "tags": {"a": "b"}, "description": null})
        );
        let body: Value = serde_json::from_str(&log[7].body).unwrap();
        assert_eq!(
            body["data"],
            json!({"name": "m", "tags": {}, "description": "flowers"})
        );
    }
}
