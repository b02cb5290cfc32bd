//! `bucket ROOT PORT`: serves a bucket in a folder, for the tests in Python.

use std::net::TcpListener;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut args = std::env::args().skip(1);
    let (Some(root), Some(port)) = (args.next(), args.next()) else {
        return Err("usage: bucket ROOT PORT".into());
    };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    bucket::run(listener, root.as_ref())
}
