//! The folders of data that jobs see.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use sandbox::Mount;

/// The folders of `jobs.data_dirs` that are there at one moment, each with its device and inode. A
/// sandbox shows those that were there when it was made: a folder that comes later, or again, is
/// not in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DataDirs(Vec<(PathBuf, u64, u64)>);

impl DataDirs {
    pub(crate) fn now(configured: &[PathBuf]) -> Self {
        let found = configured.iter().filter_map(|path| {
            let folder = std::fs::metadata(path).ok().filter(|m| m.is_dir())?;
            Some((path.clone(), folder.dev(), folder.ino()))
        });
        Self(found.collect())
    }

    pub(crate) fn mounts(&self) -> impl Iterator<Item = Mount> {
        self.0.iter().map(|(path, ..)| Mount::read_only(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_comes_later_or_again_makes_a_difference() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let configured = [data.clone()];
        let before = DataDirs::now(&configured);
        assert_eq!(before.mounts().count(), 0);
        std::fs::create_dir(&data).unwrap();
        let there = DataDirs::now(&configured);
        assert_ne!(there, before);
        assert_eq!(there, DataDirs::now(&configured));
        std::fs::rename(&data, parent.path().join("old")).unwrap();
        std::fs::create_dir(&data).unwrap();
        assert_ne!(DataDirs::now(&configured), there);
    }
}
