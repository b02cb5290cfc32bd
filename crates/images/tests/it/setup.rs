//! A small base image, a small environment, and a real registry (Debian's `docker-registry`).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use environments::Environment;
use images::{Config, Digest, Images, Model, Purpose};
use serde_json::json;
use tempfile::TempDir;

/// A folder with everything that an image is made of.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(place.path("program"), "the program").unwrap();
        let model = place.path("model");
        fs::create_dir(&model).unwrap();
        fs::write(model.join("MLmodel"), "flavors: {}").unwrap();
        write_environment(&place.path("environments").join(KEY));
        write_base(&place.path("base"));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder with the base image, as it is named.
    pub(crate) fn base(&self) -> String {
        format!("dir:{}", self.path("base").display())
    }

    pub(crate) fn images(&self, config: Config) -> Images {
        let config = Config {
            base: self.base(),
            ..config
        };
        let program = self.path("program");
        Images::open(&config, &self.path("data"), program).unwrap()
    }

    pub(crate) fn purpose(&self, version: i64) -> Purpose {
        let root = self.path("environments").join(KEY);
        let origin = [("asgard.run_id", "r1"), ("asgard.git_commit", "c0ffee")];
        Purpose::Model(Box::new(Model {
            name: "Iris model".to_owned(),
            version,
            folder: self.path("model"),
            environment: Environment::at(&root).unwrap(),
            proof: None,
            origin: origin.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        }))
    }
}

pub(crate) const KEY: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn write_environment(root: &Path) {
    let packages = root.join("lib/python3.11/site-packages");
    fs::create_dir_all(packages.join("__pycache__")).unwrap();
    fs::create_dir_all(root.join("bin")).unwrap();
    symlink("/bin/sh", root.join("bin/python")).unwrap();
    symlink("lib", root.join("lib64")).unwrap();
    fs::write(root.join("bin/activate"), "of this machine").unwrap();
    fs::write(root.join("pyvenv.cfg"), "home = /somewhere/else").unwrap();
    fs::write(packages.join("six.py"), "x = 1").unwrap();
    let timed = [b"MAGI", &[0; 4][..], b"timesize", b"code"].concat();
    fs::write(packages.join("__pycache__/six.cpython-311.pyc"), timed).unwrap();
    // Long enough to be sent in more than one piece, and not to be compressed away.
    let mut state = 7_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(6 << 20)
    .collect();
    fs::write(packages.join("noise.bin"), noise).unwrap();
    let description = json!({
        "python_version": "3.11.7",
        "prefixes": ["/somewhere/else"],
        "lock": { "text": "six==1.17.0 \\\n    --hash=sha256:00\n" },
    });
    let file = root.join(".asgard-environment.json");
    fs::write(file, description.to_string()).unwrap();
}

/// An image of one layer, in an OCI layout.
fn write_base(folder: &Path) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let keep = |bytes: &[u8], media_type: &str| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "etc/hello", &b"hello"[..])
        .unwrap();
    let layer = archive.into_inner().unwrap();
    let config = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin", "PYTHON_VERSION=3.11.2"], "StopSignal": "SIGINT" },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
        "history": [{ "created_by": "hand" }],
        "variant": "v0",
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json"),
        "layers": [keep(&layer, "application/vnd.oci.image.layer.v1.tar")],
    });
    let manifest = keep(
        manifest.to_string().as_bytes(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
}

/// The lines that an operation tells.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<String>>);

impl Lines {
    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// A registry in a folder, on a port of its own; it ends with this.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    _dir: TempDir,
}

impl Registry {
    /// Starts one with an `auth` section, or says why there is none.
    pub(crate) fn start(auth: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: s\n{auth}",
            dir.path().join("blobs").display()
        );
        let file = dir.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let started = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                skipped(&format!("docker-registry cannot be started: {error}"));
                return None;
            }
        };
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let host = loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "the registry ended: {said}"
            );
            said.push_str(&line);
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                break rest[..end.unwrap_or(rest.len())].to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self {
            child,
            host,
            _dir: dir,
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says why a test proves nothing here; where `scripts/test` saw to what it needs, that is a fault.
pub(crate) fn skipped(reason: &str) {
    assert!(
        std::env::var_os("ASGARD_TEST_REGISTRY").is_none(),
        "{reason}"
    );
    // Not captured as what a test prints is.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}
