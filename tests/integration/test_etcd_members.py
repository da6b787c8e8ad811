# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd with three members: the scan avoids one that is down, goes down during it, or rejects our TLS."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, scan

from tests.control_plane.cluster import Cluster

from .support.etcd import etcd_request, put_json, read_etcd
from .support.modules import Result
from .support.objects import apply, config_maps

NAME = "stored_versions_info"


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("members") / "cluster"
    cluster = Cluster.up(folder, masters=1, etcd_members=3, owner_pid=os.getpid())
    apply(cluster, config_maps(600, "spread"))
    yield cluster
    cluster.down()


def test_one_member_is_down(members: Cluster, module: Callable[..., Result]) -> None:
    expected = len(read_etcd(members, "/registry/configmaps/"))
    members.kill("etcd-3")
    try:
        etcd = {**members.etcd, "endpoints": members.etcd["endpoints"][::-1]}
        found = module(members, NAME, etcd=etcd, resources=["configmaps"])
        assert found["resources"]["configmaps"]["objects"] == expected
        assert found["consistent"] is True
        for number in range(5):
            put_json(members, f"json-{number}")
        done = module(members, "storage_migrate", select="stale", resources=["configmaps"], etcd=etcd)
        assert (done["rewritten"], done["proof"]["stale"]) == (5, 0)
        assert {entry.encoding for entry in read_etcd(members, "/registry/configmaps/").values()} == {"protobuf"}
        checked = module(members, "upgrade_check", target_version="1.37", etcd=etcd)
        assert [finding["id"] for finding in checked["blockers"]] == ["etcd_member_down/etcd"]
        dead = {**etcd, "endpoints": etcd["endpoints"][:1]}
        refused = module(members, NAME, etcd=dead)
        assert refused.failed and "check etcd.endpoints" in refused.message
    finally:
        members.start("etcd-3")


def test_a_member_that_stops_during_a_scan(members: Cluster) -> None:
    """The remaining members answer at the same revision."""
    expected = len(read_etcd(members, "/registry/configmaps/"))

    async def run() -> Stored:
        async with open_etcd(members.etcd) as etcd:
            task = asyncio.create_task(scan(etcd, resources=["configmaps"], max_rate=200))
            await asyncio.sleep(0.7)  # within the pause that max_rate makes after the first page
            assert not task.done()
            await asyncio.to_thread(members.kill, "etcd-2")
            return await task

    try:
        stored = asyncio.run(run())
    finally:
        members.start("etcd-2")
    assert stored.consistent and stored.revision == stored.last_revision
    assert sum(stored.versions("configmaps").values()) == expected


def test_a_member_that_can_not_be_trusted_is_avoided(members: Cluster, module: Callable[..., Result]) -> None:
    """The API server's port has another CA than etcd: that endpoint can't be used, the others can."""
    etcd = {**members.etcd, "endpoints": [members.url("master-1"), *members.etcd["endpoints"]]}
    found = module(members, NAME, etcd=etcd, resources=["configmaps"])
    assert found["resources"]["configmaps"]["objects"] >= 600


def test_all_members_hold_the_same(members: Cluster, module: Callable[..., Result]) -> None:
    checked = module(members, "upgrade_check", target_version="1.37", etcd=members.etcd)
    about = [finding["id"] for key in ("blockers", "concerns") for finding in checked[key] if "etcd" in finding["id"]]
    assert about == [] and not [sentence for sentence in checked["unknown"] if "members" in sentence]


def test_a_snapshot_is_whole_and_as_new_as_the_cluster(
    members: Cluster, module: Callable[..., Result], tmp_path: Path
) -> None:
    """From a follower; the member that leads is the last to be asked, and one that is down isn't asked."""
    planned = module(members, "etcd_snapshot", path=str(tmp_path / "new"), etcd=members.etcd, check=True)
    assert (planned["path"], planned["changed"]) == (None, True) and not (tmp_path / "new").exists()
    put_json(members, "last")
    revision = int(etcd_request(members, "/v3/kv/range", {"key": "AA=="})["header"]["revision"])
    for _time in range(2):
        taken = module(members, "etcd_snapshot", path=str(tmp_path / "new"), etcd=members.etcd, keep=1)
    content = Path(taken["path"]).read_bytes()
    assert taken["revision"] >= revision and (len(content), hashlib.sha256(content).hexdigest()) == (
        taken["bytes"],
        taken["sha256"],
    )
    assert hashlib.sha256(content[:-32]).digest() == content[-32:] and b"/registry/configmaps/default/last" in content
    checked = module(
        members, "upgrade_check", target_version="1.37", etcd=members.etcd, etcd_snapshot_path=str(tmp_path / "new")
    )
    last = checked["last_snapshot"]
    assert (last["path"], last["revision"]) == (taken["path"], taken["revision"]) and 0 <= last["age"] < 600
    status = etcd_request(members, "/v3/maintenance/status", {}, taken["member"])
    assert status["leader"] != status["header"]["member_id"]
    assert [str(path) for path in (tmp_path / "new").iterdir()] == [taken["path"]] and len(taken["removed"]) == 1
    unreachable = {**members.etcd, "endpoints": ["https://127.0.0.1:1"]}
    failed = module(members, "etcd_snapshot", path=str(tmp_path / "other"), etcd=unreachable)
    assert failed.failed and failed.data["error"] == "etcd" and not (tmp_path / "other").exists()
