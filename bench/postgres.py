"""A PostgreSQL server of its own for a measurement: durable, otherwise as it comes."""

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

import servers


class Postgres:
    """A started server: its URL, and statements by psql."""

    def __init__(self, url, binaries, user):
        self.url = url
        self._psql = [*user, os.path.join(binaries, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", url]

    def run(self, sql):
        """Runs statements; their output as text."""
        done = subprocess.run([*self._psql, "-At"], input=sql, text=True, capture_output=True, cwd="/")
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout

    def columns(self, table):
        return set(self.run("SELECT column_name FROM information_schema.columns WHERE table_name = '{}'".format(table)).split())

    def copy(self, table, columns, rows):
        """Writes rows of texts and numbers."""
        lines = ("\t".join("\\N" if cell is None else str(cell) for cell in row) + "\n" for row in rows)
        command = "COPY {} ({}) FROM STDIN".format(table, ", ".join(columns))
        copying = subprocess.Popen([*self._psql, "-c", command], stdin=subprocess.PIPE, text=True, cwd="/")
        copying.stdin.writelines(lines)
        copying.stdin.close()
        if copying.wait() != 0:
            raise RuntimeError("{} failed".format(command))


@contextlib.contextmanager
def postgres():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("initdb") or "")]
    if not found[-1]:
        sys.exit("no PostgreSQL server is installed: apt-get install postgresql")
    binaries = found[-1]
    folder = tempfile.mkdtemp(prefix="bench-postgres-")
    user = []
    if os.getuid() == 0:  # it refuses root
        shutil.chown(folder, "nobody")
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    data = os.path.join(folder, "data")
    port = servers.free_port()

    def ask(*command):
        subprocess.run([*user, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")

    ask(binaries + "/initdb", "-D", data, "-A", "trust", "-U", "postgres")
    options = "-p {} -k {} -c listen_addresses=127.0.0.1 -c max_connections=100 -c shared_buffers=512MB -c max_wal_size=4GB".format(port, folder)
    ask(binaries + "/pg_ctl", "-D", data, "-w", "-l", os.path.join(folder, "log"), "-o", options, "start")
    try:
        yield Postgres("postgres://postgres@127.0.0.1:{}/postgres".format(port), binaries, user)
    finally:
        ask(binaries + "/pg_ctl", "-D", data, "-m", "immediate", "stop")
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)
