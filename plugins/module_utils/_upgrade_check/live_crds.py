# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CRDs in the cluster, and the API server's response to new ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import printable, redact
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.dropped import find_dropped
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    MERGE_PATCH,
    METADATA,
    ApiServer,
    forbidden_sentence,
    status_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    CRDS_PATH,
    crd_path,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import dry_run, pages_by
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import crds, services
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import Definition
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import (
    Finding,
    Findings,
    listed,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.lists import Lists
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.observed import ObservedCluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.rewrites import NO_DRY_RUN
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import split_group_version

_PAGE = 50
_TIMEOUT = 60.0
# The answers with which an API server refuses the CRD itself; others say nothing about it.
_VERDICTS = (400, 422)
_STORED = "status.storedVersions"


async def check_crds(cluster: ObservedCluster, lists: Lists) -> Findings:
    """Checks every CRD in the cluster, and compares the new ones with them."""
    found = Findings()
    live = {crd.name: crd for crd in await _live_crds(cluster.server)}
    found.to_trim = [crd.name for crd in live.values() if not crd.terminating and set(crd.stored) > {crd.storage}]
    new = {crd.name: crd for crd in cluster.new_crds}
    for crd in new.values():
        await _check_new(cluster, crd, live.get(crd.name), lists, found)
    for crd in live.values():
        found.take(crds.evaluate_live(crd, cluster.held(crd.name), to_be_applied=crd.name in new))
        _check_managers(lists, crd, new.get(crd.name), found)
    await _look_for_lost_fields(
        cluster, [*((crd, False) for crd in live.values()), *((crd, True) for crd in new.values())], found
    )
    return found


async def _check_new(
    cluster: ObservedCluster, new: Definition, live: Definition | None, lists: Lists, found: Findings
) -> None:
    broken = crds.evaluate_new(new, live, cluster.held(new.name))
    found.take(broken)
    if live is not None:
        dropped = _managed_at(lists, new)
        found.take(
            [
                crds.evaluate_managers(
                    new.name,
                    {version: number for version, number in dropped.items() if version in live.versions},
                    live.storage,
                    new=True,
                    webhook=live.conversion is not None,
                ),
                crds.evaluate_conversion(new, live),
            ]
        )
    verdict = None if new.old_api else await _verdict(cluster, new, live, found)
    if verdict is not None and _STORED in verdict and broken:
        verdict = None  # which the finding about these versions says better
    found.take([crds.evaluate_refusals(new, crds.why_refused(new, live), verdict)])
    if new.converts:
        await _check_conversion(cluster.server, new, found)


def _check_managers(lists: Lists, crd: Definition, new: Definition | None, found: Findings) -> None:
    """Field managers of versions that the CRD lacks, and of those that a later CRD may lack."""
    webhook = crd.conversion is not None
    lost = _managed_at(lists, crd)
    older = {
        version: number
        for version, number in _managed(lists, crd).items()
        # What a CRD to be applied drops is a finding of its own.
        if crds.is_older(version, crd.storage) and version in crd.versions and (new is None or version in new.versions)
    }
    found.take(
        [
            crds.evaluate_managers(crd.name, lost, crd.storage, new=False, webhook=webhook),
            crds.evaluate_older_managers(crd.name, older, crd.storage, webhook=webhook),
        ]
    )


def check_built_in_managers(cluster: ObservedCluster, lists: Lists, found: Findings) -> None:
    """Field managers of versions that API servers drop once they don't know them."""
    path, releases = cluster.path, cluster.releases
    for name, managed in sorted(lists.managed.items()):
        kind = cluster.served[name].kind
        lost: dict[str, dict[str, int]] = {}
        for version, number in managed.items():
            if releases.is_built_in(split_group_version(version)[0], kind):
                release = releases.first_that_cannot(version, kind, path.current, path.target)
                if release is not None:
                    lost.setdefault(release, {})[version] = number
        found.take(crds.evaluate_built_in_managers(name, versions, release) for release, versions in lost.items())


def _managed(lists: Lists, crd: Definition) -> dict[str, int]:
    """Objects with field managers at each version of the CRD's group."""
    split = {split_group_version(version): number for version, number in lists.managed.get(crd.name, {}).items()}
    return {version: number for (group, version), number in split.items() if group == crd.group}


def _managed_at(lists: Lists, crd: Definition) -> dict[str, int]:
    """The same at versions that the CRD lacks."""
    return {version: number for version, number in _managed(lists, crd).items() if version not in crd.versions}


async def _live_crds(server: ApiServer) -> list[Definition]:
    async def ask(path: str) -> Response:
        return await server.request("GET", path, timeout=_TIMEOUT)

    found: dict[str, Definition] = {}
    async for page in pages_by(ask, CRDS_PATH, url=server.url, limit=_PAGE):
        found.update({crd.name: crd for crd in map(crds.definition_of, page.items)})
    return list(found.values())


async def _verdict(cluster: ObservedCluster, new: Definition, live: Definition | None, found: Findings) -> str | None:
    """The API server's objection to a new CRD in a dry run; None if it accepts it, or if that is unknown."""
    if live is None:
        method, path, body, content_type = "POST", CRDS_PATH, dict(new.document), "application/json"
        body.pop("status", None)
    else:
        method, path, content_type = "PATCH", crd_path(new.name), MERGE_PATCH
        body = {"spec": replacing(live.document["spec"], new.document["spec"])}
    body = json.loads(json.dumps(body, default=str))  # YAML may contain dates
    try:
        answer = await cluster.server.request(
            method, dry_run(path), accept=METADATA, content_type=content_type, body=body, timeout=_TIMEOUT
        )
    except UnreachableError as error:
        found.unknown.append(f"Whether the API server accepts the new CRD {new.name}: {error.message}")
        return None
    if answer.status < 300:
        return None
    _reason, message, _details = status_of(answer)
    said = printable(message) if cluster.show_messages else redact(message)
    if NO_DRY_RUN.fullmatch(message):
        found.unknown.append(
            f"Whether the API server accepts the new CRD {new.name}, as a webhook does not support dry runs."
        )
        return None
    if answer.status in _VERDICTS or (answer.status == 403 and not forbidden_sentence(message)):
        return f"{said.rstrip('.') or 'no reason given'} ({answer.status})"
    why = (
        "the permission for a dry run of it is missing"
        if answer.status == 403
        else f"it answers a dry run of it with {answer.status}"
    )
    found.unknown.append(f"Whether the API server accepts the new CRD {new.name}, as {why}.")
    return None


def replacing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch that turns one mapping into the other."""
    patch: dict[str, Any] = dict.fromkeys(set(before) - set(after))
    for key, value in after.items():
        old = before.get(key)
        patch[key] = replacing(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return patch


async def _check_conversion(server: ApiServer, crd: Definition, found: Findings) -> None:
    state = await services.state_of_conversion(server, crd.conversion or {})
    if state.unknown is not None:
        found.unknown.append(f"The conversion webhook of {crd.name}: {state.unknown}.")
    if state.problem is not None:
        found.found.append(
            Finding(
                "crd_conversion",
                crd.name,
                f"The new CRD has a conversion webhook, and {state.problem}.",
                "Objects stored in another version than the one asked for can't be read without it: LIST fails.",
                "Bring the webhook up before the CRD is applied.",
            )
        )


async def _look_for_lost_fields(
    cluster: ObservedCluster, definitions: list[tuple[Definition, bool]], found: Findings
) -> None:
    """Compares the fields of stored custom resources with the schemas of their CRDs, current and new."""
    if cluster.etcd is None or cluster.scanned is None:
        return
    unknown: list[str] = []
    for crd, is_new in definitions:
        if crd.schemas is None or not cluster.scanned.resources.get(crd.name):
            continue
        dropped = await find_dropped(cluster.etcd.of(crd.name), crd.name, crd.schemas)
        found.take([crds.evaluate_fields(crd.name, dropped, new=is_new)])
        if dropped.unknown and crd.name not in unknown:
            unknown.append(crd.name)
    if unknown:
        found.unknown.append(
            f"Whether a rewrite drops fields of {listed(unknown)}: objects are encrypted, not stored as JSON, or "
            "converted by a webhook."
        )
