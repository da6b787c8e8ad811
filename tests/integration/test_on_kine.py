# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster on kine with each of its databases, as k3s has it without etcd. What is stored is read by the database itself."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import end_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_etcd

from tests.control_plane.cluster import Cluster

from .support.databases import DATABASES, Database, new_database
from .support.kine import KineAlone
from .support.modules import Result
from .support.objects import apply, config_maps, install_widgets, make_json

ROOT = b"/registry/"
OURS = "/registry/configmaps/default/"


@dataclass(frozen=True)
class OnKine:
    """A cluster, and the database behind it."""

    cluster: Cluster
    database: Database

    @property
    def etcd(self) -> dict[str, Any]:
        return self.cluster.etcd

    def stale(self) -> list[str]:
        return [key for key, row in self.database.rows().items() if key.startswith(OURS) and row.encoding == "json"]

    def in_version(self, version: bytes) -> int:
        """How many widgets are stored in it; managedFields name others."""
        head = b'{"apiVersion":"shop.example.com/%b",' % version
        return sum("/widgets/" in key and row.value.startswith(head) for key, row in self.database.rows().items())


@pytest.fixture(scope="module", params=DATABASES)
def on_kine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnKine]:
    """One master at 1.37 that writes to kine."""
    folder = tmp_path_factory.mktemp("kine")
    database = new_database(request.param, folder / "database")
    try:
        up = {"masters": 1, "kine": True, "kine_endpoint": database.endpoint, "owner_pid": os.getpid()}
        cluster = Cluster.up(folder / "cluster", **up)
        yield OnKine(cluster, database)
        cluster.down()
    finally:
        database.stop()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[KineAlone]:
    kine = KineAlone(tmp_path, "--compact-min-retain=1").await_ready()
    yield kine
    kine.stop()


def test_what_was_stored_before_is_found_rewritten_and_proven(on_kine: OnKine, module: Callable[..., Result]) -> None:
    recorded = module(on_kine.cluster, "storage_version_hashes", state="recorded")
    assert recorded["converged"] is True
    make_json(on_kine.cluster, "master-1", config_maps(30))
    install_widgets(on_kine.cluster, 20)
    assert len(on_kine.stale()) == 30 and on_kine.in_version(b"v1alpha1") == 20

    found = module(on_kine.cluster, "stored_versions_info", etcd=on_kine.etcd)
    assert found["cluster_verified"] is True and found["consistent"] is True and found["problems"] == []
    stored = Counter(row.encoding for key, row in on_kine.database.rows().items() if key.startswith(OURS))
    assert found["resources"]["configmaps"]["stale"] == stored["json"] == 30
    assert found["resources"]["widgets.shop.example.com"]["stale"] == 20

    chosen = ["configmaps", "widgets.shop.example.com"]
    done = module(on_kine.cluster, "storage_migrate", select="stale", resources=chosen, etcd=on_kine.etcd)
    assert done["rewritten"] == 50 and done["totals"]["failed"] == 0
    assert on_kine.stale() == [] and on_kine.in_version(b"v1alpha1") == 0 and on_kine.in_version(b"v1") == 20
    assert [trimmed["after"] for trimmed in done["trimmed"]] == [["v1"]]
    again = module(on_kine.cluster, "stored_versions_info", etcd=on_kine.etcd)
    assert again["totals"]["stale"] == 0 and again["cluster_verified"] is True


def test_the_check_does_not_take_kine_for_a_sick_etcd(on_kine: OnKine, module: Callable[..., Result]) -> None:
    found = module(on_kine.cluster, "upgrade_check", target_version="1.37", etcd=on_kine.etcd)
    about_etcd = [finding["check"] for finding in found["blockers"] + found["concerns"] if "etcd" in finding["check"]]
    assert about_etcd == []
    assert any("that is kine, which doesn't say" in sentence for sentence in found["unknown"])


def test_another_kine_is_not_taken_for_the_cluster_s_own(
    on_kine: OnKine, alone: KineAlone, module: Callable[..., Result]
) -> None:
    alone.put([f"{OURS}{number}" for number in range(3)])
    refused = module(on_kine.cluster, "stored_versions_info", etcd=alone.option)
    assert refused.failed and "is not the one that" in refused.message


def test_there_is_no_snapshot_of_kine(on_kine: OnKine, module: Callable[..., Result], tmp_path: Path) -> None:
    refused = module(None, "etcd_snapshot", etcd=on_kine.etcd, path=str(tmp_path / "snapshots"))
    assert refused.failed and "is kine, which takes no snapshots; back up its database" in refused.message


def test_a_scan_is_of_one_revision_whatever_is_written_meanwhile(on_kine: OnKine) -> None:
    """Page by page while a client creates, changes and deletes; the database tells which rows made up that revision."""
    apply(on_kine.cluster, config_maps(120, "page"))
    ending, rounds = threading.Event(), 0

    def write() -> None:
        nonlocal rounds
        while not ending.is_set():
            rounds += 1
            on_kine.cluster.kubectl("annotate", "configmap", "page-0090", "page-0110", f"round={rounds}", "--overwrite")
            apply(on_kine.cluster, config_maps(1, f"new-{rounds}"))
            on_kine.cluster.kubectl("delete", "configmap", f"page-{rounds:04d}", "--ignore-not-found", "--wait=false")

    async def read() -> tuple[int, dict[str, int]]:
        async with open_etcd(on_kine.etcd) as etcd:
            revision = (await etcd.range(ROOT, end_of(ROOT), limit=1, keys_only=True)).revision
            found: dict[str, int] = {}
            at, seen = ROOT, rounds
            while True:
                page = await etcd.range(at, end_of(ROOT), limit=40, revision=revision)
                found |= {base64.b64decode(item["key"]).decode(): int(item["mod_revision"]) for item in page.items()}
                if not page.more:
                    return revision, found
                at = (page.last_key or b"") + b"\0"
                deadline = asyncio.get_running_loop().time() + 60
                while rounds <= seen + 1:
                    assert asyncio.get_running_loop().time() < deadline, "nobody writes anymore"
                    await asyncio.sleep(0.02)
                seen = rounds

    thread = threading.Thread(target=write)
    thread.start()
    try:
        revision, found = asyncio.run(read())
    finally:
        ending.set()
        thread.join()
    then = {
        key: row.mod_revision for key, row in on_kine.database.rows(revision).items() if key.startswith("/registry/")
    }
    now = {key: row.mod_revision for key, row in on_kine.database.rows().items() if key.startswith("/registry/")}
    assert found == then != now and rounds > 3
