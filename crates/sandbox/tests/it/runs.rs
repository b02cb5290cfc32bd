//! Ordinary programs run as they would outside.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use sandbox::{Level, Mount, Network};
use tokio::io::AsyncWriteExt as _;

use crate::setup::{WorkDir, all, at, finish, py, python, run, script, sh};

#[tokio::test]
async fn a_program_gets_its_arguments_environment_and_folder() {
    for sandbox in all().await {
        let work_dir = WorkDir::new();
        let text = "pwd; echo \"$GREETING\"; touch here && ls; env | grep -c SECRET; exit 3";
        let mut spec = script(&sandbox, &work_dir, text);
        spec.env.push(("GREETING".into(), "héllo wörld".into()));
        let ended = run(&sandbox, spec).await;
        let place = work_dir.of(&sandbox);
        let expected = format!("{}\nhéllo wörld\nhere\n0\n", place.display());
        assert_eq!(ended.stdout, expected, "{ended:?}");
        assert_eq!(ended.exit.code, Some(3), "{ended:?}");
        assert!(!ended.exit.out_of_memory);
    }
}

#[tokio::test]
async fn standard_input_is_a_pipe_when_asked_for() {
    for sandbox in all().await {
        let work_dir = WorkDir::new();
        let mut spec = script(&sandbox, &work_dir, "cat");
        spec.stdin = true;
        let mut process = sandbox.spawn(spec).await.unwrap();
        let mut stdin = process.take_stdin().unwrap();
        stdin.write_all(b"through").await.unwrap();
        drop(stdin);
        assert_eq!(finish(process).await.stdout, "through");
    }
}

#[tokio::test]
async fn a_program_listens_at_a_socket_that_it_is_handed() {
    for sandbox in all().await {
        let (work_dir, outside) = (WorkDir::new(), tempfile::tempdir().unwrap());
        let place = outside.path().join("socket");
        let listener = OwnedFd::from(UnixListener::bind(&place).unwrap());
        let text = format!(
            "import socket\n\
             connection, _ = socket.socket(fileno={}).accept()\n\
             connection.send(b'inside')\n",
            listener.as_raw_fd()
        );
        let mut spec = python(&sandbox, &work_dir, &text);
        spec.listener = Some(Arc::new(listener));
        let process = sandbox.spawn(spec).await.unwrap();
        let there = place.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            UnixStream::connect(there)?.read_to_string(&mut said)?;
            Ok::<_, std::io::Error>(said)
        });
        let ended = finish(process).await;
        assert!(ended.exit.success(), "{ended:?}");
        assert_eq!(asked.await.unwrap().unwrap(), "inside");
        // The server has kept no copy at which somebody would wait for ever.
        assert!(UnixStream::connect(&place).is_err());
    }
}

#[tokio::test]
async fn a_signal_is_told_as_a_signal() {
    for sandbox in all().await {
        let ended = sh(&sandbox, "kill -SEGV $$").await;
        assert_eq!(
            (ended.exit.code, ended.exit.signal),
            (None, Some(11)),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_says_so() {
    for sandbox in all().await {
        let work_dir = WorkDir::new();
        let mut spec = script(&sandbox, &work_dir, "");
        spec.program = "/usr/bin/no-such-program".into();
        // Where the program is looked for inside, the launcher says it; else the start fails.
        match sandbox.spawn(spec).await {
            Ok(process) => {
                let ended = finish(process).await;
                assert!(!ended.exit.success());
                assert!(ended.stderr.contains("no-such-program"), "{ended:?}");
            }
            Err(error) => assert!(error.to_string().contains("no-such-program"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_door_is_reached_from_inside() {
    for level in [Level::Strict, Level::User] {
        let Some(sandbox) = at(level).await else {
            continue;
        };
        let work_dir = WorkDir::new();
        let client = "import socket; s=socket.create_connection(('localhost', 5000)); print(s.recv(9).decode())";
        let mut spec = python(&sandbox, &work_dir, client);
        spec.network = Network::Doors(vec![5000, 5001]);
        let mut process = sandbox.spawn(spec).await.unwrap();
        let mut doors = process.take_doors();
        let ports: Vec<u16> = doors.iter().map(|(port, _)| *port).collect();
        assert_eq!(ports, [5000, 5001]);
        let door = tokio::net::TcpListener::from_std(doors.remove(0).1).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = door.accept().await.unwrap();
            stream.write_all(b"come in\n").await.unwrap();
        });
        let ended = finish(process).await;
        assert_eq!(ended.stdout.trim(), "come in", "{ended:?}");
        served.await.unwrap();
    }
}

#[tokio::test]
async fn two_sandboxes_may_have_the_same_port() {
    let Some(sandbox) = at(Level::User).await else {
        return;
    };
    let work_dir = WorkDir::new();
    let mut spec = script(&sandbox, &work_dir, "sleep 60");
    spec.network = Network::Doors(vec![5000]);
    let first = sandbox.spawn(spec.clone()).await.unwrap();
    let second = sandbox.spawn(spec).await.unwrap();
    first.kill().await;
    second.kill().await;
}

#[tokio::test]
async fn a_writable_mount_is_written_and_a_read_only_one_is_not() {
    for sandbox in all().await {
        let (open, sealed) = (WorkDir::new(), WorkDir::new());
        let work_dir = WorkDir::new();
        // Beneath /tmp on the host, and seen at the same place inside.
        let folders = [&open, &sealed].map(|folder| folder.host());
        let text = format!(
            "echo new > {0}/file; echo new > {1}/file && echo written",
            folders[0].display(),
            folders[1].display()
        );
        let mut spec = script(&sandbox, &work_dir, &text);
        spec.mounts = vec![Mount::writable(&folders[0]), Mount::read_only(&folders[1])];
        let ended = run(&sandbox, spec).await;
        assert_eq!(
            std::fs::read_to_string(folders[0].join("file")).unwrap(),
            "new\n"
        );
        if sandbox.level() != Level::None {
            assert_eq!(ended.stdout, "", "{ended:?}");
            assert!(!folders[1].join("file").exists());
        }
    }
}

#[tokio::test]
async fn usage_is_told() {
    for sandbox in all().await {
        let ended = py(
            &sandbox,
            "import time\nkept = bytearray(80 << 20)\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass",
        )
        .await;
        assert!(ended.exit.success(), "{ended:?}");
        let usage = ended.exit.usage;
        assert!(
            usage.cpu_seconds > 0.3 && usage.cpu_seconds < 20.0,
            "{usage:?}"
        );
        assert!(
            usage.peak_memory_bytes > 70 << 20,
            "{:?} {usage:?}",
            sandbox.level()
        );
        assert!(
            usage.peak_memory_bytes < 200 << 20,
            "{:?} {usage:?}",
            sandbox.level()
        );
    }
}

#[tokio::test]
async fn two_sandboxes_of_one_process_do_not_meet() {
    let (first, second) = (all().await, all().await);
    for (first, second) in first.iter().zip(&second) {
        let (here, there) = (WorkDir::new(), WorkDir::new());
        let mut spec = script(first, &here, "cat");
        spec.stdin = true;
        let mut waiting = first.spawn(spec).await.unwrap();
        let ended = run(second, script(second, &there, "echo both")).await;
        assert_eq!(ended.stdout, "both\n", "{ended:?}");
        drop(waiting.take_stdin());
        assert_eq!(finish(waiting).await.exit.code, Some(0));
    }
}
