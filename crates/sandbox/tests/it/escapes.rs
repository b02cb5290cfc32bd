//! What a hostile program tries in order to leave its sandbox, and that it fails.

use std::io::Write as _;
use std::time::Duration;

use sandbox::{Level, Mount, Network, Sandbox};

use crate::setup::{MIB, WorkDir, alive, as_nobody, at, isolating, mark, py, python, run, sh};

/// Each attempt prints `ESCAPED` and what it got; nothing may.
fn assert_held(sandbox: &Sandbox, ended: &crate::setup::Ended) {
    let level = sandbox.level();
    assert!(!ended.stdout.contains("ESCAPED"), "{level:?}: {ended:?}");
    assert!(ended.stdout.contains("tried"), "{level:?}: {ended:?}");
}

#[tokio::test]
async fn files_that_were_not_mounted_cannot_be_read() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"the server's key").unwrap();
    for sandbox in isolating().await {
        let text = format!(
            "for f in /etc/shadow /etc/machine-id /root/.bashrc {secret} /proc/{pid}/environ /proc/{pid}/root/etc/shadow /proc/kcore; do
                cat \"$f\" 2>/dev/null && echo \"ESCAPED $f\"
            done
            ls /root /home /var /sys/kernel 2>/dev/null && echo ESCAPED
            echo tried",
            secret = secret.path().display(),
            pid = std::process::id(),
        );
        assert_held(&sandbox, &sh(&sandbox, &text).await);
    }
}

#[tokio::test]
async fn the_servers_environment_cannot_be_read() {
    // Set for the whole test process by its runner, as a server's would be.
    let name = "CARGO_PKG_NAME";
    for sandbox in isolating().await {
        let text = format!(
            "import glob, os
for path in glob.glob('/proc/*/environ') + ['/proc/1/environ', '/proc/{pid}/environ']:
    try:
        data = open(path, 'rb').read()
        if b'{name}' in data: print('ESCAPED', path)
    except OSError: pass
if '{name}' in os.environ: print('ESCAPED')
print('tried')",
            pid = std::process::id(),
        );
        assert_held(&sandbox, &py(&sandbox, &text).await);
    }
}

#[tokio::test]
async fn nothing_is_reached_over_the_network_but_a_door() {
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let udp = datagrams.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().join("service");
    let _service = std::os::unix::net::UnixListener::bind(&local).unwrap();
    for sandbox in isolating().await {
        let text = format!(
            "import socket
def attempt(what, make):
    try:
        make(); print('ESCAPED', what)
    except OSError: pass
def tcp(host, port): return lambda: socket.create_connection((host, port), timeout=2)
attempt('host port', tcp('127.0.0.1', {port}))
attempt('ipv6', tcp('::1', {port}))
attempt('metadata', tcp('169.254.169.254', 80))
attempt('internet', tcp('1.1.1.1', 443))
attempt('name', lambda: socket.create_connection(('example.org', 80), timeout=2))
def datagram():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', {udp})); s.send(b'ESCAPED'); s.settimeout(1); s.recv(1)
attempt('udp', datagram)
def outward():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('1.1.1.1', 53)); s.send(b'x')
attempt('udp outward', outward)
def local():
    s = socket.socket(socket.AF_UNIX); s.connect('{local}')
attempt('local socket', local)
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))
attempt('multipath', lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('127.0.0.1', {port})))
print('tried')",
            local = local.display(),
        );
        for network in [Network::None, Network::Doors(vec![5000])] {
            let work_dir = WorkDir::new();
            let mut spec = python(&sandbox, &work_dir, &text);
            spec.network = network;
            assert_held(&sandbox, &run(&sandbox, spec).await);
        }
    }
    datagrams.set_nonblocking(true).unwrap();
    assert!(datagrams.recv(&mut [0; 16]).is_err(), "a datagram came out");
}

