//! Spans that come by OTLP, and assessments.

use axum::body::Body;
use axum::http::{Method, Request, header};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
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

/// A span of a trace of its own, with a question among its attributes.
fn asked(trace: u8, question: &str) -> Value {
    json!({
        "traceId": format!("{trace:02x}").repeat(16), "spanId": "01".repeat(8), "name": "span 1",
        "startTimeUnixNano": "1000000000000", "endTimeUnixNano": "1000050000000",
        "attributes": [
            {"key": "question", "value": {"stringValue": question}},
            {"key": "mlflow.spanType", "value": {"stringValue": "LLM"}},
            {"key": "tokens", "value": {"intValue": trace.to_string()}},
        ],
        "status": {"code": if trace == 3 { 2 } else { 1 }},
    })
}

/// Sends spans in JSON.
async fn send_json(server: &Server, spans: Value) -> Answer {
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]});
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/traces")
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header("x-mlflow-experiment-id", "0")
        .body(Body::from(body.to_string()));
    server.ask(Identity::Local, request.unwrap()).await
}

async fn found(server: &Server, filter: &str) -> Vec<u8> {
    let body = json!({
        "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}],
        "filter": filter,
    });
    let answer = call(server, Method::POST, "/search", body).await;
    let answer = answer.ok();
    let ids = answer["traces"].as_array().into_iter().flatten();
    let number = |trace: &Value| {
        let id = trace["trace_id"].as_str().unwrap();
        u8::from_str_radix(&id[3..5], 16).unwrap()
    };
    let mut found: Vec<u8> = ids.map(number).collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn traces_are_found_by_what_is_in_their_spans() {
    for server in both().await {
        let mut tool = asked(3, "none");
        tool["spanId"] = json!("02".repeat(8));
        tool["parentSpanId"] = json!("01".repeat(8));
        tool["name"] = json!("tool");
        let spans = json!([
            asked(1, "why is the \"sky\" blue?\nReally"),
            asked(2, "WHY \0 not"),
            asked(3, "where"),
            tool
        ]);
        send_json(&server, spans).await.ok();
        for (filter, traces) in [
            ("span.name = 'tool'", &[3][..]),
            ("span.name LIKE 'span%'", &[1, 2, 3]),
            ("span.type = 'LLM' AND span.status != 'OK'", &[3]),
            ("span.status IN ('OK', 'ERROR')", &[1, 2, 3]),
            ("span.attributes.question LIKE 'why%'", &[1]),
            ("span.attributes.question ILIKE 'why%'", &[1, 2]),
            ("span.attributes.question LIKE '%\"sky\" blue%'", &[1]),
            ("span.attributes.`question` = 'where'", &[3]),
            ("span.attributes.tokens = '2'", &[2]),
            // Both of one and the same span.
            (
                "span.name = 'tool' AND span.attributes.question = 'where'",
                &[],
            ),
            ("span.attributes.none LIKE '%'", &[]),
            ("trace.text LIKE '%blue%'", &[1]),
            ("trace.text ILIKE '%WHERE%'", &[3]),
            ("span.content LIKE '%tokens%'", &[1, 2, 3]),
            ("trace.end_time_ms > 1", &[1, 2, 3]),
        ] {
            assert_eq!(
                found(&server, filter).await,
                traces,
                "{} {filter}",
                server.name
            );
        }
        for wrong in [
            "span.color = 'red'",
            "trace.text = 'blue'",
            "span.name IS NULL",
            "span.attributes. = 'x'",
            "prompt = 'no version'",
        ] {
            let body = json!({"locations": [], "filter": wrong});
            let refused = call(&server, Method::POST, "/search", body).await;
            assert_eq!(refused.status.as_u16(), 400, "{wrong}");
        }
    }
}

#[tokio::test]
async fn runs_show_the_traces_that_are_linked_to_them() {
    for server in both().await {
        send_json(&server, json!([asked(1, "a"), asked(2, "b")]))
            .await
            .ok();
        let run = server.run(Some("j1")).await.run_id;
        let id = |trace: u8| format!("tr-{}", format!("{trace:02x}").repeat(16));
        // The second comes later.
        let body = json!({"trace_ids": [id(1), id(4)], "run_id": run});
        for version in ["2.0", "3.0"] {
            let path = format!("/api/{version}/mlflow/traces/link-to-run");
            let request = web::testing::request(Method::POST, &path, Some(&body));
            server.ask(job("j1"), request).await.ok();
        }
        let by_run = format!("attributes.run_id = '{run}'");
        assert_eq!(found(&server, &by_run).await, [1], "{}", server.name);
        send_json(&server, json!([asked(4, "d")])).await.ok();
        assert_eq!(found(&server, &by_run).await, [1, 4]);
        for (caller, trace, run, status) in [
            ("j2", id(2), run.as_str(), 403),
            ("j1", id(2), "none", 404),
            ("j1", "../x".to_owned(), run.as_str(), 400),
        ] {
            let body = json!({"trace_ids": [trace], "run_id": run});
            let refused = server.json_as(job(caller), Method::POST, "traces/link-to-run", body);
            let refused = refused.await;
            assert_eq!(refused.status.as_u16(), status, "{caller} {run}");
        }
        let prompts =
            json!({"trace_id": id(2), "prompt_versions": [{"name": "p", "version": "3"}]});
        server.post("traces/link-prompts", prompts).await.ok();
        assert_eq!(found(&server, "prompt = 'p/3'").await, [2]);
        // A trace that is deleted, and comes again, is linked no more.
        let gone = json!({"experiment_id": "0", "request_ids": [id(1)]});
        call(&server, Method::POST, "/delete-traces", gone)
            .await
            .ok();
        send_json(&server, json!([asked(1, "a")])).await.ok();
        assert_eq!(found(&server, &by_run).await, [4]);
    }
}

#[tokio::test]
async fn old_spans_are_found_before_all_of_them_were_looked_at() {
    for server in both().await {
        let question = |trace: u8| {
            if trace.is_multiple_of(50) {
                "rare"
            } else {
                "often"
            }
        };
        let spans: Value = (1..=240)
            .map(|trace| asked(trace, question(trace)))
            .collect();
        send_json(&server, spans).await.ok();
        let often: Vec<u8> = (1..=102).filter(|trace| trace % 50 != 0).collect();
        for (filter, wanted) in [
            ("span.attributes.question = 'often'", often.as_slice()),
            (
                "span.name = 'span 1' AND span.attributes.question = 'rare'",
                &[50, 100, 150, 200],
            ),
            ("span.attributes.question = 'never'", &[]),
        ] {
            server.make_spans_old().await;
            assert_eq!(found(&server, filter).await, wanted, "{}", server.name);
        }
        server.make_spans_old().await;
        found(&server, "span.attributes.question = 'often'").await;
        let left = server.spans_without_texts().await;
        assert!(left > 0, "a page looks at what stands before its end");
        // What goes on beside the requests ends by itself.
        server.tracking.clone().work(CancellationToken::new()).await;
        assert_eq!(server.spans_without_texts().await, 0);
        assert_eq!(
            found(&server, "span.attributes.question = 'often'").await,
            often
        );
    }
}

#[tokio::test]
async fn filters_are_compared_by_how_often_they_go_together() {
    for server in both().await {
        let spans: Value = (1..=8)
            .map(|trace| asked(trace, if trace <= 4 { "left" } else { "right" }))
            .collect();
        send_json(&server, spans).await.ok();
        let ask = async |first: &str, second: &str, base: Value| {
            let body = json!({
                "experiment_ids": ["0"], "filter_string1": first, "filter_string2": second, "base_filter": base,
            });
            let path = "/calculate-filter-correlation";
            call(&server, Method::POST, path, body).await
        };
        let left = "span.attributes.question = 'left'";
        let told = ask(left, "span.status = 'ERROR'", Value::Null).await.ok();
        assert_eq!(told["filter1_count"], 4, "{}", server.name);
        assert_eq!(told["filter2_count"], 1);
        assert_eq!(
            (&told["joint_count"], &told["total_count"]),
            (&json!(1), &json!(8))
        );
        let npmi = told["npmi"].as_f64().unwrap();
        assert!((npmi - 1.0 / 3.0).abs() < 1e-9, "{told}");
        let same = ask(left, left, json!("trace.text LIKE '%left%'"))
            .await
            .ok();
        assert_eq!(
            (&same["npmi"], &same["total_count"]),
            (&json!(1.0), &json!(4))
        );
        let none = ask(left, "span.name = 'none'", Value::Null).await.ok();
        assert_eq!(none["npmi"], Value::Null);
        assert_eq!(
            ask(left, "nonsense", Value::Null).await.status.as_u16(),
            400
        );
        assert_eq!(ask("", left, Value::Null).await.status.as_u16(), 400);
    }
}

#[tokio::test]
async fn spans_may_come_as_json() {
    for server in both().await {
        let mut spans = json!([asked(7, "why")]);
        spans[0]["status"]["code"] = json!(2);
        let taken = send_json(&server, spans.clone()).await;
        assert_eq!(taken.header(header::CONTENT_TYPE), "application/json");
        assert_eq!(taken.ok(), json!({}));
        let trace = call(&server, Method::GET, &format!("/{ID}"), Value::Null)
            .await
            .ok();
        assert_eq!(trace["trace"]["trace_info"]["state"], "ERROR");
        assert_eq!(
            found(&server, "span.attributes.question = 'why'").await,
            [7]
        );
        spans[0]["spanId"] = json!("xyz");
        for wrong in [spans, json!(1), json!([])] {
            let refused = send_json(&server, wrong).await;
            assert_eq!(refused.status.as_u16(), 400);
        }
    }
}
