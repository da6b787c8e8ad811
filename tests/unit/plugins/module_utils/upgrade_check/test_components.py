# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Feature gates, flags and APIs that the target doesn't know anymore."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.control_plane import (
    DeprecatedApi,
    Started,
    commands_of,
    configured_in,
    requested_in,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.components import (
    evaluate_components,
    evaluate_deprecated,
    evaluate_peers,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.command_line import (
    CommandLine,
    parse_command,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.components import ComponentData

DATA = ComponentData(
    releases=("1.34", "1.35", "1.36", "1.37"),
    flags_of=dict.fromkeys(("kube-apiserver", "kube-controller-manager", "kube-scheduler"), ("1.35", "1.36", "1.37")),
    known_gates={"Old": "1.35-1.36", "Fixed": "1.35-1.37", "New": "1.37-1.37"},
    locked={"true": {"Fixed": "1.37-1.37"}},
    flags={
        "kube-apiserver": {"gone": "1.35-1.36", "stays": "1.35-1.37"},
        "kube-controller-manager": {"gone": "1.35-1.37"},
    },
)


def started(*arguments: str, component: str = "kube-apiserver", configured: str = "") -> Started:
    own = parse_command(component, "master-1", arguments)
    server = parse_command("kube-apiserver", "master-2", [])
    return Started((own, server), tuple(configured_in(configured)))


def blockers(given: Started, current: str = "1.36", target: str = "1.37") -> list[Finding]:
    found = evaluate_components(given, UpgradePath(current, target), DATA)
    assert found.unknown == []
    return found.blockers


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--feature-gates=Old=true"], ["feature_gate/Old"]),
        (["--feature-gates", "Other=true,Old=false"], ["feature_gate/Old"]),
        (["--feature-gates=kube:Old=true"], ["feature_gate/Old"]),
        (["--feature-gates=:Old=true"], ["feature_gate/Old"]),
        (["--feature-gates=kubelet:Old=true"], []),
        (["--feature-gates=Fixed=true"], []),
        (["--feature-gates=Fixed=false"], ["feature_gate/Fixed"]),
        (["--feature-gates=Fixed=false", "--feature-gates=Fixed=true"], []),
        (["--feature-gates=AllBeta=true,Unheard=true"], []),
        (["--gone=x"], ["component_flag/kube-apiserver/gone"]),
        (["--feature_gates=Old=true"], ["feature_gate/Old"]),
        (["--gone", "--stays"], ["component_flag/kube-apiserver/gone"]),
        (["--stays=--gone", "--unheard"], []),
    ],
)
def test_what_the_target_does_not_know_blocks(arguments: list[str], ids: list[str]) -> None:
    assert [finding.id for finding in blockers(started(*arguments))] == ids


def test_a_rollback_is_judged_by_the_older_release() -> None:
    assert [finding.id for finding in blockers(started("--feature-gates=New=true"), "1.37", "1.36")] == [
        "feature_gate/New"
    ]


def test_a_flag_counts_for_its_component() -> None:
    assert blockers(started("--gone=1", component="kube-controller-manager")) == []


@pytest.mark.parametrize(
    "extra",
    [
        "apiServer: {extraArgs: {feature-gates: Old=true}}",
        "apiServer: {extraArgs: [{name: feature-gates, value: Old=true}]}",
    ],
)
def test_kubeadm_would_write_it_into_the_new_manifests(extra: str) -> None:
    (finding,) = blockers(started("--feature-gates=Old=true", configured=extra))
    assert finding.what.startswith(
        "--feature-gates=Old=true is set (kube-apiserver on master-1, kube-apiserver in kubeadm-config)"
    )
    assert "extraArgs" in finding.remediation
    assert configured_in("apiServer: [") == configured_in("- a") == configured_in("") == []


def test_a_static_pod_shows_its_command_line() -> None:
    container = {"name": "kube-apiserver", "command": ["kube-apiserver", "--a=b"], "args": ["--c"]}
    pod: dict[str, Any] = {
        "metadata": {"name": "kube-apiserver-m1"},
        "spec": {"nodeName": "m1", "containers": [container]},
    }
    assert commands_of(pod) == [CommandLine("kube-apiserver", "m1", (("a", "b"), ("c", "true")))]
    assert commands_of({"spec": {"containers": [{"name": "etcd", "command": ["etcd", "--a"]}]}}) == []


