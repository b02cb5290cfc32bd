"""A closed-loop HTTP load: N connections, each sending its next request when the answer is there.

One process, epoll and raw sockets: about 20 µs of CPU a request, so that the load does not hide the
server. Standard library only.
"""

import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time


class Result:
    """What one load measured."""

    def __init__(self, answered, failed, seconds, latencies_s, first_failure, server_cpu_s, load_cpu_s):
        self.answered = answered
        self.failed = failed
        self.seconds = seconds
        self.latencies_s = sorted(latencies_s)
        self.first_failure = first_failure
        self.server_cpu_s = server_cpu_s
        self.load_cpu_s = load_cpu_s

    @property
    def per_second(self):
        return self.answered / self.seconds

    def quantile_ms(self, share):
        if not self.latencies_s:
            return float("nan")
        at = min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))
        return self.latencies_s[at] * 1000

    def as_dict(self):
        return {
            "per_second": round(self.per_second, 1),
            "p50_ms": round(self.quantile_ms(0.5), 3),
            "p99_ms": round(self.quantile_ms(0.99), 3),
            "server_cpu_ms": round(1000 * self.server_cpu_s / max(1, self.answered), 3),
            "load_cpu_share": round(self.load_cpu_s / self.seconds, 2),
            "answered": self.answered,
            "failed": self.failed,
            "first_failure": self.first_failure,
        }


def request(method, path, body=b"", content_type="application/json"):
    """The bytes of one keep-alive request."""
    head = "{} {} HTTP/1.1\r\nHost: localhost\r\n".format(method, path)
    if body or method in ("POST", "PUT"):
        head += "Content-Type: {}\r\nContent-Length: {}\r\n".format(content_type, len(body))
    return head.encode() + b"\r\n" + body


