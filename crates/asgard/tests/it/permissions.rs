//! The permission matrix: every route of the table, asked by everyone.

use axum::body::Body;
use axum::http::StatusCode;
use web::{Identity, Permission, Role};

use crate::site::{Site, request};

/// A path of a route's shape.
fn example(route: &str) -> String {
    let parts = route
        .split('/')
        .map(|part| if part.starts_with('{') { "x" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn callers() -> Vec<(&'static str, Identity)> {
    let key = |role: Role| Identity::Key {
        id: "k".to_owned(),
        name: role.as_str().to_owned(),
        role,
    };
    let mut callers = vec![
        ("nobody", Identity::Anonymous),
        ("this machine", Identity::Local),
        (
            "a job",
            Identity::Job {
                job_id: "j".to_owned(),
            },
        ),
    ];
    callers.extend(Role::ALL.map(|role| (role.as_str(), key(role))));
    callers
}

#[tokio::test]
async fn every_route_lets_in_who_may_and_nobody_else() {
    let site = Site::new().await;
    assert!(site.table.len() > 20, "{} routes", site.table.len());
    for (who, identity) in callers() {
        for entry in &site.table {
            let may = identity.may(entry.permission);
            // What may come in is answered by its handler, which could change the site for the
            // next; only refusals are asked for, and answers of what is public.
            if may && entry.permission != Permission::Public {
                continue;
            }
            let path = example(&entry.path);
            let sent = request(entry.method.as_str(), &path)
                .header("content-type", "application/json")
                .body(Body::from("{}"));
            let answer = site.send_as(identity.clone(), sent.unwrap()).await;
            let expected = match (may, who) {
                (true, _) => continue,
                (false, "nobody") => StatusCode::UNAUTHORIZED,
                (false, _) => StatusCode::FORBIDDEN,
            };
            assert_eq!(answer.status, expected, "{who}: {} {path}", entry.method);
        }
    }
}

#[tokio::test]
async fn a_job_reaches_tracking_features_and_its_progress_and_nothing_else() {
    let site = Site::new().await;
    let job = Identity::Job {
        job_id: "j".to_owned(),
    };
    for entry in site.table.iter().filter(|entry| job.may(entry.permission)) {
        let tracking = entry.style == web::Style::Mlflow;
        let own = entry.permission == Permission::Public || entry.path.ends_with("/progress");
        // A script may look for models, and register its own run's as MLflow's routes let it.
        let models =
            entry.permission == Permission::ReadTracking || entry.path == "/mlops/registry";
        let features = entry.permission == Permission::ReadFeatures;
        assert!(
            tracking || own || models || features,
            "a job may {} {}",
            entry.method,
            entry.path
        );
    }
}

#[tokio::test]
async fn what_no_route_names_is_never_served() {
    let site = Site::new().await;
    for path in [
        "/mlops/nothing",
        "/api/2.0/mlflow/nothing",
        "/api/9.9/x",
        "/feast/x",
        "/..",
        "/asgard.db",
    ] {
        let sent = request("GET", path).body(Body::empty()).unwrap();
        assert_eq!(
            site.send(sent).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn public_routes_are_few_and_known() {
    let site = Site::new().await;
    let mut public: Vec<&str> = site
        .table
        .iter()
        .filter(|entry| entry.permission == Permission::Public)
        .map(|entry| entry.path.as_str())
        .collect();
    public.sort_unstable();
    assert_eq!(
        public,
        [
            "/",
            "/ajax-api/3.0/mlflow/server-info",
            "/api/3.0/mlflow/server-info",
            "/docs",
            "/docs/{file}",
            "/health",
            "/openapi.json",
            "/version"
        ]
    );
}
