"""asgard and its peers, installed once and started for a measurement."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "asgard/bench"


class Server:
    """A started server: its address, its process and where it keeps its data."""

    def __init__(self, name, port, process, folder, seconds_to_answer):
        self.name = name
        self.port = port
        self.address = ("127.0.0.1", port)
        self.url = "http://127.0.0.1:{}".format(port)
        self.process = process
        self.pid = process.pid
        self.folder = folder
        self.seconds_to_answer = seconds_to_answer

    def ask(self, method, path, body=None, timeout=120):
        """One request outside the measurement; the JSON answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
        connection.close()
        if not 200 <= response.status < 300:
            raise RuntimeError("{} {} {}: {} {}".format(self.name, method, path, response.status, text[:800]))
        return json.loads(text) if text.strip() else None


def environment(name, *packages):
    """A Python environment with these packages under the cache folder; the path of its python."""
    folder = CACHE / name
    python = folder / "bin/python"
    done = folder / ".complete"
    if done.exists() and done.read_text() == "\n".join(packages):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print("installing {}: {}".format(name, " ".join(packages)), file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    uv = shutil.which("uv")
    if uv is None:
        subprocess.run([*pip, "uv"], check=True)
        uv = str(folder / "bin/uv")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *packages], check=True)
    done.write_text("\n".join(packages))
    return python


def version(python, package):
    code = "import importlib.metadata as m; print(m.version({!r}))".format(package)
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def mlflow_python():
    # skops from 0.15 on refuses the trees that MLflow's own default serialisation writes.
    return environment("mlflow", "mlflow", "scikit-learn", "pandas", "skops<0.15", "psycopg2-binary")


def fasttrackml_python():
    return environment("fasttrackml", "fasttrackml")


def asgard_binary():
    for candidate in (
        os.environ.get("ASGARD_BIN"),
        os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target")) + "/release/asgard",
    ):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    sys.exit("no release build of asgard: cargo build --release --package asgard, or set ASGARD_BIN")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def asgard(*arguments, environment_variables=None, database=None, folder=None, binary=None):
    """``database``: a postgres:// URL, else SQLite; ``folder``: kept, with its data, where it is given."""
    if database:
        environment_variables = {**(environment_variables or {}), "ASGARD__DATABASE__URL": database}
    command = [binary or asgard_binary(), "up", "--data-dir", "{folder}/data", "--listen", "127.0.0.1:{port}", *arguments]
    with started("asgard", command, "/health", environment_variables, folder=folder) as server:
        yield server


@contextlib.contextmanager
def mlflow(*arguments, database=None):
    command = [
        str(mlflow_python().parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", "{port}",
        "--backend-store-uri", (database or "sqlite:///{folder}/mlflow.db").replace("postgres://", "postgresql+psycopg2://"),
        "--artifacts-destination", "{folder}/artifacts",
        *arguments,
    ]  # fmt: skip
    with started("mlflow", command, "/health") as server:
        yield server


@contextlib.contextmanager
def fasttrackml(database=None):
    command = [
        str(fasttrackml_python().parent / "fml"), "server", "--listen-address", "127.0.0.1:{port}",
        "--database-uri", (database + "?sslmode=disable") if database else "sqlite://{folder}/fasttrackml.db",
        "--default-artifact-root", "{folder}/artifacts",
    ]  # fmt: skip
    with started("fasttrackml", command, "/health") as server:
        yield server


@contextlib.contextmanager
def started(name, command, health, environment_variables=None, wait_s=180, folder=None):
    """Starts a server in a folder of its own and stops it, with all its processes, at the end."""
    kept = folder is not None
    folder = folder or tempfile.mkdtemp(prefix="bench-{}-".format(name))
    port = free_port()
    command = [part.replace("{port}", str(port)).replace("{folder}", folder) for part in command]
    log = open(os.path.join(folder, "server.log"), "wb")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables.update(environment_variables or {})
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=log, stderr=log, cwd=folder, env=variables, start_new_session=True
    )
    try:
        while not _answers(port, health):
            if process.poll() is not None or time.perf_counter() - begin > wait_s:
                with open(log.name, errors="replace") as text:
                    raise RuntimeError("{} did not start:\n{}".format(name, text.read()[-3000:]))
            time.sleep(0.002)
        yield Server(name, port, process, folder, time.perf_counter() - begin)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _answers(port, path):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".format(path).encode())
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def machine():
    """One line about where this ran."""
    with open("/proc/cpuinfo") as info:
        models = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return "{} cores ({}), {:.0f} GiB, load average {:.1f}, Python {}".format(
        os.cpu_count(), models[0] if models else "unknown", memory, os.getloadavg()[0],
        sys.version.split()[0],
    )  # fmt: skip
