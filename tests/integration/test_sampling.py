# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three API servers that can't be reached one by one, as they advertise the load balancer's address: sampling."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.control_plane.cluster import Cluster

from .support import warm_ansible, warm_python
from .support.etcd import put_json, read_etcd
from .support.modules import ANSIBLE, ROOT, Result, environment, run_module
from .support.objects import POLICIES, apply
from .support.permissions import RBAC, ROLES, USER, P, binding
from .support.recipes import recipe
from .support.stand_ins import StandIns
from .support.waiting import wait_until

NAME = "storage_version_hashes"
SAMPLING = {"connections": 12}


def hide(cluster: Cluster, *masters: str) -> None:
    """Upgrades masters; they then advertise the load balancer, as in clusters that are reached by nothing else."""
    for master in masters:
        cluster.upgrade(master, "1.37", flags=[f"advertise-address={cluster.network.gateway}"])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters, the first of them at 1.37, the others at 1.36."""
    cluster = Cluster.up(tmp_path_factory.mktemp("mixed") / "cluster", version="1.36", owner_pid=os.getpid())
    hide(cluster, "master-1")
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def upgraded(mixed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[StandIns, str]:
    """The same, all at 1.37 by the guide's recipe for managed clusters; and what Ansible said."""
    flag = f"advertise-address={mixed.network.gateway}"
    provider = StandIns(
        tmp_path_factory.mktemp("managed") / "stand-ins", mixed, masters=["master-2", "master-3"], flags=(flag,)
    )
    playbook = recipe("Managed clusters")[0].replace("rolling_upgrade_stable_for: 300", "rolling_upgrade_stable_for: 1")
    done = provider.run(
        playbook,
        "nobody",
        rolling_upgrade_sampling=SAMPLING,
        rolling_upgrade_report_path=str(provider.folder / "report.html"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return provider, " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def hidden(upgraded: tuple[StandIns, str]) -> Cluster:
    return upgraded[0].cluster


def _can(cluster: Cluster, master: str, verb: str, what: str, *where: str) -> bool:
    command = [str(cluster.folder / "bin" / "kubectl"), "--kubeconfig", str(cluster.folder / f"kubeconfig-{master}")]
    command += ["auth", "can-i", verb, what, "--as", USER, *where]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "yes"


def shown(cluster: Cluster, **params: Any) -> str:
    """What a user sees, warnings included."""
    params = {"kubeconfig": str(cluster.kubeconfig), **params}
    command = [str(ANSIBLE), "localhost", "-m", f"kube_storage.upgrade.{NAME}", "-a", json.dumps(params)]
    command += ["-e", f"ansible_python_interpreter={warm_python.interpreter()}"]
    done = warm_ansible.run(command, cwd=ROOT, env=environment(), timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_mixed_answers_are_a_definite_no(mixed: Cluster, module: Callable[..., Result]) -> None:
    found = module(mixed, NAME, sampling=SAMPLING)
    assert found["converged"] is False and found["proven_by"] == "sampling"
    by_server = {disagreement["resource"]: disagreement["by_server"] for disagreement in found["disagreements"]}[
        POLICIES
    ]
    versions = {url.partition("#")[2]: said["storage_version"].rpartition("/")[2] for url, said in by_server.items()}
    assert {"master-2": "v1beta1", "master-3": "v1beta1"}.items() <= versions.items()
    assert sorted(versions.values()) == ["v1", "v1beta1", "v1beta1"]
    waited = module(mixed, NAME, sampling=SAMPLING, state="converged", expected_version="1.37", wait_timeout=1)
    assert waited.failed and "v1beta1 on" in waited.message and "is at v1.37.2 (emulating 1.36)" in waited.message
    refused = module(mixed, "storage_migrate", sampling=SAMPLING)
    assert refused.failed and refused.message.startswith("Nothing was migrated, because the API servers don't agree")


def test_a_server_that_never_answers_is_named(mixed: Cluster, module: Callable[..., Result]) -> None:
    """A load balancer that always leads to the same server: here its own address stands for that."""
    found = module(
        mixed,
        NAME,
        sampling={"connections": 4},
        kubeconfig=str(mixed.folder / "kubeconfig-master-2"),
    )
    assert found["converged"] is False
    assert found["reasons"][0].startswith("Only 1 of 3 API servers answered 4 fresh connections")
    assert found["sampling"]["told_apart"] == 1 and found["sampling"]["servers"] == 3


def test_the_recipe_for_managed_clusters(upgraded: tuple[StandIns, str]) -> None:
    provider, told = upgraded
    assert [call["did"] for call in provider.log] == ["wanted", "upgraded", "upgraded"]
    assert "[WARNING]: Agreement rests on sampling" in told
    assert "Nothing was proven. That all API servers agree is known only from samples" in told
    assert "12 fresh connections to one address, 3 API servers distinguished" in told
    record = json.loads((provider.folder / "report.json").read_text(encoding="utf-8"))
    assert record["status"] == "succeeded" and record["observations"][-1]["sampling"]["told_apart"] == 3
    page = " ".join((provider.folder / "report.html").read_text(encoding="utf-8").split())
    assert "is known by sampling only, which proves less than asking each at its own address" in page


def test_without_the_option_nothing_is_claimed(hidden: Cluster, module: Callable[..., Result]) -> None:
    found = None

    def one_address() -> bool:
        nonlocal found
        found = module(hidden, NAME)
        return [server["url"] for server in found["servers"]] == [hidden.balancer_url]

    wait_until(one_address)
    assert found is not None and found["converged"] is False
    (reason,) = found["reasons"]
    assert reason.startswith("3 API servers renew their Leases (master-1, master-2, master-3), but the EndpointSlice")
    assert "use the option sampling, which proves less" in reason
    refused = module(hidden, NAME, sampling=SAMPLING, servers=hidden.urls)
    assert refused.failed and "are mutually exclusive" in refused.message


def test_agreement_by_sampling_is_called_weaker(hidden: Cluster, module: Callable[..., Result]) -> None:
    found = module(
        hidden, NAME, sampling=SAMPLING, state="converged", expected_version="1.37", stable_for=1, wait_timeout=60
    )
    assert found["converged"] is True and found["proven_by"] == "sampling"
    assert found["sampling"]["connections"] == 12 and found["sampling"]["told_apart"] == 3
    assert "by sampling, which proves less than asking each" in found.message
    assert "[WARNING]: Agreement rests on sampling" in shown(hidden, sampling=SAMPLING)
    names = [server["name"] for server in found["servers"]]
    assert len(set(names)) == 3 and all(name.startswith("started-") for name in names)


def test_a_migration_by_sampling_says_so(hidden: Cluster, module: Callable[..., Result]) -> None:
    keys = [put_json(hidden, f"cm-{number}") for number in range(100)]
    assert module(hidden, "storage_migrate", check=True, sampling=SAMPLING)["proven_by"] == "sampling"
    done = module(hidden, "storage_migrate", sampling=SAMPLING, resources=["configmaps"])
    assert done["rewritten"] >= 100 and done["resources"]["configmaps"]["persisted"] is True
    assert done["proven_by"] == "sampling" and done["sampling"]["told_apart"] == 3
    assert "known by sampling only" in done.message
    stored = read_etcd(hidden, "/registry/configmaps/default/cm-")
    assert set(stored) == set(keys) and {entry.encoding for entry in stored.values()} == {"protobuf"}
    # Reading etcd, too, doesn't change that.
    read = module(hidden, "stored_versions_info", etcd=hidden.etcd, sampling=SAMPLING)
    assert read["totals"]["stale"] == 0 and read["proven_by"] == "sampling"
    assert any("Agreement rests on sampling" in problem for problem in read["problems"])
    checked = module(hidden, "upgrade_check", target_version="1.37", sampling=SAMPLING)
    assert any("Agreement rests on sampling" in gap for gap in checked["unknown"])


def test_servers_that_do_not_identify_themselves(hidden: Cluster, module: Callable[..., Result]) -> None:
    auth = {"kubeconfig": str(hidden.user_kubeconfig(USER))}

    def bind(*names: str) -> None:
        for role in ROLES.values():
            if role["metadata"]["name"] in {P + name for name in names}:
                # By when its process started, a server gives itself away, too.
                rules = [rule for rule in role["rules"] if rule.get("nonResourceURLs") != ["/metrics/slis"]]
                apply(hidden, {**role, "rules": rules}, binding(role))

    def may(verb: str, what: str, *where: str) -> bool:
        return all(_can(hidden, master, verb, what, *where) for master in hidden.masters)

    hidden.kubectl("apply", "-f", str(RBAC))
    bind("view", "state", "cross-check")
    wait_until(lambda: may("list", "leases", "-n", "kube-system") and may("list", "apiservices"))
    refused = module(hidden, NAME, sampling=SAMPLING, **auth)
    assert refused["converged"] is False and "can't be distinguished: allow the user to get /flagz" in refused.message
    weak = module(hidden, NAME, sampling={**SAMPLING, "require_identity": False}, **auth)
    assert weak["converged"] is True and weak["sampling"]["told_apart"] is None
    assert weak["sampling"]["chance_missed"] == pytest.approx(3 * (2 / 3) ** 12)
    told = shown(hidden, sampling={**SAMPLING, "require_identity": False}, **auth)
    assert "[WARNING]: Agreement rests on sampling" in told and "was missed is about 2 %" in told
    bind("sampling")
    wait_until(lambda: may("get", "/flagz"))
    assert module(hidden, NAME, sampling=SAMPLING, **auth)["sampling"]["told_apart"] == 3


def test_one_that_is_gone_is_missed_as_long_as_its_lease_is_fresh(hidden: Cluster) -> None:
    hidden.kill("master-3")
    try:
        found = run_module(hidden, NAME, sampling=SAMPLING)
        assert found["converged"] is False
        assert found["reasons"][0].startswith("Only 2 of 3 API servers answered 12 fresh connections; raise")
    finally:
        hidden.start("master-3")
