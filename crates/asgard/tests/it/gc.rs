//! Emptying the bin, by HTTP and by the command line.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::server::{Server, code, run, stderr, stdout};
use crate::site::{Site, request};

async fn post(site: &Site, path: &str, body: Value) -> Value {
    let sent = request("POST", path).header("content-type", "application/json");
    let answer = site
        .send_locally(sent.body(Body::from(body.to_string())).unwrap())
        .await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    answer.json()
}

async fn mlflow(site: &Site, path: &str, body: Value) -> Value {
    post(site, &format!("/api/2.0/mlflow/{path}"), body).await
}

/// Every page of a collection of all that is deleted.
async fn collect(site: &Site, dry_run: bool) -> Vec<Value> {
    let mut items = Vec::new();
    let mut after = Value::Null;
    loop {
        let body = json!({"dry_run": dry_run, "older_than_seconds": 0, "after": after});
        let page = post(site, "/mlops/gc", body).await;
        items.extend(page["items"].as_array().unwrap().clone());
        after = page["next"].clone();
        if after.is_null() {
            return items;
        }
    }
}

/// A run with a file, in the default experiment.
async fn run_with_file(site: &Site) -> String {
    let made = mlflow(site, "runs/create", json!({"experiment_id": "0"})).await;
    let run_id = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/model/MLmodel");
    let put = request("PUT", &path).body(Body::from("weights")).unwrap();
    assert_eq!(site.send_locally(put).await.status, StatusCode::OK);
    run_id
}

#[tokio::test]
async fn a_dry_run_tells_and_the_real_one_removes_what_no_version_uses() {
    let site = Site::new().await;
    let (used, unused) = (run_with_file(&site).await, run_with_file(&site).await);
    mlflow(&site, "registered-models/create", json!({"name": "m"})).await;
    let version = json!({"name": "m", "source": format!("runs:/{used}/model"), "run_id": used});
    mlflow(&site, "model-versions/create", version).await;
    for run_id in [&used, &unused] {
        mlflow(&site, "runs/delete", json!({"run_id": run_id})).await;
    }
    // A day has not gone by.
    let young = post(
        &site,
        "/mlops/gc",
        json!({"older_than_seconds": 86_400, "after": "run:"}),
    )
    .await;
    assert_eq!(young["items"], json!([]));

    let told = collect(&site, true).await;
    let of = |items: &[Value], id: &str| items.iter().find(|item| item["id"] == id).cloned();
    let kept = of(&told, &used).unwrap();
    assert_eq!(kept["removed"], false);
    assert_eq!(kept["kept"], "version 1 of the model \"m\" uses it");
    let doomed = of(&told, &unused).unwrap();
    assert_eq!(
        (&doomed["removed"], &doomed["files"], &doomed["size_bytes"]),
        (&json!(true), &json!(1), &json!(7))
    );

    let done = collect(&site, false).await;
    assert_eq!(done, told, "the dry run told what would be");
    assert_eq!(of(&collect(&site, false).await, &unused), None);
    let get = |run_id: &str| {
        request("GET", &format!("/api/2.0/mlflow/runs/get?run_id={run_id}"))
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(
        site.send_locally(get(&unused)).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(site.send_locally(get(&used)).await.status, StatusCode::OK);

    // Once no version uses it, it goes.
    let gone = request("DELETE", "/api/2.0/mlflow/registered-models/delete?name=m")
        .body(Body::empty())
        .unwrap();
    assert_eq!(site.send_locally(gone).await.status, StatusCode::OK);
    assert_eq!(
        of(&collect(&site, false).await, &used).unwrap()["removed"],
        true
    );
}

#[tokio::test]
async fn many_things_go_page_by_page() {
    let site = Site::new().await;
    let experiment = mlflow(&site, "experiments/create", json!({"name": "e"})).await;
    let id = experiment["experiment_id"].as_str().unwrap();
    for _ in 0..120 {
        mlflow(&site, "runs/create", json!({"experiment_id": id})).await;
    }
    mlflow(&site, "experiments/delete", json!({"experiment_id": id})).await;
    assert_eq!(collect(&site, true).await.len(), 121);
    let done = collect(&site, false).await;
    assert_eq!(done.len(), 121);
    assert!(done.iter().all(|item| item["removed"] == true), "{done:?}");
    assert!(collect(&site, false).await.is_empty());
    mlflow(&site, "experiments/create", json!({"name": "e"})).await;
}

#[test]
fn the_command_works_through_a_server_and_without_one() {
    let home = tempfile::tempdir().unwrap();
    let make = |server: &Server, path: &str, body: Value| -> Value {
        let text = body.to_string();
        let answer = crate::server::answer(server.connect(&format!(
            "POST /api/2.0/mlflow/{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            server.address(),
            text.len(),
        )));
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    let mut server = Server::start(home.path(), &[]);
    for name in ["online", "offline"] {
        let made = make(&server, "experiments/create", json!({"name": name}));
        make(
            &server,
            "experiments/delete",
            json!({"experiment_id": made["experiment_id"]}),
        );
        let url = server.url.clone();
        if name == "offline" {
            server.terminate();
            server.ended();
        }
        let at = |args: &[&str]| {
            let mut command = crate::server::asgard(home.path());
            command.arg("gc").args(args);
            if name == "online" {
                command.env("ASGARD_URL", &url);
            }
            command.output().unwrap()
        };
        let young = at(&[]);
        assert_eq!(
            (code(&young), stdout(&young).trim()),
            (0, "there is nothing to remove"),
            "{}",
            stderr(&young)
        );
        let told = at(&["--older-than", "0s", "--dry-run"]);
        assert!(stdout(&told).contains(name), "{}", stdout(&told));
        assert!(
            stderr(&told).contains("1 would be removed: 0 files, 0 bytes"),
            "{}",
            stderr(&told)
        );
        let done = at(&["--older-than", "0s", "--json"]);
        let done: Value = serde_json::from_str(&stdout(&done)).unwrap();
        assert_eq!(
            (&done["removed"], &done["items"][0]["name"]),
            (&json!(1), &json!(name))
        );
        assert_eq!(
            stdout(&at(&["--older-than", "0s"])).trim(),
            "there is nothing to remove"
        );
    }
    let refused = run(home.path(), &["gc", "--older-than", "soon"]);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
}
