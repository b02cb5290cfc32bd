use std::convert::Infallible;

use futures_util::{Stream, stream};
use tempfile::TempDir;

use super::upload::PART_BYTES;
use super::*;

fn open() -> (Artifacts, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(&ArtifactsConfig::default(), dir.path()).unwrap();
    (artifacts, dir)
}

fn place(path: &str) -> Location {
    Location::root().join(path).unwrap()
}

fn content(size: usize) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let bytes = Bytes::from(vec![b'x'; size]);
    let chunks: Vec<_> = (0..size)
        .step_by(100_000)
        .map(|from| Ok(bytes.slice(from..size.min(from + 100_000))))
        .collect();
    stream::iter(chunks)
}

#[tokio::test]
async fn a_file_is_read_back_whole_and_in_part() {
    let (artifacts, _dir) = open();
    let file = place("1/run/artifacts/model/data");
    for size in [0, 10, PART_BYTES, 3 * PART_BYTES + 7] {
        let written = artifacts.put(&file, content(size)).await.unwrap();
        assert_eq!(written, size as u64);
        let read = artifacts.read(&file, u64::MAX).await.unwrap();
        assert_eq!(read.len(), size);
    }
    artifacts
        .put_bytes(&file, Bytes::from_static(b"0123456789"))
        .await
        .unwrap();
    let part = artifacts
        .get_range(&file, Some(GetRange::Bounded(2..5)))
        .await
        .unwrap();
    assert_eq!((part.size_bytes, part.range), (10, 2..5));
    let bytes: Vec<Bytes> = part.stream.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"234");
    assert!(matches!(
        artifacts
            .get_range(&file, Some(GetRange::Offset(10)))
            .await
            .err(),
        Some(Error::ArtifactRange { size_bytes: 10 })
    ));
    assert!(matches!(
        artifacts.read(&file, 9).await,
        Err(Error::ArtifactTooLarge { .. })
    ));
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing() {
    let (artifacts, dir) = open();
    let file = place("1/run/artifacts/data");
    artifacts
        .put_bytes(&file, Bytes::from_static(b"old"))
        .await
        .unwrap();
    let broken = stream::iter([
        Ok(Bytes::from(vec![0; 2 * PART_BYTES])),
        Err("the caller went away"),
    ]);
    let outcome = artifacts.put(&file, broken).await;
    assert!(matches!(outcome, Err(Error::Upload(_))));
    assert_eq!(artifacts.read(&file, 10).await.unwrap(), "old");
    let uploads = dir.path().join("artifacts").join(UPLOADS);
    // It is removed by a task of its own, as its caller may be gone.
    while unfinished(&uploads) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(artifacts);
    assert_eq!(std::fs::read_dir(uploads).unwrap().count(), 0);
}

/// How many files there are in the folders of uploads, beside their locks.
fn unfinished(uploads: &Path) -> usize {
    let folders = std::fs::read_dir(uploads).unwrap().flatten();
    folders
        .flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten())
        .filter(|entry| entry.file_name() != "lock")
        .count()
}

#[test]
fn only_the_uploads_of_servers_that_are_gone_are_removed() {
    let (living, dir) = open();
    let uploads = dir.path().join("artifacts").join(UPLOADS);
    let own = std::fs::read_dir(&uploads).unwrap().next().unwrap();
    std::fs::write(own.unwrap().path().join("part"), "half").unwrap();
    let dead = uploads.join("dead");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("lock"), "").unwrap();
    std::fs::write(dead.join("part"), "half").unwrap();
    let second = Artifacts::open(&ArtifactsConfig::default(), dir.path()).unwrap();
    assert!(!dead.exists());
    assert_eq!(unfinished(&uploads), 1);
    drop((living, second));
    assert_eq!(std::fs::read_dir(uploads).unwrap().count(), 0);
}

