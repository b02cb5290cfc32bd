//! A registry that asks for tokens, and the small server that gives them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use images::{Config, Reference};
use serde_json::json;

use crate::setup::{Place, Registry, skipped};

/// Gives a token for whatever is asked, to those who know the password.
struct TokenServer {
    url: String,
    /// The scopes that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, folder) = (asked.clone(), folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                let headers: Vec<String> = lines
                    .map_while(Result::ok)
                    .take_while(|l| !l.is_empty())
                    .collect();
                let login = STANDARD.encode("me:opensesame");
                let known = headers
                    .iter()
                    .any(|line| line.ends_with(&format!("Basic {login}")));
                let target = first.split(' ').nth(1).unwrap().to_owned();
                let (status, body) = if known {
                    let scopes = scopes(&target);
                    let token = token(&folder, &scopes);
                    seen.lock().unwrap().extend(scopes);
                    ("200 OK", json!({ "token": token, "expires_in": 300 }))
                } else {
                    let errors = json!([{ "code": "UNAUTHORIZED", "message": "who are you" }]);
                    ("401 Unauthorized", json!({ "errors": errors }))
                };
                let body = body.to_string();
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { url, asked }
    }
}

fn scopes(target: &str) -> Vec<String> {
    let url = reqwest::Url::parse(&format!("http://x{target}")).unwrap();
    let pairs = url.query_pairs().filter(|(key, _)| key == "scope");
    pairs.map(|(_, value)| value.into_owned()).collect()
}

/// A JSON web token signed by `key.pem`, as Docker's token specification wants it.
fn token(folder: &Path, scopes: &[String]) -> String {
    let access: Vec<_> = scopes
        .iter()
        .map(|scope| {
            let parts: Vec<&str> = scope.splitn(3, ':').collect();
            let actions: Vec<&str> = parts[2].split(',').collect();
            json!({ "type": parts[0], "name": parts[1], "actions": actions })
        })
        .collect();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let certificate = STANDARD.encode(std::fs::read(folder.join("cert.der")).unwrap());
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let claims = json!({
        "iss": "tests", "aud": "registry", "sub": "me", "jti": "1",
        "iat": now - 5, "nbf": now - 5, "exp": now + 3_600, "access": access,
    });
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &signed).unwrap();
    let signature = openssl(
        folder,
        &[
            "dgst",
            "-sha256",
            "-sign",
            "key.pem",
            &file.path().display().to_string(),
        ],
    );
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
}

fn openssl(folder: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .output();
    match output {
        Ok(output) if output.status.success() => Some(output.stdout),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            skipped(&format!("openssl cannot be started: {error}"));
            None
        }
    }
}

fn certificate(folder: &Path) -> Option<PathBuf> {
    let words =
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=tests";
    openssl(folder, &words.split(' ').collect::<Vec<_>>())?;
    openssl(
        folder,
        &[
            "x509", "-in", "cert.pem", "-outform", "der", "-out", "cert.der",
        ],
    )?;
    Some(folder.join("cert.pem"))
}

#[tokio::test]
async fn a_token_is_asked_for_both_repositories_of_a_mount() {
    let place = Place::new();
    let Some(certificate) = certificate(place.dir.path()) else {
        return;
    };
    let server = TokenServer::start(place.dir.path());
    let auth = format!(
        "auth:\n  token: {{realm: '{}', service: registry, issuer: tests, rootcertbundle: {}}}\n",
        server.url,
        certificate.display()
    );
    let Some(registry) = Registry::start(&auth) else {
        return;
    };
    let config = Config {
        registry: Some(registry.host.clone()),
        username: Some("me".to_owned()),
        password: Some("opensesame".to_owned().into()),
        ..Config::default()
    };
    let images = place.images(config.clone());
    let image = images
        .build(&place.purpose(1), None, &|_| ())
        .await
        .unwrap();
    let to = images.place("iris", 1).unwrap();
    let pushed = images.push(&image, &to, &|_| ()).await.unwrap();
    let image = images
        .build(&place.purpose(1), Some(&pushed.reference), &|_| ())
        .await
        .unwrap();
    let to = Reference::parse(&format!("{}/other:1", registry.host)).unwrap();
    let mounted = images.push(&image, &to, &|_| ()).await.unwrap();
    assert!(mounted.sent_bytes < 10_000, "{}", mounted.sent_bytes);
    let asked = server.asked.lock().unwrap().clone();
    // Each token once: they are kept as long as they last.
    assert_eq!(
        asked,
        [
            "repository:iris:pull,push",
            "repository:iris:pull",
            "repository:other:pull,push",
            "repository:other:pull,push",
            "repository:iris:pull",
        ]
    );

    let stranger = place.images(Config {
        password: Some("wrong".to_owned().into()),
        ..config
    });
    let refused = stranger.push(&image, &to, &|_| ()).await.unwrap_err();
    assert!(refused.to_string().contains("who are you"), "{refused}");
}
