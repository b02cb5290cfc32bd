//! The files of MLflow's page: a list made once, so that a request names an entry of it and never
//! a path (CVE-2024-7340).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The page itself.
pub(crate) const INDEX: &str = "index.html";

/// More files than this are no page of MLflow's; it has about 430.
const MAX_FILES: usize = 10_000;

/// The files of one page by their name.
#[derive(Debug)]
pub(crate) struct Assets {
    /// When its index was made: another time is another page.
    pub(super) changed: SystemTime,
    files: HashMap<String, Asset>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asset {
    pub(crate) path: PathBuf,
    pub(crate) content_type: &'static str,
    pub(crate) etag: String,
    /// Its name changes when its content does, so it may be kept for ever.
    pub(crate) lasting: bool,
}

impl Assets {
    /// Lists all files below `root`. Links are left out: they could lead anywhere.
    pub(super) fn read(root: &Path, changed: SystemTime) -> io::Result<Self> {
        let mut files = HashMap::new();
        let mut folders = vec![(root.to_owned(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let kind = entry.file_type()?;
                let name = format!("{prefix}{name}");
                if kind.is_dir() {
                    folders.push((entry.path(), format!("{name}/")));
                } else if kind.is_file() && files.len() < MAX_FILES {
                    files.insert(name.clone(), Asset::new(&name, &entry)?);
                }
            }
        }
        Ok(Self { changed, files })
    }

    /// The file of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Asset> {
        self.files.get(name)
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }
}

impl Asset {
    fn new(name: &str, entry: &fs::DirEntry) -> io::Result<Self> {
        let metadata = entry.metadata()?;
        let age = metadata.modified()?.duration_since(UNIX_EPOCH);
        let stamp = age.unwrap_or_default().as_nanos();
        Ok(Self {
            path: entry.path(),
            content_type: content_type(name),
            etag: format!("\"{stamp:x}-{:x}\"", metadata.len()),
            lasting: is_hashed(name),
        })
    }
}

/// Whether the name has a part such as `00d66947`, the hash of the file's content.
fn is_hashed(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let is_hash = |part: &str| part.len() >= 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
    file.split('.').any(is_hash)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_and_nothing_else_has() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("build");
        fs::create_dir_all(root.join("static/js")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(root.join("static/js/main.00d66947.js"), "js").unwrap();
        fs::write(root.join(INDEX), "html").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("folder")).unwrap();
        let assets = Assets::read(&root, SystemTime::now()).unwrap();
        assert_eq!(assets.len(), 2);
        assert!(assets.get("static/js/main.00d66947.js").unwrap().lasting);
        assert!(!assets.get(INDEX).unwrap().lasting);
        for none in ["link", "folder/secret", "../secret", "static/js", "", "/"] {
            assert_eq!(assets.get(none), None, "{none}");
        }
    }

    #[test]
    fn only_a_hash_in_the_name_makes_a_file_lasting() {
        assert!(is_hashed("static/js/2685.2f8f1b38.chunk.js"));
        assert!(is_hashed(
            "T.telemetry-worker.d0f8ea2c83c08b63528f.worker.js"
        ));
        for name in [
            "favicon.ico",
            "static/00d66947/a.js",
            "manifest.json",
            "index.html",
        ] {
            assert!(!is_hashed(name), "{name}");
        }
    }
}
