# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An API server that is alive but that nobody lists, and one that died (issue 13, numbers 3 and 18)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support.modules import Result, run_module
from .support.objects import POLICIES, apply, install_widgets
from .support.permissions import RBAC, ROLES, Limited, P, binding
from .support.plays import PLAYBOOKS, run_playbook, write_inventory
from .support.runs import finish, start_process
from .support.waiting import wait_until

NAME = "storage_version_hashes"
WIDGETS = "widgets.shop.example.com"


@pytest.fixture(scope="module")
def third_unseen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two masters at 1.37; the third is at 1.36, renews its Lease, and isn't in the EndpointSlice."""
    cluster = Cluster.up(tmp_path_factory.mktemp("unseen") / "cluster", owner_pid=os.getpid())
    cluster.upgrade("master-3", "1.36", flags=["endpoint-reconciler-type=none"])
    own = cluster.data["masters"]["master-3"]["address"]
    wait_until(lambda: own not in cluster.kubectl("get", "endpointslice", "kubernetes", "-o", "json"), 60)
    cluster.kubectl("apply", "-f", str(RBAC))
    install_widgets(cluster, 5)
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def blind(third_unseen: Cluster) -> dict[str, Any]:
    """A user who may migrate, but not list the Leases."""
    limited = Limited(third_unseen)
    limited.bind("view", "state", "crds")
    # The whole role direct may list everything, Leases too.
    rules = [
        {"apiGroups": [group], "resources": [plural], "verbs": ["get", "list", "patch"]}
        for plural, _dot, group in (name.partition(".") for name in (WIDGETS, POLICIES))
    ]
    narrow = {**ROLES["ClusterRole", P + "direct"], "rules": rules}
    apply(third_unseen, narrow, binding(narrow))
    auth = {"kubeconfig": str(limited.kubeconfig)}

    def each_knows() -> bool:
        """Another master may know of the permissions a moment later."""
        asked = run_module(third_unseen, NAME, servers=third_unseen.urls, **auth).data.get("servers")
        return bool(asked) and all(server["error"] is None for server in asked)

    wait_until(each_knows, 60)
    wait_until(lambda: limited.may("patch", WIDGETS) and limited.may("list", POLICIES))
    return auth


@pytest.mark.parametrize("count", [{}, {"expected_servers": 2}, {"servers": 2}, {"accept_unchecked": True}])
def test_a_living_server_that_nobody_asked_is_never_overlooked(
    third_unseen: Cluster, module: Callable[..., Result], count: dict[str, Any]
) -> None:
    params = {**count, **({"servers": third_unseen.urls[:2]} if "servers" in count else {})}
    found = module(third_unseen, NAME, **params)
    assert found["converged"] is False and found["cross_checked"] is True
    (reason,) = found["reasons"]
    assert reason.startswith("3 API servers renew their Leases (master-1, master-2, master-3), but the ")
    assert f"master-3 answers at {third_unseen.url('master-3')}, and is at v1.3" in reason
    (unlisted,) = found["unlisted_servers"]
    assert unlisted["name"] == "master-3" and unlisted["url"] == third_unseen.url("master-3")
    if "expected_servers" not in params:
        return
    refused = module(third_unseen, "storage_migrate", **params)
    assert refused.failed and "master-3 answers at" in refused.message
    checked = module(third_unseen, "upgrade_check", target_version="1.37", **params)
    assert any("master-3 answers at" in unknown for unknown in checked["unknown"])


def test_who_is_named_as_an_exception_is_left_out(third_unseen: Cluster, module: Callable[..., Result]) -> None:
    for ignored in ("master-3", third_unseen.url("master-3")):
        found = module(third_unseen, NAME, expected_servers=2, ignored_servers=[ignored])
        assert found["converged"] is True and found["cross_checked"] is True and found["unlisted_servers"] == []
    alone = module(third_unseen, NAME, servers=[third_unseen.url("master-2")], ignored_servers=["*"])
    assert alone["converged"] is True and alone["cross_checked"] is False and alone["proven_by"] == "listed_servers"
    all_three = module(third_unseen, NAME, servers=third_unseen.urls)
    assert [found["resource"] for found in all_three["disagreements"]] != [] and all_three["cross_checked"] is True


def test_without_the_leases_nothing_counts(
    third_unseen: Cluster, module: Callable[..., Result], blind: dict[str, Any]
) -> None:
    found = module(third_unseen, NAME, expected_servers=2, **blind)
    assert found["converged"] is True, found["reasons"]
    assert found["cross_checked"] is False and found["proven_by"] == "listed_servers"
    assert found["unchecked_reason"] == "the user cannot list leases in kube-system"
    assert "not cross-checked with their Leases" in found.message
    checked = module(third_unseen, "upgrade_check", target_version="1.37", **blind)
    assert checked["cross_checked"] is False
    assert any("was not cross-checked" in unknown for unknown in checked["unknown"])

    params: dict[str, Any] = {"resources": [WIDGETS, POLICIES], "expected_servers": 2, **blind}
    done = finish(start_process(third_unseen, **params))
    assert done["cross_checked"] is False and done["trimmed"] == [] and "not cross-checked" in done["msg"]
    assert any(
        "Whether other API servers are alive was not cross-checked" in str(warning) for warning in done["warnings"]
    )
    assert [row["persisted"] for row in done["resources"].values()] == [False, False]
    assert all("cannot list leases" in row["unproven"] for row in done["resources"].values())
    again = module(third_unseen, "storage_migrate", select="changed", **params)
    assert set(again["resources"]) == set(params["resources"]), "what is not proven is visited again"

    accepted = finish(start_process(third_unseen, accept_unchecked=True, **params))
    assert [row["persisted"] for row in accepted["resources"].values()] == [True, True]
    assert [crd["crd"] for crd in accepted["trimmed"]] == [WIDGETS]
    assert accepted["cross_checked"] is False and "accept_unchecked accepts that" in accepted["msg"]
    assert not any("Whether other" in str(warning) for warning in accepted.get("warnings", ()))


