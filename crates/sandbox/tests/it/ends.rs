//! A process ends with all that it started, whoever ends first.

use std::io::BufRead as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sandbox::Level;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::setup::{WorkDir, alive, all, at, best, mark, py, script, sh};

/// Within which all is gone, on a busy machine too; what is left for good is older.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_killed_program_is_gone_when_wait_returns() {
    for sandbox in all().await {
        let (work_dir, mark) = (WorkDir::new(), mark());
        let text = format!("sleep {mark} & setsid sleep {mark} & echo up; sleep {mark}");
        let mut process = sandbox
            .spawn(script(&sandbox, &work_dir, &text))
            .await
            .unwrap();
        let mut lines = BufReader::new(process.take_stdout().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "up");
        assert!(alive(&mark) > 0);
        process.kill().await;
        let exit = process.wait().await.unwrap();
        assert_eq!(alive(&mark), 0, "{:?}", sandbox.level());
        assert_eq!(exit.signal, Some(9));
        assert_eq!(process.wait().await.unwrap(), exit);
    }
}

#[tokio::test]
async fn a_daemon_that_a_program_leaves_ends_with_it() {
    for sandbox in all().await {
        let mark = mark();
        let text =
            format!("setsid sh -c 'trap \"\" TERM HUP INT; sleep {mark}' & sleep 0.2; echo done");
        let ended = sh(&sandbox, &text).await;
        assert_eq!(ended.exit.code, Some(0), "{ended:?}");
        assert_eq!(alive(&mark), 0, "{:?}", sandbox.level());
    }
}

#[tokio::test]
async fn a_dropped_process_is_killed() {
    for sandbox in all().await {
        let (work_dir, mark) = (WorkDir::new(), mark());
        let text = format!("echo up; sleep {mark}");
        let mut process = sandbox
            .spawn(script(&sandbox, &work_dir, &text))
            .await
            .unwrap();
        let mut lines = BufReader::new(process.take_stdout().unwrap()).lines();
        lines.next_line().await.unwrap();
        drop(process);
        let started = Instant::now();
        while alive(&mark) > 0 {
            assert!(started.elapsed() < PATIENCE, "{:?}", sandbox.level());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_its_caller_leaves_is_taken_back() {
    for sandbox in all().await {
        let (work_dir, mark) = (WorkDir::new(), mark());
        for microseconds in (0..40).map(|n| n * 400) {
            let spec = script(&sandbox, &work_dir, &format!("sleep {mark}"));
            let patience = Duration::from_micros(microseconds);
            drop(tokio::time::timeout(patience, sandbox.spawn(spec)).await);
        }
        let started = Instant::now();
        // Also what has not become the program yet has it among its arguments.
        while alive(&mark) > 0 {
            assert!(started.elapsed() < PATIENCE, "{:?}", sandbox.level());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_program_that_ignores_signals_is_killed_all_the_same() {
    for sandbox in all().await {
        let (work_dir, mark) = (WorkDir::new(), mark());
        let text = format!(
            "trap '' TERM HUP INT QUIT; sleep {mark} & kill -STOP $!; echo up; while :; do sleep {mark}; done"
        );
        let mut process = sandbox
            .spawn(script(&sandbox, &work_dir, &text))
            .await
            .unwrap();
        let mut lines = BufReader::new(process.take_stdout().unwrap()).lines();
        lines.next_line().await.unwrap();
        process.kill().await;
        process.wait().await.unwrap();
        assert_eq!(alive(&mark), 0, "{:?}", sandbox.level());
    }
}

#[tokio::test]
async fn processes_started_from_threads_that_end_live_on() {
    let sandbox = best().await;
    let work_dir = WorkDir::new();
    let spec = script(&sandbox, &work_dir, "sleep 0.3; echo lived");
    let spawned = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ended = runtime.block_on(crate::setup::run(&sandbox, spec));
        ended.stdout
    });
    assert_eq!(spawned.join().unwrap(), "lived\n");
}

/// The server of [`nothing_is_left_when_the_server_is_killed`]: starts a tree and waits.
#[tokio::test]
async fn server_that_is_killed() {
    if std::env::var_os("LEVEL").is_none() {
        return; // Only that test starts it.
    }
    let (level, mark) = (
        std::env::var("LEVEL").unwrap(),
        std::env::var("MARK").unwrap(),
    );
    let levels = [Level::Strict, Level::User, Level::Landlock, Level::None];
    let level = levels.into_iter().find(|l| l.name() == level).unwrap();
    let sandbox = at(level).await.unwrap();
    if std::env::var_os("KEEP_STARTING").is_some() {
        println!("up");
        loop {
            let work_dir = WorkDir::new();
            let spec = script(&sandbox, &work_dir, &format!("sleep {mark}"));
            drop(sandbox.spawn(spec).await.unwrap());
        }
    }
    let work_dir = WorkDir::new();
    let text = format!("setsid sleep {mark} & sleep {mark} & echo up; sleep {mark}");
    let mut process = sandbox
        .spawn(script(&sandbox, &work_dir, &text))
        .await
        .unwrap();
    let mut lines = BufReader::new(process.take_stdout().unwrap()).lines();
    lines.next_line().await.unwrap();
    println!("up");
    process.wait().await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_when_the_server_is_killed() {
    for sandbox in all().await {
        let mark = mark();
        let mut server = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ends::server_that_is_killed", "--nocapture"])
            .env("LEVEL", sandbox.level().name())
            .env("MARK", &mark)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(server.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("up")));
        assert!(alive(&mark) > 0);
        server.kill().unwrap();
        server.wait().unwrap();
        let started = Instant::now();
        while alive(&mark) > 0 {
            assert!(started.elapsed() < PATIENCE, "{:?}", sandbox.level());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_start_that_the_servers_death_interrupts() {
    for sandbox in all().await {
        let mark = mark();
        for round in 0..12 {
            let mut server = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "ends::server_that_is_killed", "--nocapture"])
                .env("LEVEL", sandbox.level().name())
                .env("MARK", &mark)
                .env("KEEP_STARTING", "yes")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = std::io::BufReader::new(server.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().ends_with("up")));
            std::thread::sleep(Duration::from_millis(3 * round));
            server.kill().unwrap();
            server.wait().unwrap();
        }
        let started = Instant::now();
        while alive(&mark) > 0 {
            assert!(started.elapsed() < PATIENCE, "{:?}", sandbox.level());
            tokio::time::sleep(Duration::from_millis(100)).await;
            // What can be left at all waits for the next server to start.
            drop(at(sandbox.level()).await);
        }
    }
}

#[tokio::test]
async fn an_exit_does_not_wait_for_a_grandchild_that_holds_the_output() {
    for sandbox in all().await {
        let started = Instant::now();
        let ended = py(
            &sandbox,
            "import subprocess; subprocess.Popen(['sleep', '600']); print('ended', flush=True)",
        )
        .await;
        assert_eq!(ended.stdout, "ended\n", "{ended:?}");
        assert!(started.elapsed() < PATIENCE);
    }
}
