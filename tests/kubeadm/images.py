# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Container images of our own binaries, under the names that kubeadm asks for, so that nothing is pulled."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path

from tests.control_plane import build, releases

# A name that no registry has: the images are imported, and one that is missing can't be pulled.
REPOSITORY = "registry.test/kubernetes"
_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "kubeadm",
    "etcd",
    "pause",
)
_SOURCE = Path(__file__).resolve().parent / "go"
NEW, OLD = (build.Module("kubeadm-host", _SOURCE, _PROGRAMS, release) for release in releases.KUBEADM_HOST)


def names(module: build.Module) -> list[str]:
    """What kubeadm of that release names."""
    listed = subprocess.run(
        [
            str(build.binaries(module) / "kubeadm"),
            "config",
            "images",
            "list",
            f"--kubernetes-version={module.kubernetes_version}",
            f"--image-repository={REPOSITORY}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return listed.stdout.split()


def archive(module: build.Module) -> Path:
    """One image with a release's programs, under all the names; made once for each binary."""
    folder = build.binaries(module)
    path = folder / "images.tar"
    if not path.exists():
        temporary = folder / f"images.{os.getpid()}.new"
        _pack(folder / module.name, names(module), temporary)
        os.replace(temporary, path)
    return path


def _pack(binary: Path, tags: list[str], target: Path) -> None:
    layer = target.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        for name in ("tmp", "usr", "usr/local", "usr/local/bin"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("usr/local/bin/kubernetes")
        entry.size, entry.mode = binary.stat().st_size, 0o755
        with open(binary, "rb") as content:
            tar.addfile(entry, content)
        for program in _PROGRAMS:
            entry = tarfile.TarInfo(f"usr/local/bin/{program}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "kubernetes"
            tar.addfile(entry)
    digest = hashlib.sha256()
    with open(layer, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin"], "Entrypoint": ["/usr/local/bin/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        }
    ).encode()
    named = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": named, "RepoTags": tags, "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as tar:
        for name, text in ((named, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
        tar.add(layer, "layer.tar")
    layer.unlink()
