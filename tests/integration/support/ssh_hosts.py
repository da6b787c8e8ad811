# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of a test cluster's network with an SSH server; nothing of the user's own ssh is touched."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.hosts import Network, enter
from tests.control_plane.processes import Process, spawn

from .waiting import wait_until

SSHD = Path("/usr/sbin/sshd")


@dataclass
class SshHost:
    """One host; ``folder`` has the keys."""

    address: str
    folder: Path
    server: Process

    @property
    def variables(self) -> dict[str, Any]:
        options = f"-o UserKnownHostsFile={self.folder}/known_hosts -o StrictHostKeyChecking=accept-new -F none"
        return {
            "ansible_host": self.address,
            "ansible_connection": "ssh",
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(self.folder / "user"),
            "ansible_ssh_common_args": options,
            "ansible_control_path_dir": str(self.folder / "cp"),
        }


def make_key(path: Path, passphrase: str = "") -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True, stdin=subprocess.DEVNULL
    )


@contextmanager
def ssh_server(network: Network, name: str, address: str, folder: Path) -> Iterator[SshHost]:
    """An SSH server in the namespace ``name``, which has this address."""
    if not SSHD.exists():
        pytest.skip("openssh-server is not installed; make test does that where it may")
    for key in ("host", "user"):
        make_key(folder / key)
    (folder / "sshd_config").write_text(
        f"ListenAddress {address}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nPidFile none\n"
        "StrictModes no\nSubsystem sftp internal-sftp\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
        encoding="utf-8",
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    log = folder / "sshd.log"
    server = spawn([*enter(network, name, name), str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], log)
    try:
        wait_until(lambda: "listening on" in log.read_text(encoding="utf-8"))
        yield SshHost(address, folder, server)
    finally:
        server.stop()
