# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection as users get it: from the tarball, on a machine with nothing but Ansible."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.control_plane.cluster import Cluster
from tests.tools.package import build

from .support.modules import ROOT

# What belongs in the tarball; everything else is for those who work on the collection.
FILES = {
    "CHANGELOG.rst",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "bindep.txt",
    "changelogs/changelog.yaml",
    "meta/execution-environment.yml",
    "meta/runtime.yml",
    "requirements.txt",
}
FOLDERS = {
    "docs/docsite": {".rst", ".svg", ".yml"},
    "extensions/eda/rulebooks": {".yml"},
    "playbooks": {".yml"},
    "playbooks/files/in_cluster": {"", ".yml"},  # without an ending: Containerfile
    "playbooks/files/monitoring": {".json", ".yml"},
    "playbooks/files/schemas": {".json"},
    "plugins/action": {".py"},
    "plugins/doc_fragments": {".py"},
    "plugins/filter": {".py"},
    "plugins/lookup": {".py"},
    "plugins/module_utils": {".py", ".json"},
    "plugins/modules": {".py"},
    "plugins/plugin_utils": {".py", ".j2", ".css", ".js"},
    "plugins/test": {".py"},
    "roles": {".yml", ".md", ".j2"},
}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


def folder_of(name: str) -> str:
    return max((folder for folder in FOLDERS if name.startswith(f"{folder}/")), key=len, default="")


def test_the_tarball_has_what_users_need_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        held = {member.name for member in archive if member.isfile()}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # Screenshots, which only the site and the README on GitHub show, would be most of the tarball.
    wanted = FILES | {name for name in listed.stdout.split() if (ROOT / name).exists() and not name.endswith(".png")}
    assert held == wanted, f"missing: {sorted(wanted - held)}, not wanted: {sorted(held - wanted)}"
    odd = [name for name in held - FILES if Path(name).suffix not in FOLDERS[folder_of(name)]]
    assert not odd, odd


@dataclass
class Bare:
    """An environment that holds ansible-core, the collection's own requirements, and two collections."""

    programs: Path
    home: Path
    cluster: Cluster

    def run(self, *command: str, credentials: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.home),
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
        }
        if credentials:
            environment["K8S_AUTH_KUBECONFIG"] = str(self.cluster.kubeconfig)
        return subprocess.run(
            [str(self.programs / command[0]), *command[1:]],
            cwd=self.home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="module")
def bare(tarball: Path, tmp_path_factory: pytest.TempPathFactory, single_master: Cluster) -> Bare:
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    made = Bare(folder / "venv" / "bin", folder, single_master)
    pip = [str(made.programs / "pip"), "install", "-q", "--disable-pip-version-check", "ansible-core"]
    with tarfile.open(tarball) as archive:
        archive.extract("requirements.txt", folder)
    subprocess.run([*pip, "-r", str(folder / "requirements.txt")], check=True, timeout=300)
    collections = folder / ".ansible" / "collections" / "ansible_collections"
    core = (ROOT / ".ansible" / "collections" / "ansible_collections" / "kubernetes" / "core").resolve()
    shutil.copytree(core, collections / "kubernetes" / "core")
    done = made.run("ansible-galaxy", "collection", "install", "--offline", str(tarball))
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_ad_hoc_on_a_bare_machine(bare: Bare) -> None:
    read = bare.run("ansible", "localhost", "-m", "kube_storage.upgrade.storage_version_hashes")
    assert read.returncode == 0 and '"converged": true' in read.stdout, read.stdout + read.stderr
    written = bare.run("ansible", "localhost", "-m", "kube_storage.upgrade.storage_migrate")
    assert written.returncode == 0 and '"failed": 0' in written.stdout, written.stdout + written.stderr


def test_its_manual_is_there(bare: Bare) -> None:
    done = bare.run("ansible-doc", "-t", "module", "kube_storage.upgrade.storage_migrate")
    assert done.returncode == 0 and "kubeconfig" in done.stdout and "require_convergence" in done.stdout, done.stderr
    role = bare.run("ansible-doc", "-t", "role", "kube_storage.upgrade.rolling_upgrade", "--json")
    assert set(json.loads(role.stdout)["kube_storage.upgrade.rolling_upgrade"]["entry_points"]) >= {
        "main",
        "check",
        "snapshot",
        "upgrade_master",
        "converge",
        "migrate",
        "verify",
    }


def test_an_execution_environment_gets_what_it_needs(bare: Bare) -> None:
    program = str(Path(sys.executable).with_name("ansible-builder"))
    command = [program, "introspect", str(bare.home / ".ansible" / "collections")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = yaml.safe_load(done.stdout)
    own = {kind: [line for line in found[kind] if line.endswith("kube_storage.upgrade")] for kind in found}
    assert [line.split(">=")[0] for line in own["python"]] == ["kubernetes"]
    assert all("compile" in line for line in own["system"])


def test_module_defaults_beside_those_of_kubernetes_core(bare: Bare) -> None:
    """One set of credentials for both groups; options of ours only for our modules."""
    (bare.home / "play.yml").write_text(
        f"""\
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/kubernetes.core.k8s: &credentials
      kubeconfig: {bare.cluster.kubeconfig}
    group/kube_storage.upgrade.k8s:
      <<: *credentials
      expected_servers: 7
  tasks:
    - kubernetes.core.k8s_info:
        kind: Namespace
        name: default
      register: namespace
    - kube_storage.upgrade.storage_version_hashes:
      register: hashes
    - ansible.builtin.assert:
        that:
          - namespace.resources | length == 1
          - not hashes.converged
          - hashes.reasons | select('search', '7') | length > 0
""",
        encoding="utf-8",
    )
    done = bare.run("ansible-playbook", "play.yml", credentials=False)
    assert done.returncode == 0, done.stdout + done.stderr