def test_the_role_calls_nothing_proven_without_the_leases(
    third_unseen: Cluster, tmp_path: Path, blind: dict[str, Any]
) -> None:
    def verify(**more: Any) -> tuple[int, str]:
        given = {
            "rolling_upgrade_kubeconfig": blind["kubeconfig"],
            "rolling_upgrade_expected_servers": 2,
            "rolling_upgrade_version": "1.37",
            "rolling_upgrade_report_path": str(tmp_path / "report.html"),
            **more,
        }
        inventory = write_inventory(tmp_path, third_unseen)
        done = run_playbook(
            PLAYBOOKS / "verify_alone.yml", tmp_path, "-i", inventory, "--limit", "master-1", variables=given
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    code, told = verify()
    assert code != 0 and "nothing is proven: whether others are alive was not cross-checked" in told
    assert "rolling_upgrade_accept_unchecked" in told
    code, told = verify(rolling_upgrade_accept_unchecked=True)
    assert code == 0, told
    assert "Not cross-checked, so not proven" in told
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["observations"][-1]["unchecked"] == "the user cannot list leases in kube-system"
    page = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
    assert "Done and proven" not in page and "Whether other API servers are alive was not cross-checked" in page


def test_one_that_died_is_waited_for_until_its_lease_tells(
    third_unseen: Cluster, module: Callable[..., Result]
) -> None:
    """The last test of this cluster: its third master dies."""
    third_unseen.kill("master-3")
    died = time.monotonic()
    (reason,) = module(third_unseen, NAME)["reasons"]
    assert reason.startswith("master-3 seems to have died: the EndpointSlice default/kubernetes doesn't name it and ")
    done = module(third_unseen, "storage_migrate", resources=["configmaps"])
    assert 20 < time.monotonic() - died < 60 and done["resources"]["configmaps"]["persisted"] is True
    missing = module(third_unseen, NAME, expected_servers=3)
    assert "3 API servers are expected, 2 are known" in missing["reasons"][0]
    assert "master-3 seems to have died: its Lease expired" in missing["reasons"][0]
    down = module(third_unseen, NAME, servers=third_unseen.urls)
    assert any("Its Lease expired" in reason and "the option servers" in reason for reason in down["reasons"])


@pytest.fixture
def replaced(tmp_path: Path) -> Iterator[Cluster]:
    """Two masters at 1.36, and two more addresses at which nobody has been yet."""
    cluster = Cluster.up(tmp_path / "cluster", masters=4, version="1.36", owner_pid=os.getpid())
    install_widgets(cluster, 5)
    for name in ("master-3", "master-4"):
        cluster.stop(name)
    wait_until(lambda: len(addresses(cluster)) == 2)
    cluster.kubectl("delete", "leases", "-n", "kube-system", "-l", "apiserver.kubernetes.io/identity=kube-apiserver")
    wait_until(lambda: run_module(cluster, NAME).data.get("converged") is True)
    yield cluster
    cluster.down()


def addresses(cluster: Cluster) -> list[str]:
    found = json.loads(cluster.kubectl("get", "endpointslice", "kubernetes", "-o", "json"))
    return sorted(address for endpoint in found["endpoints"] or () for address in endpoint["addresses"])


def test_masters_are_replaced_by_new_machines_during_the_wait(replaced: Cluster, module: Callable[..., Result]) -> None:
    """As Cluster API does it: one more at first, and what the old ones leave behind. The second old one just vanishes."""
    cluster, old = replaced, [replaced.url(name) for name in ("master-1", "master-2")]
    assert [server["url"] for server in module(cluster, NAME, state="recorded")["servers"]] == old
    with ThreadPoolExecutor(1) as pool:
        options: dict[str, Any] = {"expected_version": "1.37", "expected_servers": 2}
        waiting = pool.submit(module, cluster, NAME, state="converged", wait_timeout=300, stable_for=2, **options)
        cluster.start("master-3", version="1.37")
        cluster.stop("master-1")
        cluster.start("master-4", version="1.37")
        assert not waiting.done(), "an old one is still there"
        cluster.kill("master-2")
        left = time.monotonic()
        agreed = waiting.result()
    new = [cluster.url(name) for name in ("master-3", "master-4")]
    assert agreed["converged"] is True and [server["url"] for server in agreed["servers"]] == new, agreed["reasons"]
    assert agreed["cross_checked"] is True and time.monotonic() - left > 20, "its Lease is fresh for a while"
    done = module(cluster, "storage_migrate", select="stale", etcd=cluster.etcd, expected_servers=2)
    assert done["rewritten"] >= 5 and [crd["crd"] for crd in done["trimmed"]] == [WIDGETS]
    assert (done["proof"]["stale"], done["proof"]["problems"], done["failures"]) == (0, [], [])
    assert {server["url"] for server in module(cluster, NAME)["servers"]} == set(new)
