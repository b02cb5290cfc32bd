//! The commands about jobs, with a real job that fails early: its requirement does not exist.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{Server, asgard, code, stderr, stdout};

/// The server's job needs uv and Python where the machine has them.
fn start(home: &std::path::Path) -> Server {
    let mut command = asgard(home);
    command
        .args(["up", "--listen", "127.0.0.1:0"])
        .env("PATH", std::env::var_os("PATH").unwrap());
    Server::start_with(&mut command)
}

fn at<'a>(
    server: &Server,
    home: &std::path::Path,
    args: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = asgard(home);
    command.args(args).env("ASGARD_URL", &server.url);
    command
}

#[test]
fn a_job_is_followed_to_its_end_and_its_failure_is_the_commands() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("train.py"), "print('✅ hello')\n").unwrap();
    let server = start(home.path());
    let run = |args: &[&str]| {
        at(&server, home.path(), args.iter().copied())
            .output()
            .unwrap()
    };

    let missing = ["run", "train.py", "-r", "no-such-package-of-asgards-tests"];
    let followed = run(&missing);
    let told = stderr(&followed);
    assert_eq!(code(&followed), 5, "{told}");
    assert!(told.contains("✓ uploaded train.py as job "), "{told}");
    assert!(told.contains("✗ environment"), "{told}");
    assert!(told.contains("no-such-package-of-asgards-tests"), "{told}");
    assert!(told.contains("help: "), "{told}");
    assert!(!told.contains('\u{1b}'), "a pipe gets no colour: {told}");
    assert_eq!(stdout(&followed), "", "the script never ran");

    let jobs = stdout(&run(&["jobs", "list", "-o", "name"]));
    let job = jobs.trim();
    assert_eq!(code(&run(&["jobs", "wait", job])), 5);
    assert_eq!(code(&run(&["jobs", "logs", "-f", job])), 5);
    let log = stdout(&run(&["jobs", "logs", job]));
    assert!(log.contains("Installing requirements..."), "{log}");
    let cancelled = run(&["jobs", "cancel", job]);
    assert_eq!(code(&cancelled), 7, "{}", stderr(&cancelled));
    let document: Value =
        serde_json::from_str(&stdout(&run(&["jobs", "get", job, "--json"]))).unwrap();
    assert_eq!(document["status"], "failed");
    assert_eq!(document["script_name"], "train.py");
}

#[test]
fn an_interrupt_leaves_the_job_alone_and_says_how_to_come_back() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("train.py"),
        "import time; time.sleep(60)\n",
    )
    .unwrap();
    let server = start(home.path());
    let detached = at(&server, home.path(), ["run", "train.py", "--detach"])
        .output()
        .unwrap();
    let job = stdout(&detached).trim().to_owned();

    let mut following = at(&server, home.path(), ["jobs", "logs", "-f", &job])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It follows once it has shown something of the log.
    let mut first = [0];
    let mut err = following.stderr.take().unwrap();
    std::io::Read::read_exact(&mut err, &mut first).unwrap();
    kill_process(Pid::from_child(&following), Signal::INT).unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut err, &mut told).unwrap();
    assert_eq!(following.wait().unwrap().code(), Some(130), "{told}");
    assert!(
        told.contains(&format!("asgard jobs logs -f {job}")),
        "{told}"
    );
    assert!(
        told.contains(&format!("asgard jobs cancel {job}")),
        "{told}"
    );

    let waited = at(
        &server,
        home.path(),
        ["jobs", "wait", &job, "--timeout", "0"],
    )
    .output()
    .unwrap();
    assert_eq!(code(&waited), 8, "{}", stderr(&waited));
    let cancelled = at(&server, home.path(), ["jobs", "cancel", &job])
        .output()
        .unwrap();
    assert_eq!(code(&cancelled), 0, "{}", stderr(&cancelled));
    let ended = at(&server, home.path(), ["jobs", "wait", &job])
        .output()
        .unwrap();
    assert_eq!(code(&ended), 5, "{}", stderr(&ended));
    assert!(stderr(&ended).contains("cancelled"), "{}", stderr(&ended));
}
