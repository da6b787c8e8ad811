# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mixed masters that answer for each other (UnknownVersionInteroperabilityProxy, KEP-4020): each still tells its own hashes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.control_plane.cluster import Cluster, ClusterError

from .support.modules import Result
from .support.policies import POLICIES
from .support.waiting import wait_until

pytestmark = pytest.mark.long

# 1.36 serves no v1 of these.
NEWER = "/apis/storagemigration.k8s.io/v1/storageversionmigrations"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("peers").resolve() / "cluster"
    flags = [
        f"peer-ca-file={folder}/certificates/ca.crt",
        "feature-gates=UnknownVersionInteroperabilityProxy=true",
    ]
    cluster = Cluster.up(folder, masters=2, version="1.36", flags=flags, owner_pid=os.getpid())
    cluster.upgrade("master-1", "1.37")
    yield cluster
    cluster.down()


def test_each_server_tells_its_own_hashes(mixed: Cluster, module: Callable[..., Result]) -> None:
    older = mixed.url("master-2")

    def answers() -> bool:
        with suppress(ClusterError):
            return "StorageVersionMigrationList" in mixed.kubectl("get", "--raw", NEWER, "--server", older)
        return False

    wait_until(answers)  # master-1 does, in the name of master-2
    found = module(mixed, "storage_version_hashes")
    differ = {row["resource"]: row["by_server"] for row in found["disagreements"]}
    policies = differ[f"{POLICIES[0]}.admissionregistration.k8s.io"]
    assert {url: told["storage_version"] for url, told in policies.items()} == {
        mixed.url("master-1"): "admissionregistration.k8s.io/v1",
        older: "admissionregistration.k8s.io/v1beta1",
    }
    assert differ["storageversionmigrations.storagemigration.k8s.io"][older]["hash"] is None
    assert found["converged"] is False
    checked = module(mixed, "upgrade_check", target_version="1.37")
    assert "peer_proxy" not in {concern["check"] for concern in checked["concerns"]}
    mixed.upgrade("master-2", "1.37")
    assert module(mixed, "storage_version_hashes", state="converged", wait_timeout=60)["converged"]
