# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An etcd that no control plane here has built in, behind a real API server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from tests.control_plane.cluster import Cluster
from tests.control_plane.releases import Etcd
from tests.integration.support.etcd import etcd_request, put_json, read_etcd
from tests.integration.support.modules import Result

Module = Callable[..., Result]


def test_it_is_that_etcd(behind: Cluster, etcd: Etcd) -> None:
    status = etcd_request(behind, "/v3/maintenance/status", {})
    assert status["version"] == etcd.etcd


def test_what_is_stale_is_rewritten_with_proof(behind: Cluster, module: Module) -> None:
    keys = [put_json(behind, f"stale-{i}") for i in range(5)]
    found = module(behind, "stored_versions_info", etcd=behind.etcd)
    assert (found["totals"]["stale"], found["consistent"]) == (5, True)
    done = module(behind, "storage_migrate", select="stale", etcd=behind.etcd)
    assert (done["rewritten"], done["proof"]["stale"], done["proof"]["problems"]) == (5, 0, [])
    stored = read_etcd(behind, "/registry/configmaps/default/")
    assert {stored[key].encoding for key in keys} == {"protobuf"}
    assert module(behind, "storage_migrate", select="stale", etcd=behind.etcd)["changed"] is False


def test_all_is_migrated_and_checked(behind: Cluster, module: Module) -> None:
    done = module(behind, "storage_migrate")
    assert (done["failures"], done["rewritten"]) == ([], 0)
    found = module(behind, "upgrade_check", target_version="1.37", etcd=behind.etcd)
    assert (found["safe"], found["unknown"], found["proven_from_etcd"]) == (True, [], True)


def test_a_snapshot_is_taken(behind: Cluster, etcd: Etcd, module: Module, tmp_path: Path) -> None:
    before = int(etcd_request(behind, "/v3/maintenance/status", {})["header"]["revision"])
    done = module(behind, "etcd_snapshot", etcd=behind.etcd, path=str(tmp_path / "snapshots"))
    assert (done["version"], done["changed"]) == (etcd.etcd, True)
    assert done["revision"] >= before
    assert hashlib.sha256(Path(done["path"]).read_bytes()).hexdigest() == done["sha256"]