#[tokio::test]
async fn the_hosts_local_sockets_are_out_of_reach_also_with_its_network() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("asgard-test-{}", mark());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _service = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    for sandbox in isolating().await {
        let text = format!(
            "import socket
try:
    socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('ESCAPED')
except OSError: pass
socket.create_connection(('127.0.0.1', {port})); a, b = socket.socketpair(); print('tried')"
        );
        let work_dir = WorkDir::new();
        let mut spec = python(&sandbox, &work_dir, &text);
        spec.network = Network::Host;
        assert_held(&sandbox, &run(&sandbox, spec).await);
    }
}

#[tokio::test]
async fn a_fork_bomb_is_bounded_and_ends() {
    for sandbox in isolating().await {
        let mark = mark();
        let text = format!(
            "import os, time
made = 0
while True:
    try:
        if os.fork() == 0:
            os.execv('/bin/sleep', ['sleep', '{mark}'])
        made += 1
    except OSError:
        break
print('made', made, flush=True)
time.sleep(600)"
        );
        let work_dir = WorkDir::new();
        let mut process = sandbox
            .spawn(python(&sandbox, &work_dir, &text))
            .await
            .unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
            process.take_stdout().unwrap(),
        ));
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        match line.unwrap().unwrap() {
            Some(line) => {
                let made: usize = line.strip_prefix("made ").unwrap().parse().unwrap();
                // Without a user namespace the user's other processes count too, and some end.
                let most = if sandbox.has_private_files() { 64 } else { 256 };
                assert!(made <= most, "{:?}: {made}", sandbox.level());
            }
            // The kernel counts root's processes in control groups only: it was killed instead.
            None => assert!(sandbox.level() == Level::User && rustix::process::getuid().is_root()),
        }
        process.kill().await;
        process.wait().await.unwrap();
        assert_eq!(alive(&mark), 0, "{:?}", sandbox.level());
    }
}

#[tokio::test]
async fn a_memory_hog_is_ended_as_out_of_memory() {
    for sandbox in isolating().await {
        let text = "import time
kept = []
for _ in range(200):
    kept.append(bytearray(b'x') * (8 << 20)); time.sleep(0.005)
print('ESCAPED')";
        let ended = py(&sandbox, text).await;
        assert!(!ended.stdout.contains("ESCAPED"), "{ended:?}");
        assert!(ended.exit.out_of_memory, "{:?} {ended:?}", sandbox.level());
        assert!(!ended.exit.success());
        assert!(ended.exit.usage.peak_memory_bytes >= 200 * MIB, "{ended:?}");
    }
}

#[tokio::test]
async fn files_in_memory_count_as_memory() {
    for level in [Level::Strict, Level::User] {
        let Some(sandbox) = at(level).await else {
            continue;
        };
        let work_dir = WorkDir::new();
        let fill = "for i in 1 2 3 4; do dd if=/dev/zero of=/tmp/$i bs=1M count=60 2>/dev/null; sleep 0.1; done
            for i in 1 2 3 4; do dd if=/dev/zero of=$i bs=1M count=60 2>/dev/null; sleep 0.1; done; echo ESCAPED";
        let mut spec = crate::setup::script(&sandbox, &work_dir, fill);
        spec.limits.tmp_bytes = Some(1024 * MIB);
        let ended = run(&sandbox, spec).await;
        assert!(ended.exit.out_of_memory, "{level:?} {ended:?}");
    }
}

