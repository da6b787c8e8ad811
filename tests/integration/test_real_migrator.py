# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine kube_storage_version_migrator with the real migrator; test_engine_migrator.py has what only a stand-in can be made to do.

What was written is judged from etcd.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.controllers import (
    MIGRATOR,
    MIGRATOR_MIGRATIONS,
    RealMigrator,
    install_real_migrator,
    items,
)
from .support.etcd import put_json, read_etcd
from .support.modules import Result, run_module
from .support.objects import apply, freeze
from .support.waiting import wait_until

NAME = "storage_migrate"
# Requests per second of a migrator that is to be met in the middle of its work.
SLOW = 10


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master at 1.37 with the migrator's CRDs."""
    folder = tmp_path_factory.mktemp("migrated") / "cluster"
    cluster = Cluster.up(folder, masters=1, controllers="namespace-controller", owner_pid=os.getpid())
    install_real_migrator(cluster)
    yield cluster
    cluster.down()


def make_stale(cluster: Cluster, number: int, prefix: str, namespace: str = "default") -> list[str]:
    """The keys of objects that were stored as JSON, which an API server would now write as protobuf."""
    return [put_json(cluster, f"{prefix}-{i:04d}", namespace) for i in range(number)]


def stale(cluster: Cluster) -> list[str]:
    return [key for key, entry in read_etcd(cluster, "/registry/configmaps/").items() if entry.encoding == "json"]


def migrate(cluster: Cluster, **options: Any) -> Result:
    return run_module(cluster, NAME, engine=MIGRATOR, resources=["configmaps"], **options)


@contextmanager
def in_the_background(cluster: Cluster, **options: Any) -> Iterator[list[Result]]:
    """A migration by the module; its result is there after the block."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(migrate(cluster, **options)))
    thread.start()
    try:
        yield found
    finally:
        thread.join()


def await_some_rewritten(cluster: Cluster, keys: list[str]) -> None:
    """Until the migrator is in the middle of them."""
    wait_until(lambda: 0 < len(set(keys) & set(stale(cluster))) < len(keys))


def test_the_migrator_migrates(migrated: Cluster) -> None:
    keys = make_stale(migrated, 30, "plain")
    with RealMigrator(migrated):
        done = migrate(migrated)
    found = done["resources"]["configmaps"]
    assert (found["engine"], found["rewritten"], found["failed"], found["persisted"]) == (MIGRATOR, 30, 0, True)
    assert set(keys) < set(read_etcd(migrated, "/registry/configmaps/")) and stale(migrated) == []
    assert items(migrated, MIGRATOR_MIGRATIONS) == []


def test_a_migrator_that_stays_killed_is_given_up(migrated: Cluster) -> None:
    keys = make_stale(migrated, 40, "killed")
    with RealMigrator(migrated, rate=SLOW) as migrator:
        with in_the_background(migrated, controller_timeout=4) as found:
            await_some_rewritten(migrated, keys)
            migrator.kill()
    done = found[0]["resources"]["configmaps"]
    assert done["engine"] == "direct" and "no progress for 4 s" in done["engine_reason"]
    assert (done["rewritten"], done["failed"], done["persisted"]) == (40, 0, True)
    assert stale(migrated) == [] and items(migrated, MIGRATOR_MIGRATIONS) == []


def test_a_migrator_that_is_killed_and_back_goes_on(migrated: Cluster) -> None:
    keys = make_stale(migrated, 40, "back")
    with RealMigrator(migrated, rate=SLOW) as migrator:
        with in_the_background(migrated, controller_timeout=60) as found:
            await_some_rewritten(migrated, keys)
            migrator.kill()
            migrator.start()
    done = found[0]["resources"]["configmaps"]
    assert (done["engine"], done["rewritten"], done["failed"], done["persisted"]) == (MIGRATOR, 40, 0, True)
    assert stale(migrated) == []


def test_a_namespace_that_is_deleted_meanwhile(migrated: Cluster) -> None:
    """It comes last in the list, so its objects go while the migrator has them in its page, and answers 404."""
    apply(migrated, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "zz-going"}})
    keys, going = make_stale(migrated, 40, "stay"), make_stale(migrated, 10, "go", "zz-going")

    def are_gone() -> bool:
        return not set(going) & set(read_etcd(migrated, "/registry/configmaps/"))

    with RealMigrator(migrated, rate=SLOW) as migrator:
        with in_the_background(migrated) as found:
            await_some_rewritten(migrated, keys)
            # The namespace controller begins five seconds after the deletion; the migrator would be done by then.
            with migrator.paused():
                migrated.kubectl("delete", "namespace", "zz-going", "--wait=false")
                wait_until(are_gone)
    done = found[0]["resources"]["configmaps"]
    assert (done["engine"], done["failed"]) == (MIGRATOR, 0)
    assert done["rewritten"] == len(keys) and done["deleted"] == len(going)
    assert stale(migrated) == []


def refused(cluster: Cluster) -> int:
    """How many writes of ConfigMaps the API server has refused as invalid."""
    text = cluster.kubectl("get", "--raw", "/metrics")
    pattern = r'^apiserver_request_total\{code="422",.*resource="configmaps",.*verb="PUT",.*\} (\d+)$'
    return sum(int(number) for number in re.findall(pattern, text, re.MULTILINE))


def test_a_denied_object_hangs_the_migrator_and_the_next_run_says_so(migrated: Cluster) -> None:
    """Last in this file, as the migrator is useless until it is restarted."""
    keys = make_stale(migrated, 5, "denied")
    is_enforced = freeze(migrated, "frozen", "configmaps", "object.metadata.name != 'denied-0002'", "denied-0002")
    with RealMigrator(migrated):
        failed = migrate(migrated, controller_timeout=4)
        assert failed.failed and "configmaps default/denied-0002" in failed.message
        assert failed.data["totals"]["failed"] == 1 and failed.data["failures"][0]["status"] == 422
        assert "no progress for 4 s" in failed.data["resources"]["configmaps"]["engine_reason"]
        assert stale(migrated) == [keys[2]] and items(migrated, MIGRATOR_MIGRATIONS) == []
        # The migration is gone, and the migrator goes on.
        before = refused(migrated)
        wait_until(lambda: refused(migrated) > before + 40)

        more = make_stale(migrated, 5, "later")
        again = migrate(migrated, controller_timeout=4)
        assert again.failed and "configmaps default/denied-0002" in again.message
        done = again.data["resources"]["configmaps"]
        assert done["engine"] == "direct" and "nothing took it up within 4 s" in done["engine_reason"]
        assert "still stuck on an object of an earlier migration" in done["engine_reason"]
        assert not set(more) & set(stale(migrated))
    migrated.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "frozen")
    wait_until(lambda: not is_enforced())
    with RealMigrator(migrated):
        assert migrate(migrated)["resources"]["configmaps"]["engine"] == MIGRATOR
    assert stale(migrated) == []
