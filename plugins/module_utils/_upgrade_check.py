# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What module upgrade_check does: look at the cluster, etcd and the record, and say what speaks against an upgrade."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks import (
    crds,
    lists,
    plan,
    record,
    rewrites,
    services,
    stored,
    webhooks,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks.finding import Finding, Findings, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError, NotConvergedError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import require_release
from ansible_collections.kube_storage.upgrade.plugins.module_utils._releases import Releases, minor_of, number_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import open_store
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import (
    ServedResource,
    split_group_version,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._stored_versions import read_stored

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/"
_WEBHOOK_KINDS = {
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
}
# Of how many objects of each stored version to remember the names, to find the one that can't be read.
_KEPT = 2000


async def upgrade_check(params: Mapping[str, Any], check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors. Nothing is ever written."""
    require_release(params, "target_version")
    new_crds = crds.read_manifests(params.get("crd_manifests") or ())
    async with AsyncExitStack() as opened:
        cluster = await opened.enter_async_context(open_cluster(params))
        etcd = await opened.enter_async_context(open_etcd(params["etcd"])) if params.get("etcd") else None
        store = open_store(params.get("state_store"), cluster.entry)
        state, seen = await asyncio.gather(store.load(), cluster.observe())
        served = dict(seen.resources)
        way = _way(seen, params["target_version"])
        check = _Check(cluster, seen, way, served)
        if etcd is not None:
            report(Event("notice", "Reading what etcd holds.", {}))
        scanned = (await read_stored(etcd, seen, keep=_KEPT, report=report)).stored if etcd is not None else None
        report(Event("notice", f"Listing {len(served)} resources.", {}))
        await check.list_everything(scanned)
        check.hold_against_target(scanned, state)
        await check.compare_crds(new_crds, scanned)
        report(Event("notice", "Rehearsing one write of each resource.", {}))
        await check.rehearse_writes()
        found = check.findings
        told = {one.id for one in found.found}
        found.found += [
            one
            for one in record.judge(served, state, way, etcd_read=scanned is not None)
            if one.id not in told or one.blocks
        ]
        found.found += stored.judge_rollback(way)
        steps, unknown = stored.judge_steps(way, check.releases)
        found.found += steps
        found.unknown += unknown
        if seen.evidence is not None:
            found.unknown += [*seen.problems, *seen.reservations]
        rate = (state.last_run or {}).get("rate")
        return check.result(new_crds, scanned, rate if isinstance(rate, (int, float)) else None)


class _Check:
    """The checks one after the other, each adding to the findings."""

    def __init__(
        self, cluster: Cluster, seen: Observation, way: stored.Way, served: Mapping[str, ServedResource]
    ) -> None:
        self.findings = Findings()
        self.releases = Releases()
        self._server: ApiServer = cluster.entry
        self._seen = seen
        self._way = way
        self._served = served
        self._lists = lists.Lists()
        self._held: list[stored.Held] = []

    async def list_everything(self, scanned: Stored | None) -> None:
        found = self._lists = await lists.list_all(self._server, self._served)
        keys: dict[str, tuple[str, ...]] = {}
        if scanned is not None:
            for failure in found.failures:
                keys[failure.resource.name] = await lists.find_keys(self._server, failure, scanned)
        self.findings.found += lists.judge(found.failures, keys, etcd_read=scanned is not None)
        if found.forbidden:
            self.findings.unknown.append(
                f"Whether {listed(found.forbidden, 10)} can be listed, as the permission to list is missing."
            )

    def hold_against_target(self, scanned: Stored | None, state: State) -> None:
        counts = self._lists.counts
        if scanned is not None:
            held, unknown = stored.held_in_etcd(scanned, self._served, self.releases, self._way)
            counts = {}
            if not scanned.consistent:
                unknown.append("What etcd held at one moment, as it was compacted while it was read; check again.")
        else:
            held, unknown = stored.held_on_record(
                self._served, state, self.releases, self._way, self._seen.other_groups, counts
            )
        self._held = held
        self.findings.found += stored.judge(held, self._way, counts)
        self.findings.unknown += unknown

    async def compare_crds(self, new: Sequence[crds.Definition], scanned: Stored | None) -> None:
        live = {one.name: one for one in await self._live_crds()}
        for definition in new:
            held = None if scanned is None else _custom_versions(scanned, definition.name)
            self.findings.found += crds.compare(definition, live.get(definition.name), held)
            if definition.converts:
                await self._conversion(definition)
        for definition in live.values():
            self.findings.found += _judge_live(definition, scanned)

    async def rehearse_writes(self) -> None:
        hooks = await self._webhook_configurations()
        done = await rewrites.rehearse(self._server, self._served, self._lists.samples, hooks)
        down = set()
        for hook in hooks:
            matched = [
                name
                for name, resource in self._served.items()
                if hook.matches(resource) and self._lists.counts.get(name) != 0 and "patch" in resource.verbs
            ]
            state = await services.state_of_service(self._server, hook.client) if matched else services.State()
            if state.unknown is not None:
                self.findings.unknown.append(f"The webhook {hook.name}: {state.unknown}.")
            finding = webhooks.judge(hook, matched, state.problem, frozenset(done.passed))
            if finding is not None:
                down.add(hook.name)
                self.findings.found.append(finding)
        self.findings.found += rewrites.judge(done, frozenset(down))
        if done.forbidden:
            self.findings.unknown.append(
                f"Whether objects of {listed(sorted(done.forbidden), 10)} can be written, as the permission to patch is missing."
            )

    def result(self, new_crds: Iterable[crds.Definition], scanned: Stored | None, rate: float | None) -> dict[str, Any]:
        counts: dict[str, int | None] = dict(self._lists.counts)
        sizes = None
        if scanned is not None:
            totals = {name: list(found.values()) for name, found in scanned.resources.items()}
            sizes = {name: sum(tally.bytes for tally in tallies) for name, tallies in totals.items()}
            counts = {name: sum(tally.objects for tally in totals.get(name, ())) for name in self._served}
        safe, limited_by = stored.safe_up_to(self._held, self.releases)
        blockers = [one.as_dict() for one in self.findings.blockers]
        return {
            "changed": False,
            "msg": self._sentence(len(blockers), from_etcd=scanned is not None),
            "safe": not blockers,
            "blockers": blockers,
            # Ansible gives a meaning of its own to "warnings": sentences, which it also prints.
            "warnings": [f"{one.resource}: {one.what} {one.why} {one.mend}" for one in self.findings.warnings],
            "concerns": [one.as_dict() for one in self.findings.warnings],
            "unknown": self.findings.unknown,
            "proven_from_etcd": scanned is not None,
            "current_version": self._way.current,
            "target_version": self._way.target,
            "upgrade_pending": self._way.pending,
            "safe_up_to": safe,
            "safe_up_to_limited_by": limited_by,
            "stored": [one.as_dict() for one in self._held],
            "objects": counts,
            "plan": plan.make_plan(
                self._served,
                self._seen.other_groups,
                self._way,
                self.releases,
                new_crds,
                counts,
                sizes,
                rate,
                emulated=any(one.emulated_version for one in self._seen.reports),
            ),
            "data": {
                "releases": list(self.releases.releases),
                "target": self.releases.nearest(self._way.target),
            },
        }

    def _sentence(self, blockers: int, *, from_etcd: bool) -> str:
        verdict = (
            "Nothing blocks" if not blockers else "1 thing blocks" if blockers == 1 else f"{blockers} things block"
        )
        return (
            f"{verdict} the upgrade from {self._way.current} to {self._way.target} (concerns: {len(self.findings.warnings)}, "
            f"not known: {len(self.findings.unknown)}); what is stored was {'' if from_etcd else 'not '}read from etcd."
        )

    async def _live_crds(self) -> list[crds.Definition]:
        found = []
        token = ""
        while True:
            page = await self._server.get(
                f"{_CRDS}?limit=50" + (f"&continue={quote(token)}" if token else ""), timeout=60
            )
            found += [crds.definition_of(item) for item in page.get("items") or ()]
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return found

    async def _conversion(self, definition: crds.Definition) -> None:
        state = await services.state_of_conversion(self._server, definition.conversion or {})
        if state.unknown is not None:
            self.findings.unknown.append(f"The conversion webhook of {definition.name}: {state.unknown}.")
        if state.problem is not None:
            self.findings.found.append(
                Finding(
                    "crd_conversion",
                    definition.name,
                    f"The new CRD has a conversion webhook, and {state.problem}.",
                    "Objects stored in another version than the one asked for can't be read without it: LIST fails.",
                    "Bring the webhook up before the CRD is applied.",
                )
            )

    async def _webhook_configurations(self) -> list[webhooks.Webhook]:
        found: list[webhooks.Webhook] = []
        for plural, kind in _WEBHOOK_KINDS.items():
            try:
                document = await self._server.get(_CONFIGURATIONS + plural)
            except ApiError as error:
                if error.status != 403:
                    raise
                self.findings.unknown.append(
                    f"Whether webhooks would refuse the migration, as the permission to list {plural} is missing."
                )
                continue
            found += webhooks.webhooks_of(document.get("items") or (), kind)
        return found


def _way(seen: Observation, target: str) -> stored.Way:
    """From the oldest release that an API server runs as."""
    usable = [one for one in seen.reports if one.usable and one.effective_version]
    if not usable:
        why = " ".join(str(one.error) for one in seen.reports if one.error) or "none was found."
        raise NotConvergedError(f"No API server can be asked: {why}")
    minors = sorted({minor_of(str(one.effective_version)) for one in usable}, key=number_of)
    goal = minor_of(target)
    # In a half-upgraded cluster the way still begins at the old release; for a rollback at the newest.
    current = minors[-1] if number_of(goal) < number_of(minors[0]) else minors[0]
    return stored.Way(current, goal, pending=minors != [goal] or len(usable) < len(seen.reports))


def _custom_versions(scanned: Stored, name: str) -> dict[str | None, int]:
    """Objects of a custom resource by version without its group."""
    found: dict[str | None, int] = {}
    for version, number in scanned.versions(name).items():
        short = None if version is None else split_group_version(version)[1]
        found[short] = found.get(short, 0) + number
    return found


def _judge_live(definition: crds.Definition, scanned: Stored | None) -> list[Finding]:
    """A CRD as it is now: versions that are gone, and storedVersions that were never trimmed."""
    if scanned is not None:
        held = _custom_versions(scanned, definition.name)
        gone = sorted(version for version in held if version is not None and version not in definition.versions)
        if gone:
            return [
                Finding(
                    "undecodable",
                    definition.name,
                    f"Objects are stored as {listed(gone)}, which the CRD does not have any more.",
                    "The API server can't read them.",
                    "Add the version to the CRD again (it need not be served) and run storage_migrate.",
                )
            ]
    old = [version for version in definition.stored if version != definition.storage]
    if not old:
        return []
    number = None if scanned is None else sum(_custom_versions(scanned, definition.name).get(one, 0) for one in old)
    return [
        Finding(
            "outstanding_migration",
            definition.name,
            f"status.storedVersions still has {listed(old)} beside {definition.storage}"
            + ("." if number is None else f"; {number} objects in etcd are stored so."),
            "A later CRD without that version is refused.",
            f"Run storage_migrate with resources: [{definition.name}]; it rewrites what is left and trims storedVersions.",
            blocks=False,
        )
    ]
