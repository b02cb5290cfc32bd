# Shared by the scripts: where things are kept, and installing what is missing when allowed.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/asgard
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root if that is possible without asking; fails otherwise.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi
}

# debian COMMAND PACKAGE: makes sure that COMMAND is there, from Debian's PACKAGE if need be.
debian() {
  command -v "$1" >/dev/null && return 0
  command -v apt-get >/dev/null || return 1
  note "installing $2"
  if [ -z "${apt_updated:-}" ]; then
    as_root apt-get update -qq >/dev/null 2>&1 || return 1
    apt_updated=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null 2>&1 || return 1
  command -v "$1" >/dev/null
}

# A Python of 3.10 or newer as $python, with pip or venv so that uv can be installed by it.
need_python() {
  local candidate
  debian python3 python3 || die "Python 3.10 or newer is needed: install the package python3"
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  [ -n "${python:-}" ] || die "Python 3.10 or newer is needed; found $(python3 --version 2>&1)"
  if ! command -v uv >/dev/null && ! "$python" -m pip --version >/dev/null 2>&1 && ! "$python" -c 'import ensurepip' 2>/dev/null; then
    debian pip3 python3-pip || debian never-there python3-venv || true
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -c 'import ensurepip' 2>/dev/null ||
      die "uv cannot be installed without pip: install the package python3-pip, or uv itself"
  fi
}

need_rust() {
  command -v cargo >/dev/null || die "Rust is needed: install rustup, then run this again"
  command -v cc >/dev/null || debian cc gcc || die "a C compiler is needed: install the package gcc"
  command -v cc >/dev/null && echo '#include <stdio.h>
int main(void){return 0;}' | cc -x c -o /dev/null - 2>/dev/null || debian never-there libc6-dev || true
}

# A quicker linker halves the time of a rebuild; it is a matter of comfort only.
use_quick_linker() {
  if command -v mold >/dev/null || debian mold mold; then
    export RUSTFLAGS="${RUSTFLAGS:--C link-arg=-fuse-ld=mold}"
  fi
}

# A free TCP port on loopback, below those that the kernel gives to connections.
free_port() {
  "$python" - <<'PY'
import random, socket
while True:
    port = random.randrange(10_000, 32_000)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
PY
}
