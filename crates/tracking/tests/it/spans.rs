//! Spans that come by OTLP, and assessments.

use axum::body::Body;
use axum::http::{Method, Request, header};
use prost::Message as _;
use serde_json::{Value, json};
use tracking::Span;
use web::Identity;
use web::testing::Answer;

use crate::server::{Server, both, job};

/// A field of a protobuf message that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 128 {
        bytes.push((length % 128) as u8 | 128);
        length /= 128;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

/// An `ExportTraceServiceRequest` of these spans.
fn export(spans: &[Span]) -> Vec<u8> {
    let spans: Vec<u8> = spans
        .iter()
        .flat_map(|span| field(2, &span.encode_to_vec()))
        .collect();
    field(1, &field(2, &spans))
}

fn span(number: u8, parent: Option<u8>) -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![number; 8],
        parent_span_id: parent.map(|parent| vec![parent; 8]).unwrap_or_default(),
        name: format!("span {number}"),
        start_ns: 1_000_000_000_000 + u64::from(number) * 1_000_000,
        end_ns: 1_000_100_000_000,
        ..Span::default()
    }
}

const ID: &str = "tr-07070707070707070707070707070707";

async fn send(server: &Server, caller: Identity, body: Vec<u8>) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/traces")
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header("x-mlflow-experiment-id", "0")
        .body(Body::from(body));
    server.ask(caller, request.unwrap()).await
}

async fn call(server: &Server, method: Method, path: &str, body: Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/3.0/mlflow/traces{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()));
    server.ask(Identity::Local, request.unwrap()).await
}

#[tokio::test]
async fn spans_make_a_trace_that_ends_with_its_root() {
    for server in both().await {
        let child = send(&server, Identity::Local, export(&[span(2, Some(1))])).await;
        assert!(child.status.is_success(), "{:?}", child.body);
        let info = call(&server, Method::GET, &format!("/{ID}"), Value::Null)
            .await
            .ok();
        let info = &info["trace"]["trace_info"];
        assert_eq!(info["state"], "IN_PROGRESS", "{}", server.name);
        assert_eq!(info["tags"]["mlflow.trace.spansLocation"], "TRACKING_STORE");
        send(
            &server,
            Identity::Local,
            export(&[span(1, None), span(3, Some(2))]),
        )
        .await;
        let path = format!("/batchGet?trace_ids={ID}&trace_ids=x");
        let found = call(&server, Method::GET, &path, Value::Null);
        let found = found.await.ok();
        let trace = &found["traces"][0];
        assert_eq!(trace["trace_info"]["state"], "OK");
        assert_eq!(trace["trace_info"]["execution_duration"], "0.099s");
        assert_eq!(trace["trace_info"]["tags"]["mlflow.traceName"], "span 1");
        let names: Vec<&str> = trace["spans"]
            .as_array()
            .unwrap()
            .iter()
            .map(|span| span["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["span 1", "span 2", "span 3"]);
        assert_eq!(trace["spans"][0]["start_time_unix_nano"], "1000001000000");
        let one = call(
            &server,
            Method::GET,
            &format!("/get?trace_id={ID}"),
            Value::Null,
        )
        .await
        .ok();
        assert_eq!(&one["trace"], trace);
    }
}

#[tokio::test]
async fn what_is_no_export_is_the_callers_mistake() {
    for server in both().await {
        let mut short = span(1, None);
        short.trace_id.pop();
        for body in [vec![], b"nonsense".to_vec(), export(&[]), export(&[short])] {
            let answer = send(&server, Identity::Local, body).await;
            assert_eq!(answer.status.as_u16(), 400, "{:?}", answer.body);
        }
        let owned = send(&server, job("j1"), export(&[span(1, None)])).await;
        assert!(owned.status.is_success());
        let foreign = send(&server, job("j2"), export(&[span(2, Some(1))])).await;
        assert_eq!(foreign.status.as_u16(), 403);
    }
}

#[tokio::test]
async fn assessments_are_made_changed_overridden_and_deleted() {
    for server in both().await {
        send(&server, Identity::Local, export(&[span(1, None)])).await;
        let all = format!("/{ID}/assessments");
        let wanted = json!({"assessment": {
            "assessment_name": "good", "feedback": {"value": 0.5},
            "source": {"source_type": "HUMAN", "source_id": "me"},
        }});
        let made = call(&server, Method::POST, &all, wanted.clone()).await.ok();
        let id = made["assessment"]["assessment_id"].as_str().unwrap();
        assert_eq!(made["assessment"]["valid"], true);
        let one = format!("{all}/{id}");
        let change = json!({"assessment": {"feedback": {"value": 1}, "rationale": "why"}, "update_mask": "feedback,rationale"});
        let changed = call(&server, Method::PATCH, &one, change).await.ok();
        assert_eq!(changed["assessment"]["feedback"]["value"], 1);
        assert_eq!(changed["assessment"]["assessment_name"], "good");
        let wrong = json!({"assessment": {}, "update_mask": "trace_id"});
        assert_eq!(
            call(&server, Method::PATCH, &one, wrong).await.error().0,
            400
        );
        let mut over = wanted;
        over["assessment"]["overrides"] = json!(id);
        let over = call(&server, Method::POST, &all, over).await.ok();
        let trace = call(&server, Method::GET, &format!("/{ID}"), Value::Null)
            .await
            .ok();
        let assessments = &trace["trace"]["trace_info"]["assessments"];
        assert_eq!(assessments[0]["valid"], false, "{}", server.name);
        assert_eq!(assessments[1]["valid"], true);
        let over = over["assessment"]["assessment_id"].as_str().unwrap();
        let over = format!("{all}/{over}");
        call(&server, Method::DELETE, &over, json!({})).await.ok();
        let restored = call(&server, Method::GET, &one, Value::Null).await.ok();
        assert_eq!(restored["assessment"]["valid"], true);
        call(&server, Method::DELETE, &one, json!({})).await.ok();
        assert_eq!(
            call(&server, Method::GET, &one, Value::Null)
                .await
                .error()
                .0,
            404
        );
        let nothing = json!({"assessment": {"assessment_name": "empty"}});
        assert_eq!(
            call(&server, Method::POST, &all, nothing).await.error().0,
            400
        );
    }
}
