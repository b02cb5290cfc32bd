//! Everything that a server keeps on this machine, in one tar file, and back.
//!
//! The database comes first, as it was at one moment; artifacts are written before the rows that
//! name them and stay when they change, so the files copied after it are all there. What can be
//! made again (environments, caches, sandboxes) is left out. Feature tables follow their catalog in
//! the same way: it is copied first, as it was at one moment.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

/// The first entry: what this is.
const MANIFEST: &str = "asgard-backup.json";
/// The last entry: nothing is missing.
const END: &str = "asgard-backup.end";
/// The entry of the database.
const DATABASE: &str = "asgard.db";
/// The folder of the artifacts.
const ARTIFACTS: &str = "artifacts";
/// Where a restore gathers until it is whole.
const GATHER: &str = ".restore";

/// What is in a data directory and in no backup: made again when needed, or copied otherwise.
const LEFT_OUT: &[&str] = &[
    "asgard.db",
    "asgard.db-journal",
    "asgard.db-shm",
    "asgard.db-wal",
    "asgard.lock",
    ARTIFACTS,
    "cache",
    "environments",
    "images",
    "jobs",
    "online.redb",
    "replicas",
    "runner",
    "serving",
    "tools",
];

/// What is copied, or where it goes.
#[derive(Debug, Clone)]
pub struct Places {
    pub data_dir: PathBuf,
    /// The SQLite file, or a snapshot of it.
    pub database: PathBuf,
    /// The folder of artifacts; none when they are in a bucket.
    pub artifacts: Option<PathBuf>,
    /// Files of the data directory that a server writes to: where each is below it, and a copy of
    /// it as it was at one moment.
    pub copies: Vec<(PathBuf, PathBuf)>,
}

/// How much a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Extent {
    pub files: u64,
    pub size_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// The layout of the file; this is 1.
    format: u32,
    asgard: String,
    created_at: String,
    /// Whether the artifacts are in it.
    artifacts: bool,
}

/// Writes a backup of `places`.
///
/// # Errors
/// When a file cannot be read, or `out` cannot be written.
pub fn write(places: &Places, created_at: String, out: impl Write) -> anyhow::Result<Extent> {
    let mut backup = Backup {
        tar: Builder::new(out),
        extent: Extent::default(),
        live: &places.copies,
    };
    let manifest = Manifest {
        format: 1,
        asgard: env!("CARGO_PKG_VERSION").to_owned(),
        created_at,
        artifacts: places.artifacts.is_some(),
    };
    backup.text(MANIFEST, &serde_json::to_string_pretty(&manifest)?)?;
    backup.file(&places.database, Path::new(DATABASE))?;
    for (name, copy) in &places.copies {
        backup.file(copy, name)?;
    }
    for entry in sorted(&places.data_dir)? {
        let name = PathBuf::from(entry.file_name());
        if !LEFT_OUT.iter().any(|left| name == Path::new(left)) && !is_hidden(&name) {
            backup.tree(&entry.path(), &name)?;
        }
    }
    if let Some(artifacts) = &places.artifacts {
        for entry in sorted(artifacts)? {
            let name = PathBuf::from(entry.file_name());
            if !is_hidden(&name) {
                backup.tree(&entry.path(), &Path::new(ARTIFACTS).join(name))?;
            }
        }
    }
    let extent = backup.extent;
    backup.text(END, &serde_json::to_string(&extent)?)?;
    backup.tar.into_inner()?.flush()?;
    Ok(extent)
}

/// Unfinished uploads and restores.
fn is_hidden(name: &Path) -> bool {
    name.to_string_lossy().starts_with('.')
}

fn sorted(folder: &Path) -> anyhow::Result<Vec<fs::DirEntry>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Removed while the backup went on.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    let mut entries: Vec<fs::DirEntry> = entries.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

struct Backup<'p, W: Write> {
    tar: Builder<W>,
    extent: Extent,
    /// Files that are in it already, as copies.
    live: &'p [(PathBuf, PathBuf)],
}

