//! The files of a layer: named by where they are in the image, and written as a tar archive whose
//! bytes depend on nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{EntryType, Header};

use crate::bytecode::{is_bytecode, moved, source_of, without_time};

/// The user of an image, and its group: nobody's on a usual system.
pub(crate) const USER: u64 = 10_001;

/// A part of a layer. Owners, times and all but the right to execute are left behind.
#[derive(Debug, Clone)]
enum Node {
    Folder,
    /// A folder of the image's user.
    OwnFolder,
    Link(PathBuf),
    Bytes {
        bytes: Vec<u8>,
        executable: bool,
    },
    File {
        from: PathBuf,
        executable: bool,
    },
    /// One that is read also when its name is gone by then.
    Held(Arc<File>),
    /// Python's bytecode, which must not depend on the time and the place of its source.
    Bytecode {
        from: PathBuf,
        /// Where the source is in its folder, and where that is in the image.
        source: Option<(PathBuf, PathBuf)>,
    },
}

/// What a layer adds to an image, by path without a leading slash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    fn insert(&mut self, path: PathBuf, node: Node) {
        for parent in path.ancestors().skip(1) {
            if !parent.as_os_str().is_empty() {
                self.nodes.entry(parent.to_owned()).or_insert(Node::Folder);
            }
        }
        self.nodes.insert(path, node);
    }

    pub(crate) fn folder(&mut self, path: impl Into<PathBuf>) {
        self.insert(path.into(), Node::Folder);
    }

    pub(crate) fn writable_folder(&mut self, path: impl Into<PathBuf>) {
        self.insert(path.into(), Node::OwnFolder);
    }

    pub(crate) fn link(&mut self, path: impl Into<PathBuf>, to: impl Into<PathBuf>) {
        self.insert(path.into(), Node::Link(to.into()));
    }

    pub(crate) fn bytes(&mut self, path: impl Into<PathBuf>, bytes: Vec<u8>) {
        let executable = false;
        self.insert(path.into(), Node::Bytes { bytes, executable });
    }

    pub(crate) fn program(&mut self, path: impl Into<PathBuf>, from: &Path) {
        let (from, executable) = (from.to_owned(), true);
        self.insert(path.into(), Node::File { from, executable });
    }

    pub(crate) fn held(&mut self, path: impl Into<PathBuf>, file: File) {
        self.insert(path.into(), Node::Held(Arc::new(file)));
    }

    /// Adds all of a folder below `path` but what `skip` says of its path inside the folder.
    /// Sockets, pipes and devices are no part of an image.
    pub(crate) fn all_of(
        &mut self,
        folder: &Path,
        path: &Path,
        skip: &dyn Fn(&Path) -> bool,
    ) -> io::Result<()> {
        self.folder(path);
        let mut folders = vec![PathBuf::new()];
        while let Some(inner) = folders.pop() {
            for entry in fs::read_dir(folder.join(&inner))? {
                let entry = entry?;
                let inside = inner.join(entry.file_name());
                if skip(&inside) {
                    continue;
                }
                let kind = entry.file_type()?;
                let from = entry.path();
                let to = path.join(&inside);
                if kind.is_dir() {
                    self.folder(to);
                    folders.push(inside);
                } else if kind.is_symlink() {
                    self.link(to, fs::read_link(&from)?);
                } else if kind.is_file() && is_bytecode(&from) {
                    let place = Path::new("/").join(path);
                    let source = source_of(&inside).map(|source| (source, place));
                    self.insert(to, Node::Bytecode { from, source });
                } else if kind.is_file() {
                    let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
                    self.insert(to, Node::File { from, executable });
                }
            }
        }
        Ok(())
    }

    /// Writes the archive: parents before children, in the order of the paths.
    pub(crate) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for (path, node) in &self.nodes {
            node.write(path, &mut archive)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", node.place(path))))?;
        }
        archive.into_inner()?.flush()
    }
}

impl Node {
    /// What a message names.
    fn place(&self, path: &Path) -> String {
        match self {
            Self::File { from, .. } | Self::Bytecode { from, .. } => from.display().to_string(),
            _ => path.display().to_string(),
        }
    }

    fn write(&self, path: &Path, archive: &mut tar::Builder<impl Write>) -> io::Result<()> {
        match self {
            Self::Folder => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                archive.append_data(&mut header, path, io::empty())
            }
            Self::OwnFolder => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                header.set_uid(USER);
                header.set_gid(USER);
                archive.append_data(&mut header, path, io::empty())
            }
            Self::Link(to) => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                archive.append_link(&mut header, path, to)
            }
            Self::Bytes { bytes, executable } => {
                let mut header = header(EntryType::Regular, mode(*executable), bytes.len() as u64);
                archive.append_data(&mut header, path, &bytes[..])
            }
            Self::File { from, executable } => {
                append(archive, path, &File::open(from)?, *executable)
            }
            Self::Held(file) => {
                (&**file).rewind()?;
                append(archive, path, file, false)
            }
            Self::Bytecode { from, source } => {
                let mut bytes = without_time(fs::read(from)?);
                if let Some((inside, folder)) = source {
                    bytes = moved(bytes, inside, folder);
                }
                let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
                archive.append_data(&mut header, path, &bytes[..])
            }
        }
    }
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &Path,
    file: &File,
    executable: bool,
) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut header = header(EntryType::Regular, mode(executable), length);
    archive.append_data(&mut header, path, Exactly::new(file, length))
}

fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Reads as many bytes as a header has promised, or fails.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Exactly<R> {
    fn new(inner: R, left: u64) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.inner.read(&mut into[..most])?;
        if length == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "became shorter while it was read",
            ));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(folder: &Path) -> Tree {
        let mut tree = Tree::default();
        tree.all_of(folder, Path::new("opt/it"), &|path| {
            path.ends_with("skipped")
        })
        .unwrap();
        tree
    }

    #[test]
    fn an_archive_depends_on_names_and_contents_alone() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, names) in [
            (&one, ["b", "a/x", "skipped"]),
            (&other, ["a/x", "b", "a/y"]),
        ] {
            fs::create_dir(folder.path().join("a")).unwrap();
            for name in names {
                fs::write(folder.path().join(name), name).unwrap();
            }
        }
        fs::remove_file(other.path().join("a/y")).unwrap();
        fs::set_permissions(other.path().join("b"), fs::Permissions::from_mode(0o600)).unwrap();
        let file = File::open(other.path().join("b")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();

        let (mut first, mut second) = (Vec::new(), Vec::new());
        tree(one.path()).write(&mut first).unwrap();
        tree(other.path()).write(&mut second).unwrap();
        assert!(first == second);
        let mut archive = tar::Archive::new(&first[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            ["opt", "opt/it", "opt/it/a", "opt/it/a/x", "opt/it/b"]
        );
    }
}
