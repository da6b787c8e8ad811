# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 15: mistakes in the inventory, in how Ansible logs in, and in the release; on a master at 1.37 that is reached over ssh.

They are refused before the driver begins, which leaves a trace.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.objects import apply
from .support.plays import run_playbook
from .support.ssh_hosts import SshHost, make_key, ssh_server


@pytest.fixture(scope="module")
def far(single_master: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    """master-1, as Ansible reaches it."""
    address = single_master.data["masters"]["master-1"]["address"]
    with ssh_server(single_master.network, "m1", address, tmp_path_factory.mktemp("ssh")) as host:
        yield host


@dataclass
class Told:
    code: int
    said: str
    touched: bool

    @property
    def words(self) -> str:
        return " ".join(self.said.split())


@dataclass
class Mistakes:
    """The playbook of the collection, with an inventory of one's own."""

    cluster: Cluster
    folder: Path
    far: SshHost

    def run(self, hosts: dict[str, dict[str, Any]], **variables: Any) -> Told:
        """The driver leaves a trace."""
        common = {**self.far.variables, "ansible_python_interpreter": sys.executable}
        inventory = {"kube_control_plane": {"hosts": {name: {**common, **own} for name, own in hosts.items()}}}
        (self.folder / "inventory.yml").write_text(json.dumps(inventory), encoding="utf-8")
        driver, trace = self.folder / "driver", self.folder / "touched"
        driver.mkdir(exist_ok=True)
        # Over ssh, but to the same files. The master is at the release, so pending.yml alone gives the driver work.
        (driver / "main.yml").write_text(f"- ansible.builtin.command: touch {trace}\n", encoding="utf-8")
        pending = "- ansible.builtin.set_fact: {rolling_upgrade_pending: true}\n"
        (driver / "pending.yml").write_text(pending, encoding="utf-8")
        given = {
            "ansible_python_interpreter": sys.executable,
            "rolling_upgrade_version": "1.37",
            "rolling_upgrade_driver": str(driver),
            "rolling_upgrade_kubeconfig": str(self.cluster.kubeconfig),
            "rolling_upgrade_stable_for": 0,
            "rolling_upgrade_wait_timeout": 10,
            "rolling_upgrade_report_path": str(self.folder / "report.html"),
            **variables,
        }
        done = run_playbook(
            "kube_storage.upgrade.upgrade", self.folder, "-i", "inventory.yml", timeout=400, variables=given
        )
        return Told(done.returncode, done.stdout + done.stderr, trace.exists())

    def refused(self, hosts: dict[str, dict[str, Any]], *sentences: str, **variables: Any) -> None:
        told = self.run(hosts, **variables)
        assert told.code != 0 and not told.touched, told.said
        for sentence in sentences:
            assert sentence in told.words, told.said


@pytest.fixture
def mistakes(single_master: Cluster, far: SshHost, tmp_path: Path) -> Mistakes:
    return Mistakes(single_master, tmp_path, far)


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Another cluster, whose master has the same name, by its Node."""
    cluster = Cluster.up(tmp_path_factory.mktemp("another") / "cluster", masters=1, owner_pid=os.getpid())
    address = {"type": "InternalIP", "address": cluster.data["masters"]["master-1"]["address"]}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "master-1"}, "status": {"addresses": [address]}}
    apply(cluster, node)
    yield cluster
    cluster.down()


def test_the_kubeconfig_of_another_cluster(mistakes: Mistakes, another: Cluster) -> None:
    """Its API servers would be asked, and these masters taken down."""
    url = another.url("master-1")
    kubeconfig = str(another.kubeconfig)
    mistakes.refused(
        {"master-1": {}},
        f"No API server could be matched with master-1 (known are {url}); set rolling_upgrade_server for this host to its URL, or use the kubeconfig",
        "No master was touched",
        rolling_upgrade_kubeconfig=kubeconfig,
    )
    mistakes.refused(
        {"cp-1": {}},
        f"No API server could be matched with cp-1 (known are {url})",
        rolling_upgrade_kubeconfig=kubeconfig,
    )
    # A host that knows better.
    for own, more in (({"rolling_upgrade_server": url}, {"rolling_upgrade_kubeconfig": kubeconfig}), ({}, {})):
        (mistakes.folder / "touched").unlink(missing_ok=True)
        told = mistakes.run({"master-1": own}, **more)
        assert told.code == 0 and told.touched, told.said


def test_one_host_under_two_names(mistakes: Mistakes) -> None:
    mistakes.refused(
        {"master-1": {}, "cp-1": {}},
        f"master-1, cp-1 have the same ansible_host, {mistakes.far.address}; leave only one of them in the play, or correct the address.",
        "No master was touched",
    )
    # Ansible reaches it in two ways.
    mistakes.refused(
        {"master-1": {}, "cp-1": {"ansible_port": 22}},
        "The upgrade can't begin: 2 API servers are expected, 1 is known: ",
        f"{mistakes.cluster.url('master-1')} is the API server of cp-1 and of another master, master-1",
    )


def test_one_api_server_for_two_masters(mistakes: Mistakes) -> None:
    url = mistakes.cluster.url("master-1")
    own = {"rolling_upgrade_server": url}
    mistakes.refused(
        {"master-1": own, "cp-1": {**own, "ansible_port": 22}},
        f"{url} is the API server of cp-1 and of another master, master-1; set rolling_upgrade_server of each to its own address.",
    )


@pytest.mark.parametrize("facts", [True, False])
def test_a_key_with_a_passphrase(mistakes: Mistakes, facts: bool) -> None:
    """With facts it is Ansible that says it, as the role never begins."""
    make_key(mistakes.folder / "key", passphrase="secret")
    sentences = ["Permission denied (publickey"]
    if not facts:
        sentences += [
            "No master was touched. Whether an upgrade step is still running on master-1 is unknown",
            "log in",
        ]
    # Not over the connection that an earlier login keeps.
    own = {
        "ansible_ssh_private_key_file": str(mistakes.folder / "key"),
        "ansible_control_path_dir": str(mistakes.folder),
    }
    mistakes.refused(
        {"master-1": own},
        *sentences,
        rolling_upgrade_gather_facts=facts,
    )


@pytest.mark.parametrize("facts", [True, False])
def test_no_password_for_become(mistakes: Mistakes, facts: bool) -> None:
    """A stand-in says what sudo says without a password."""
    sudo = mistakes.folder / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n", encoding="utf-8")
    sudo.chmod(0o755)
    sentences = ["Missing sudo password"]
    if not facts:
        sentences += ["STOPPED: No master was touched; the error above says why."]
    mistakes.refused(
        {"master-1": {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": str(sudo)}},
        *sentences,
        rolling_upgrade_gather_facts=facts,
    )


@pytest.mark.parametrize(
    ("version", "blocker"),
    [("1.36", "downgrade/kube-apiserver"), ("1.39", "skipped_minors/kube-apiserver"), ("1.3.7", "impossible_release/")],
)
def test_a_release_that_the_upgrade_can_not_be_to(mistakes: Mistakes, version: str, blocker: str) -> None:
    """Number 3. That each can be ignored by its name, the unit tests of upgrade_check and test_rollback.py show."""
    mistakes.refused(
        {"master-1": {}},
        f"STOPPED: No master was touched, because something blocks the upgrade to {version}: ",
        blocker,
        rolling_upgrade_version=version,
    )
