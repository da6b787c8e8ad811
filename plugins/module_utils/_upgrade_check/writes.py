# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Obstacles to a migration's writes: webhooks, policies, and namespaces that are gone."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import ApiError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import (
    namespaces,
    rewrites,
    services,
    webhooks,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Findings, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.lists import Lists
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster

_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/"
_KINDS = {
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
}


async def check_writes(cluster: ObservedCluster, lists: Lists) -> Findings:
    """Rehearses a write of each resource, and of each namespace that is gone."""
    found = Findings()
    hooks = await _webhooks(cluster.server, found)
    orphans, unknown = await namespaces.find(cluster.server, cluster.served, lists, cluster.scanned)
    samples = [(orphan.resource, orphan.sample) for orphan in orphans]
    done = await rewrites.rehearse(cluster.server, cluster.served, lists.samples, hooks, samples)
    found.take(namespaces.evaluate_namespaces(orphans, done.orphaned), unknown)
    down = await _check_webhooks(cluster, lists, hooks, frozenset(done.passed), found)
    found.take(rewrites.evaluate_rewrites(done, down, show_messages=cluster.show_messages))
    for names, why in (
        (done.unclear, "the answer was 404 and did not name the object"),
        (done.forbidden, "the permission to patch is missing"),
        (done.unrehearsed, "a webhook that would be called does not support dry runs"),
    ):
        if names:
            found.unknown.append(f"Whether objects of {listed(sorted(names), 10)} can be written, as {why}.")
    return found


async def _webhooks(server: ApiServer, found: Findings) -> list[webhooks.Webhook]:
    hooks: list[webhooks.Webhook] = []
    for plural, kind in _KINDS.items():
        try:
            document = await server.get(_CONFIGURATIONS + plural)
        except ApiError as error:
            if error.status != 403:
                raise
            found.unknown.append(
                f"Whether webhooks would refuse the migration, as the permission to list {plural} is missing."
            )
            continue
        hooks += webhooks.webhooks_of(document.get("items") or (), kind)
    return hooks


async def _check_webhooks(
    cluster: ObservedCluster, lists: Lists, hooks: Iterable[webhooks.Webhook], passed: frozenset[str], found: Findings
) -> frozenset[str]:
    """Names of the webhooks that don't answer. ``passed``: resources with an object that could be written."""
    down = set()
    for hook in hooks:
        matched = [
            name
            for name, resource in cluster.served.items()
            if hook.matches(resource) and lists.counts.get(name) != 0 and "patch" in resource.verbs
        ]
        state = await services.state_of_service(cluster.server, hook.client) if matched else services.ServiceState()
        if state.unknown is not None:
            found.unknown.append(f"The webhook {hook.name}: {state.unknown}.")
        finding = webhooks.evaluate_webhooks(hook, matched, state.problem, passed)
        if finding is not None:
            down.add(hook.name)
            found.found.append(finding)
    return frozenset(down)
