# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds each release's control plane, one binary, from the Go modules of Kubernetes and etcd, and keeps it.

The versions are pinned in releases.py. A binary is kept outside the checkout, under a name made from
everything that goes into it, so that it is built once for all checkouts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.control_plane import releases
from tests.control_plane.releases import Etcd, Release, Tool

# What the go.mod of promtool asks for, more than any other here.
NEEDED_GO = "1.26.7"


class BuildError(Exception):
    """The binary can't be built; one sentence."""


@dataclass(frozen=True)
class Module:
    """A Go module that makes one binary, which acts as the program by whose name it is called."""

    name: str
    source: Path
    programs: tuple[str, ...]
    release: Release | Etcd | Tool
    package: str = "."

    @property
    def kubernetes_version(self) -> str:
        """The pinned release, such as ``v1.37.2``; ``v`` where it isn't Kubernetes."""
        return f"v{self.release.kubernetes}" if isinstance(self.release, Release) else "v"

    @property
    def described(self) -> str:
        """What is built from what."""
        if isinstance(self.release, Release):
            return f"{self.name} {self.kubernetes_version} from the Go modules of Kubernetes"
        version = self.release.version if isinstance(self.release, Tool) else self.release.etcd
        return f"{self.name} v{version} from its Go modules"


def control_plane(row: Release | Etcd) -> Module:
    """A release's control plane, or an etcd on its own."""
    source = Path(__file__).resolve().parent / "go"
    if isinstance(row, Etcd):
        return Module("etcd-alone", source / row.folder, ("etcd",), row)
    programs = ("kube-apiserver", "kube-controller-manager", "kubectl", "etcd", "tcp-proxy")
    return Module("control-plane", source, programs, row)


def etcdutl() -> Module:
    """The program that restores snapshots."""
    source = Path(__file__).resolve().parent / "go" / releases.ETCDUTL.folder
    return Module("etcdutl-alone", source, ("etcdutl",), releases.ETCDUTL)


def promtool() -> Module:
    """The program that checks metrics and alert rules."""
    tool = releases.PROMTOOL
    source = Path(__file__).resolve().parent / "go" / tool.folder
    return Module("promtool-alone", source, ("promtool",), tool, tool.package)


def kine() -> Module:
    """kine, with all its databases."""
    source = Path(__file__).resolve().parent / "go" / releases.KINE.folder
    return Module("kine-alone", source, ("kine",), releases.KINE)


def migrator() -> Module:
    """kube-storage-version-migrator's controller."""
    source = Path(__file__).resolve().parent / "go" / releases.MIGRATOR.folder
    return Module("migrator-alone", source, ("migrator",), releases.MIGRATOR)


def files_of(source: Path, module: str) -> Path:
    """The folder with all files of a Go module that the go.mod in ``source`` pins; downloaded if that was not done before."""
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=source,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise BuildError(f"{module} can't be downloaded: {done.stderr[-1000:] or done.stdout[-1000:]}")
    return Path(json.loads(done.stdout)["Dir"])


CONTROL_PLANE = control_plane(releases.NEWEST)


def kubernetes_version() -> str:
    """The newest release that the test control plane is built from."""
    return CONTROL_PLANE.kubernetes_version


def cache_root() -> Path:
    """Where everything is kept that is slow to make and outlives a checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kube-storage-upgrade"


def binaries(module: Module = CONTROL_PLANE) -> Path:
    """The folder with kube-apiserver, etcd, kubectl and so on; builds them if that was not done before."""
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"Go is needed to build the control plane; install it ({NEEDED_GO} or newer) and run again.")
    flags = _flags(module)
    folder = cache_root() / module.name / _key(module, go, flags)
    if (folder / module.programs[0]).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One build at a time: the second reuses what Go compiled for the first, and a small machine lacks the memory for both.
    with open(folder.parent / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / module.programs[0]).exists():
            _build(module, go, flags, folder)
    return folder


def is_built(row: Release | Etcd) -> bool:
    """Whether its binary is kept already."""
    go, module = shutil.which("go"), control_plane(row)
    if go is None:
        return False
    return (cache_root() / module.name / _key(module, go, _flags(module)) / module.programs[0]).exists()


def _flags(module: Module) -> list[str]:
    if isinstance(module.release, Tool):
        return ["-tags", module.release.tags, "-trimpath", "-ldflags", "-s -w"]
    if isinstance(module.release, Etcd):
        return ["-trimpath", "-ldflags", "-s -w"]
    version = module.kubernetes_version
    major, minor = version.lstrip("v").split(".")[:2]
    package = "k8s.io/component-base/version"
    stamps = f"-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    other = [] if module.release.go_mod == "go.mod" else [f"-modfile={module.release.go_mod}"]
    return [*other, "-trimpath", "-ldflags", f"-s -w {stamps}"]


def _key(module: Module, go: str, flags: list[str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(module.source.iterdir()):
        if path.suffix == ".go" or path.stem == Path(module.release.go_mod).stem:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(subprocess.run([go, "version"], check=True, capture_output=True).stdout)
    digest.update(" ".join(flags).encode())
    return digest.hexdigest()[:16]


def _build(module: Module, go: str, flags: list[str], folder: Path) -> None:
    print(
        f"Building {module.described}; about {module.release.minutes} minutes on two cores, once.",
        file=sys.stderr,
        flush=True,
    )
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    binary = temporary / module.name
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(
        [go, "build", *flags, "-o", str(binary), module.package],
        cwd=module.source,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise BuildError(f"go build failed:\n{done.stdout[-4000:]}")
    for program in module.programs:
        (temporary / program).symlink_to(module.name)
    os.replace(temporary, folder)
    for old in folder.parent.glob("*.new"):
        shutil.rmtree(old, ignore_errors=True)
