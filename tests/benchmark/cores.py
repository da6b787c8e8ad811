# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who used how much of the machine's cores during a measurement, which shows what limits it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.control_plane.cluster import Cluster

_TICKS = os.sysconf("SC_CLK_TCK")
_NAMES = {"master": "API server", "etcd": "etcd", "controller": "controller-manager"}


class Cores:
    """``text`` is there once the measurement has ended."""

    text = ""


@contextmanager
def watched(cluster: Cluster | None, client: str) -> Iterator[Cores]:
    """Around a measurement; ``client`` is what this process starts meanwhile."""
    found = Cores()
    before, before_all, started = _used(cluster, client), _used_by_all(), time.monotonic()
    yield found
    seconds = time.monotonic() - started
    after, after_all = _used(cluster, client), _used_by_all()
    shares = {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}
    # Proxies in between, the kernel, and anything else on a machine that should be idle.
    shares["all else"] = max(0.0, after_all - before_all) / seconds - sum(shares.values())
    parts = [f"{name} {share:.2f}" for name, share in shares.items() if share >= 0.01]
    found.text = f"cores used, of {os.cpu_count()}: {', '.join(parts)}"


def _used_by_all() -> float:
    """Seconds of processor time that the whole machine has used."""
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text(encoding="utf-8").split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def cpu_seconds(cluster: Cluster, name: str) -> float:
    """Seconds of processor time that the cluster's processes of that name have used; ``master``: its API servers."""
    return _used(cluster, "client").get(_NAMES[name], 0.0)


def _used(cluster: Cluster | None, client: str) -> dict[str, float]:
    used: dict[str, float] = {}
    for name, process in (cluster.data["processes"] if cluster else {}).items():
        label = _NAMES.get(name.split("-")[0])
        if label is None:
            continue
        try:
            fields = Path(f"/proc/{process['pid']}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        used[label] = used.get(label, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    used[client] = children.ru_utime + children.ru_stime
    return used
