//! Ordinary programs run as they would outside.

use sandbox::Network;
use tokio::io::AsyncWriteExt as _;

use crate::setup::{best, finish, run, script};

#[tokio::test]
async fn a_program_gets_its_arguments_environment_and_folder() {
    let sandbox = best().await;
    let mut spec = script("pwd; echo \"$GREETING\"; id -u; touch here && ls; exit 3");
    spec.env.push(("GREETING".into(), "héllo wörld".into()));
    let ended = run(&sandbox, spec).await;
    assert_eq!(
        ended.stdout, "/work\nhéllo wörld\n65534\nhere\n",
        "{}",
        ended.stderr
    );
    assert_eq!(ended.exit.code, Some(3));
    assert!(!ended.exit.out_of_memory);
}

#[tokio::test]
async fn standard_input_is_a_pipe_when_asked_for() {
    let sandbox = best().await;
    let mut spec = script("cat");
    spec.stdin = true;
    let mut process = sandbox.spawn(spec).await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    stdin.write_all(b"through").await.unwrap();
    drop(stdin);
    assert_eq!(finish(process).await.stdout, "through");
}

#[tokio::test]
async fn a_signal_is_told_as_a_signal() {
    let sandbox = best().await;
    let ended = run(&sandbox, script("kill -SEGV $$")).await;
    assert_eq!((ended.exit.code, ended.exit.signal), (None, Some(11)));
}

#[tokio::test]
async fn a_program_that_is_not_there_says_so() {
    let sandbox = best().await;
    let mut spec = script("");
    spec.program = "/usr/bin/no-such-program".into();
    let ended = run(&sandbox, spec).await;
    assert!(!ended.exit.success());
    assert!(ended.stderr.contains("no-such-program"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_door_is_reached_from_inside() {
    let sandbox = best().await;
    if !sandbox.has_private_network() {
        eprintln!(
            "skipped: level {:?} has no private network",
            sandbox.level()
        );
        return;
    }
    let mut spec = script("");
    spec.program = "/usr/bin/python3".into();
    let client =
        "import socket; s=socket.create_connection(('localhost', 5000)); print(s.recv(9).decode())";
    spec.args = vec!["-c".into(), client.into()];
    spec.network = Network::Doors(vec![5000, 5001]);
    let mut process = sandbox.spawn(spec).await.unwrap();
    let mut doors = process.take_doors();
    assert_eq!(
        doors.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
        [5000, 5001]
    );
    let door = tokio::net::TcpListener::from_std(doors.remove(0).1).unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = door.accept().await.unwrap();
        stream.write_all(b"come in\n").await.unwrap();
    });
    let ended = finish(process).await;
    assert_eq!(ended.stdout.trim(), "come in", "{}", ended.stderr);
    served.await.unwrap();
}

#[tokio::test]
async fn a_killed_program_is_gone_when_wait_returns() {
    let sandbox = best().await;
    let mut process = sandbox
        .spawn(script("sleep 1000 & sleep 1000"))
        .await
        .unwrap();
    process.kill().await;
    let exit = process.wait().await.unwrap();
    assert_eq!(exit.signal, Some(9));
    assert_eq!(process.wait().await.unwrap(), exit);
}
