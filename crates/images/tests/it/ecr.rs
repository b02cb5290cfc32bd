//! A registry with ECR's passwords, and a small stand-in of ECR's own calls.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use aws::AwsVariables;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use images::Config;
use serde_json::{Value, json};

use crate::setup::{Place, Registry};

/// The password of `AWS` is `from-ecr`.
const LOGINS: &str = "AWS:$2y$05$9DYGQ2hSiPE14lo09STfI.c3AacpZAO6Ts5QW6bVq43SyJKViP7w6\n";

/// The operations that were called, each with its parameters.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Answers as ECR does, and keeps what it was asked.
fn ecr() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut target, mut signed, mut length) = (String::new(), false, 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
                match name.to_ascii_lowercase().as_str() {
                    "x-amz-target" => target = value.rsplit('.').next().unwrap().to_owned(),
                    "authorization" => {
                        let scope = "/eu-west-1/ecr/aws4_request, ";
                        signed = value.starts_with("AWS4-HMAC-SHA256 ") && value.contains(scope);
                    }
                    "content-length" => length = value.parse().unwrap(),
                    _ if line.trim_end().is_empty() => break,
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let (status, answer) = match target.as_str() {
                _ if !signed => (
                    "403 Forbidden",
                    json!({ "__type": "MissingAuthenticationTokenException" }),
                ),
                "GetAuthorizationToken" => {
                    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
                    let token = STANDARD.encode("AWS:from-ecr");
                    let one =
                        json!({ "authorizationToken": token, "expiresAt": now as f64 + 43_200.5 });
                    ("200 OK", json!({ "authorizationData": [one] }))
                }
                _ => {
                    let kind = "com.amazonaws#RepositoryAlreadyExistsException";
                    (
                        "400 Bad Request",
                        json!({ "__type": kind, "message": "it is there" }),
                    )
                }
            };
            seen.lock().unwrap().push((target, body));
            let answer = answer.to_string();
            let length = answer.len();
            let _ = write!(
                stream.get_mut(),
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"
            );
        }
    });
    (url, asked)
}

fn variables(pairs: &[(&str, &str)]) -> AwsVariables {
    let owned = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    AwsVariables::from_variables(owned)
}

#[tokio::test]
async fn ecr_is_asked_for_a_password_once_and_has_its_repository_made() {
    let place = Place::new();
    let logins = place.path("htpasswd");
    std::fs::write(&logins, LOGINS).unwrap();
    let auth = format!(
        "auth:\n  htpasswd: {{realm: r, path: {}}}\n",
        logins.display()
    );
    let Some(registry) = Registry::start(&auth) else {
        return;
    };
    let (url, asked) = ecr();
    let config = Config {
        registry: Some(format!("{}/team", registry.host)),
        ecr_region: Some("eu-west-1".to_owned()),
        ecr_endpoint: Some(url),
        aws: variables(&[
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]),
        ..Config::default()
    };
    let images = place.images(config.clone());
    let image = images
        .build(&place.purpose(1), None, &|_| ())
        .await
        .unwrap();
    let to = images.place("iris", 1).unwrap();
    for _ in 0..2 {
        images.push(&image, &to, &|_| ()).await.unwrap();
    }
    // What pods pull with is the same password.
    let login = images.login().await.unwrap().unwrap();
    let login: Value = serde_json::from_str(login.expose()).unwrap();
    let team = format!("{}/team", registry.host);
    assert_eq!(images.login_registries(), [team]);
    assert_eq!(login["auths"][&registry.host]["username"], "AWS");
    let asked = asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            (
                "CreateRepository".to_owned(),
                json!({ "repositoryName": "team/iris" })
            ),
            ("GetAuthorizationToken".to_owned(), json!({})),
        ]
    );

    let nobody = place.images(Config {
        // No machine of Amazon's: nobody answers there.
        aws: variables(&[("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")]),
        ..config
    });
    let refused = nobody.push(&image, &to, &|_| ()).await.unwrap_err();
    assert!(
        refused.help().unwrap().contains("AWS_ACCESS_KEY_ID"),
        "{refused}"
    );
}
