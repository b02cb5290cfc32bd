//! Models and requests that mean harm: what the published mistakes of others let them do.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};
use serving::Config;

use crate::setup::Stage;

/// A listener of this machine that nobody is to reach.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn assert_unheard(listener: &TcpListener) {
    let heard = listener.accept().unwrap_err();
    assert_eq!(heard.kind(), ErrorKind::WouldBlock);
}

/// Python that tries what a model must not, and raises with what it got.
fn attempts(port: u16, another: &Path) -> String {
    format!(
        "import os, socket
found = []
for address in (('127.0.0.1', {port}), ('169.254.169.254', 80)):
    try:
        socket.create_connection(address, 2)
        found.append(address)
    except OSError:
        pass
try:
    found.append(open({another:?}).read())
except OSError:
    pass
for name in os.environ:
    if 'TOKEN' in name or 'SECRET' in name or 'AWS' in name:
        found.append(name)
raise RuntimeError(f'found: {{found}}')
"
    )
}

/// The lone pickle that runs this when it is loaded.
fn pickle(code: &str) -> Vec<u8> {
    let text = code
        .replace('\\', "\\\\")
        .replace('\'', "\\'")
        .replace('\n', "\\n");
    format!("cbuiltins\nexec\n(S'{text}'\n}}tR.").into_bytes()
}

/// Rows 18 and 19: a model runs code when it is loaded, whatever its flavor says of itself; what
/// that code reaches is held by the sandbox.
#[tokio::test]
async fn a_model_that_runs_code_reaches_no_network_no_token_and_no_other_model() {
    let stage = Stage::new(Config::default()).await;
    stage.register("iris", "iris").await;
    let (listener, port) = listener();
    let code = attempts(port, &stage.file_of("iris", "MLmodel").await);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("model.pkl", &pickle(&code));
    write(
        "code/mine.py",
        format!("def _load_pyfunc(path):\n    exec({code:?})\n").as_bytes(),
    );
    for (name, flavor) in [
        ("pickle", "asgard.pickle:\n    model_path: model.pkl\n"),
        (
            "own",
            "python_function:\n    loader_module: mine\n    code: code\n",
        ),
    ] {
        write("MLmodel", format!("flavors:\n  {flavor}").as_bytes());
        stage.register_folder(name, folder.path(), true).await;
        let (status, answer) = stage.ask(name, r#"{"a": [1]}"#).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
        assert!(
            answer.to_string().contains("found: []"),
            "{name}: {answer:#}"
        );
    }
    assert_unheard(&listener);
}

/// Row 28: a text that is an address is a text.
#[tokio::test]
async fn an_address_among_the_inputs_is_not_fetched() {
    let stage = Stage::new(Config::default()).await;
    stage.register("custom", "custom").await;
    let (listener, port) = listener();
    let url = format!("http://127.0.0.1:{port}/file");
    let (status, answer) = stage
        .ask("custom", &json!({"what": [url], "x": [1.0]}).to_string())
        .await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    assert!(
        answer.to_string().contains(&format!("hello {url}")),
        "{answer:#}"
    );
    let body = json!({"model_name": url, "inputs": url, "model_uri": url});
    let (status, _) = stage.post(body.to_string()).await;
    assert!(status.is_client_error(), "{status}");
    assert_unheard(&listener);
}

/// Row 33: YAML says what there is, and makes nothing.
#[tokio::test]
async fn a_tag_of_python_in_yaml_is_refused() {
    let stage = Stage::new(Config::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("made");
    for (name, yaml) in [
        (
            "whole",
            "!!python/object/apply:os.system [\"touch MARKER\"]\n",
        ),
        (
            "flavors",
            "flavors: !!python/object/apply:os.system [\"touch MARKER\"]\n",
        ),
        (
            "loader",
            "flavors:\n  python_function:\n    loader_module: !!python/object/apply:os.system [\"touch MARKER\"]\n",
        ),
    ] {
        let yaml = yaml.replace("MARKER", marker.to_str().unwrap());
        std::fs::write(folder.path().join("MLmodel"), yaml).unwrap();
        stage.register_folder(name, folder.path(), true).await;
        let (status, answer): (_, Value) = stage.ask(name, r#"{"a": [1]}"#).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{name}: {answer:#}"
        );
        assert!(!marker.exists(), "{name}");
    }
}
