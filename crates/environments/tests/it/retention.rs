//! Environments and uv's cache go when nobody needs them any more.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use environments::{Config, Environments};

use crate::setup::{config, ensure, open, python, request};

/// Lets the last use of an environment be that many days ago.
fn age(data_dir: &Path, key: &str, days: u64) {
    let description = format!("environments/{key}/.asgard-environment.json");
    let used = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    let file = File::options().write(true).open(data_dir.join(description));
    file.unwrap().set_modified(used).unwrap();
}

async fn prune(environments: &Environments, needed: &[&str]) -> usize {
    let needed: HashSet<String> = needed.iter().map(|key| (*key).to_owned()).collect();
    environments.prune(needed).await.unwrap().environments
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_old_and_needed_by_nobody_is_removed() {
    let data = tempfile::tempdir().unwrap();
    let environments = open(data.path(), &config().await).await;
    let (held, _) = ensure(&environments, &request(&["six"])).await.unwrap();
    let key = held.key.clone();
    assert_eq!(prune(&environments, &[]).await, 0, "used now");
    age(data.path(), &key, 31);
    assert_eq!(environments.kept().await.unwrap().unused, 1);
    assert_eq!(prune(&environments, &[]).await, 0, "held");
    drop(held);
    assert_eq!(prune(&environments, &[&key]).await, 0, "a version needs it");
    let found = environments.find(&key).await.unwrap();
    assert_eq!(environments.kept().await.unwrap().unused, 0, "use counts");
    drop(found);
    age(data.path(), &key, 31);
    // The task that built it may hold it for a moment longer.
    let patience = Instant::now() + Duration::from_secs(60);
    while prune(&environments, &[]).await == 0 {
        assert!(Instant::now() < patience, "it stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(environments.find(&key).await.is_none());
    let (again, _) = ensure(&environments, &request(&["six"])).await.unwrap();
    assert_eq!(again.key, key);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lists_meant_is_forgotten_beyond_a_size_but_not_what_was_used_last() {
    let data = tempfile::tempdir().unwrap();
    let config = Config {
        // One file takes at least a block of the disk.
        resolutions_limit_bytes: 32 * 1024,
        ..config().await
    };
    let environments = open(data.path(), &config).await;
    ensure(&environments, &request(&["six"])).await.unwrap();
    let folder = data.path().join("cache/resolutions");
    let mut made = std::fs::read_dir(&folder).unwrap();
    let made = made.next().unwrap().unwrap().path();
    for at in 0..40 {
        let file = folder.join(format!("{at:064x}.json"));
        std::fs::write(&file, vec![b' '; 4_000]).unwrap();
        let used = SystemTime::now() - Duration::from_secs(3_600 - at);
        let file = File::options().write(true).open(file).unwrap();
        file.set_modified(used).unwrap();
    }
    ensure(&environments, &request(&["six"])).await.unwrap();
    let forgotten = environments.prune(HashSet::new()).await.unwrap();
    let kept = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(forgotten.resolutions + kept, 41);
    assert!((1..=8).contains(&kept), "{kept}");
    assert!(!folder.join(format!("{:064x}.json", 0)).exists());
    assert!(made.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_cache_is_removed_and_environments_stay_whole() {
    let data = tempfile::tempdir().unwrap();
    let config = Config {
        cache_limit_bytes: 1,
        ..config().await
    };
    let environments = open(data.path(), &config).await;
    let (built, _) = ensure(&environments, &request(&["six"])).await.unwrap();
    let before = environments.kept().await.unwrap();
    assert_eq!(before.environments, 1);
    assert!(before.cache_bytes > 10_000, "{before:?}");
    assert!(environments.prune(HashSet::new()).await.unwrap().cache);
    assert_eq!(environments.kept().await.unwrap().cache_bytes, 0);
    let (exit, said) = python(&built, "import six; print(six.__name__)").await;
    assert!(exit.success() && said.trim() == "six", "{said}");
    ensure(&environments, &request(&["tabulate"]))
        .await
        .unwrap();
}