def test_what_only_some_api_servers_show_says_nothing_about_the_others() -> None:
    """The pod of a master whose kubelet is down, or whose manifest has no label, isn't there."""
    path, shown = UpgradePath("1.36", "1.37"), started()  # two API servers
    assert evaluate_components(shown, path, DATA, 2).unknown == []
    (unknown,) = evaluate_components(shown, path, DATA, 3).unknown
    assert "show only those of 2 of 3 (master-1, master-2)" in unknown
    by_flagz = Started((parse_command("kube-apiserver", "master-1", []),), gates_only=True)
    assert any(
        "/flagz show only those of 1 of 3" in text for text in evaluate_components(by_flagz, path, DATA, 3).unknown
    )


def test_what_is_not_shown_is_unknown() -> None:
    nothing = evaluate_components(Started(), UpgradePath("1.36", "1.37"), DATA)
    assert nothing.found == [] and "neither pods" in nothing.unknown[0]
    by_flagz = Started((parse_command("kube-apiserver", "master-1", ["--feature-gates=Old=true"]),), gates_only=True)
    gates = evaluate_components(by_flagz, UpgradePath("1.36", "1.37"), DATA)
    assert len(gates.blockers) == 1 and "except for their feature gates" in gates.unknown[0]
    newer = evaluate_components(started("--feature-gates=Old=true"), UpgradePath("1.37", "1.38"), DATA)
    assert newer.found == [] and "the data cover 1.34 to 1.37" in newer.unknown[0]
    gates_known = evaluate_components(started("--feature-gates=New=true", "--gone"), UpgradePath("1.35", "1.34"), DATA)
    assert [finding.id for finding in gates_known.blockers] == ["feature_gate/New"]
    assert "accepts the flags of kube-apiserver, except for feature gates" in gates_known.unknown[0]


METRICS = """# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.32",resource="flowschemas",subresource="",version="v1beta3"} 1
apiserver_requested_deprecated_apis{group="",removed_release="",resource="componentstatuses",subresource="",version="v1"} 1
apiserver_requested_deprecated_apis{group="x",removed_release="1.40",resource="ys",subresource="status",version="v1"} 1
"""


def test_apis_that_the_target_does_not_serve_are_concerns() -> None:
    found = requested_in(METRICS)
    assert DeprecatedApi("x", "v1", "ys/status", "1.40") in found and len(found) == 3
    used = {api: ["master-1"] for api in found}
    assert evaluate_deprecated(used, UpgradePath("1.30", "1.31")) == []
    (finding,) = evaluate_deprecated(used, UpgradePath("1.31", "1.32"))
    assert (finding.id, finding.blocks) == ("deprecated_api/flowschemas.flowcontrol.apiserver.k8s.io", False)
    assert "v1beta3" in finding.what


@pytest.mark.parametrize(
    ("flags", "servers", "target", "concern"),
    [
        ([], 2, "1.37", True),
        (["--peer-ca-file=/ca.crt"], 2, "1.37", False),
        (["--peer-ca-file="], 2, "1.37", True),
        ([], 1, "1.37", False),
        ([], 2, "1.36", False),
    ],
)
def test_masters_that_can_not_ask_their_peers_are_a_concern(
    flags: list[str], servers: int, target: str, concern: bool
) -> None:
    with_peers = parse_command("kube-apiserver", "master-2", ["--peer-ca-file=/ca.crt"])
    manager = parse_command("kube-controller-manager", "master-1", [])
    given = Started((parse_command("kube-apiserver", "master-1", flags), with_peers, manager))
    found = evaluate_peers(given, UpgradePath("1.36", target), servers)
    assert [(finding.id, finding.blocks) for finding in found] == ([("peer_proxy/kube-apiserver", False)] * concern)
    assert not concern or "(master-1)" in found[0].what
