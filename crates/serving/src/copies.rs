//! Copies of models whose files are elsewhere, in a folder of this machine that is kept within a
//! size: beyond it those go that were used longest ago. One that is held stays.
//!
//! A copy is whole or does not exist: it is made under another name and renamed. Whoever makes or
//! uses one holds a shared lock on its folder, whose time of change tells when it was last used.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// How the names of folders begin that are no copies yet, or no more.
const PART: &str = "part-";

/// A model's folder on this machine, which stays there for as long as this or a clone of it does.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    _hold: Option<Arc<Hold>>,
}

/// A shared lock on a copy.
#[derive(Debug)]
struct Hold(File);

impl Hold {
    fn note_use(&self) {
        if let Err(error) = self.0.set_modified(SystemTime::now()) {
            tracing::warn!(%error, "noting that the copy of a model is used failed");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.note_use();
    }
}

impl From<PathBuf> for Folder {
    /// A folder that somebody else keeps.
    fn from(path: PathBuf) -> Self {
        Self { path, _hold: None }
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// A folder that becomes a copy; removed unless it is published.
#[derive(Debug)]
pub(crate) struct Part {
    folder: TempDir,
    /// Locked, so that nobody takes it for one that a killed server left behind.
    lock: File,
}

impl Part {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The folder of copies.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    root: PathBuf,
    /// 0: without end.
    limit_bytes: u64,
    /// Held while a copy is moved to its place or away from it.
    moving: Arc<Mutex<()>>,
}

impl Copies {
    pub(crate) fn new(root: PathBuf, limit_bytes: u64) -> Self {
        Self {
            root,
            limit_bytes,
            moving: Arc::default(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A copy, held and counted as used now.
    pub(crate) fn find(&self, name: &str) -> Option<Folder> {
        let path = self.root.join(name);
        let file = File::open(&path).ok()?;
        // Held by others who use it, or by who removes it.
        flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
        // It may have been moved away just before it was held.
        is_at(&file, &path).ok()?.then(|| held(path, file))
    }

    /// A folder to bring files into.
    pub(crate) fn begin(&self) -> io::Result<Part> {
        fs::create_dir_all(&self.root)?;
        loop {
            let folder = TempDir::with_prefix_in(PART, &self.root)?;
            // Before it is locked somebody may take it for one that was left behind.
            let Some(lock) = there(File::open(folder.path()))? else {
                continue;
            };
            flock(&lock, FlockOperation::LockShared)?;
            if is_at(&lock, folder.path())? {
                return Ok(Part { folder, lock });
            }
        }
    }

    /// Makes what has been brought the copy of this name, unless another request was quicker.
    pub(crate) fn publish(&self, part: Part, name: &str) -> io::Result<Folder> {
        let place = self.root.join(name);
        let _moving = self.moving();
        match fs::rename(part.path(), &place) {
            Ok(()) => {
                let _ = part.folder.keep();
                // Its lock is on the folder, not on the name: it is held without a gap.
                Ok(held(place, part.lock))
            }
            Err(error) => self.find(name).ok_or(error),
        }
    }

    fn moving(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes copies that nobody holds, those used longest ago first, until the rest is within
    /// the limit; how many went.
    pub(crate) fn prune(&self) -> io::Result<usize> {
        let mut copies = self.list()?;
        copies.sort_by_key(|copy| copy.used);
        let mut bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();
        let mut removed = 0;
        for copy in copies {
            if self.limit_bytes == 0 || bytes <= self.limit_bytes {
                break;
            }
            match self.remove(&copy.path)? {
                Removal::Held => continue,
                Removal::Gone => {}
                Removal::Done => {
                    removed += 1;
                    tracing::info!(
                        folder = %copy.path.display(),
                        bytes = copy.bytes,
                        "the copy of a model that was used longest ago is removed"
                    );
                }
            }
            bytes -= copy.bytes;
        }
        Ok(removed)
    }

    /// The copies; what a killed server left behind is removed on the way.
    fn list(&self) -> io::Result<Vec<Copy>> {
        let mut copies = Vec::new();
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(copies),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(found) = entry.metadata() else {
                continue;
            };
            let used = found.modified()?;
            let path = entry.path();
            if !entry.file_name().to_string_lossy().starts_with(PART) {
                // Another request may be removing it.
                if let Some(bytes) = there(size_bytes(&path))? {
                    copies.push(Copy { path, used, bytes });
                }
            } else if let Some(_lock) = self.left_behind(&path)? {
                there(fs::remove_dir_all(&path))?;
            }
        }
        Ok(copies)
    }

    /// The lock on an unfinished copy that nobody makes any more.
    fn left_behind(&self, part: &Path) -> io::Result<Option<File>> {
        let _moving = self.moving();
        let Some(file) = there(File::open(part))? else {
            return Ok(None);
        };
        let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok((free && is_at(&file, part)?).then_some(file))
    }

    /// Removes a copy unless somebody holds it: from its place at once, from the disk in its time.
    fn remove(&self, path: &Path) -> io::Result<Removal> {
        let doomed = self.begin()?;
        {
            let _moving = self.moving();
            let Some(file) = there(File::open(path))? else {
                return Ok(Removal::Gone);
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Ok(Removal::Held);
            }
            if !is_at(&file, path)? {
                return Ok(Removal::Gone);
            }
            fs::rename(path, doomed.path().join("it"))?;
        }
        doomed.folder.close()?;
        Ok(Removal::Done)
    }
}

/// What came of removing a copy.
#[derive(Debug, PartialEq, Eq)]
enum Removal {
    Done,
    /// Somebody uses it.
    Held,
    /// Somebody else has removed it.
    Gone,
}

fn held(path: PathBuf, lock: File) -> Folder {
    let hold = Hold(lock);
    hold.note_use();
    Folder {
        path,
        _hold: Some(Arc::new(hold)),
    }
}

/// Whether an open folder is what has this name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let named = there(fs::metadata(path))?;
    let ino = file.metadata()?.ino();
    Ok(named.is_some_and(|named| named.ino() == ino))
}

/// None where there is nothing any more.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct Copy {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

/// The room that a copy takes on the disk.
fn size_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        bytes += match found.is_dir() {
            true => size_bytes(&entry.path())?,
            false => found.blocks() * 512,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SIZE: u64 = 64 * 1024;

    fn copies(root: &Path, limit_bytes: u64) -> Copies {
        Copies::new(root.join("models"), limit_bytes)
    }

    fn bring(copies: &Copies, name: &str) -> Folder {
        let part = copies.begin().unwrap();
        fs::create_dir(part.path().join("data")).unwrap();
        let content = vec![1; usize::try_from(SIZE).unwrap()];
        fs::write(part.path().join("data/model.pkl"), content).unwrap();
        copies.publish(part, name).unwrap()
    }

    /// Lets the last use of a copy be that many hours ago.
    fn age(copies: &Copies, name: &str, hours: u64) {
        let folder = File::open(copies.root().join(name)).unwrap();
        let used = SystemTime::now() - Duration::from_secs(hours * 3600);
        folder.set_modified(used).unwrap();
    }

    #[test]
    fn those_used_longest_ago_go_and_those_that_are_held_stay() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), 2 * SIZE + SIZE / 2);
        let held = bring(&copies, "held");
        for name in ["old", "middle", "new"] {
            drop(bring(&copies, name));
        }
        for (name, hours) in [("held", 9), ("old", 8), ("middle", 1), ("new", 2)] {
            age(&copies, name, hours);
        }
        assert_eq!(copies.prune().unwrap(), 2);
        assert!(held.join("data/model.pkl").is_file());
        let there = |name| copies.find(name).is_some();
        assert!(there("middle") && !there("old") && !there("new"));
        drop(held);
        assert_eq!(copies.prune().unwrap(), 0, "within the limit");
        assert_eq!(fs::read_dir(copies.root()).unwrap().count(), 2);
    }

    #[test]
    fn use_counts_when_it_begins_and_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), SIZE + SIZE / 2);
        for name in ["a", "b"] {
            drop(bring(&copies, name));
            age(&copies, name, 5);
        }
        let found = copies.find("a").unwrap();
        age(&copies, "a", 6);
        drop(found);
        assert_eq!(copies.prune().unwrap(), 1);
        assert!(copies.find("a").is_some() && copies.find("b").is_none());
    }

    #[test]
    fn without_a_limit_only_what_was_left_behind_goes() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), 0);
        assert_eq!(copies.prune().unwrap(), 0, "there is no folder yet");
        drop(bring(&copies, "a"));
        let left = copies.root().join("part-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("model.pkl"), "half a model").unwrap();
        let part = copies.begin().unwrap();
        assert_eq!(copies.prune().unwrap(), 0);
        assert!(copies.find("a").is_some());
        assert!(!left.exists() && part.path().exists());
    }

    #[test]
    fn a_copy_that_another_request_removed_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), SIZE);
        let held = bring(&copies, "a");
        let place = copies.root().join("a");
        assert_eq!(copies.remove(&place).unwrap(), Removal::Held);
        drop(held);
        assert_eq!(copies.remove(&place).unwrap(), Removal::Done);
        assert_eq!(copies.remove(&place).unwrap(), Removal::Gone);
    }

    #[test]
    fn what_is_brought_stays_whole_while_others_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), 1);
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let pruning = || {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    copies.prune().unwrap();
                }
            };
            let (first, second) = (scope.spawn(pruning), scope.spawn(pruning));
            let bringing = || {
                for _ in 0..200 {
                    let copy = bring(&copies, "a");
                    assert!(copy.join("data/model.pkl").is_file());
                }
            };
            let brought = [scope.spawn(bringing), scope.spawn(bringing)].map(|one| one.join());
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            for done in brought.into_iter().chain([first.join(), second.join()]) {
                done.unwrap();
            }
        });
    }

    #[test]
    fn of_two_that_bring_the_same_both_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let copies = copies(dir.path(), 0);
        let (first, second) = (bring(&copies, "a"), bring(&copies, "a"));
        assert_eq!(&*first, &*second);
        assert_eq!(fs::read_dir(copies.root()).unwrap().count(), 1);
    }
}
