//! Removing what nobody needs, beside the requests.

use db::{Db, query};

use crate::site::Site;

async fn execute(db: &Db, sql: &str) {
    let mut tx = db.begin().await.unwrap();
    query(sql).execute(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn deployments(db: &Db) -> i64 {
    let mut conn = db.acquire().await.unwrap();
    let row = query("SELECT COUNT(*) FROM deployments").fetch_one(&mut conn);
    row.await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_is_told_and_holds_up_no_other() {
    let site = Site::new().await;
    assert!(site.platform.tidy().await.is_empty());
    execute(
        &site.db,
        "INSERT INTO deployments (deployment_id, namespace, model_name, machine, request,
            request_hash, created_by, status, attempt, replicas, traffic, timings, created_at,
            completed_at, removed_at)
         VALUES ('d', 'n', 'm', 'x', '{}', 'h', 'local', 'failed', 1, 1, 0, '[]', 1, 1, 1)",
    )
    .await;
    execute(
        &site.db,
        "ALTER TABLE training_job_logs RENAME TO elsewhere",
    )
    .await;
    let failed = site.platform.tidy().await;
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(
        failed[0].to_string().contains("removing old logs"),
        "{:#}",
        failed[0]
    );
    assert_eq!(deployments(&site.db).await, 0);
}
