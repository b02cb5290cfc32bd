//! Feature views over REST.

use serde_json::json;

use crate::app::{App, customer_features};

#[tokio::test]
async fn the_printed_views_can_be_created_as_they_stand() {
    for app in App::both().await {
        app.customers().await;
        let metrics = "customer_id,event_timestamp,total_purchases,avg_purchase_value,days_since_last_purchase\n1,2025-11-01T00:00:00,3,10.5,7\n";
        let (status, body) = app.import("customer_metrics", metrics).await;
        assert_eq!(status, 201, "{body}");
        let (status, body) = app
            .post(
                "/feast/features",
                json!({
                    "name": "customer_churn_features",
                    "entities": ["customer_id"],
                    "features": [
                      {"name": "total_purchases", "dtype": "int64"},
                      {"name": "avg_purchase_value", "dtype": "float64"},
                      {"name": "days_since_last_purchase", "dtype": "int32"}
                    ],
                    "source": {
                      "table_name": "customer_metrics",
                      "catalog": "iceberg",
                      "schema": "gold"
                    },
                    "ttl_days": 365
                }),
            )
            .await;
        assert_eq!(status, 201, "{}: {body}", app.database);
        assert_eq!(body["status"], "registered");
        assert_eq!(
            (&body["feature_count"], &body["entity_count"]),
            (&json!(3), &json!(1))
        );
        let (_, list) = app.get("/feast/features").await;
        assert_eq!(list["total_count"], 2);
        assert_eq!(
            list["feature_views"][1]["tags"],
            json!({"use_case": "churn_prediction"})
        );
        let (_, status) = app.get("/feast/status").await;
        assert_eq!(
            (&status["feature_views_count"], &status["entities_count"]),
            (&json!(2), &json!(1))
        );
    }
}

