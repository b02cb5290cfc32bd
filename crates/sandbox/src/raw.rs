//! The few calls that Rust cannot check: running code between fork and exec, reaping with usage, and
//! giving freed memory back.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, sockopt};
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How a child ended, and what it and the children it reaped have used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// Runs `setup` in the child before it becomes the program. `setup` may only make system calls:
/// the child has one thread, and another may have held any lock when it was forked.
#[expect(unsafe_code, reason = "code between fork and exec cannot be checked")]
pub(crate) fn before_exec(
    command: &mut Command,
    setup: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: every caller in this crate passes a closure that makes system calls only (rustix
    // without libc does them directly), takes no lock and does not allocate.
    unsafe { command.pre_exec(setup) };
}

/// Forks a child that runs `work`, which may only make system calls, and ends with its result.
#[expect(
    unsafe_code,
    reason = "joining a user namespace needs a process with one thread"
)]
pub(crate) fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child runs `work` and leaves by `_exit`, so no destructor and no exit handler of
    // the parent's runs twice; callers pass closures that make system calls only.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = work();
            // SAFETY: `_exit` is async-signal-safe and does not return.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no process id")),
    }
}

/// Forks for good: `None` in the child, the child's id in the parent.
#[expect(
    unsafe_code,
    reason = "a supervisor stays between the server and the program"
)]
pub(crate) fn fork_in_two() -> io::Result<Option<Pid>> {
    // SAFETY: called only between fork and exec, in a process with one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Takes over a listening local socket that this process was started with, under a number that its
/// parent told it. Call it before this process opens anything that may have that number.
///
/// # Errors
/// When the number is not that of a listening local socket.
#[expect(
    unsafe_code,
    reason = "nothing but the number tells who owns an inherited descriptor"
)]
pub fn take_listener(number: RawFd) -> io::Result<UnixListener> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed for the questions below only; a number that is not open makes the first of
    // them fail with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    let family = sockopt::socket_domain(borrowed)?;
    if family != AddressFamily::UNIX || !sockopt::socket_acceptconn(borrowed)? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is open, and inherited: this process has made no listening local socket yet, so
    // nothing else in it owns this one.
    Ok(UnixListener::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Closes every descriptor but two, in a process that never returns to Rust's owners of them.
#[expect(
    unsafe_code,
    reason = "descriptors are closed without asking their owners"
)]
pub(crate) fn close_all_but(one: RawFd, two: RawFd) {
    let (low, high) = (one.min(two), one.max(two));
    for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)] {
        if first <= last {
            // SAFETY: the caller is a supervisor, which uses only the two that stay and leaves by
            // `_exit`.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Ends the calling process at once, without any handler.
#[expect(
    unsafe_code,
    reason = "a forked child must not run the parent's exit handlers"
)]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is async-signal-safe and does not return.
    unsafe { libc::_exit(code) }
}

/// Waits on a descriptor with the runtime.
#[expect(
    unsafe_code,
    reason = "the runtime cannot know who may close a descriptor"
)]
pub(crate) fn watch(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let owned = fd.try_clone_to_owned()?;
    // SAFETY: the descriptor is a fresh copy, owned by the `AsyncFd` alone until it is dropped.
    unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }.map_err(io::Error::from)
}

/// Reaps a child that has ended.
#[expect(unsafe_code, reason = "wait4 tells the usage of exactly this child")]
pub(crate) fn reap(pid: Pid) -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live, writable values of the right type.
        let done = unsafe { libc::wait4(pid.as_raw_pid(), &raw mut status, 0, &raw mut usage) };
        if done != -1 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    let (code, signal) = status_parts(status);
    Ok(Reaped {
        code,
        signal,
        peak_memory_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
    })
}

/// The exit code or the signal in a wait status.
pub(crate) fn status_parts(status: i32) -> (Option<i32>, Option<i32>) {
    (
        libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
    )
}

/// Gives what this process has freed back to the system. glibc keeps it for the next, in an arena for
/// each thread that asked for it: after a large read that is several times what was ever in use
/// (malloc_trim(3)). It takes some milliseconds.
#[cfg(target_env = "gnu")]
#[expect(
    unsafe_code,
    reason = "the C library's allocator is reached by a foreign function"
)]
pub fn give_back_memory() {
    // SAFETY: takes only what is free; the allocator locks what it looks at.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries keep little.
#[cfg(not(target_env = "gnu"))]
pub fn give_back_memory() {}