#[tokio::test]
async fn a_disk_filler_finds_the_disk_full() {
    for level in [Level::Strict, Level::User] {
        let Some(sandbox) = at(level).await else {
            continue;
        };
        let ended = sh(
            &sandbox,
            "for d in /tmp . /dev/shm; do dd if=/dev/zero of=$d/f bs=1M count=40 2>&1 | grep -o 'No space left'; rm $d/f; done
            for f in /f /dev/f /etc/f /usr/f /proc/f; do (echo x > $f) && echo ESCAPED $f; done 2>/dev/null
            echo tried",
        )
        .await;
        assert_held(&sandbox, &ended);
        assert_eq!(
            ended.stdout.matches("No space left").count(),
            3,
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_file_is_not_larger_than_allowed() {
    for sandbox in isolating().await {
        let ended = py(
            &sandbox,
            "import os\ntry:\n    os.truncate(os.open('f', os.O_CREAT | os.O_RDWR), 1 << 40); print('ESCAPED')\nexcept OSError as e: print('tried', e.errno)",
        )
        .await;
        // The signal SIGXFSZ or the error EFBIG.
        assert!(!ended.stdout.contains("ESCAPED"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_read_only_mount_cannot_be_changed() {
    for sandbox in isolating().await {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("module.py"), "original").unwrap();
        let work_dir = WorkDir::new();
        let text = format!(
            "import os, shutil
root = '{}'
def attempt(what, f):
    try:
        f(); print('ESCAPED', what)
    except OSError: pass
attempt('write', lambda: open(root + '/module.py', 'w'))
attempt('append', lambda: open(root + '/module.py', 'a'))
attempt('new', lambda: open(root + '/new.py', 'w'))
attempt('remove', lambda: os.remove(root + '/module.py'))
attempt('rename', lambda: os.rename(root + '/module.py', root + '/other.py'))
attempt('truncate', lambda: os.truncate(root + '/module.py', 0))
attempt('link', lambda: os.link(root + '/module.py', 'linked') or open('linked', 'w'))
print('tried')",
            folder.path().display()
        );
        let mut spec = python(&sandbox, &work_dir, &text);
        spec.mounts = vec![Mount::read_only(folder.path())];
        assert_held(&sandbox, &run(&sandbox, spec).await);
        let text = std::fs::read_to_string(folder.path().join("module.py")).unwrap();
        assert_eq!(text, "original");
    }
}

#[tokio::test]
async fn signals_do_not_reach_other_processes() {
    let mut bystander = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    for sandbox in isolating().await {
        let text = format!(
            "import os
def attempt(what, pid):
    try:
        os.kill(pid, 15)
        if pid in ({bystander}, {server}): print('ESCAPED', what)
    except OSError: pass
attempt('bystander', {bystander}); attempt('server', {server}); attempt('parent', os.getppid())
attempt('one', 1); print('tried', flush=True); os.kill(-1, 9)",
            bystander = bystander.id(),
            server = std::process::id(),
        );
        let ended = py(&sandbox, &text).await;
        let survived = bystander.try_wait().unwrap().is_none();
        assert!(survived, "{:?} {ended:?}", sandbox.level());
        assert_held(&sandbox, &ended);
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// System calls by number, so that no library says no first.
const CALLS: &str = "
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in args])
    if result >= 0: print('ESCAPED', what, result)
    elif ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.EACCES): print('ESCAPED', what, errno.errorcode[ctypes.get_errno()])
";

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn privileged_system_calls_are_refused() {
    for sandbox in isolating().await {
        let text = format!(
            "{CALLS}
for name, flag in dict(user=0x10000000, mount=0x20000, net=0x40000000, pid=0x20000000, time=0x80).items():
    attempt('unshare ' + name, 272, flag)
    attempt('clone ' + name, 56, flag | 17, 0, 0, 0, 0)
    attempt('unshare by x32 ' + name, 272 | 0x40000000, flag)
attempt('clone3', 435, 0, 0)
attempt('setns', 308, 0, 0)
attempt('mount', 165, 0, 0, 0, 0, 0)
attempt('umount', 166, 0, 0)
attempt('chroot', 161, 0)
attempt('pivot_root', 155, 0, 0)
attempt('ptrace', 101, 0, 0, 0, 0)
attempt('process_vm_readv', 310, 1, 0, 0, 0, 0, 0)
attempt('bpf', 321, 0, 0, 0)
attempt('io_uring', 425, 1, 0)
attempt('userfaultfd', 323, 0)
attempt('perf', 298, 0, 0, 0, 0, 0)
attempt('keyctl', 250, 0, 0)
attempt('kexec', 246, 0, 0, 0, 0)
attempt('init_module', 175, 0, 0, 0)
attempt('reboot', 169, 0, 0, 0, 0)
attempt('settimeofday', 164, 0, 0)
attempt('open_by_handle_at', 304, 0, 0, 0)
attempt('personality', 135, 0x0040000)
attempt('iopl', 172, 3)
print('tried')"
        );
        assert_held(&sandbox, &py(&sandbox, &text).await);
    }
}

#[tokio::test]
async fn kernel_settings_cannot_be_written() {
    for sandbox in isolating().await {
        let ended = sh(
            &sandbox,
            "for f in kernel/core_pattern vm/swappiness kernel/modprobe kernel/hostname; do
                v=$(cat /proc/sys/$f 2>/dev/null); (echo \"$v\" > /proc/sys/$f) && echo ESCAPED $f
            done 2>/dev/null
            (echo > /proc/sysrq-trigger) 2>/dev/null && echo ESCAPED sysrq
            ls /sys/fs/cgroup/*/asgard/*/cgroup.procs 2>/dev/null | while read f; do (echo $$ > $f) && echo ESCAPED $f; done 2>/dev/null
            echo tried",
        )
        .await;
        assert_held(&sandbox, &ended);
    }
}

#[tokio::test]
async fn devices_and_privileged_programs_give_nothing() {
    for sandbox in isolating().await {
        let text = "import os, stat
def attempt(what, f):
    try:
        f(); print('ESCAPED', what)
    except OSError: pass
def device():
    os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0)); open('disk', 'rb').read(1)
attempt('device', device)
attempt('setuid', lambda: os.setuid(1))
import ctypes
prctl = ctypes.CDLL(None).prctl
if prctl(39, 0, 0, 0, 0) != 1: print('ESCAPED no_new_privs')
if prctl(21, 0, 0, 0, 0) != 2: print('ESCAPED seccomp')
if CAPABILITIES:
    fields = dict(line.split(':', 1) for line in open('/proc/self/status'))
    if int(fields['CapEff'], 16) or int(fields['CapBnd'], 16): print('ESCAPED capabilities')
print('tried')";
        let private = sandbox.has_private_files();
        let text = text.replace("CAPABILITIES", if private { "True" } else { "False" });
        assert_held(&sandbox, &py(&sandbox, &text).await);
    }
}

#[tokio::test]
async fn arguments_and_environment_do_not_show_in_the_process_list() {
    for level in [Level::Strict, Level::User] {
        let Some(sandbox) = at(level).await else {
            continue;
        };
        let (work_dir, mark) = (WorkDir::new(), mark());
        let mut spec = python(&sandbox, &work_dir, "print('up', flush=True); input()");
        spec.stdin = true;
        spec.env
            .push(("TOKEN".into(), format!("secret-{mark}").into()));
        let mut process = sandbox.spawn(spec).await.unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
            process.take_stdout().unwrap(),
        ));
        lines.next_line().await.unwrap();
        assert_eq!(alive(&format!("secret-{mark}")), 0);
    }
}

#[test]
fn an_ordinary_user_is_held_too() {
    for test in [
        "escapes::files_that_were_not_mounted_cannot_be_read",
        "escapes::the_servers_environment_cannot_be_read",
        "escapes::nothing_is_reached_over_the_network_but_a_door",
        "escapes::a_fork_bomb_is_bounded_and_ends",
        "escapes::a_memory_hog_is_ended_as_out_of_memory",
        "escapes::a_disk_filler_finds_the_disk_full",
        "escapes::files_in_memory_count_as_memory",
        "escapes::the_hosts_local_sockets_are_out_of_reach_also_with_its_network",
        "escapes::a_read_only_mount_cannot_be_changed",
        "escapes::signals_do_not_reach_other_processes",
        "escapes::privileged_system_calls_are_refused",
        "escapes::kernel_settings_cannot_be_written",
        "escapes::devices_and_privileged_programs_give_nothing",
        "ends::a_killed_program_is_gone_when_wait_returns",
        "ends::a_daemon_that_a_program_leaves_ends_with_it",
        "ends::nothing_is_left_when_the_server_is_killed",
        "runs::a_door_is_reached_from_inside",
        "runs::usage_is_told",
    ] {
        if !as_nobody(test) {
            return;
        }
    }
}
