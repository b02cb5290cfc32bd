"""A base image made of this machine's Python and the libraries that it needs, as an OCI layout.

In place of python:3.11-slim, which a machine without a registry cannot have.
"""

import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tarfile

# Which Python, and where its parts are: asked of the interpreter itself.
QUESTION = (
    "import json, os, platform, sys, sysconfig; print(json.dumps([platform.python_version(), "
    "os.path.realpath(sys.executable), sysconfig.get_path('stdlib')]))"
)
# What wheels expect of a system beside what they bring.
USUAL = ("libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libz.so.1")


def write(folder, python, programs):
    """Makes the layout; `programs` are further files whose libraries it must hold."""
    version, executable, stdlib = json.loads(subprocess.check_output([python, "-I", "-c", QUESTION]))
    minor = ".".join(version.split(".")[:2])
    root = folder.with_name(folder.name + "-root")
    (root / "usr/local/bin").mkdir(parents=True)
    shutil.copy(executable, root / f"usr/local/bin/python{minor}")
    ignored = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__", "config-*")
    shutil.copytree(stdlib, root / f"usr/local/lib/python{minor}", ignore=ignored)
    loaded = [executable, *programs, *map(str, pathlib.Path(stdlib).glob("lib-dynload/*.so"))]
    libraries = root / f"usr/lib/{platform.machine()}-linux-gnu"
    libraries.mkdir(parents=True)
    for library in needed(loaded):
        loader = os.path.basename(library).startswith("ld-linux")
        place = root / library.lstrip("/") if loader else libraries / os.path.basename(library)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    for name in ("tmp", "proc", "dev", "sys", "etc"):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "lib").symlink_to("usr/lib")
    variables = ["PATH=/usr/local/bin:/usr/bin:/bin", f"PYTHON_VERSION={version}"]
    layout(folder, root, {"Env": variables, "Cmd": [f"python{minor}"]})
    shutil.rmtree(root)


def needed(files):
    """The libraries of this machine that the loader takes for these files, and the usual ones."""
    answer = subprocess.run(["ldd", *files], capture_output=True, text=True).stdout
    found = set(re.findall(r"(?:=> |^\t)(/\S+) \(0x", answer, re.MULTILINE))
    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    for name in USUAL:
        known = re.search(rf"^\t{re.escape(name)} .*x86-64.* => (\S+)$", cache, re.MULTILINE)
        found.update(known.groups() if known else ())
    return sorted(found)


def layout(folder, root, start):
    """An image of one layer with all below root."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    archive = folder / "layer"
    with tarfile.open(archive, "w") as tar:
        for name in sorted(os.listdir(root)):
            tar.add(root / name, name)
    layer = keep(blobs, archive.read_bytes(), "layer.v1.tar")
    archive.unlink()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": start,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(blobs, json.dumps(config).encode(), "config.v1+json"),
        "layers": [layer],
    }
    index = {"schemaVersion": 2, "manifests": [keep(blobs, json.dumps(manifest).encode(), "manifest.v1+json")]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def keep(blobs, content, kind):
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}
