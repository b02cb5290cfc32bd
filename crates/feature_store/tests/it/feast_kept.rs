//! What `feast_kept.py` sees: reads between two times, writes, and definitions that are kept.

use serde_json::{Value, json};

pub(crate) fn check(seen: &Value) {
    between(seen);
    saved(seen);
    written(seen);
    for (what, expected) in [
        ("labels", json!([["labels"], [], "label", "labels", true])),
        ("permissions", json!([["readers"], [], ["reader"]])),
        ("references", json!([true, ["reference"]])),
        (
            "whole",
            json!([["saved"], ["reference"], ["readers"], ["labels"]]),
        ),
        (
            "gone",
            json!([
                "ValidationReferenceNotFound",
                "PermissionObjectNotFoundException",
                "SavedDatasetNotFound",
                [0, 0, 0]
            ]),
        ),
        (
            "projects",
            json!([
                ["team"],
                [],
                true,
                "ProjectObjectNotFoundException",
                ["default", "shop"]
            ]),
        ),
    ] {
        assert_eq!(seen[what], expected, "{what}");
    }
}

fn between(seen: &Value) {
    let time = |time: &str| format!("2025-11-{time}:00:00.000Z");
    assert_eq!(
        seen["between"],
        json!({
            "columns": ["event_timestamp", "customer_id", "total_orders", "avg_order_value"],
            "data": [
                [time("01T00"), 1, 3, 10.5],
                [time("02T00"), 1, 4, 11.5],
                [time("01T12"), 2, 1, 99.0],
            ],
        })
    );
    assert_eq!(
        seen["of_two"],
        json!({
            "columns": [
                "event_timestamp",
                "customer_id",
                "orders__total_orders",
                "customer_features__avg_order_value"
            ],
            "data": [
                [time("01T00"), 1, 3, 10.5],
                [time("01T12"), 2, 1, 99.0],
                [time("02T00"), 1, 4, 11.5],
            ],
        })
    );
    assert_eq!(
        seen["by_service"]["columns"],
        json!(["event_timestamp", "customer_id", "segment"])
    );
    assert_eq!(
        seen["by_role"]["columns"],
        json!(["event_timestamp", "buyer_id", "buyer__total_orders"])
    );
    assert_eq!(seen["nothing_then"]["data"], json!([]));
    assert_eq!(
        seen["nothing_then"]["columns"], seen["between"]["columns"],
        "also without rows"
    );
    // The ttl of the view, two days, before the end.
    assert_eq!(seen["default_start"], 2);
    refused(&seen["backwards"], "FeastError", "later than end_date");
}

fn saved(seen: &Value) {
    let at = "2025-11-02T00:00:00.000Z";
    let columns = json!([
        "customer_id",
        "total_orders",
        "avg_order_value",
        "event_timestamp"
    ]);
    assert_eq!(
        seen["saved"],
        json!({"columns": columns, "data": [
            [1, 4.0, 11.5, at], [2, 1.0, 99.0, at], [9, null, null, at],
        ]})
    );
    refused(
        &seen["saved_again"],
        "SavedDatasetLocationAlreadyExists",
        "gold.saved exists already",
    );
    refused(&seen["saved_badly"], "FeastError", "customer_id");
    assert_eq!(seen["still_saved"], true);
    assert_eq!(seen["saved_anew"]["data"].as_array().unwrap().len(), 2);
    // Nothing is left beside what was asked for.
    assert_eq!(
        seen["tables"],
        json!(["customer_aggregates", "saved", "span"])
    );
    assert_eq!(
        seen["datasets"],
        json!([["saved"], ["saved"], [], [], "2025-11-02T00:00:00"])
    );
}

fn written(seen: &Value) {
    let at = "2025-11-05T00:00:00.000Z";
    assert_eq!(
        seen["written"],
        json!({
            "columns": ["event_timestamp", "customer_id", "total_orders"],
            "data": [[at, 7, 70], [at, 8, 70]],
        })
    );
    refused(&seen["written_badly"], "FeastError", "total_orders");
    assert_eq!(seen["logged"], json!([2, 140]));
    refused(&seen["unlogged"], "FeastError", "iceberg://SCHEMA/TABLE");
}

fn refused(error: &Value, class: &str, message: &str) {
    assert_eq!(error[0], class, "{error}");
    assert!(error[1].as_str().unwrap().contains(message), "{error}");
}
