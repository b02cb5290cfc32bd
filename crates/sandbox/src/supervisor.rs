//! The process between the server and a program that has no pid namespace.
//!
//! It is a fork of the server that never becomes another program: it takes in whatever the
//! program's tree leaves behind (PR_SET_CHILD_SUBREAPER), tells how the program ended, kills the
//! rest, and ends last. When the server dies, a pipe closes and it does the same. After the fork it
//! makes system calls only.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, getppid, kill_process, pidfd_open,
    set_child_subreaper, set_parent_process_death_signal, setsid, wait, waitpid,
};

use crate::error::Error;
use crate::raw;

/// The server's ends of the pipes to a supervisor.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Closing it ends the tree.
    _alive: OwnedFd,
    /// Gives the program's wait status, once.
    pub(crate) status: OwnedFd,
}

/// The supervisor's ends.
#[derive(Debug)]
pub(crate) struct Inside {
    alive: OwnedFd,
    status: OwnedFd,
}

/// Pipes for one supervisor.
pub(crate) fn pipes() -> Result<(Ends, Inside), Error> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::start("make a pipe", e));
    let (alive_inside, alive) = pipe()?;
    let (status, status_inside) = pipe()?;
    rustix::io::ioctl_fionbio(&status, true).map_err(|e| Error::start("set up a pipe", e))?;
    Ok((
        Ends {
            _alive: alive,
            status,
        },
        Inside {
            alive: alive_inside,
            status: status_inside,
        },
    ))
}

/// Called between fork and exec. Returns in a new child, which is to become the program; the
/// calling process stays as its supervisor.
pub(crate) fn step_between(inside: &Inside) -> io::Result<()> {
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    let supervisor = getpid();
    if let Some(program) = raw::fork_in_two()? {
        supervise(program, inside);
    }
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(supervisor) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    setsid()?;
    Ok(())
}

fn supervise(program: Pid, inside: &Inside) -> ! {
    // Standard output ends when the program ends, not when this does; and the pipe by which exec
    // failures are told must not stay open.
    raw::close_all_but(inside.alive.as_raw_fd(), inside.status.as_raw_fd());
    if let Ok(program_fd) = pidfd_open(program, PidfdFlags::empty()) {
        await_end(program_fd.as_fd(), inside.alive.as_fd());
    }
    // Either it has ended, or the server has.
    let _ = kill_process(program, Signal::KILL);
    let ended = waitpid(Some(program), WaitOptions::empty());
    loop {
        kill_children();
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            // No child is left, and none can come.
            Err(_) => break,
        }
    }
    // Last, since writing to a server that is gone ends this process.
    if let Ok(Some((_, status))) = ended {
        let _ = rustix::io::write(&inside.status, &status.as_raw().to_ne_bytes());
    }
    raw::exit_now(0)
}

/// Returns when the program has ended or the server's end of the pipe is closed.
fn await_end(program: BorrowedFd<'_>, alive: BorrowedFd<'_>) {
    loop {
        let mut fds = [
            PollFd::new(&program, PollFlags::IN),
            PollFd::new(&alive, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => return,
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Kills the direct children: what they leave comes here and is next.
fn kill_children() {
    let Ok(list) = open(
        c"/proc/thread-self/children",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return;
    };
    let mut pid: i32 = 0;
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = rustix::io::read(&list, &mut buffer[..]) {
        for byte in &buffer[..read] {
            if byte.is_ascii_digit() {
                pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
            } else {
                if let Some(child) = Pid::from_raw(pid) {
                    let _ = kill_process(child, Signal::KILL);
                }
                pid = 0;
            }
        }
    }
}
