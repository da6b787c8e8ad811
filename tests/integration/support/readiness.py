# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which masters are down, sampled while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.control_plane.cluster import Cluster


@dataclass
class Sampled:
    """Which masters were down at once, at the worst."""

    worst: tuple[str, ...] = ()
    samples: int = 0


@contextmanager
def sampled(cluster: Cluster) -> Iterator[Sampled]:
    """Asks /readyz of every master, one after another, five times a second; a restart takes seconds."""
    seen, ended = Sampled(), threading.Event()
    servers = {name: cluster.server(name) for name in cluster.masters}

    def is_down(name: str) -> bool:
        return servers[name].get("/readyz") != b"ok"

    def look() -> None:
        while not ended.wait(0.2):
            down = tuple(filter(is_down, servers))
            # Not at the same moment: who is back by now was not down together with the last one.
            down = tuple(name for name in down if len(down) == 1 or is_down(name))
            seen.samples += 1
            seen.worst = max(seen.worst, down, key=len)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        for server in servers.values():
            server.close()