impl<W: Write> Backup<'_, W> {
    /// Whether a file is one that was copied before, or what SQLite keeps beside it.
    fn is_live(&self, name: &Path) -> bool {
        let name = name.to_string_lossy();
        let beside = |live: &Path| {
            let rest = name.strip_prefix(&*live.to_string_lossy());
            rest.is_some_and(|rest| ["", "-wal", "-shm", "-journal"].contains(&rest))
        };
        self.live.iter().any(|(live, _)| beside(live))
    }

    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut header = header(text.len() as u64, 0o600);
        self.tar.append_data(&mut header, name, text.as_bytes())
    }

    /// Copies a file, or a folder with all that is in it. Links are no files of a server.
    fn tree(&mut self, place: &Path, name: &Path) -> anyhow::Result<()> {
        let meta = match fs::symlink_metadata(place) {
            Ok(meta) => meta,
            // Removed while the backup went on.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", place.display()));
            }
        };
        if meta.is_dir() {
            for entry in sorted(place)? {
                self.tree(&entry.path(), &name.join(entry.file_name()))?;
            }
        } else if meta.is_file() && !self.is_live(name) {
            self.file(place, name)?;
        }
        Ok(())
    }

    fn file(&mut self, place: &Path, name: &Path) -> anyhow::Result<()> {
        let file = match File::open(place) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", place.display()));
            }
        };
        let size_bytes = file.metadata()?.len();
        let mut header = header(size_bytes, 0o600);
        // A file has the size that its header says, whatever is done to it meanwhile.
        let content = file.chain(io::repeat(0)).take(size_bytes);
        let copied = self.tar.append_data(&mut header, name, content);
        copied.with_context(|| format!("copying {}", place.display()))?;
        self.extent.files += 1;
        self.extent.size_bytes += size_bytes;
        Ok(())
    }
}

fn header(size_bytes: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size_bytes);
    header.set_mode(mode);
    header
}

/// Brings a backup back into `places`, which must hold nothing of the kind yet. Nothing is in
/// place before the whole backup has been read.
///
/// # Errors
/// When it is no backup, is cut short, or something is in the way.
pub fn restore(backup: impl Read, places: &Places) -> anyhow::Result<Extent> {
    refuse_occupied(places)?;
    crate::private_folder::make(&places.data_dir)?;
    let gather = places.data_dir.join(GATHER);
    if gather.exists() {
        fs::remove_dir_all(&gather).context("removing what an interrupted restore left")?;
    }
    fs::create_dir(&gather)?;
    let extent = unpack(backup, &gather)?;
    settle(&gather, places)?;
    Ok(extent)
}

fn refuse_occupied(places: &Places) -> anyhow::Result<()> {
    if places.database.exists() {
        bail!("there is a database already: {}", places.database.display());
    }
    if let Some(artifacts) = &places.artifacts {
        let held = sorted(artifacts)?;
        if held
            .iter()
            .any(|entry| !is_hidden(Path::new(&entry.file_name())))
        {
            bail!("there are artifacts already in {}", artifacts.display());
        }
    }
    Ok(())
}

/// Unpacks all files of a backup below a folder.
fn unpack(backup: impl Read, gather: &Path) -> anyhow::Result<Extent> {
    let mut archive = Archive::new(backup);
    let mut entries = archive.entries()?;
    let manifest = entries
        .next()
        .context(NOT_A_BACKUP)?
        .context(NOT_A_BACKUP)?;
    if manifest.path()? != Path::new(MANIFEST) {
        bail!(NOT_A_BACKUP);
    }
    let manifest: Manifest = serde_json::from_reader(manifest).context(NOT_A_BACKUP)?;
    if manifest.format != 1 {
        bail!(
            "a newer asgard ({}) made this backup: use that version, or a newer one",
            manifest.asgard
        );
    }
    let mut extent = Extent::default();
    for entry in entries {
        let mut entry = entry.context(CUT_SHORT)?;
        let name = entry.path()?.into_owned();
        if name == Path::new(END) {
            return Ok(extent);
        }
        let below = name
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !below || entry.header().entry_type() != EntryType::Regular {
            bail!(
                "the backup holds {}, which no backup of asgard does",
                name.display()
            );
        }
        let place = gather.join(&name);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create_new(&place)?;
        let copied = io::copy(&mut entry, &mut file);
        extent.size_bytes += copied.with_context(|| format!("unpacking {}", name.display()))?;
        file.sync_all()?;
        extent.files += 1;
    }
    bail!(CUT_SHORT)
}

