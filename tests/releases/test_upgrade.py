# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From each release to the next one that is built here, on the cluster that the release's other tests have used."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.kube_storage.upgrade.plugins.module_utils._data import releases as data
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import Releases

from tests.control_plane.cluster import Cluster
from tests.control_plane.releases import Release
from tests.integration.support.modules import Result

from .clusters import server_flags

Module = Callable[..., Result]

HASHES, MIGRATE = "storage_version_hashes", "storage_migrate"


def stored_otherwise(older: Release, newer: Release) -> dict[str, tuple[str, str]]:
    """What the collection's data say that the newer release stores differently: before, after."""
    known = Releases()
    found = {}
    for name in data.STORES:
        versions = [known.storage_version(name, f"1.{release.minor}") for release in (older, newer)]
        if versions[0] and versions[1] and versions[0] != versions[1]:
            found[name] = (versions[0], versions[1])
    return found


def test_an_upgrade_by_hand(cluster: Cluster, release: Release, following: Release, module: Module) -> None:
    module(cluster, HASHES, state="recorded")
    served = module(cluster, HASHES)["resources"]
    flags = server_flags(following)
    cluster.upgrade("master-2", following.kubernetes, flags=flags)
    mixed = module(cluster, HASHES, expected_version=following.kubernetes)
    assert mixed["converged"] is False
    assert [server["version"] for server in mixed["servers"]] == [f"v{release.kubernetes}", f"v{following.kubernetes}"]
    changing = {name: change for name, change in stored_otherwise(release, following).items() if name in served}
    # Masters that write everything in the same versions agree at two releases, too, as of 1.31 and 1.32; 1.33 serves resources that 1.32 doesn't.
    agree = module(cluster, HASHES)["converged"]
    assert not (agree and changing)
    while_mixed = module(cluster, MIGRATE)
    assert while_mixed.failed is not agree, while_mixed.message
    assert agree or cluster.url("master-2") in while_mixed.message, while_mixed.message

    cluster.upgrade("master-1", following.kubernetes, flags=flags)
    agreed = module(cluster, HASHES, state="converged", wait_timeout=60, expected_version=following.kubernetes)
    expected = {name: change for name, change in changing.items() if name in agreed["resources"]}
    changed = {change["resource"]: (change["before"], change["after"]) for change in agreed["changed_resources"]}
    assert {name: changed.get(name) for name in expected} == expected
    done = module(cluster, MIGRATE, select="changed", etcd=cluster.etcd)
    assert done["failures"] == [] and set(expected) <= set(done["resources"])
    assert module(cluster, "stored_versions_info", etcd=cluster.etcd)["totals"]["stale"] == 0
    assert module(cluster, MIGRATE, select="changed")["resources"] == {}
