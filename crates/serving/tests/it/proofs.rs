//! Models are compared with Python before anybody asks them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use registry::{ModelVersion, Selector};
use serving::{Config, Variables};

use crate::setup::Stage;

/// How long a proof may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn proofs(stage: &Stage) -> Vec<PathBuf> {
    // Others are half written, or say that a model has none.
    kept(stage, |path| path.extension().is_none() && !is_hidden(path))
}

fn refuted(stage: &Stage) -> Vec<PathBuf> {
    kept(stage, |path| {
        path.extension().is_some_and(|e| e == "python")
    })
}

fn kept(stage: &Stage, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let folder = stage.data_dir.path().join("serving/proofs");
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| wanted(path)).collect()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with('.')
}

async fn until_proven(stage: &Stage, count: usize) {
    let proven = async {
        while proofs(stage).len() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, proven).await.unwrap();
}

/// A stage that proves nothing by itself.
async fn unproven() -> Stage {
    Stage::new(Config {
        prove_models: false,
        ..Config::default()
    })
    .await
}

async fn version(stage: &Stage, name: &str) -> ModelVersion {
    let found = stage.registry.resolve(name, &Selector::Latest).await;
    found.unwrap()
}

#[tokio::test]
async fn a_registered_model_is_proven_before_anybody_asks_it() {
    let stage = Stage::new(Config::default()).await;
    // Told first, and nothing comes of it.
    stage.register("logistic", "logistic").await;
    stage.register("forest", "forest").await;
    stage.register("xgboost", "xgboost").await;
    until_proven(&stage, 2).await;
    for model in ["forest", "xgboost"] {
        let (status, answer) = stage.ask(model, &stage.inputs(model)).await;
        assert_eq!(status, 200, "{answer:#}");
        assert_eq!(answer["engine"], "native");
        assert_eq!(answer["predictions"], stage.answers(model)["predictions"]);
    }
    assert_eq!(proofs(&stage).len(), 2);
}

#[tokio::test]
async fn whoever_deploys_a_model_gets_its_proof_and_joins_one_under_way() {
    let stage = Stage::new(Config::default()).await;
    stage.register("forest", "forest").await;
    let version = version(&stage, "forest").await;
    let none = Variables::default();
    let (first, second) = tokio::join!(
        stage.serving.prepare(&version, &none),
        stage.serving.prepare(&version, &none)
    );
    let [first, second] = [first, second].map(|prepared| prepared.unwrap().proof.unwrap());
    assert_eq!(first, second);
    assert_eq!(proofs(&stage), [first]);
}

#[tokio::test]
async fn what_runs_again_takes_a_proof_and_makes_none() {
    let stage = unproven().await;
    stage.register("forest", "forest").await;
    let version = version(&stage, "forest").await;
    let serving = stage.idle(Config::default());
    let again = async || serving.prepare_again(&version).await.unwrap().proof;
    assert_eq!(again().await, None);
    assert!(proofs(&stage).is_empty());
    let none = Variables::default();
    let made = serving.prepare(&version, &none).await.unwrap().proof;
    assert!(made.is_some());
    assert_eq!(again().await, made);
}

#[tokio::test]
async fn what_only_python_answers_has_no_proof_and_is_served_all_the_same() {
    let stage = Stage::new(Config::default()).await;
    // Text labels from an engine that gives other bits: it looks like trees.
    stage.register("lightgbm_iris", "lightgbm_iris").await;
    let version = version(&stage, "lightgbm_iris").await;
    for _ in 0..2 {
        let prepared = stage.serving.prepare(&version, &Variables::default()).await;
        assert!(prepared.unwrap().proof.is_none());
    }
    let inputs = stage.inputs("lightgbm_iris");
    let (status, answer) = stage.ask("lightgbm_iris", &inputs).await;
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(answer["engine"], "python");
}

#[tokio::test]
async fn that_only_python_answers_is_known_after_a_restart() {
    let stage = unproven().await;
    stage.register("lightgbm_iris", "lightgbm_iris").await;
    let version = version(&stage, "lightgbm_iris").await;
    let none = Variables::default();
    let mut found = None;
    for _ in 0..2 {
        let serving = stage.idle(Config::default());
        let prepared = serving.prepare(&version, &none).await.unwrap();
        assert_eq!(prepared.proof, None);
        let [file] = &refuted(&stage)[..] else {
            panic!("{:?}", refuted(&stage));
        };
        let reason = std::fs::read_to_string(file).unwrap();
        assert!(reason.contains("objective"), "{reason}");
        // Comparing again would write it again.
        let written = std::fs::metadata(file).unwrap().modified().unwrap();
        assert_eq!(*found.get_or_insert(written), written);
    }
}

#[tokio::test]
async fn a_proof_is_not_made_for_variables_that_it_would_not_hold_for() {
    let stage = unproven().await;
    stage.register("forest", "forest").await;
    let version = version(&stage, "forest").await;
    let own = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    for variables in [Variables::default(), own.into()] {
        let prepared = stage.serving.prepare(&version, &variables).await.unwrap();
        assert!(prepared.proof.is_none());
    }
    assert!(proofs(&stage).is_empty());
}