const NOT_A_BACKUP: &str = "the file is not a backup made by 'asgard backup'";
const CUT_SHORT: &str = "the backup is cut short: its end is missing";

/// Moves what was gathered to where it belongs, the database last: without it there is no server.
fn settle(gather: &Path, places: &Places) -> anyhow::Result<()> {
    let artifacts = gather.join(ARTIFACTS);
    if artifacts.exists() {
        let target = places.artifacts.as_ref().context(
            "the backup holds artifacts, and artifacts.url names a bucket: restore with a folder there, or leave it out",
        )?;
        fs::create_dir_all(target)?;
        for entry in sorted(&artifacts)? {
            move_to(&entry.path(), &target.join(entry.file_name()))?;
        }
        fs::remove_dir(&artifacts)?;
    }
    for entry in sorted(gather)? {
        if entry.file_name() != DATABASE {
            move_to(&entry.path(), &places.data_dir.join(entry.file_name()))?;
        }
    }
    if let Some(folder) = places.database.parent() {
        fs::create_dir_all(folder)?;
    }
    move_to(&gather.join(DATABASE), &places.database)?;
    fs::remove_dir(gather)?;
    Ok(())
}

fn move_to(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        bail!(
            "{} is in the way: restore into an empty directory",
            to.display()
        );
    }
    match fs::rename(from, to) {
        // The artifacts may be on another disk.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy_tree(from, to),
        moved => moved.map_err(Into::into),
    }
    .with_context(|| format!("moving {} into place", to.display()))
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in sorted(from)? {
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(fs::remove_dir(from)?);
    }
    fs::copy(from, to)?;
    Ok(fs::remove_file(from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &Path) -> Places {
        Places {
            data_dir: dir.join("data"),
            database: dir.join("data/asgard.db"),
            artifacts: Some(dir.join("data/artifacts")),
            copies: Vec::new(),
        }
    }

    fn filled(dir: &Path) -> Places {
        let places = places(dir);
        for (name, text) in [
            ("data/asgard.db", "rows"),
            ("data/secrets.key", "secret"),
            ("data/artifacts/0/run/artifacts/model.pkl", "weights"),
            ("data/artifacts/.uploads/x/part", "half"),
            ("data/cache/uv/x", "again"),
            ("data/asgard.lock", "1"),
        ] {
            let place = dir.join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        }
        places
    }

    #[test]
    fn what_is_kept_comes_back_and_what_can_be_made_again_does_not() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut backup = Vec::new();
        let written = write(&filled(from.path()), "now".to_owned(), &mut backup).unwrap();
        assert_eq!(written.files, 3);
        let back = restore(&*backup, &places(to.path())).unwrap();
        assert_eq!(back, written);
        let read = |name: &str| fs::read_to_string(to.path().join("data").join(name)).ok();
        assert_eq!(read("asgard.db").as_deref(), Some("rows"));
        assert_eq!(read("secrets.key").as_deref(), Some("secret"));
        assert_eq!(
            read("artifacts/0/run/artifacts/model.pkl").as_deref(),
            Some("weights")
        );
        for absent in [
            "cache/uv/x",
            "asgard.lock",
            "artifacts/.uploads/x/part",
            GATHER,
        ] {
            assert!(!to.path().join("data").join(absent).exists(), "{absent}");
        }
        let again = restore(&*backup, &places(to.path())).unwrap_err();
        assert!(
            again.to_string().contains("there is a database already"),
            "{again}"
        );
    }

    #[test]
    fn what_a_server_writes_to_is_taken_from_its_copy() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut places = filled(from.path());
        for (name, text) in [
            ("warehouse/catalog.db", "half written"),
            ("warehouse/catalog.db-wal", "half written"),
            ("warehouse/gold/t/data/1.parquet", "rows"),
            ("online.redb", "half written"),
        ] {
            let place = places.data_dir.join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, text).unwrap();
        }
        let copy = from.path().join("copy");
        fs::write(&copy, "whole").unwrap();
        places.copies = vec![("warehouse/catalog.db".into(), copy)];
        let mut backup = Vec::new();
        write(&places, "now".to_owned(), &mut backup).unwrap();
        restore(&*backup, &self::places(to.path())).unwrap();
        let read = |name: &str| fs::read_to_string(to.path().join("data").join(name)).ok();
        assert_eq!(read("warehouse/catalog.db").as_deref(), Some("whole"));
        assert_eq!(
            read("warehouse/gold/t/data/1.parquet").as_deref(),
            Some("rows")
        );
        assert_eq!(read("warehouse/catalog.db-wal"), None);
        assert_eq!(read("online.redb"), None);
    }

    #[test]
    fn only_what_is_gone_is_left_out() {
        let from = tempfile::tempdir().unwrap();
        let mut backup = Backup {
            tar: Builder::new(Vec::new()),
            extent: Extent::default(),
            live: &[],
        };
        let gone = from.path().join("gone");
        backup.tree(&gone, Path::new("gone")).unwrap();
        fs::write(from.path().join("file"), "").unwrap();
        let unreadable = from.path().join("file/below");
        assert!(backup.tree(&unreadable, Path::new("below")).is_err());
    }

    #[test]
    fn a_backup_that_is_cut_short_leaves_no_database() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut backup = Vec::new();
        write(&filled(from.path()), "now".to_owned(), &mut backup).unwrap();
        // Every entry begins at a block of 512 bytes; the end is the last but two empty blocks.
        for length in [0, 100, 512, 1024, 2000, backup.len() - 2 * 1024 - 512] {
            assert!(
                restore(&backup[..length], &places(to.path())).is_err(),
                "{length}"
            );
            assert!(!to.path().join("data/asgard.db").exists(), "{length}");
        }
        restore(&*backup, &places(to.path())).unwrap();
    }

    #[test]
    fn an_archive_that_leads_elsewhere_is_refused() {
        let to = tempfile::tempdir().unwrap();
        let manifest = r#"{"format": 1, "asgard": "x", "created_at": "x", "artifacts": true}"#;
        for (kind, name) in [
            (EntryType::Regular, "../escaped"),
            (EntryType::Regular, "/tmp/escaped"),
            (EntryType::Symlink, "link"),
            (EntryType::Link, "link"),
            (EntryType::Char, "device"),
        ] {
            let mut tar = Builder::new(Vec::new());
            let mut first = header(manifest.len() as u64, 0o600);
            tar.append_data(&mut first, MANIFEST, manifest.as_bytes())
                .unwrap();
            let mut entry = header(0, 0o600);
            entry.set_entry_type(kind);
            // The checked way to set a name refuses these.
            entry.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            entry.as_old_mut().linkname[..4].copy_from_slice(b"/etc");
            entry.set_cksum();
            tar.append(&entry, &[][..]).unwrap();
            let archive = tar.into_inner().unwrap();
            let refused = restore(&*archive, &places(to.path())).unwrap_err();
            assert!(
                refused
                    .to_string()
                    .contains("which no backup of asgard does"),
                "{name}: {refused:#}"
            );
        }
        assert!(!to.path().join("escaped").exists());
    }
}
