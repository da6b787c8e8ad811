# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the new control plane starts with the feature gates and flags of today, and whether clients use APIs that it doesn't serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.control_plane import (
    DeprecatedApi,
    Started,
    deprecated_apis,
    started_with,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import (
    Finding,
    Findings,
    listed,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.upgrade_path import UpgradePath
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.command_line import CommandLine
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.components import (
    API_SERVER,
    PEER_CA,
    ComponentData,
    is_group,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import group_version
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import minor_of, number_of


async def check_components(cluster: ObservedCluster) -> Findings:
    """Reads how the control plane is started and what its API servers were asked for; nothing if the upgrade is done."""
    found = Findings()
    if not cluster.path.pending:
        return found
    started = await started_with(cluster.server, cluster.servers)
    known = cluster.seen.evidence.servers if cluster.seen.evidence is not None else None
    servers = max(len(cluster.seen.reports), known or 0)
    found.add(evaluate_components(started, cluster.path, ComponentData(), servers))
    found.take(evaluate_peers(started, cluster.path, servers))
    used, silent = await deprecated_apis(cluster.servers)
    found.take(evaluate_deprecated(used, cluster.path))
    if silent:
        found.unknown.append(
            f"Whether clients use APIs that {cluster.path.target} doesn't serve, as the metrics of {listed(silent)} could not be read."
        )
    return found


def evaluate_components(started: Started, path: UpgradePath, data: ComponentData, servers: int = 0) -> Findings:
    """What the target would refuse. ``servers``: how many API servers there are. Pure."""
    found = Findings()
    target = path.target
    if target not in data.releases:
        found.unknown.append(
            f"Whether {target} accepts the feature gates and flags of the control plane, as the data cover {data.releases[0]} to "
            f"{data.releases[-1]}."
        )
        return found
    found.take(_gates(started.all, target, data))
    found.take(_flags(started.all, target, data))
    shown = [command.where for command in started.commands if command.component == API_SERVER]
    if not shown:
        found.unknown.append(
            f"Whether {target} accepts the feature gates and flags of the API servers, as neither pods labeled tier=control-plane in "
            "kube-system nor /flagz shows them."
        )
    elif started.gates_only:
        found.unknown.append(
            f"Whether {target} accepts the flags of the API servers, except for their feature gates, as no pods labeled tier=control-plane in "
            "kube-system show them."
        )
    if 0 < len(shown) < servers:
        where = "/flagz" if started.gates_only else "pods labeled tier=control-plane in kube-system"
        found.unknown.append(
            f"Whether {target} accepts the feature gates and flags of every API server, as {where} show only those of {len(shown)} of {servers} "
            f"({listed(shown)})."
        )
    uncovered = {command.component for command in started.all if target not in data.flags_of.get(command.component, ())}
    if uncovered:
        found.unknown.append(
            f"Whether {target} accepts the flags of {listed(sorted(uncovered))}, except for feature gates, because there is no data on them."
        )
    return found


def _gates(commands: Iterable[CommandLine], target: str, data: ComponentData) -> list[Finding]:
    where: dict[tuple[str, bool], list[str]] = {}
    for command in commands:
        for gate, value in command.gates.items():
            if not is_group(gate):
                where.setdefault((gate, value), []).append(_place(command))
    found = []
    for (gate, value), places in sorted(where.items()):
        setting = f"--feature-gates={gate}={str(value).lower()}"
        last, only = data.lost_gate(gate, target), data.locked_to(gate, target)
        if last is not None:
            what = f"{setting} is set ({_listed(places)}), and {target} does not know {gate}; the last release that does is {last}."
        elif only is not None and only is not value:
            what = f"{setting} is set ({_listed(places)}), and in {target} {gate} is locked to {str(only).lower()}."
        else:
            continue
        found.append(
            Finding(
                "feature_gate",
                gate,
                what,
                f"A component of {target} would not start.",
                _remove(f"{gate} from --feature-gates", places),
            )
        )
    return found


def _flags(commands: Iterable[CommandLine], target: str, data: ComponentData) -> list[Finding]:
    where: dict[tuple[str, str], list[str]] = {}
    for command in commands:
        for name, _value in command.flags:
            where.setdefault((command.component, name), []).append(_place(command))
    return [
        Finding(
            "component_flag",
            f"{component}/{name}",
            f"{component} is started with --{name} ({_listed(places)}), and {target} does not know that flag; the last release that does is {last}.",
            f"{component} {target} would not start.",
            _remove(f"--{name}", places),
        )
        for (component, name), places in sorted(where.items())
        if (last := data.lost_flag(component, name, target)) is not None
    ]


def evaluate_peers(started: Started, path: UpgradePath, servers: int) -> list[Finding]:
    """API servers that can't pass on what only a peer of another release serves (KEP-4020). Pure."""
    alone = [
        command.where
        for command in started.commands
        if command.component == API_SERVER and not dict(command.flags).get(PEER_CA)
    ]
    if not alone or servers < 2 or number_of(path.current) == number_of(path.target):
        return []
    return [
        Finding(
            "peer_proxy",
            API_SERVER,
            f"API servers are started without --{PEER_CA} ({_listed(alone)}).",
            "While masters run two releases, these answer 404 for resources that only the others serve. Namespaces that are deleted meanwhile may hang in "
            "Terminating, or leave objects behind.",
            f"Delete no namespaces until all masters are upgraded, or give all API servers --{PEER_CA} first. Before 1.36 they also need the feature gate "
            "UnknownVersionInteroperabilityProxy.",
            blocks=False,
        )
    ]


def _place(command: CommandLine) -> str:
    return (
        f"{command.component} in {command.where}"
        if command.where == "kubeadm-config"
        else f"{command.component} on {command.where}"
    )


def _listed(places: Iterable[str]) -> str:
    return listed(list(dict.fromkeys(places)))


def _remove(what: str, places: Iterable[str]) -> str:
    if any(place.endswith("kubeadm-config") for place in places):
        return f"Remove {what}, also from extraArgs in the ConfigMap kube-system/kubeadm-config, from which kubeadm makes the new manifests."
    return f"Remove {what} before the upgrade, or have it removed with the upgrade."


def evaluate_deprecated(used: Mapping[DeprecatedApi, list[str]], path: UpgradePath) -> list[Finding]:
    """APIs in use that the target doesn't serve. Pure."""
    found = []
    for api, servers in sorted(used.items()):
        if not api.removed or number_of(minor_of(api.removed)) > number_of(path.target):
            continue
        name = f"{api.resource}.{api.group}" if api.group else api.resource
        found.append(
            Finding(
                "deprecated_api",
                name,
                f"Since {listed(servers)} started, a client has asked for {name} as {group_version(api.group, api.version)}, which "
                f"is not served from {api.removed} on.",
                f"After the upgrade to {path.target}, that client gets the answer 404.",
                "Find the client in the audit log (annotation k8s.io/deprecated) and update it. If nobody needs that client, ignore this.",
                blocks=False,
            )
        )
    return found
