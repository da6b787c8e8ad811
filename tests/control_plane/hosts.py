# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test hosts: network namespaces on one bridge, each with an address and a host name of its own."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Which networks are taken, and by which cluster folder; it must not outlive a reboot, as namespaces don't.
REGISTRY = Path("/run/kube-storage-upgrade")


class HostError(Exception):
    """Test hosts can't be created here; one sentence."""


@dataclass(frozen=True)
class Network:
    """One bridge and its /24; ``number`` distinguishes the networks of several clusters."""

    number: int

    @property
    def bridge(self) -> str:
        return f"ksu{self.number}br"

    @property
    def gateway(self) -> str:
        """The address of this machine's root namespace, where tests and the load balancer are."""
        return f"10.231.{self.number}.1"

    def address(self, host: int) -> str:
        return f"10.231.{self.number}.{host}"

    def namespace(self, name: str) -> str:
        return f"ksu{self.number}-{name}"


def require_root() -> None:
    """Network namespaces need root; without it nothing can be started."""
    if os.geteuid() != 0:
        raise HostError(
            "The test control plane gives each master a network namespace of its own, which only root may do; "
            "run it as root. Unit tests and linters work without."
        )


@contextmanager
def _registry() -> Iterator[dict[str, Any]]:
    REGISTRY.mkdir(parents=True, exist_ok=True)
    path = REGISTRY / "networks.json"
    with open(REGISTRY / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        yield taken
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(taken, indent=1), encoding="utf-8")
        os.replace(temporary, path)


def registered() -> dict[str, str]:
    """Cluster folders by network number."""
    with _registry() as taken:
        return dict(taken)


def take_network(folder: Path) -> Network:
    """Reserves a network for a cluster folder and makes its bridge."""
    require_root()
    with _registry() as taken:
        for number in range(1, 250):
            if str(number) not in taken and not Path(f"/sys/class/net/ksu{number}br").exists():
                taken[str(number)] = str(folder)
                break
        else:
            raise HostError("All test networks are taken; clean up with: cluster.py clean")
    network = Network(number)
    _ip("link", "add", network.bridge, "type", "bridge")
    _ip("addr", "add", f"{network.gateway}/24", "dev", network.bridge)
    _ip("link", "set", network.bridge, "up")
    return network


def add_host(network: Network, name: str, host: int) -> str:
    """A namespace with one address on the network; returns the address."""
    namespace = network.namespace(name)
    _ip("netns", "add", namespace)
    _ip("-n", namespace, "link", "set", "lo", "up")
    _connect(namespace, "eth0", network, name, host)
    _ip("-n", namespace, "route", "add", "default", "via", network.gateway)
    return network.address(host)


def add_leg(namespace: str, network: Network, name: str, host: int) -> str:
    """An address on one more network for the host of that namespace; returns it."""
    _connect(namespace, f"leg{network.number}", network, name, host)
    return network.address(host)


def _connect(namespace: str, device: str, network: Network, name: str, host: int) -> None:
    inside, outside = (f"ksu{network.number}{name}{side}"[:15] for side in "io")
    _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
    _ip("link", "set", inside, "netns", namespace, "name", device)
    _ip("link", "set", outside, "master", network.bridge, "up")
    _ip("-n", namespace, "addr", "add", f"{network.address(host)}/24", "dev", device)
    _ip("-n", namespace, "link", "set", device, "up")


def enter(network: Network, name: str, hostname: str) -> list[str]:
    """The command prefix that runs a program on a host, under its own host name."""
    return [
        "nsenter",
        f"--net=/run/netns/{network.namespace(name)}",
        "unshare",
        "--uts",
        "sh",
        "-c",
        'hostname "$0" && exec "$@"',
        hostname,
    ]


def release_network(number: int) -> None:
    """Removes a network with all its hosts; what is already gone is not an error."""
    listed = subprocess.run(["ip", "netns", "list"], check=False, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        name = line.split()[0] if line.split() else ""
        if name.startswith(f"ksu{number}-"):
            _end_processes(name)
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    # The kernel removes a namespace's links some time after it; a new network may need their names at once.
    for link in Path("/sys/class/net").glob(f"ksu{number}[a-z]*"):
        subprocess.run(["ip", "link", "delete", link.name], check=False, capture_output=True)
    with _registry() as taken:
        taken.pop(str(number), None)


def _end_processes(namespace: str) -> None:
    """Whatever still runs on a host is killed with it."""
    listed = subprocess.run(["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True).stdout
    for pid in listed.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _ip(*arguments: str) -> None:
    try:
        done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HostError("The program ip is missing; install iproute2.") from error
    if done.returncode != 0:
        raise HostError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")
