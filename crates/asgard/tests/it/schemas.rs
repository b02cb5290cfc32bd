//! Databases of every earlier schema, filled, are brought up to date with nothing lost.

use asgard::platform::MIGRATIONS;
use db::{Backend, Db, Migrations, query};
use registry::Selector;
use tracking::{Artifacts, ArtifactsConfig, Tracking};

/// Rows as the first schema of a domain takes them; later ones are reached by migrations.
fn rows(domain: &str) -> &'static str {
    match domain {
        "asgard" => include_str!("schemas/asgard.sql"),
        "tracking" => include_str!("schemas/tracking.sql"),
        "registry" => include_str!("schemas/registry.sql"),
        "jobs" => include_str!("schemas/jobs.sql"),
        "deploy" => include_str!("schemas/deploy.sql"),
        _ => "",
    }
}

/// All domains, each with its first `steps` steps at most.
fn up_to(steps: usize) -> Vec<Migrations> {
    MIGRATIONS
        .iter()
        .map(|all| Migrations {
            domain: all.domain,
            steps: &all.steps[..all.steps.len().min(steps)],
        })
        .collect()
}

async fn fill(db: &Db, domain: &str) {
    let blob = match db.backend() {
        Backend::Sqlite => "BLOB",
        Backend::Postgres => "BYTEA",
    };
    let mut tx = db.begin().await.unwrap();
    for statement in rows(domain)
        .split(";\n")
        .map(str::trim)
        .filter(|s| !s.is_empty())
    {
        let statement = statement.replace("BLOB_TYPE", blob);
        let done = query(statement.as_str()).execute(&mut tx).await;
        done.unwrap_or_else(|error| panic!("{error}: {statement}"));
    }
    tx.commit().await.unwrap();
}

/// The tables that the rows of a domain are in, and how many each holds.
async fn counts(db: &Db) -> Vec<(String, i64)> {
    let mut conn = db.acquire().await.unwrap();
    let mut counts = Vec::new();
    for migrations in MIGRATIONS {
        for statement in rows(migrations.domain).split("INSERT INTO ").skip(1) {
            let table = statement.split_whitespace().next().unwrap();
            let row = query(format!("SELECT COUNT(*) FROM {table}"))
                .fetch_one(&mut conn)
                .await;
            counts.push((table.to_owned(), row.unwrap().get(0)));
        }
    }
    counts
}

#[tokio::test]
async fn every_earlier_schema_is_brought_up_to_date_with_its_rows() {
    let newest = MIGRATIONS.iter().map(|m| m.steps.len()).max().unwrap();
    for earlier in 1..=newest {
        for db in db::testing::both(&up_to(1)).await {
            for migrations in MIGRATIONS {
                fill(&db, migrations.domain).await;
            }
            let before = counts(&db).await;
            assert!(before.iter().all(|(_, rows)| *rows > 0), "{before:?}");
            db.migrate(&up_to(earlier)).await.unwrap();
            let pending = db.pending(MIGRATIONS).await.unwrap();
            assert_eq!(
                db.migrate(MIGRATIONS).await.unwrap(),
                pending,
                "{} from {earlier}",
                db.name
            );
            assert!(db.pending(MIGRATIONS).await.unwrap().is_empty());
            assert_eq!(counts(&db).await, before, "{} from {earlier}", db.name);
            works(&db).await;
        }
    }
}

/// The rows mean what they meant.
async fn works(db: &Db) {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(&ArtifactsConfig::default(), dir.path()).unwrap();
    let tracking = Tracking::new(db.clone(), artifacts);
    let run = tracking
        .get_run("0123456789abcdef0123456789abcdef")
        .await
        .unwrap();
    assert_eq!(
        (&*run.name, run.job_id.as_deref()),
        ("calm-owl-1", Some("job-1"))
    );
    let experiment = tracking.get_experiment_by_name("churn").await.unwrap();
    assert_eq!(experiment.tags, [("team".to_owned(), "a".to_owned())]);
    let model = tracking
        .get_logged_model("m-0123456789abcdef0123456789abcdef")
        .await
        .unwrap();
    assert_eq!(model.params["depth"], "3");
    let registry = registry::Registry::new(db.clone(), tracking);
    let champion = registry
        .resolve("churn", &Selector::Alias("champion".to_owned()))
        .await
        .unwrap();
    assert_eq!((champion.version, &*champion.description), (2, "good"));
    let keys = asgard::key::Keys::new(db.clone()).list().await.unwrap();
    assert_eq!(keys[0].name, "ci");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    for db in db::testing::both(MIGRATIONS).await {
        let older = up_to(MIGRATIONS.iter().map(|m| m.steps.len()).max().unwrap() - 1);
        let refused = db.migrate(&older).await.unwrap_err().to_string();
        assert!(
            refused.contains("use the version that made it, or a newer one"),
            "{refused}"
        );
        assert!(db.pending(&older).await.is_err());
    }
}
