//! The system calls that code in a sandbox may not make.
//!
//! A list of refusals, as container runtimes have: what reaches the kernel's larger attack surface
//! or another process, and what no training script needs. Refused calls fail with EPERM; clone3
//! with ENOSYS, since its flags are in memory, out of a filter's sight, and libc then uses clone.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

use crate::error::Error;

/// System calls that are refused whatever their arguments are.
const REFUSED: &[i64] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Flags of clone that make namespaces.
const NAMESPACE_FLAGS: [libc::c_int; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    0x80, // CLONE_NEWTIME
];

/// Which sockets may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sockets {
    /// Local and internet ones: the network is private.
    Any,
    /// Internet ones: the network is the host's. Its abstract local sockets are in reach then,
    /// and some of them trust whoever is root to the kernel (CVE-2020-15257).
    Internet,
    /// Only TCP, whose ports Landlock checks. It checks neither UDP nor multipath TCP nor local
    /// sockets, which are often doors to the machine's services.
    Tcp,
}

/// The filter as a program for the kernel.
pub(crate) fn program(sockets: Sockets) -> Result<BpfProgram, Error> {
    let compiled = rules(sockets)
        .and_then(|rules| {
            SeccompFilter::new(
                rules,
                SeccompAction::Allow,
                SeccompAction::Errno(libc::EPERM.cast_unsigned()),
                std::env::consts::ARCH.try_into()?,
            )
        })
        .and_then(BpfProgram::try_from)
        .map_err(|e| Error::Setup(format!("no system call filter for this processor: {e}")))?;
    Ok(preface().into_iter().chain(compiled).collect())
}

/// The program in the kernel's own layout, as `bwrap --seccomp` reads it.
pub(crate) fn bytes(program: &[sock_filter]) -> Vec<u8> {
    program
        .iter()
        .flat_map(|step| {
            let [c0, c1] = step.code.to_ne_bytes();
            let [k0, k1, k2, k3] = step.k.to_ne_bytes();
            [c0, c1, step.jt, step.jf, k0, k1, k2, k3]
        })
        .collect()
}

/// What one action for all rules cannot say: ENOSYS for clone3, and EPERM for the numbers of the
/// x32 ABI, which name the same calls a second time.
fn preface() -> Vec<sock_filter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let errno = |n: i32| u32::from(SeccompAction::Errno(n.cast_unsigned()));
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    vec![
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        step(RETURN, 0, 0, errno(libc::EPERM)),
        step(JUMP_IF_EQUAL, 0, 1, clone3),
        step(RETURN, 0, 0, errno(libc::ENOSYS)),
    ]
}

fn rules(sockets: Sockets) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let when = |argument, op, value: i64| {
        SeccompCondition::new(argument, Len::Dword, op, value.cast_unsigned())
    };
    let masked =
        |argument, mask: i64, value| when(argument, Op::MaskedEq(mask.cast_unsigned()), value);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();

    let mut clone = Vec::new();
    for flag in NAMESPACE_FLAGS.map(i64::from) {
        clone.push(SeccompRule::new(vec![masked(0, flag, flag)?])?);
    }
    rules.insert(libc::SYS_clone, clone);

    let families = match sockets {
        Sockets::Any => vec![libc::AF_UNIX, libc::AF_INET, libc::AF_INET6],
        Sockets::Internet | Sockets::Tcp => vec![libc::AF_INET, libc::AF_INET6],
    };
    let other_family = families
        .iter()
        .map(|family| when(0, Op::Ne, i64::from(*family)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut refused = vec![SeccompRule::new(other_family)?];
    match sockets {
        Sockets::Any | Sockets::Internet => {
            let raw = masked(1, 0xf, i64::from(libc::SOCK_RAW))?;
            refused.push(SeccompRule::new(vec![raw])?);
        }
        Sockets::Tcp => {
            for kind in (0..16).filter(|kind| *kind != i64::from(libc::SOCK_STREAM)) {
                refused.push(SeccompRule::new(vec![masked(1, 0xf, kind)?])?);
            }
            let other_protocol = [0, libc::IPPROTO_TCP]
                .iter()
                .map(|protocol| when(2, Op::Ne, i64::from(*protocol)))
                .collect::<Result<Vec<_>, _>>()?;
            refused.push(SeccompRule::new(other_protocol)?);
        }
    }
    rules.insert(libc::SYS_socket, refused);

    // Typing into the terminal of whoever started the server (CVE-2017-5226).
    rules.insert(
        libc::SYS_ioctl,
        vec![
            SeccompRule::new(vec![when(1, Op::Eq, 0x5412)?])?, // TIOCSTI
            SeccompRule::new(vec![when(1, Op::Eq, 0x541C)?])?, // TIOCLINUX
        ],
    );

    // Old personalities open old holes; reading the present one is harmless.
    let personalities = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
    let other_personality = personalities
        .iter()
        .map(|personality| when(0, Op::Ne, *personality))
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(
        libc::SYS_personality,
        vec![SeccompRule::new(other_personality)?],
    );
    Ok(rules)
}
