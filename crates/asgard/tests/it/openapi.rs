//! The OpenAPI document is true to the routes.

use std::collections::BTreeSet;

use asgard::openapi::path;
use serde_json::Value;
use web::Style;

use crate::site::{Site, get};

#[tokio::test]
async fn every_route_is_described_and_nothing_else() {
    let site = Site::new().await;
    let document = site.send(get("/openapi.json")).await.json();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let routed: BTreeSet<String> = site
        .table
        .iter()
        .filter(|entry| entry.style == Style::Asgard)
        .map(|entry| format!("{} {}", entry.method, path(&entry.path)))
        .collect();
    assert_eq!(described, routed);
}

#[tokio::test]
async fn every_operation_says_what_it_needs() {
    let site = Site::new().await;
    let document = site.send(get("/openapi.json")).await.json();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{name} names two operations");
            let permission = operation["x-permission"].as_str().unwrap_or_default();
            assert!(!permission.is_empty(), "{method} {path}");
            let locked = operation["security"] != Value::Null;
            assert_eq!(locked, permission != "public", "{method} {path}");
            assert!(
                operation["summary"].is_string(),
                "{method} {path} has no summary"
            );
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    found.insert(reference.clone());
                }
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let site = Site::new().await;
    let document = site.send(get("/openapi.json")).await.json();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
