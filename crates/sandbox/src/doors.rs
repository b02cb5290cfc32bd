//! Listeners inside the network namespace of a sandbox.
//!
//! A socket stays in the namespace it was made in. So a helper joins the sandbox's namespaces,
//! binds there, and passes the sockets back: the server accepts on them as on any other, nothing
//! runs inside, and which listener a connection came through tells whose it is.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, listen, recvmsg, sendmsg,
    socket_with, socketpair, sockopt,
};
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::error::Error;
use crate::raw;

/// Binds `ports` on loopback in the namespaces of the process behind `pidfd`. Blocks shortly.
pub(crate) fn bind_inside(
    pidfd: BorrowedFd<'_>,
    ports: &[u16],
) -> Result<Vec<(u16, TcpListener)>, Error> {
    let failed = |e: Errno| Error::start("listen inside a sandbox", e);
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed)?;
    let helper = raw::fork(|| match help(pidfd, theirs.as_fd(), ports) {
        Ok(()) => 0,
        Err(errno) => errno.raw_os_error(),
    })
    .map_err(|e| Error::start("fork the helper that listens inside a sandbox", e))?;
    drop(theirs);
    let mut sockets = Vec::with_capacity(ports.len());
    let mut received = Ok(());
    for port in ports {
        match receive(ours.as_fd()) {
            Ok(Some(socket)) => sockets.push((*port, TcpListener::from(socket))),
            Ok(None) => break,
            Err(errno) => {
                received = Err(errno);
                break;
            }
        }
    }
    let ended = waitpid(Some(helper), WaitOptions::empty()).map_err(failed)?;
    received.map_err(failed)?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) if sockets.len() == ports.len() => {}
        Some(code) if code > 0 => return Err(failed(Errno::from_raw_os_error(code))),
        _ => {
            return Err(Error::Setup(
                "the helper that listens inside ended early".to_owned(),
            ));
        }
    }
    for (_, listener) in &sockets {
        listener
            .set_nonblocking(true)
            .map_err(|e| Error::start("set up a listener", e))?;
    }
    Ok(sockets)
}

/// The helper's work: system calls only.
fn help(pidfd: BorrowedFd<'_>, back: BorrowedFd<'_>, ports: &[u16]) -> Result<(), Errno> {
    move_into_thread_name_spaces(
        pidfd,
        ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK,
    )?;
    for port in ports {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // The launcher may not have brought loopback up yet.
        sockopt::set_ip_freebind(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port))?;
        listen(&socket, 1024)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [socket.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(
            back,
            &[IoSlice::new(b"d")],
            &mut control,
            SendFlags::empty(),
        )?;
    }
    Ok(())
}

/// One socket from the helper; `None` when it has ended.
fn receive(from: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if message.bytes == 0 {
        return Ok(None);
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}
