//! Uploads into a folder, and a server that is killed in the middle of one.

use std::io::Write as _;
use std::path::Path;

use crate::server::{Server, answer};

const FILE: &str = "/api/2.0/mlflow-artifacts/artifacts/0/model.bin";

/// Begins to send a file of ten megabytes and sends this much of it.
fn begin(server: &Server, sent: usize) -> std::net::TcpStream {
    let mut stream = server.connect(&format!(
        "PUT {FILE} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        server.address(),
        10 << 20,
    ));
    stream.write_all(&vec![b'n'; sent]).unwrap();
    stream
}

/// How many bytes lie in unfinished uploads.
fn unfinished(uploads: &Path) -> u64 {
    let mut bytes = 0;
    for folder in std::fs::read_dir(uploads).into_iter().flatten().flatten() {
        for part in std::fs::read_dir(folder.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            bytes += part.metadata().map_or(0, |meta| meta.len());
        }
    }
    bytes
}

#[test]
fn a_server_killed_in_the_middle_of_an_upload_leaves_the_old_file_whole() {
    let home = tempfile::tempdir().unwrap();
    let uploads = home.path().join(".local/share/asgard/artifacts/.uploads");
    let server = Server::start(home.path(), &[]);
    let mut old = server.connect(&format!(
        "PUT {FILE} HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\nconnection: close\r\n\r\n",
        server.address(),
    ));
    old.write_all(b"old").unwrap();
    assert!(answer(old).contains("200 OK"));

    let half = begin(&server, 5 << 20);
    let since = std::time::Instant::now();
    while unfinished(&uploads) < 3 << 20 {
        assert!(since.elapsed().as_secs() < 60, "nothing is written");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Dropping it kills it.
    drop(server);
    drop(half);
    assert!(unfinished(&uploads) > 0, "a killed server cleans nothing");

    let server = Server::start(home.path(), &[]);
    assert!(server.get(FILE).ends_with("\r\n\r\nold"));
    assert_eq!(unfinished(&uploads), 0);
    let whole = begin(&server, 10 << 20);
    assert!(answer(whole).contains("200 OK"));
    assert!(server.get(FILE).ends_with("nnn"));
}
