//! Reading logs: by offset, as events, and huge ones.

use axum::http::Method;
use serde_json::json;
use web::Identity;

use crate::server::{Server, both, config};

async fn finished(server: &Server, script: &str) -> String {
    let id = server.upload(script, json!({})).await;
    server.end(&id).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_on_from_any_byte() {
    for server in both(&config()).await {
        let worker = server.work();
        let id = finished(&server, "print('one ✅')\nprint('two')").await;
        let path = format!("/mlops/training/jobs/{id}/logs");
        let whole = server.get(&path).await.expect(200);
        assert_eq!(whole["done"], true, "{}", server.name);
        let text = whole["logs"].as_str().unwrap();
        let end = whole["next_offset"].as_i64().unwrap();
        assert_eq!(usize::try_from(end).unwrap(), text.len());
        let at = text.find("two").unwrap();
        let rest = server.get(&format!("{path}?offset={at}")).await.expect(200);
        assert_eq!(rest["logs"], &text[at..]);
        let nothing = server
            .get(&format!("{path}?offset={end}"))
            .await
            .expect(200);
        assert_eq!(
            (&nothing["logs"], &nothing["done"]),
            (&json!(""), &json!(true))
        );
        let streams: Vec<_> = whole["chunks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["stream"].clone())
            .collect();
        assert!(streams.contains(&json!("platform")) && streams.contains(&json!("stdout")));
        server.get(&format!("{path}?offset=-1")).await.expect(400);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_follow_a_job_to_its_end_and_resume() {
    for server in both(&config()).await {
        let worker = server.work();
        let id = server.upload("import time\nfor i in range(3):\n    print('line', i, flush=True)\n    time.sleep(0.2)\n", json!({})).await;
        let path = format!("/mlops/training/jobs/{id}/logs");
        let headers = [("accept", "text/event-stream")];
        let answer = server
            .send(Identity::Local, Method::GET, &path, &headers, None)
            .await;
        let events = answer.text();
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        for part in [
            "event: status",
            "event: log",
            "line 2",
            "event: end",
            "\"status\":\"failed\"",
        ] {
            assert!(
                events.contains(part),
                "{}: {part} is not in {events}",
                server.name
            );
        }
        assert!(
            events
                .trim_end()
                .lines()
                .rev()
                .take(2)
                .any(|l| l == "event: end"),
            "{events}"
        );
        let last = events
            .lines()
            .filter_map(|l| l.strip_prefix("id: "))
            .next_back()
            .unwrap();
        let headers = [("accept", "text/event-stream"), ("last-event-id", last)];
        let answer = server
            .send(Identity::Local, Method::GET, &path, &headers, None)
            .await;
        assert!(!answer.text().contains("event: log"), "{}", answer.text());
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_huge_log_the_head_and_the_tail_are_kept() {
    let mut config = config();
    config.log_head_bytes = 20_000;
    config.log_tail_bytes = 200_000;
    for server in both(&config).await {
        let worker = server.work();
        let id = finished(&server, "print('first line')\nfor i in range(300_000):\n    print('a line of the middle', i)\nprint('last line')\n").await;
        let job = server.job(&id).await;
        let logs = job["logs"].as_str().unwrap();
        assert!(
            logs.contains("first line") && logs.contains("last line"),
            "{}",
            server.name
        );
        assert!(logs.contains("bytes of the log left out"));
        assert!(logs.len() < 600_000, "{}", logs.len());
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_shown_escaped_and_secrets_covered() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let script =
        "import os\nos.write(1, b'bad \\xff\\n')\nprint('key', os.environ['API_TOKEN'], end='')\n";
    let more = json!({"environment_vars": {"API_TOKEN": "s3cr3t-value"}});
    let id = server.upload(script, more).await;
    let job = server.end(&id).await;
    let logs = job["logs"].as_str().unwrap();
    assert!(logs.contains("bad \\xff\n"), "{logs}");
    // The platform's next line begins on its own.
    assert!(logs.contains("key ***\n"), "{logs}");
    assert_eq!(job["environment_vars"]["API_TOKEN"], "***");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_removed_when_it_is_old_and_says_so() {
    for server in both(&config()).await {
        let worker = server.work();
        let old = server.upload("print('old')", json!({})).await;
        let young = server.upload("print('young')", json!({})).await;
        server.end(&old).await;
        server.end(&young).await;
        server.age(&old, 91).await;
        assert_eq!(
            server.jobs.prune_logs().await.unwrap(),
            1,
            "{}",
            server.name
        );
        assert_eq!(server.jobs.prune_logs().await.unwrap(), 0);
        let job = server.job(&old).await;
        let logs = job["logs"].as_str().unwrap();
        assert!(
            logs.starts_with("[the log was removed") && !logs.contains("old"),
            "{logs}"
        );
        assert_eq!(job["error_info"]["code"], "no_mlflow_run");
        let kept = server.job(&young).await;
        assert!(kept["logs"].as_str().unwrap().contains("young\n"));
        worker.stop().await;
    }
}