#[tokio::test]
async fn a_listing_is_one_level_and_never_an_error() {
    let (artifacts, _dir) = open();
    let run = place("1/run/artifacts");
    for path in ["b.txt", "a/x/deep.txt", "a/y.txt"] {
        let file = run.join(path).unwrap();
        artifacts
            .put_bytes(&file, Bytes::from_static(b"12345"))
            .await
            .unwrap();
    }
    let names = |entries: Vec<ArtifactEntry>| {
        entries
            .into_iter()
            .map(|e| (e.path, e.size_bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(artifacts.list(&run).await.unwrap()),
        [("a".into(), None), ("b.txt".into(), Some(5))]
    );
    let all = names(artifacts.list_all(&run).await.unwrap());
    let all: Vec<_> = all.into_iter().map(|(path, _)| path).collect();
    assert_eq!(all, ["a/x/deep.txt", "a/y.txt", "b.txt"]);
    for nothing in ["b.txt", "b.txt/c", "missing", "missing/too"] {
        let listed = artifacts.list(&run.join(nothing).unwrap()).await.unwrap();
        assert_eq!(listed, [], "{nothing}");
    }
    let root = names(artifacts.list(&Location::root()).await.unwrap());
    assert_eq!(root, [("1".into(), None)], "uploads are not shown");
}

#[tokio::test]
async fn a_listing_tells_that_another_file_of_the_same_size_came() {
    let (artifacts, _dir) = open();
    let mut tags = Vec::new();
    for content in ["abc", "abd"] {
        let bytes = Bytes::from_static(content.as_bytes());
        artifacts.put_bytes(&place("1/f"), bytes).await.unwrap();
        let listed = artifacts.list_all(&place("1")).await.unwrap();
        tags.push(listed[0].e_tag.clone().unwrap());
    }
    assert_ne!(tags[0], tags[1]);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_may_be_deleted() {
    let (artifacts, _dir) = open();
    artifacts
        .put_bytes(&place("1/f"), Bytes::new())
        .await
        .unwrap();
    for path in ["nothing", "1", "1/f/below", ""] {
        let file = Location::root().join(path).unwrap();
        let got = artifacts.get(&file).await.err();
        assert!(
            matches!(got, Some(Error::ArtifactNotFound { .. })),
            "{path}: {got:?}"
        );
    }
    artifacts.delete(&place("nothing/at/all")).await.unwrap();
    artifacts.delete(&place("1/f/below")).await.unwrap();
    artifacts.delete(&place("1")).await.unwrap();
    assert_eq!(artifacts.list(&Location::root()).await.unwrap(), []);
    assert!(artifacts.delete(&Location::root()).await.is_err());
}

#[tokio::test]
async fn a_file_cannot_take_the_place_of_a_folder() {
    let (artifacts, _dir) = open();
    artifacts
        .put_bytes(&place("1/folder/f"), Bytes::new())
        .await
        .unwrap();
    for path in ["1/folder", "1/folder/f/g"] {
        let put = artifacts.put(&place(path), content(10)).await;
        assert!(
            matches!(put, Err(Error::InvalidPath { .. })),
            "{path}: {put:?}"
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_links_are_not_followed() {
    let (artifacts, dir) = open();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    artifacts
        .put_bytes(&place("1/run/f"), Bytes::new())
        .await
        .unwrap();
    let run = dir.path().join("artifacts/1/run");
    std::os::unix::fs::symlink(outside.path(), run.join("folder")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), run.join("file")).unwrap();

    let listed = artifacts.list_all(&place("1/run")).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(artifacts.list(&place("1/run/folder")).await.unwrap(), []);
    for path in ["1/run/file", "1/run/folder/secret"] {
        let got = artifacts.get(&place(path)).await.err();
        assert!(
            matches!(got, Some(Error::ArtifactNotFound { .. })),
            "{path}"
        );
        assert!(artifacts.put(&place(path), content(1)).await.is_err());
        assert!(artifacts.delete(&place(path)).await.is_err());
    }
    artifacts.delete(&place("1/run")).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(outside.path().join("secret")).unwrap(),
        "secret"
    );
}

#[tokio::test]
async fn a_folder_is_copied_with_all_that_is_in_it() {
    let (artifacts, _dir) = open();
    for path in ["1/m/MLmodel", "1/m/code/x.py"] {
        artifacts
            .put_bytes(&place(path), Bytes::from_static(b"text"))
            .await
            .unwrap();
    }
    let into = tempfile::tempdir().unwrap();
    artifacts
        .download(&place("1/m"), into.path())
        .await
        .unwrap();
    let copied = std::fs::read_to_string(into.path().join("code/x.py")).unwrap();
    assert_eq!(copied, "text");
}

#[tokio::test]
async fn a_store_that_can_be_written_says_so() {
    let (artifacts, dir) = open();
    artifacts.check_writable().await.unwrap();
    assert_eq!(
        artifacts.local_dir(&place("1/m")).unwrap(),
        dir.path().canonicalize().unwrap().join("artifacts/1/m")
    );
}
