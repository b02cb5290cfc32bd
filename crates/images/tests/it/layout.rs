use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use images::{Compression, Config, Digest, Purpose};
use serde_json::Value;

use crate::setup::{KEY, Lines, Place};

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = Digest::parse(descriptor["digest"].as_str().unwrap()).unwrap();
    let bytes = fs::read(folder.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(Digest::of(&bytes), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

/// The files of a layer: their modes and contents, or where a link leads.
fn files(layer: &[u8]) -> BTreeMap<String, (u32, String)> {
    let mut archive = tar::Archive::new(layer);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 0);
        let path = entry.path().unwrap().display().to_string();
        let mode = entry.header().mode().unwrap();
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut text).unwrap();
        let text = match entry.link_name().unwrap() {
            Some(to) => format!("-> {}", to.display()),
            None => String::from_utf8_lossy(&text).into_owned(),
        };
        files.insert(path, (mode, text));
    }
    files
}

#[tokio::test]
async fn a_layout_holds_base_environment_program_and_model() {
    let place = Place::new();
    let images = place.images(Config {
        compression: Compression::Gzip,
        ..Config::default()
    });
    let image = images
        .build(&place.purpose(3), None, &|_| ())
        .await
        .unwrap();
    let folder = place.path("out");
    images
        .write_folder(&image, "iris:3", &folder)
        .await
        .unwrap();

    let index = json(folder.join("index.json"));
    assert_eq!(index["manifests"][0]["digest"], image.digest.as_str());
    let manifest: Value = serde_json::from_slice(&blob(&folder, &index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(&blob(&folder, &manifest["config"])).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let mut all = BTreeMap::new();
    for (layer, diff_id) in layers
        .iter()
        .zip(config["rootfs"]["diff_ids"].as_array().unwrap())
    {
        let mut bytes = blob(&folder, layer);
        if layer["mediaType"].as_str().unwrap().ends_with("gzip") {
            let mut read = Vec::new();
            let mut gzip = flate2::read::MultiGzDecoder::new(&bytes[..]);
            std::io::Read::read_to_end(&mut gzip, &mut read).unwrap();
            bytes = read;
        }
        assert_eq!(Digest::of(&bytes).as_str(), diff_id);
        all.extend(files(&bytes));
    }
    let environment = format!("asgard/environments/{KEY}");
    let text = |path: &str| all.get(path).map(|(_, text)| text.as_str());
    assert_eq!(layers.len(), 4);
    assert_eq!(text("etc/hello"), Some("hello"));
    assert_eq!(all["asgard/bin/asgard"], (0o755, "the program".to_owned()));
    assert_eq!(all["asgard/model/MLmodel"].0, 0o644);
    assert_eq!(
        text(&format!("{environment}/bin/python")),
        Some("-> /usr/local/bin/python3.11")
    );
    assert!(
        text(&format!("{environment}/pyvenv.cfg"))
            .unwrap()
            .starts_with("home = /usr/local/bin\n")
    );
    assert_eq!(text(&format!("{environment}/bin/activate")), None);
    assert!(
        !text(&format!("{environment}/.asgard-environment.json"))
            .unwrap()
            .contains("somewhere")
    );
    let bytecode =
        format!("{environment}/lib/python3.11/site-packages/__pycache__/six.cpython-311.pyc");
    assert!(!text(&bytecode).unwrap().contains("time"));

    let start = &config["config"];
    assert_eq!(start["User"], "10001:10001");
    assert_eq!(start["StopSignal"], "SIGINT");
    assert_eq!(start["Entrypoint"][0], "/asgard/bin/asgard");
    assert_eq!(start["Labels"]["asgard.run_id"], "r1");
    assert_eq!(start["Labels"]["asgard.packages"], "six==1.17.0");
    assert_eq!(
        start["Labels"]["org.opencontainers.image.revision"],
        "c0ffee"
    );
    assert_eq!(config["variant"], "v0");
    assert_eq!(config["history"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_proven_of_a_model_lies_beside_it() {
    let place = Place::new();
    let images = place.images(Config::default());
    let Purpose::Model(mut model) = place.purpose(1) else {
        panic!("a model");
    };
    let purpose = Purpose::Model(model.clone());
    let plain = images.build(&purpose, None, &|_| ()).await.unwrap();
    let proof = place.path("proof");
    fs::write(&proof, "the same bits").unwrap();
    model.proof = Some(proof.clone());
    let purpose = Purpose::Model(model);
    let image = images.build(&purpose, None, &|_| ()).await.unwrap();
    let again = images.build(&purpose, None, &|_| ()).await.unwrap();
    assert_eq!(image.digest, again.digest);
    assert_ne!(image.digest, plain.digest);

    let folder = place.path("out");
    let written = images.write_folder(&image, "iris:1", &folder).await;
    written.unwrap();
    let index = json(folder.join("index.json"));
    let manifest: Value = serde_json::from_slice(&blob(&folder, &index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(&blob(&folder, &manifest["config"])).unwrap();
    let start = config["config"]["Entrypoint"].as_array().unwrap();
    assert_eq!(start[start.len() - 2..], ["--proof", "/asgard/proof"]);
    let last = manifest["layers"].as_array().unwrap().last().unwrap();
    let layer = zstd::decode_all(&blob(&folder, last)[..]).unwrap();
    let files = files(&layer);
    assert_eq!(files["asgard/proof"], (0o644, "the same bits".to_owned()));
    // It may go before the image is built, which is no reason not to build it.
    fs::remove_file(proof).unwrap();
    let without = images.build(&purpose, None, &|_| ()).await.unwrap();
    assert_ne!(without.digest, image.digest);
}

#[tokio::test]
async fn the_same_content_is_the_same_image_and_its_layers_are_made_once() {
    let (one, other) = (Place::new(), Place::new());
    let images = one.images(Config::default());
    let lines = Lines::default();
    let first = images
        .build(&one.purpose(1), None, &|line| lines.push(line))
        .await
        .unwrap();
    assert!(
        lines.all().contains("layer of the environment, "),
        "{}",
        lines.all()
    );
    assert!(!lines.all().contains("known"), "{}", lines.all());
    let again = images
        .build(&one.purpose(1), None, &|line| lines.push(line))
        .await
        .unwrap();
    assert_eq!(lines.all().matches("known").count(), 2, "{}", lines.all());
    // The base is named by its path, which is all that differs elsewhere.
    let elsewhere = other.images(Config::default());
    let elsewhere = elsewhere
        .build(&other.purpose(1), Some(&one.base()), &|_| ())
        .await;
    for image in [&again, &elsewhere.unwrap()] {
        assert_eq!(image.digest, first.digest);
    }
}

#[tokio::test]
async fn layers_that_were_removed_are_made_again() {
    let place = Place::new();
    let images = place.images(Config {
        cache_limit_bytes: 0,
        ..Config::default()
    });
    let image = images
        .build(&place.purpose(1), None, &|_| ())
        .await
        .unwrap();
    assert_eq!(
        fs::read_dir(place.path("data/images/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    let file = place.path("image.tar");
    images.write_archive(&image, "iris:1", &file).await.unwrap();
    let mut archive = tar::Archive::new(fs::File::open(file).unwrap());
    let names = archive
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().into_owned());
    let names: Vec<_> = names.collect();
    assert_eq!(
        names[..3],
        ["oci-layout", "index.json", "manifest.json"].map(std::path::PathBuf::from)
    );
    assert_eq!(names.len(), 3 + 2 + 4);

    fs::write(place.path("model/MLmodel"), "other").unwrap();
    fs::remove_dir_all(place.path("data/images/blobs/sha256")).unwrap();
    fs::create_dir(place.path("data/images/blobs/sha256")).unwrap();
    let changed = images
        .write_archive(&image, "iris:1", &place.path("image.tar"))
        .await;
    let message = changed.unwrap_err().to_string();
    assert_eq!(message, "the model changed while the image was built");
}

#[tokio::test]
async fn a_base_that_does_not_fit_is_refused_in_words() {
    let place = Place::new();
    let images = place.images(Config::default());
    let Purpose::Model(mut model) = place.purpose(1) else {
        unreachable!()
    };
    model.environment.python_version = "3.12.1".to_owned();
    let refused = images.build(&Purpose::Model(model), None, &|_| ()).await;
    let message = refused.err().unwrap().to_string();
    assert!(
        message.contains("has Python 3.11.2, and the model's environment 3.12"),
        "{message}"
    );
    let refused = images
        .build(&place.purpose(1), Some("dir:/nowhere"), &|_| ())
        .await;
    let error = refused.err().unwrap();
    assert!(
        error.to_string().contains("no folder with an OCI layout"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("skopeo"), "{error}");
}
