# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rolling_upgrade_kubeadm_packages=distribution with the real apt and dpkg, which see another database and another repository."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.support.modules import ROOT, environment

NAMES = ("kubeadm", "kubelet", "kubectl")
# What apt and dpkg get instead of this machine's, and where the packages' only file goes.
OWN = ("/etc/apt", "/usr/local/sbin", "/var/cache/apt", "/var/lib/apt", "/var/lib/dpkg")


def make_repository(folder: Path, versions: tuple[str, ...]) -> None:
    entries = []
    for name in NAMES:
        for version in versions:
            tree = folder / f"{name}-{version}"
            (tree / "DEBIAN").mkdir(parents=True)
            control = (
                f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.com>\n"
                "Description: A program of Kubernetes\n"
            )
            (tree / "DEBIAN" / "control").write_text(control, encoding="utf-8")
            (tree / "usr/local/sbin").mkdir(parents=True)
            program = tree / "usr/local/sbin" / name
            program.write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
            program.chmod(0o755)
            package = folder / f"{name}_{version}_all.deb"
            subprocess.run(["dpkg-deb", "--build", str(tree), str(package)], check=True, capture_output=True)
            content = package.read_bytes()
            checksum = hashlib.sha256(content).hexdigest()
            entries.append(f"{control}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {checksum}\n")
    (folder / "Packages").write_text("\n".join(entries), encoding="utf-8")


def in_a_room_of_its_own(folder: Path, command: str) -> str:
    """Runs a shell command that sees the folder's files in the place of this machine's."""
    binds = [f"mount --bind '{folder}/{path.replace('/', '-')}' {path}" for path in OWN]
    script = "\n".join(["set -e", *binds, command])
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_installed_in_just_that_version_and_held_there(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    make_repository(repository, ("1.36.3-1.1", "1.37.2-1.1", "1.37.2-2.1", "1.37.3-1.1"))
    for path in OWN:
        (tmp_path / path.replace("/", "-")).mkdir()
    (tmp_path / "-var-lib-apt" / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "-var-cache-apt" / "archives" / "partial").mkdir(parents=True)
    (tmp_path / "-etc-apt" / "sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n", encoding="utf-8")
    (tmp_path / "-etc-apt" / "apt.conf").write_text('APT::Sandbox::User "root";\n', encoding="utf-8")
    for name in ("status", "available"):
        (tmp_path / "-var-lib-dpkg" / name).touch()
    for name in ("info", "updates", "triggers"):
        (tmp_path / "-var-lib-dpkg" / name).mkdir()
    role = {
        "name": "kube_storage.upgrade.rolling_upgrade",
        "tasks_from": "drivers/kubeadm/distribution.yml",
    }
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": "/usr/bin/python3"},
        "tasks": [
            {
                "ansible.builtin.include_role": role,
                "vars": {"rolling_upgrade_kubeadm_package_names": names},
            }
            for names in (["kubeadm"], ["kubelet", "kubectl"])
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    ansible = f"{Path(sys.executable).with_name('ansible-playbook')} {tmp_path}/play.yml"
    query = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Want}\\n'"
    for version, wanted, changes in (
        ("v1.36.3", "1.36.3-1.1", True),
        ("v1.37.2", "1.37.2-2.1", True),
        ("v1.37.2", "1.37.2-2.1", False),
    ):
        said = in_a_room_of_its_own(tmp_path, f"{ansible} -e rolling_upgrade_version={version}; {query}; kubeadm")
        assert said.splitlines()[-4:] == [*(f"{name} {wanted} hold" for name in sorted(NAMES)), wanted], said
        changed = re.search(r"changed=(\d+)", said)
        assert changed and (changed[1] != "0") == changes, said
    # An older one is installed only on purpose.
    for more, wanted in (("", "1.37.2-2.1"), (" -e rolling_upgrade_rollback=true", "1.36.3-1.1")):
        said = in_a_room_of_its_own(tmp_path, f"{ansible} -e rolling_upgrade_version=v1.36.3{more} || true; {query}")
        assert said.splitlines()[-3:] == [f"{name} {wanted} hold" for name in sorted(NAMES)], said
    # Another build of the same release can be asked for by its name.
    said = in_a_room_of_its_own(
        tmp_path,
        f"{ansible} -e rolling_upgrade_version=1.37 -e rolling_upgrade_kubeadm_package_version=1.37.3-1.1; {query}",
    )
    assert said.splitlines()[-3:] == [f"{name} 1.37.3-1.1 hold" for name in sorted(NAMES)], said