#[tokio::test]
async fn a_view_is_shown_as_it_was_defined() {
    let app = App::sqlite().await;
    app.customers().await;
    let (status, mut view) = app.get("/feast/features/customer_features").await;
    assert_eq!(status, 200);
    view["created_at"] = json!("then");
    view["updated_at"] = json!("then");
    insta::assert_json_snapshot!(view, @r#"
    {
      "created_at": "then",
      "description": "",
      "entities": [
        "customer_id"
      ],
      "features": [
        {
          "column": "total_orders",
          "dtype": "int64",
          "name": "total_orders"
        },
        {
          "column": "avg_order_value",
          "dtype": "float64",
          "name": "avg_order_value"
        }
      ],
      "join_keys": [
        "customer_id"
      ],
      "materialized": [],
      "name": "customer_features",
      "online": true,
      "owner": "",
      "source": {
        "address": "iceberg://iceberg/gold/customer_aggregates",
        "catalog": "iceberg",
        "created_timestamp_column": null,
        "field_mapping": {},
        "schema": "gold",
        "table_name": "customer_aggregates",
        "timestamp_field": "event_timestamp"
      },
      "tags": {
        "use_case": "churn_prediction"
      },
      "ttl_days": 365.0,
      "ttl_seconds": 31536000,
      "updated_at": "then"
    }
    "#);
}

#[tokio::test]
async fn the_same_definition_again_changes_nothing_and_another_one_is_refused() {
    for app in App::both().await {
        app.customers().await;
        let (status, body) = app.post("/feast/features", customer_features()).await;
        assert_eq!(status, 200, "{body}");
        let mut other = customer_features();
        other["ttl_days"] = json!(30);
        let (status, body) = app.post("/feast/features", other).await;
        assert_eq!(status, 409, "{body}");
    }
}

#[tokio::test]
async fn a_view_without_its_table_is_refused_and_told_what_to_do() {
    let app = App::sqlite().await;
    let (status, body) = app.post("/feast/features", customer_features()).await;
    assert_eq!(status, 404);
    assert_eq!(
        body["message"],
        "table iceberg.gold.customer_aggregates does not exist; the schema has no tables"
    );
    assert!(
        body["help"]
            .as_str()
            .unwrap()
            .contains("/feast/tables/gold/customer_aggregates")
    );
}

#[tokio::test]
async fn every_mistake_in_a_definition_is_named() {
    let app = App::sqlite().await;
    app.customers().await;
    let wrong = |pointer: &str, value: serde_json::Value| {
        let mut body = customer_features();
        body["name"] = json!("other");
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    for (body, expected, message) in [
        (
            wrong("/features/0/dtype", json!("int65")),
            422,
            "the types are bytes, string",
        ),
        (
            wrong("/features/0/dtype", json!("string")),
            400,
            "can be read as int32, int64",
        ),
        (
            wrong("/features/0/name", json!("orders")),
            400,
            "its columns are: customer_id (long)",
        ),
        (wrong("/entities", json!([])), 400, "entities is empty"),
        (
            wrong("/entities", json!(["nobody"])),
            400,
            "an entity's join key",
        ),
        (wrong("/features", json!([])), 400, "features is empty"),
        (wrong("/ttl_days", json!(-1)), 400, "the ttl is negative"),
        (
            wrong("/source/catalog", json!("lake")),
            400,
            "there are: iceberg",
        ),
        (
            wrong("/name", json!("a:b")),
            400,
            "is not a feature view name",
        ),
    ] {
        let (status, answer) = app.post("/feast/features", body).await;
        assert_eq!(status, expected, "{answer}");
        let said = answer["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
    }
}

#[tokio::test]
async fn a_view_that_is_not_there_is_told_with_those_that_are() {
    for app in App::both().await {
        let (status, body) = app.get("/feast/features/customer_features").await;
        assert_eq!(status, 404);
        assert_eq!(
            body["message"],
            "Feature view 'customer_features' not found; there are none yet"
        );
        assert!(
            body["help"]
                .as_str()
                .unwrap()
                .contains("POST /feast/features creates one")
        );
        app.customers().await;
        let (status, _) = app
            .json("DELETE", "/feast/features/customer_features", None)
            .await;
        assert_eq!(status, 204);
        let (status, _) = app
            .json("DELETE", "/feast/features/customer_features", None)
            .await;
        assert_eq!(status, 404);
    }
}

#[tokio::test]
async fn a_name_that_no_database_keeps_is_the_callers_mistake() {
    for app in App::both().await {
        let nul = "a\0b";
        for (path, body) in [
            (
                "/feast/write-to-online-store",
                json!({"feature_view_name": nul, "df": {"e": [1]}}),
            ),
            (
                "/feast/materialize-incremental",
                json!({"feature_views": [nul]}),
            ),
            (
                "/feast/projects/a%00/get-online-features",
                json!({"features": ["v:f"], "entities": {"e": [1]}}),
            ),
            (
                "/mlops/models",
                json!({"model_name": "m", "framework": "sklearn", "model_type": "ridge",
                    "data_source": {"feature_views": [nul], "target_column": "t"}}),
            ),
        ] {
            let (status, answer) = app.post(path, body).await;
            let detail = answer["detail"].as_str().unwrap_or_default();
            assert!(
                status == 400 && detail.contains("NUL"),
                "{} {path}: {status} {answer}",
                app.database
            );
        }
    }
}

#[tokio::test]
async fn a_view_is_changed_in_its_place_and_a_dry_run_only_tells() {
    for app in App::both().await {
        app.import("customer_aggregates", crate::app::CUSTOMERS)
            .await;
        let path = "/feast/features/customer_features";
        // The rows are from long ago.
        let mut first = customer_features();
        first["ttl_days"] = json!(36500);
        let put = async |query: &str, body: serde_json::Value| {
            app.json("PUT", &format!("{path}{query}"), Some(body)).await
        };
        let (status, planned) = put("?dry_run=true", first.clone()).await;
        assert_eq!(
            (status.as_u16(), &planned["outcome"]),
            (200, &json!("created"))
        );
        assert_eq!(app.get(path).await.0, 404);
        let (status, made) = put("", first.clone()).await;
        assert_eq!(status, 201, "{}: {made}", app.database);
        assert_eq!(
            (&made["changes"], &made["dry_run"]),
            (&json!([]), &json!(false))
        );
        let (_, before) = app.get(path).await;
        let (_, loaded) = app.post("/feast/materialize-incremental", json!({})).await;
        assert_eq!(loaded["materialized"][0]["entities_written"], 2, "{loaded}");

        let mut other = first;
        other["ttl_days"] = json!(3650);
        other["features"] = json!([
            {"name": "total_orders", "dtype": "int64"}, {"name": "segment", "dtype": "string"}
        ]);
        for (query, outcome) in [
            ("?dry_run=true", "changed"),
            ("", "changed"),
            ("", "unchanged"),
        ] {
            let (status, told) = put(query, other.clone()).await;
            assert_eq!(
                (status.as_u16(), &told["outcome"]),
                (200, &json!(outcome)),
                "{told}"
            );
            let fields = told["changes"].as_array().unwrap().iter();
            let fields: Vec<_> = fields.map(|c| c["field"].as_str().unwrap()).collect();
            if outcome == "changed" {
                assert_eq!(fields, ["features", "ttl_seconds"], "{told}");
            } else {
                assert!(fields.is_empty(), "{told}");
            }
            if !query.is_empty() {
                let (_, kept) = app.get(path).await;
                assert_eq!(kept["ttl_seconds"], before["ttl_seconds"]);
            }
        }
        let (_, after) = app.get(path).await;
        assert_eq!(after["ttl_seconds"], 3650 * 86400);
        assert_eq!(after["created_at"], before["created_at"]);
        // What was loaded stays, and a feature that is new waits for the next load.
        let question = json!({"entities": {"customer_id": [1]},
            "features": ["customer_features:total_orders", "customer_features:segment"]});
        let (_, online) = app
            .post("/feast/get-online-features", question.clone())
            .await;
        assert_eq!(online["results"][1]["values"], json!([4]), "{online}");
        app.post("/feast/materialize-incremental", json!({})).await;
        let (_, online) = app.post("/feast/get-online-features", question).await;
        assert_eq!(online["results"][2]["values"], json!(["gold"]), "{online}");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_is_refused_and_changes_nothing() {
    let app = App::sqlite().await;
    app.customers().await;
    let path = "/feast/features/customer_features";
    let wrong = |pointer: &str, value: serde_json::Value| {
        let mut body = customer_features();
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    for (body, expected, message) in [
        (wrong("/name", json!("other")), 422, "the address names"),
        (
            wrong("/features/0/name", json!("orders")),
            400,
            "its columns are",
        ),
        (
            wrong("/source/table_name", json!("gone")),
            404,
            "does not exist",
        ),
        (wrong("/ttl_days", json!(-1)), 400, "the ttl is negative"),
    ] {
        for query in ["", "?dry_run=true"] {
            let url = format!("{path}{query}");
            let (status, answer) = app.json("PUT", &url, Some(body.clone())).await;
            assert_eq!(status, expected, "{answer}");
            let said = answer["message"].as_str().unwrap();
            assert!(said.contains(message), "{said}");
        }
    }
    let (status, same) = app.json("PUT", path, Some(customer_features())).await;
    assert_eq!(
        (status.as_u16(), &same["outcome"]),
        (200, &json!("unchanged"))
    );
}

#[tokio::test]
async fn an_entity_takes_another_join_key_only_while_no_other_view_knows_it() {
    let app = App::sqlite().await;
    app.customers().await;
    let mut by_segment = customer_features();
    by_segment["features"] = json!([{"name": "total_orders", "dtype": "int64"}]);
    by_segment["join_keys"] = json!(["segment"]);
    let mut other = by_segment.clone();
    other["name"] = json!("of_segments");
    let (status, refused) = app.post("/feast/features", other.clone()).await;
    assert_eq!(status, 409, "{refused}");
    let said = refused["message"].as_str().unwrap();
    assert!(said.contains("join key \"customer_id\""), "{said}");
    let path = "/feast/features/customer_features";
    let (status, changed) = app.json("PUT", path, Some(by_segment)).await;
    assert_eq!(
        (status.as_u16(), &changed["outcome"]),
        (200, &json!("changed")),
        "{changed}"
    );
    assert_eq!(app.post("/feast/features", other).await.0, 201);
    let (status, refused) = app.json("PUT", path, Some(customer_features())).await;
    assert_eq!(status, 409, "{refused}");
}

#[tokio::test]
async fn views_are_listed_by_entity_and_tag_page_by_page() {
    for app in App::both().await {
        app.customers().await;
        for (name, tags) in [("a", json!({"team": "x"})), ("z", json!({"team": "y"}))] {
            let mut body = customer_features();
            body["name"] = json!(name);
            body["tags"] = tags;
            assert_eq!(app.post("/feast/features", body).await.0, 201);
        }
        let names = async |query: &str| {
            let (status, list) = app.get(&format!("/feast/features{query}")).await;
            assert_eq!(status, 200, "{list}");
            let views = list["feature_views"].as_array().unwrap().iter();
            let names: Vec<_> = views
                .map(|v| v["name"].as_str().unwrap().to_owned())
                .collect();
            (
                names.join(" "),
                list["total_count"].clone(),
                list["next_page_token"].clone(),
            )
        };
        let all = "a customer_features z".to_owned();
        assert_eq!(names("").await, (all, json!(3), json!(null)));
        for (query, found) in [
            ("?tag=team", "a z"),
            ("?tag=team=y", "z"),
            ("?entity=customer_id&tag=use_case", "customer_features"),
            ("?entity=nobody", ""),
            ("?project=other", ""),
        ] {
            assert_eq!(names(query).await.0, found, "{query}");
        }
        let (page, total, next) = names("?limit=2").await;
        assert_eq!((page.as_str(), &total), ("a customer_features", &json!(3)));
        let next = format!("?limit=2&page_token={}", next.as_str().unwrap());
        assert_eq!(names(&next).await, ("z".to_owned(), json!(3), json!(null)));
        for wrong in ["?limit=0", "?limit=x", "?foo=1"] {
            let (status, answer) = app.get(&format!("/feast/features{wrong}")).await;
            assert_eq!(status, 422, "{answer}");
        }
    }
}
