//! The real binary, started and stopped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The command with a clean environment, its home in `home`.
pub(crate) fn asgard(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asgard"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(home: &Path, args: &[&str]) -> Output {
    asgard(home).args(args).output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An address nobody listens at: below the ports that the kernel gives to connections, so that no
/// connection takes it before a server does.
pub(crate) fn unused_address() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 22_000;
        let address = format!("127.0.0.1:{port}");
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// A running server; killed when the test ends without stopping it.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) greeting: String,
}

impl Server {
    /// Starts a server on a free port, with its data in the home.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        Self::start_with(
            asgard(home)
                .args(["up", "--listen", "127.0.0.1:0"])
                .args(args),
        )
    }

    pub(crate) fn start_with(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !greeting.contains("next:") {
            if lines.read_line(&mut greeting).unwrap() == 0 {
                let mut log = String::new();
                child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut log)
                    .unwrap();
                panic!("the server did not start: {log}");
            }
        }
        let url = greeting
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .unwrap()
            .to_owned();
        Self {
            child,
            url,
            greeting,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Sends bytes on a new connection.
    pub(crate) fn connect(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    }

    /// Asks for a page and gives the whole answer.
    pub(crate) fn get(&self, path: &str) -> String {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address()
        );
        answer(self.connect(&request))
    }

    pub(crate) fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits until the process has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "the server does not end"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads an answer to its end.
pub(crate) fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
