//! Experiments.

use serde_json::{Value, json};

use crate::server::{Server, both};

async fn create(server: &Server, name: &str) -> String {
    let made = server
        .post("experiments/create", json!({"name": name}))
        .await
        .ok();
    made["experiment_id"].as_str().unwrap().to_owned()
}

async fn names(server: &Server, mut search: Value) -> Vec<String> {
    if search.get("max_results").is_none() {
        search["max_results"] = json!(100);
    }
    let found = server.post("experiments/search", search).await.ok();
    let list = found["experiments"].as_array().cloned().unwrap_or_default();
    let names = list.iter().map(|e| e["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_that_many_want_at_once_is_one() {
    for server in both().await {
        for number in 0..20 {
            let name = format!("wanted {number}");
            let wanting: Vec<_> = (0..8)
                .map(|_| {
                    let (tracking, name) = (server.tracking.clone(), name.clone());
                    tokio::spawn(async move { tracking.ensure_experiment(&name).await })
                })
                .collect();
            let mut ids = Vec::new();
            for wanted in wanting {
                ids.push(wanted.await.unwrap().unwrap().experiment_id);
            }
            ids.dedup();
            assert_eq!(ids.len(), 1, "{}", server.name);
        }
    }
}

#[tokio::test]
async fn an_experiment_is_made_and_read_back() {
    for server in both().await {
        let body = json!({"name": "a", "tags": [{"key": "k", "value": "v"}]});
        let made = server.post("experiments/create", body).await.ok();
        assert_eq!(made, json!({"experiment_id": "1"}), "{}", server.name);
        let got = server.get("experiments/get?experiment_id=1").await.ok();
        let by_name = server
            .get("experiments/get-by-name?experiment_name=a")
            .await
            .ok();
        assert_eq!(got, by_name);
        let mut experiment = got["experiment"].clone();
        for time in ["creation_time", "last_update_time"] {
            assert!(experiment[time].as_i64().unwrap() > 1_600_000_000_000);
            experiment[time] = json!(0);
        }
        insta::allow_duplicates! {
            insta::assert_json_snapshot!(experiment, @r#"
            {
              "artifact_location": "mlflow-artifacts:/1",
              "creation_time": 0,
              "experiment_id": "1",
              "last_update_time": 0,
              "lifecycle_stage": "active",
              "name": "a",
              "tags": [
                {
                  "key": "k",
                  "value": "v"
                }
              ]
            }
            "#);
        }
    }
}

#[tokio::test]
async fn the_default_experiment_is_number_0_and_can_be_deleted() {
    for server in both().await {
        let got = server.get("experiments/get?experiment_id=0").await.ok();
        assert_eq!(got["experiment"]["name"], "Default");
        server
            .post("experiments/delete", json!({"experiment_id": "0"}))
            .await
            .ok();
        // Starting again does not make a second one.
        server.tracking.ensure_default_experiment().await.unwrap();
        let got = server.get("experiments/get?experiment_id=0").await.ok();
        assert_eq!(got["experiment"]["lifecycle_stage"], "deleted");
    }
}

#[tokio::test]
async fn a_name_is_taken_even_by_a_deleted_experiment() {
    for server in both().await {
        let id = create(&server, "a").await;
        let exists = (400, "RESOURCE_ALREADY_EXISTS".to_owned());
        let again = server
            .post("experiments/create", json!({"name": "a"}))
            .await;
        assert_eq!(again.error(), exists);
        server
            .post("experiments/delete", json!({"experiment_id": id}))
            .await
            .ok();
        let again = server
            .post("experiments/create", json!({"name": "a"}))
            .await;
        assert_eq!(again.error(), exists);
        assert!(
            again.json()["message"]
                .as_str()
                .unwrap()
                .contains("restore")
        );
        let got = server
            .get("experiments/get-by-name?experiment_name=a")
            .await
            .ok();
        assert_eq!(got["experiment"]["lifecycle_stage"], "deleted");
    }
}

#[tokio::test]
async fn a_bad_id_is_400_and_an_unknown_one_404() {
    for server in both().await {
        let bad = server.get("experiments/get?experiment_id=abc").await;
        assert_eq!(bad.error(), (400, "INVALID_PARAMETER_VALUE".to_owned()));
        let unknown = server.get("experiments/get?experiment_id=77").await;
        assert_eq!(unknown.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
        let unknown = server
            .get("experiments/get-by-name?experiment_name=x")
            .await;
        assert_eq!(unknown.error().0, 404);
        let missing = server.get("experiments/get").await;
        assert_eq!(missing.error().0, 400);
    }
}

#[tokio::test]
async fn renaming_needs_a_free_name_and_an_active_experiment() {
    for server in both().await {
        let a = create(&server, "a").await;
        create(&server, "b").await;
        let rename = |name: &str| json!({"experiment_id": a, "new_name": name});
        let taken = server.post("experiments/update", rename("b")).await;
        assert_eq!(taken.error(), (400, "RESOURCE_ALREADY_EXISTS".to_owned()));
        server.post("experiments/update", rename("c")).await.ok();
        assert_eq!(names(&server, json!({})).await, ["b", "c", "Default"]);
        server
            .post("experiments/delete", json!({"experiment_id": a}))
            .await
            .ok();
        // MLflow answers 500, which clients retry; it is the caller's mistake.
        assert_eq!(
            server
                .post("experiments/update", rename("d"))
                .await
                .error()
                .0,
            400
        );
        assert_eq!(
            server
                .post("experiments/update", json!({"experiment_id": a}))
                .await
                .error()
                .0,
            400
        );
    }
}

#[tokio::test]
async fn deleting_an_experiment_takes_its_runs_along_and_restoring_brings_them_back() {
    for server in both().await {
        let id = create(&server, "a").await;
        let experiment = json!({"experiment_id": id});
        let made = server.post("runs/create", experiment.clone()).await.ok();
        let run = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        let stage = || async {
            let got = server.get(&format!("runs/get?run_id={run}")).await.ok();
            got["run"]["info"]["lifecycle_stage"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        server
            .post("experiments/delete", experiment.clone())
            .await
            .ok();
        assert_eq!(stage().await, "deleted");
        assert_eq!(
            server
                .post("runs/create", experiment.clone())
                .await
                .error()
                .0,
            400
        );
        assert_eq!(
            server
                .post("experiments/delete", experiment.clone())
                .await
                .error()
                .0,
            404
        );
        let tag = json!({"experiment_id": id, "key": "k", "value": "v"});
        assert_eq!(
            server
                .post("experiments/set-experiment-tag", tag)
                .await
                .error()
                .0,
            400
        );
        server
            .post("experiments/restore", experiment.clone())
            .await
            .ok();
        assert_eq!(stage().await, "active");
        assert_eq!(
            server
                .post("experiments/restore", experiment)
                .await
                .error()
                .0,
            404
        );
    }
}

#[tokio::test]
async fn tags_are_set_overwritten_and_removed() {
    for server in both().await {
        let set =
            |key: &str, value: &str| json!({"experiment_id": "0", "key": key, "value": value});
        let long = "x".repeat(20_000);
        server
            .post("experiments/set-experiment-tag", set("k", "1"))
            .await
            .ok();
        server
            .post("experiments/set-experiment-tag", set("k", &long))
            .await
            .ok();
        let longer = server
            .post(
                "experiments/set-experiment-tag",
                set("k", &(long.clone() + "x")),
            )
            .await;
        assert_eq!(longer.error().0, 400);
        let got = server.get("experiments/get?experiment_id=0").await.ok();
        assert_eq!(
            got["experiment"]["tags"],
            json!([{"key": "k", "value": long}])
        );
        let key = json!({"experiment_id": "0", "key": "k"});
        server
            .post("experiments/delete-experiment-tag", key.clone())
            .await
            .ok();
        assert_eq!(
            server
                .post("experiments/delete-experiment-tag", key)
                .await
                .error()
                .0,
            404
        );
        let unknown = json!({"experiment_id": "99", "key": "k", "value": "v"});
        assert_eq!(
            server
                .post("experiments/set-experiment-tag", unknown)
                .await
                .error()
                .0,
            404
        );
    }
}

#[tokio::test]
async fn searches_filter_order_and_page() {
    for server in both().await {
        for name in ["exp_1", "Exp-2", "other"] {
            let tags = json!([{"key": "team", "value": name}]);
            server
                .post("experiments/create", json!({"name": name, "tags": tags}))
                .await
                .ok();
        }
        server
            .post("experiments/delete", json!({"experiment_id": "3"}))
            .await
            .ok();
        let by = |filter: &str| json!({"filter": filter, "order_by": ["name"]});
        assert_eq!(names(&server, by("name LIKE 'exp%'")).await, ["exp_1"]);
        assert_eq!(
            names(&server, by("name ILIKE 'exp%'")).await,
            ["Exp-2", "exp_1"]
        );
        assert_eq!(
            names(
                &server,
                by("attribute.name != 'Default' AND tags.team = 'exp_1'")
            )
            .await,
            ["exp_1"]
        );
        assert_eq!(
            names(&server, by("tags.team IS NULL AND name LIKE 'D%'")).await,
            ["Default"]
        );
        assert_eq!(
            names(&server, by("tags.team IS NOT NULL AND name = 'Default'")).await,
            [""; 0]
        );
        assert_eq!(
            names(&server, by("experiment_id IN ('0')")).await,
            ["Default"]
        );
        assert_eq!(
            names(&server, by("creation_time < 5")).await,
            Vec::<String>::new()
        );
        assert_eq!(
            names(
                &server,
                by("last_update_time > 5.5 AND tags.`team` LIKE '%2'")
            )
            .await,
            ["Exp-2"]
        );
        assert_eq!(
            names(&server, json!({"order_by": ["experiment_id DESC"]})).await,
            ["Exp-2", "exp_1", "Default"]
        );
        assert_eq!(
            names(&server, json!({"view_type": "DELETED_ONLY"})).await,
            ["other"]
        );
        assert_eq!(names(&server, json!({"view_type": 3})).await.len(), 4);
        assert_eq!(names(&server, json!({"view_type": "WHAT"})).await.len(), 3);

        let mut pages = Vec::new();
        let mut search = json!({"max_results": 2, "order_by": ["name ASC"]});
        loop {
            let found = server.post("experiments/search", search.clone()).await.ok();
            pages.push(found["experiments"].as_array().unwrap().len());
            match found.get("next_page_token") {
                Some(token) => search["page_token"] = token.clone(),
                None => break,
            }
        }
        assert_eq!(pages, [2, 1]);

        let got = server.get("experiments/search?max_results=2&order_by=name+DESC&view_type=ALL&filter=name+%21%3D+%27other%27").await.ok();
        assert_eq!(got["experiments"][0]["name"], "exp_1");
        for wrong in [
            json!({}),
            json!({"max_results": 50_001}),
            json!({"max_results": 5, "filter": "name > 'a'"}),
            json!({"max_results": 5, "filter": "metrics.a > 1"}),
            json!({"max_results": 5, "filter": "name = 1"}),
            json!({"max_results": 5, "order_by": ["tags.a"]}),
            json!({"max_results": 5, "page_token": "x"}),
        ] {
            let refused = server.post("experiments/search", wrong.clone()).await;
            assert_eq!(
                refused.error(),
                (400, "INVALID_PARAMETER_VALUE".to_owned()),
                "{wrong}"
            );
        }
    }
}

#[tokio::test]
async fn servers_that_start_together_agree_on_the_default_experiment() {
    for db in db::testing::both(&[tracking::MIGRATIONS]).await {
        let dir = tempfile::tempdir().unwrap();
        let artifacts =
            tracking::Artifacts::open(&tracking::ArtifactsConfig::default(), dir.path()).unwrap();
        let tracking = tracking::Tracking::new((*db).clone(), artifacts);
        let starts: Vec<_> = (0..4)
            .map(|_| {
                let tracking = tracking.clone();
                tokio::spawn(async move { tracking.ensure_default_experiment().await })
            })
            .collect();
        for start in starts {
            start.await.unwrap().unwrap();
        }
        let counts = tracking.counts().await.unwrap();
        assert_eq!(counts.active_experiments, 1, "{}", db.name);
    }
}
