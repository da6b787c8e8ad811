# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much to measure and where, and what all parts of the benchmark share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmark import tools
from tests.benchmark.tools import BenchmarkError, ModuleRun
from tests.control_plane.cluster import Cluster

MIGRATE = "storage_migrate"


@dataclass
class Bench:
    """How much to measure. ``scale`` shrinks all sizes, to try out the benchmark itself."""

    folder: Path
    rounds: int
    scale: float = 1.0

    def size(self, full: int) -> int:
        return max(100, int(full * self.scale))

    @contextmanager
    def cluster(self, name: str, **options: Any) -> Iterator[Cluster]:
        cluster = Cluster.up(self.folder / name, owner_pid=os.getpid(), **options)
        try:
            yield cluster
        finally:
            cluster.down()

    def migrate(self, cluster: Cluster, **params: Any) -> ModuleRun:
        if "host" not in params:
            params.setdefault("kubeconfig", str(cluster.kubeconfig))
        # Each run starts without a record of the previous one.
        store = self.folder / "state.json"
        store.unlink(missing_ok=True)
        params.setdefault("state_store", {"kind": "file", "path": str(store)})
        return tools.run_module(MIGRATE, self.folder, **{"resources": ["configmaps"], **params})


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def require_rewritten(who: str, found: int, count: int) -> None:
    if found != count:
        raise BenchmarkError(f"{who} rewrote {found} of {count} objects; its time says nothing.")
