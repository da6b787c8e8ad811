# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the components of the control plane are started, as far as the cluster shows it, and which deprecated APIs clients use."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError, UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import path_of, with_query
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.command_line import (
    CommandLine,
    extra_arguments,
    parse_command,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.components import (
    COMPONENTS,
    PEER_CA,
)

_NAMESPACE = "kube-system"
# kubeadm's label of static pods, which others follow (kubernetes/kubernetes, cmd/kubeadm/app/constants: ControlPlaneTier).
_SELECTOR = "tier=control-plane"
# kubeadm's names of what it configures.
_SECTIONS = {"apiServer": COMPONENTS[0], "controllerManager": COMPONENTS[1], "scheduler": COMPONENTS[2]}
# /flagz for programs (k8s.io/apiserver, pkg/server/flagz); on by default since 1.36.
_FLAGZ = ",".join(f"application/json;v={version};g=config.k8s.io;as=Flagz" for version in ("v1beta1", "v1alpha1"))
_METRIC = "apiserver_requested_deprecated_apis"
_SAMPLE = re.compile(rf"^{_METRIC}\{{([^}}]*)\}} 1\b", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Started:
    """``commands`` of all components that show themselves. ``gates_only``: those of API servers have only what /flagz tells.

    ``configured``: what kubeadm will start them with after an upgrade.
    """

    commands: tuple[CommandLine, ...] = ()
    configured: tuple[CommandLine, ...] = ()
    gates_only: bool = False

    @property
    def all(self) -> tuple[CommandLine, ...]:
        return (*self.commands, *self.configured)


async def started_with(server: ApiServer, servers: Sequence[ApiServer]) -> Started:
    """From the pods of the control plane, else from each API server's /flagz; and kubeadm's configuration.

    What can't be read is left out, so nothing follows from an empty result.
    """
    pods, config, flags = await asyncio.gather(
        _items(server, with_query(path_of("/api/v1", "pods", namespace=_NAMESPACE), labelSelector=_SELECTOR)),
        _document(server, path_of("/api/v1", "configmaps", namespace=_NAMESPACE, name="kubeadm-config")),
        asyncio.gather(*map(_flagz, servers)),
    )
    commands = [command for pod in pods for command in commands_of(pod)]
    gates_only = not any(command.component == COMPONENTS[0] for command in commands)
    if gates_only:
        commands += [found for found in flags if found is not None]
    text = ((config or {}).get("data") or {}).get("ClusterConfiguration")
    return Started(tuple(commands), tuple(configured_in(str(text))) if text else (), gates_only)


def commands_of(pod: Mapping[str, Any]) -> list[CommandLine]:
    """The command lines in a static pod's mirror."""
    found = []
    spec = pod.get("spec") or {}
    where = str(spec.get("nodeName") or (pod.get("metadata") or {}).get("name") or "")
    for container in spec.get("containers") or ():
        words = [str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
        names = {word.rpartition("/")[2] for word in words} | {str(container.get("name") or "")}
        component = next((name for name in COMPONENTS if name in names), None)
        command = None if component is None else parse_command(component, where, words)
        # A shell hides the flags; no component of a real control plane has none.
        if command is not None and command.flags:
            found.append(command)
    return found


def configured_in(text: str) -> list[CommandLine]:
    """From kubeadm's ClusterConfiguration; components without extraArgs are left out."""
    try:
        import yaml

        document = yaml.safe_load(text)
    except (ImportError, ValueError):
        return []
    except yaml.YAMLError:
        return []
    sections = document if isinstance(document, Mapping) else {}
    found = ((component, extra_arguments(sections.get(section))) for section, component in _SECTIONS.items())
    return [CommandLine(component, "kubeadm-config", tuple(flags)) for component, flags in found if flags is not None]


class DeprecatedApi(NamedTuple):
    """An API that a client has used since the API server started; ``removed``: the release that no longer serves it."""

    group: str
    version: str
    resource: str
    removed: str


async def deprecated_apis(servers: Sequence[ApiServer]) -> tuple[dict[DeprecatedApi, list[str]], list[str]]:
    """(the names of the API servers that were asked for each, the names of those that don't tell)."""
    answers = await asyncio.gather(*map(_requested, servers))
    found: dict[DeprecatedApi, list[str]] = {}
    for server, apis in zip(servers, answers):
        for api in apis or ():
            found.setdefault(api, []).append(server.name)
    return found, [server.name for server, apis in zip(servers, answers) if apis is None]


async def _requested(server: ApiServer) -> list[DeprecatedApi] | None:
    try:
        answer = await server.request("GET", f"/metrics?name[]={_METRIC}", accept="text/plain")
    except UnreachableError:
        return None
    return requested_in(answer.body.decode(errors="replace")) if answer.status == 200 else None


def requested_in(text: str) -> list[DeprecatedApi]:
    """From the text of an API server's metrics (k8s.io/apiserver, pkg/endpoints/metrics)."""
    found = []
    for sample in _SAMPLE.findall(text):
        labels = dict(_LABEL.findall(sample))
        resource = labels.get("resource", "") + (f"/{labels['subresource']}" if labels.get("subresource") else "")
        found.append(
            DeprecatedApi(
                labels.get("group", ""), labels.get("version", ""), resource, labels.get("removed_release", "")
            )
        )
    return sorted(set(found))


async def _flagz(server: ApiServer) -> CommandLine | None:
    """Only its feature gates and the CA of its peers: /flagz has all flags, and doesn't say which of them are set."""
    try:
        flags = (await server.get("/flagz", accept=_FLAGZ)).get("flags")
    except (ApiError, UnreachableError):
        return None
    if not isinstance(flags, Mapping) or PEER_CA not in flags:
        return None
    return CommandLine(
        COMPONENTS[0],
        server.name,
        tuple((name, str(flags[name])) for name in ("feature-gates", PEER_CA) if flags.get(name)),
    )


async def _document(server: ApiServer, path: str) -> dict[str, Any] | None:
    try:
        return await server.get(path)
    except (ApiError, UnreachableError):
        return None


async def _items(server: ApiServer, path: str) -> list[dict[str, Any]]:
    found = await _document(server, path)
    return list((found or {}).get("items") or ())
