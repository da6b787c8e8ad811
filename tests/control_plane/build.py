# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the control plane's one binary from the Go modules of Kubernetes and etcd, and keeps it.

The versions are pinned in go/go.mod only. The binary lies outside the checkout, under a name made
from everything that goes into it, so that it is built once for all checkouts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "go"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kubectl", "etcd", "tcp-proxy")


class BuildError(Exception):
    """The binary can't be built; one sentence."""


def cache_root() -> Path:
    """Where everything lies that is slow to make and outlives a checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kube-storage-upgrade"


def kubernetes_version() -> str:
    """The pinned release, such as ``v1.37.2``."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (SOURCE / "go.mod").read_text(encoding="utf-8"))
    if found is None:
        raise BuildError("go.mod pins no k8s.io/kubernetes.")
    return found[1]


def binaries() -> Path:
    """The folder with kube-apiserver, etcd, kubectl and so on; builds them if that was not done before."""
    go = shutil.which("go")
    if go is None:
        raise BuildError("Go is needed to build the control plane; install it (1.26 or newer) and run again.")
    flags = _flags()
    folder = cache_root() / "control-plane" / _key(go, flags)
    if (folder / PROGRAMS[0]).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / PROGRAMS[0]).exists():
            _build(go, flags, folder)
    return folder


def _flags() -> list[str]:
    version = kubernetes_version()
    major, minor = version.lstrip("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    stamps = f"-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    return ["-trimpath", "-ldflags", f"-s -w {stamps}"]


def _key(go: str, flags: list[str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(subprocess.run([go, "version"], check=True, capture_output=True).stdout)
    digest.update(" ".join(flags).encode())
    return digest.hexdigest()[:16]


def _build(go: str, flags: list[str], folder: Path) -> None:
    print(
        f"Building Kubernetes {kubernetes_version()} from its Go modules; about 10 minutes on two cores, once.",
        file=sys.stderr,
        flush=True,
    )
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    binary = temporary / "control-plane"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(
        [go, "build", *flags, "-o", str(binary), "."],
        cwd=SOURCE,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise BuildError(f"go build failed:\n{done.stdout[-4000:]}")
    for program in PROGRAMS:
        (temporary / program).symlink_to("control-plane")
    os.replace(temporary, folder)
    for old in folder.parent.glob("*.new"):
        shutil.rmtree(old, ignore_errors=True)
