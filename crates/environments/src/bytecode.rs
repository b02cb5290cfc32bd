//! Moving the bytecode that an import wrote into the environment it belongs to.
//!
//! Imports run code of the packages, and the files of an environment share their content with
//! uv's cache and so with other environments. So an import sees the environment read-only and
//! writes bytecode elsewhere (`PYTHONPYCACHEPREFIX`), where it may have put anything: what is
//! taken from there is a regular file with no other name, called as Python calls the bytecode of
//! a source file that is there; it is copied into a new file, and no symbolic link is followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;

/// More than the bytecode of any module that people write.
const LARGEST: u64 = 64 << 20;

const CACHE: &str = "__pycache__";

/// Copies what Python `version` wrote below `written` for modules of the environment at `root`;
/// gives the number of files. What looks wrong is passed over: that module is compiled anew by
/// each process. An error is one of the environment's own folder.
pub(crate) fn adopt(written: &Path, root: &Path, version: (u32, u32, u32)) -> io::Result<usize> {
    // Python repeats the source's absolute path below the prefix.
    let mut from = folder(CWD, written.as_os_str())?;
    for part in root.components() {
        if let Component::Normal(name) = part {
            let Ok(inner) = folder(&from, name) else {
                return Ok(0);
            };
            from = inner;
        }
    }
    let ending = format!(".cpython-{}{}.pyc", version.0, version.1);
    adopt_folder(&from, &folder(CWD, root.as_os_str())?, ending.as_bytes())
}

/// Goes no deeper than the environment does: a folder is entered where both have it.
fn adopt_folder(from: &OwnedFd, to: &OwnedFd, ending: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if let Some(module) = name.strip_suffix(ending) {
            let name = OsStr::from_bytes(name);
            if is_source(to, module)
                && let Some(bytecode) = read(from, name)
            {
                count += usize::from(write(to, name, &bytecode)?);
            }
        } else {
            let name = OsStr::from_bytes(name);
            if let (Ok(from), Ok(to)) = (folder(from, name), folder(to, name)) {
                count += adopt_folder(&from, &to, ending)?;
            }
        }
    }
    Ok(count)
}

fn is_source(folder: &OwnedFd, module: &[u8]) -> bool {
    let name = [module, b".py"].concat();
    statat(folder, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
}

/// What a file holds, if it is one as Python writes them.
fn read(folder: &OwnedFd, name: &OsStr) -> Option<Vec<u8>> {
    // A pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    if !found.is_file() || found.nlink() != 1 || found.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether it was written: what a package brought along stays, for it may share its content.
fn write(folder_of_source: &OwnedFd, name: &OsStr, bytes: &[u8]) -> io::Result<bool> {
    match mkdirat(folder_of_source, CACHE, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let Ok(cache) = folder(folder_of_source, OsStr::new(CACHE)) else {
        return Ok(false);
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match openat(&cache, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(file) => io::Write::write_all(&mut File::from(file), bytes).map(|()| true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Opens a folder that is no link.
fn folder(outer: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(outer, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    const VERSION: (u32, u32, u32) = (3, 11, 7);

    struct Folders {
        _dir: tempfile::TempDir,
        written: PathBuf,
        /// `written`, with the path of `package`.
        from: PathBuf,
        root: PathBuf,
        package: PathBuf,
    }

    fn folders() -> Folders {
        let dir = tempfile::tempdir().unwrap();
        let (written, root) = (dir.path().join("written"), dir.path().join("env"));
        let package = root.join("lib/package");
        let from = written.join(package.strip_prefix("/").unwrap());
        fs::create_dir_all(&package).unwrap();
        fs::create_dir_all(&from).unwrap();
        fs::write(package.join("a.py"), "").unwrap();
        Folders {
            _dir: dir,
            written,
            from,
            root,
            package,
        }
    }

    impl Folders {
        fn adopt(&self) -> usize {
            adopt(&self.written, &self.root, VERSION).unwrap()
        }
    }

    #[test]
    fn bytecode_of_a_module_is_copied_beside_it() {
        let it = folders();
        let name = "a.cpython-311.pyc";
        fs::write(it.from.join(name), "code").unwrap();
        assert_eq!(it.adopt(), 1);
        let copy = it.package.join(CACHE).join(name);
        assert_eq!(fs::read_to_string(&copy).unwrap(), "code");
        assert_eq!(fs::metadata(&copy).unwrap().nlink(), 1);
    }

    #[test]
    fn what_python_would_not_write_is_passed_over() {
        let it = folders();
        for name in [
            "b.cpython-311.pyc",
            "a.cpython-312.pyc",
            "a.py",
            "a.pyc",
            ".cpython-311.pyc",
        ] {
            fs::write(it.from.join(name), "code").unwrap();
        }
        let deeper = it.from.join("no_such_package");
        fs::create_dir(&deeper).unwrap();
        fs::write(deeper.join("a.cpython-311.pyc"), "code").unwrap();
        assert_eq!(it.adopt(), 0);
        assert!(!it.package.join(CACHE).exists());
    }

    #[test]
    fn no_link_is_followed_to_read() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        let it = folders();
        let name = it.from.join("a.cpython-311.pyc");
        symlink(secret.path(), &name).unwrap();
        assert_eq!(it.adopt(), 0);
        fs::remove_file(&name).unwrap();
        fs::write(it.written.join("other"), "code").unwrap();
        fs::hard_link(it.written.join("other"), &name).unwrap();
        assert_eq!(it.adopt(), 0);
        // A whole folder elsewhere.
        let elsewhere = it.written.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("a.cpython-311.pyc"), "code").unwrap();
        fs::remove_dir_all(&it.from).unwrap();
        symlink(&elsewhere, &it.from).unwrap();
        assert_eq!(it.adopt(), 0);
    }

    #[test]
    fn no_link_is_followed_to_write_and_nothing_is_overwritten() {
        let it = folders();
        let name = "a.cpython-311.pyc";
        fs::write(it.from.join(name), "code").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), it.package.join(CACHE)).unwrap();
        assert_eq!(it.adopt(), 0);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        fs::remove_file(it.package.join(CACHE)).unwrap();
        fs::create_dir(it.package.join(CACHE)).unwrap();
        fs::write(it.package.join(CACHE).join(name), "own").unwrap();
        assert_eq!(it.adopt(), 0);
        let kept = fs::read_to_string(it.package.join(CACHE).join(name));
        assert_eq!(kept.unwrap(), "own");
    }
}
