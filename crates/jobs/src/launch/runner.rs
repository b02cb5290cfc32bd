//! The runner's files in the data directory: what every job finds beside its script.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The files that every job finds beside its script.
const FILES: [(&str, &str); 8] = [
    ("runner.py", include_str!("../../python/runner.py")),
    (
        "site/asgard/__init__.py",
        include_str!("../../../../python/asgard/__init__.py"),
    ),
    (
        "site/asgard/client.py",
        include_str!("../../../../python/asgard/client.py"),
    ),
    (
        "site/asgard/columns.py",
        include_str!("../../../../python/asgard/columns.py"),
    ),
    (
        "site/asgard/errors.py",
        include_str!("../../../../python/asgard/errors.py"),
    ),
    (
        "site/asgard/job.py",
        include_str!("../../../../python/asgard/job.py"),
    ),
    (
        "site/asgard/run.py",
        include_str!("../../../../python/asgard/run.py"),
    ),
    (
        "site/asgard/transport.py",
        include_str!("../../../../python/asgard/transport.py"),
    ),
];

/// Writes the files once per content, and gives their folder.
pub(super) fn write(parent: &Path) -> std::io::Result<PathBuf> {
    let mut hasher = Sha256::new();
    for (name, content) in FILES {
        hasher.update(name);
        hasher.update(content);
    }
    let folder = parent.join(&format!("{:x}", hasher.finalize())[..16]);
    if is_whole(&folder) {
        return Ok(folder);
    }
    if folder.is_dir() {
        // A loss of power may leave files without their content.
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(parent)?;
    let unfinished = tempfile::Builder::new().prefix("new-").tempdir_in(parent)?;
    for (name, content) in FILES {
        let path = unfinished.path().join(name);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, content)?;
    }
    make_readable(unfinished.path())?;
    match std::fs::rename(unfinished.keep(), &folder) {
        // Another server of the same data directory was quicker.
        Err(_) if is_whole(&folder) => Ok(folder),
        Err(error) => Err(error),
        Ok(()) => Ok(folder),
    }
}

fn is_whole(folder: &Path) -> bool {
    FILES.iter().all(|(name, content)| {
        std::fs::read(folder.join(name)).is_ok_and(|found| found == content.as_bytes())
    })
}

/// Temporary folders are private to their owner; the job's user must read this one.
fn make_readable(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = write(dir.path()).unwrap();
        assert_eq!(write(dir.path()).unwrap(), first);
        assert!(first.join("runner.py").is_file() && first.join("site/asgard/job.py").is_file());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_runner_that_lost_its_content_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = write(dir.path()).unwrap();
        std::fs::write(folder.join("runner.py"), "").unwrap();
        assert_eq!(write(dir.path()).unwrap(), folder);
        assert!(is_whole(&folder));
    }
}