class _Connection:
    def __init__(self, address):
        self.address = address
        self.socket = None
        self.open()

    def open(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = socket.create_connection(self.address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.pending = b""
        self.received = []
        self.size = 0
        self.want = None
        self.status = 0
        self.chunked = False

    def start(self, data):
        self.received, self.size, self.want, self.status, self.chunked = [], 0, None, 0, False
        self.started = time.perf_counter()
        self.sent = data
        self.pending = data
        self.write()

    def write(self):
        while self.pending:
            try:
                count = self.socket.send(self.pending)
            except BlockingIOError:
                return
            self.pending = self.pending[count:]

    def read(self):
        """True when the whole answer is there. Raises ConnectionError when the server hung up."""
        while True:
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                return False
            if not data:
                raise ConnectionError("closed by the server")
            self.received.append(data)
            self.size += len(data)
            if self.want is None and not self._read_head():
                continue
            if self.chunked:
                if b"".join(self.received[-2:]).endswith(b"0\r\n\r\n"):
                    return True
            elif self.size >= self.want:
                return True

    def _read_head(self):
        joined = b"".join(self.received)
        end = joined.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.received = [joined]
        head = joined[:end].lower()
        self.status = int(head[9:12])
        at = head.find(b"content-length:")
        if at >= 0:
            self.want = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        elif b"transfer-encoding: chunked" in head:
            self.chunked, self.want = True, 0
        else:
            self.want = end + 4
        return True


def run(address, next_request, connections, seconds, server_pid=None, warm_up=0.5):
    """Loads ``address`` for ``seconds``. ``next_request()`` gives the bytes of the next request."""
    epoll = select.epoll()
    open_connections = {}
    for _ in range(connections):
        connection = _Connection(address)
        open_connections[connection.socket.fileno()] = connection
        epoll.register(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        connection.start(next_request())
    latencies, failed, first_failure = [], 0, None
    begin = time.perf_counter() + warm_up
    end = begin + seconds
    server_cpu = load_cpu = None
    while True:
        now = time.perf_counter()
        if server_cpu is None and now >= begin:
            server_cpu, load_cpu = tree_cpu_s(server_pid), time.process_time()
            latencies, failed, begin = [], 0, now
        # A server that needs longer than this for one round is given the time for it.
        if now >= end and (len(latencies) >= connections or now >= end + 3 * seconds):
            break
        for fd, event in epoll.poll(0.2):
            connection = open_connections[fd]
            try:
                if connection.pending:
                    connection.write()
                if not connection.read():
                    continue
            except OSError as error:
                # A keep-alive connection that the server ended: open it anew and ask again.
                failed += 1
                first_failure = first_failure or repr(error)
                epoll.unregister(fd)
                del open_connections[fd]
                connection.open()
                fd = connection.socket.fileno()
                open_connections[fd] = connection
                epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
                connection.start(connection.sent)
                continue
            if 200 <= connection.status < 300:
                latencies.append(time.perf_counter() - connection.started)
            else:
                failed += 1
                first_failure = first_failure or b"".join(connection.received)[:400].decode("utf-8", "replace")
            connection.start(next_request())
    result = Result(
        len(latencies),
        failed,
        time.perf_counter() - begin,
        latencies,
        first_failure,
        tree_cpu_s(server_pid) - (server_cpu or 0.0),
        time.process_time() - (load_cpu or 0.0),
    )
    for connection in open_connections.values():
        connection.socket.close()
    epoll.close()
    return result


def wrk(address, requests, connections, seconds):
    """The same load by wrk (Debian's package), which takes less of the machine: (per second, p50 ms, p99 ms).

    ``requests`` are sent in turn. None when wrk is not installed.
    """
    if shutil.which("wrk") is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        # Levels of long brackets that no JSON contains.
        ready = ",".join("[====[{}]====]".format(one.decode().replace("\r\n", "\n")) for one in requests)
        script.write("local ready = {%s}\nlocal at = 0\n" % ready)
        # A Lua source turns every line end into \n: the head's are put back.
        script.write(
            "for i, one in ipairs(ready) do\n"
            "  local head, body = one:match('^(.-)\\n\\n(.*)$')\n"
            "  ready[i] = head:gsub('\\n', '\\r\\n') .. '\\r\\n\\r\\n' .. body\n"
            "end\n"
            "request = function() at = at % #ready + 1 return ready[at] end\n"
        )
        script.flush()
        url = "http://{}:{}/".format(*address)
        command = ["wrk", "-t1", "-c%d" % connections, "-d%ds" % max(1, round(seconds)), "--timeout", "60s", "--latency", "-s", script.name, url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    refused = re.search(r"(Non-2xx or 3xx responses|Socket errors).*", said)
    if refused:
        raise RuntimeError("wrk: " + refused.group(0))
    quantile = dict(re.findall(r"^ +(\d+)% +([\d.]+[a-z]+)$", said, re.MULTILINE))
    per_second = float(re.search(r"Requests/sec: +([\d.]+)", said).group(1))
    return per_second, _wrk_ms(quantile.get("50")), _wrk_ms(quantile.get("99"))


def _wrk_ms(text):
    if text is None:  # too few answers to tell
        return float("nan")
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


def send_all(address, requests, connections=4):
    """Sends every request once and counts; raises at the first refusal."""
    left = iter(requests)
    sent = 0
    idle = object()
    epoll = select.epoll()
    working = {}
    for _ in range(connections):
        data = next(left, idle)
        if data is idle:
            break
        connection = _Connection(address)
        working[connection.socket.fileno()] = connection
        epoll.register(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        connection.start(data)
    while working:
        for fd, _ in epoll.poll(1.0):
            connection = working.get(fd)
            if connection is None:
                continue
            if connection.pending:
                connection.write()
            if not connection.read():
                continue
            if not 200 <= connection.status < 300:
                raise RuntimeError(b"".join(connection.received)[:500].decode("utf-8", "replace"))
            sent += 1
            data = next(left, idle)
            if data is idle:
                epoll.unregister(fd)
                connection.socket.close()
                del working[fd]
            else:
                connection.start(data)
    epoll.close()
    return sent


def tree(pid):
    """The process and all its descendants."""
    if pid is None:
        return []
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/{}/stat".format(name), "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo.extend(children.get(one, []))
    return found


def tree_cpu_s(pid):
    """CPU seconds that the process tree has used so far."""
    total = 0
    for one in tree(pid):
        try:
            with open("/proc/{}/stat".format(one), "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def tree_memory_mib(pid):
    """Resident memory of the process tree: (RSS, PSS, processes)."""
    rss = pss = count = 0
    for one in tree(pid):
        try:
            with open("/proc/{}/smaps_rollup".format(one)) as rollup:
                values = dict(line.split(":", 1) for line in rollup if ":" in line and "kB" in line)
        except OSError:
            continue
        count += 1
        rss += int(values["Rss"].split()[0])
        pss += int(values["Pss"].split()[0])
    return rss / 1024, pss / 1024, count
