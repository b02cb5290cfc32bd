//! What nobody means well with: each gets its answer, and nothing stays behind.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Date64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::app::{App, CUSTOMERS};

const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";

fn stream(columns: [(&str, ArrayRef); 2]) -> Vec<u8> {
    let rows = RecordBatch::try_from_iter_with_nullable(
        columns.map(|(name, column)| (name, column, true)),
    );
    let rows = rows.unwrap();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

async fn read(app: &App, kind: &str, format: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let features = "customer_features:total_orders";
    let path = format!("/feast/historical?features={features}&format={format}");
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", kind)
        .body(Body::from(body));
    let (status, body) = app.send(request.unwrap()).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn a_table_that_is_damaged_anywhere_is_an_error_of_its_sender() {
    let app = App::sqlite().await;
    app.customers().await;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(2)]));
    let times = TimestampMicrosecondArray::from(vec![Some(1_762_128_000_000_000), None, None]);
    let whole = stream([("customer_id", ids), ("event_timestamp", Arc::new(times))]);
    assert_eq!(read(&app, ARROW, "json", whole.clone()).await.0, 200);
    let (status, parquet) = read(&app, ARROW, "parquet", whole.clone()).await;
    assert_eq!(status, 200);
    for (kind, whole) in [(ARROW, whole), (PARQUET, parquet)] {
        for at in (0..whole.len()).step_by(5) {
            let mut damaged = whole.clone();
            damaged[at] = damaged[at].wrapping_add(97);
            let cut = whole[..at].to_vec();
            for body in [damaged, cut] {
                let (status, body) = read(&app, kind, "json", body).await;
                let text = String::from_utf8_lossy(&body).into_owned();
                assert!(status < 500, "{kind} at {at}: {status} {text}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_form_cannot_hold_is_told_before_anything_is_sent() {
    let app = App::sqlite().await;
    app.customers().await;
    let ids = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2])) };
    // Times beyond those that there are.
    let dates: ArrayRef = Arc::new(Date64Array::from(vec![i64::MAX, i64::MIN]));
    let far = stream([("customer_id", ids()), ("event_timestamp", dates)]);
    for format in ["json", "csv", "parquet", "arrow"] {
        let (status, body) = read(&app, ARROW, format, far.clone()).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(status == 200 || status == 400, "{format}: {status} {text}");
    }
}

#[tokio::test]
async fn rows_of_ever_other_columns_are_refused() {
    let app = App::sqlite().await;
    app.customers().await;
    let rows: Vec<_> = (0..3_000).map(|n| json!({ format!("c{n}"): n })).collect();
    let asked = json!({"features": ["customer_features:total_orders"], "entities": rows});
    let (status, body) = app.post("/feast/historical", asked).await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["message"].as_str().unwrap().contains("most rows"),
        "{body}"
    );
}

fn files_in(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_in(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "parquet") {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_in_its_last_row_leaves_no_data_file() {
    let app = App::sqlite().await;
    app.customers().await;
    // The types of columns are told from its first rows.
    let mut rows = "customer_id,event_timestamp\n".to_owned();
    for id in 0..20_000 {
        rows.push_str(&format!("{id},2025-11-01T00:00:00\n"));
    }
    rows.push_str("none,2025-11-01T00:00:00\n");
    for table in ["customer_aggregates", "new"] {
        let (status, body) = app.import(table, &rows).await;
        assert_eq!(status, 400, "{body}");
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let mut found = Vec::new();
        files_in(app.dir.path(), &mut found);
        // That of the customers.
        if found.len() == 1 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_table_that_several_make_at_once_is_made_once() {
    let app = App::sqlite().await;
    let imports = (0..6).map(|_| app.import("new", CUSTOMERS));
    let done = futures_util::future::join_all(imports).await;
    let count = |wanted: u16| done.iter().filter(|(status, _)| *status == wanted).count();
    // Who commits at the same moment as others is told to try again.
    assert_eq!(count(201) + count(409), 6, "{done:?}");
    let made = done.iter().filter(|(_, body)| body["created"] == true);
    assert!(made.count() <= 1, "{done:?}");
    let (_, table) = app.get("/feast/tables/gold/new").await;
    assert_eq!(table["snapshots"], count(201), "{table}");
}
