//! What is done with models that nobody has asked yet: how little is brought for it, and what becomes of
//! it when whoever waits goes away.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::Duration;

use registry::Selector;
use serving::{Config, Variables};

use crate::setup::Stage;

/// How long something may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

async fn until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let held = tokio::time::timeout(LONG, held).await;
    held.unwrap_or_else(|_| panic!("never: {what}"));
}

/// How many models have a copy on this machine.
fn copies(stage: &Stage) -> usize {
    let entries = fs::read_dir(stage.data_dir.path().join("serving/models"));
    let names = entries.into_iter().flatten().map(|entry| entry.unwrap());
    let copies = names.filter(|entry| entry.file_type().unwrap().is_dir());
    copies
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with("part-"))
        .count()
}

/// The workers of a stage that have not ended, each by the child of this process that it is or runs
/// under: other tests may run in this process too.
fn workers(stage: &Stage) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes
        .filter(|process| is_in(stage, *process))
        .filter_map(child)
        .collect()
}

/// Whether a process works in the stage's folder or sees a part of it as a place of its own. One that
/// has ended meanwhile does not.
fn is_in(stage: &Stage, process: u32) -> bool {
    let name = stage.data_dir.path().file_name().unwrap().to_str().unwrap();
    let place = fs::read_link(format!("/proc/{process}/cwd")).unwrap_or_default();
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    place.to_string_lossy().contains(name) || mounts.contains(name)
}

/// The child of this process among a process and those that it runs under.
fn child(mut process: u32) -> Option<u32> {
    loop {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let parent = after_name.split_whitespace().nth(1)?.parse().ok()?;
        if parent == std::process::id() {
            return Some(process);
        }
        process = parent;
    }
}

#[tokio::test]
async fn models_that_are_not_proven_are_not_brought_out_of_a_bucket() {
    let stage = Stage::in_bucket(Config::default()).await;
    stage.register("svc", "svc").await;
    let forest = stage.folder("forest");
    let larger = |folder: &std::path::Path| {
        let weights = File::create(folder.join("weights")).unwrap();
        weights.set_len((1 << 30) + 1).unwrap();
    };
    stage.register_changed("large", &forest, true, larger).await;
    let unknown = |folder: &std::path::Path| {
        fs::write(folder.join("requirements.txt"), "nobody-built-this==1\n").unwrap();
    };
    stage
        .register_changed("foreign", &forest, false, unknown)
        .await;
    // They are looked at one after the other, so this one is the last.
    stage.register("forest", "forest").await;
    let proofs = stage.data_dir.path().join("serving/proofs");
    let is_proof = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        !name.to_string_lossy().contains('.')
    };
    until("the last is proven", || {
        let entries = fs::read_dir(&proofs).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap())
            .any(|entry| is_proof(&entry))
    })
    .await;
    assert_eq!(copies(&stage), 1, "of the one that was proven");
    let (status, answer) = stage.ask("svc", &stage.inputs("svc")).await;
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(copies(&stage), 2);
}

#[tokio::test]
async fn a_load_for_a_proof_ends_with_whoever_waits_for_it() {
    let stage = Stage::new(Config {
        prove_models: false,
        ..Config::default()
    })
    .await;
    stage.register("forest", "forest").await;
    let version = stage.registry.resolve("forest", &Selector::Latest).await;
    let version = version.unwrap();
    let serving = stage.idle(Config::default());
    let none = Variables::default();
    let before = workers(&stage);
    tokio::select! {
        prepared = serving.prepare(&version, &none) => drop(prepared.unwrap()),
        () = until("it is loaded", || workers(&stage) != before) => {}
    }
    until("nothing of it runs", || workers(&stage) == before).await;
    let prepared = serving.prepare(&version, &none).await.unwrap();
    assert!(
        prepared.proof.is_some(),
        "the next one is not held up by it"
    );
    until("nothing of that runs either", || workers(&stage) == before).await;
}

#[tokio::test]
async fn a_load_for_an_answer_goes_on_without_whoever_asked() {
    let stage = Stage::new(Config {
        native: false,
        ..Config::default()
    })
    .await;
    stage.register("forest", "forest").await;
    let inputs = stage.inputs("forest");
    let before = workers(&stage);
    tokio::select! {
        _ = stage.ask("forest", &inputs) => {}
        () = until("it is loaded", || workers(&stage) != before) => {}
    }
    let worker = workers(&stage);
    let (status, answer) = stage.ask("forest", &inputs).await;
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(
        workers(&stage),
        worker,
        "the same worker answers the next one"
    );
}
