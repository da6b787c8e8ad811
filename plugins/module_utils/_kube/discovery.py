# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one API server serves and stores, from raw GETs of legacy discovery (the only form with hashes)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    StorageUpgradeError,
    UnreachableError,
    UnreachableKind,
    is_forbidden,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    crd_storage_version,
    require_crd,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    ServerReport,
    group_version,
    resource_name,
    split_group_version,
    storage_version_hash,
)

_PARALLEL = 8
# A few kilobytes, whereas /metrics has a few megabytes (k8s.io/component-base, metrics/prometheus/slis).
_SLIS = "/metrics/slis"
_STARTED = re.compile(rb"^process_start_time_seconds (\S+)", re.MULTILINE)
_DOWN = (UnreachableKind.REFUSED, UnreachableKind.RESET, UnreachableKind.TIMEOUT)
_HIDDEN = ""
_APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


async def report_of(server: ApiServer, *, groups: Iterable[str] | None = None) -> ServerReport:
    """Asks one server for its version, readiness and every stored resource; reports its faults instead of raising.

    ``groups`` limits the resources to those API groups. Aggregated API groups belong to their
    extension servers and are left out. A group version listed but answered with 404 is not served
    here (a mixed cluster lists those of other masters).
    """
    try:
        told = await version_of(server)
    except StorageUpgradeError as error:
        return ServerReport(
            url=server.url, name=server.name, error=error.message, forbidden=is_forbidden(error), down=is_down(error)
        )
    try:
        ready = await is_ready(server)
        resources, hidden = await _stored_resources(server, None if groups is None else set(groups))
    except StorageUpgradeError as error:
        return ServerReport(
            url=server.url,
            name=server.name,
            version=told.version,
            emulated_version=told.emulated,
            min_compatibility_version=told.min_compatibility,
            error=error.message,
            forbidden=is_forbidden(error),
            down=is_down(error),
        )
    return ServerReport(
        url=server.url,
        name=server.name,
        version=told.version,
        emulated_version=told.emulated,
        min_compatibility_version=told.min_compatibility,
        ready=ready,
        resources=resources,
        hidden=hidden,
    )


def is_down(error: StorageUpgradeError) -> bool:
    """Whether nothing answers there, which is temporary if a server is just starting."""
    return isinstance(error, UnreachableError) and error.kind in _DOWN


class ToldVersion(NamedTuple):
    """What /version says: gitVersion, and minors such as ``1.36``.

    ``emulated``: None if it is the binary's own. ``min_compatibility``: the oldest release that can read all that the server writes, by
    its ``--min-compatibility-version``; by default it is the one before the emulated one. None before 1.33, which doesn't report it.
    """

    version: str
    emulated: str | None
    min_compatibility: str | None = None


async def version_of(server: ApiServer) -> ToldVersion:
    """Asks one server. Raises the errors of a request."""
    return told_version(await server.get("/version", timeout=10))


def told_version(answer: Mapping[str, Any]) -> ToldVersion:
    """From the answer of /version. Pure."""
    version = str(answer.get("gitVersion") or "")
    emulated = _minor(answer, "emulation")
    if emulated and version.lstrip("v").split(".")[:2] == emulated.split("."):
        emulated = None
    return ToldVersion(version, emulated, _minor(answer, "minCompatibility"))


def _minor(answer: Mapping[str, Any], which: str) -> str | None:
    major, minor = (str(answer.get(f"{which}{part}") or "").rstrip("+") for part in ("Major", "Minor"))
    return f"{major}.{minor}" if major and minor else None


async def is_ready(server: ApiServer) -> bool:
    """Whether /readyz says ok; a server that refuses the question is judged by the discovery that follows."""
    answer = await server.request("GET", "/readyz", accept="*/*", timeout=10)
    return answer.status in (200, 401, 403)


async def started_of(server: ApiServer) -> str | None:
    """When the server's process started, by its own account; None if it doesn't say, or the user may not ask."""
    try:
        answer = await server.request("GET", _SLIS, accept="text/plain", timeout=10)
    except UnreachableError:
        return None
    found = _STARTED.search(answer.body) if answer.status == 200 else None
    return found[1].decode() if found else None


async def _stored_resources(
    server: ApiServer, groups: set[str] | None
) -> tuple[dict[str, ServedResource], tuple[str, ...]]:
    """(what is stored, the names of custom resources whose storage version only their CRDs have, which the user may not get)."""
    group_list, aggregated = await asyncio.gather(_of_kind(server, "/apis", "APIGroupList"), _aggregated(server))
    wanted = ["v1"] if groups is None or "" in groups else []
    for group in group_list.get("groups") or []:
        if groups is not None and group.get("name") not in groups:
            continue
        wanted.extend(
            version["groupVersion"] for version in _preferred_first(group) if version["groupVersion"] not in aggregated
        )
    lists = await gather_limited(_PARALLEL, lambda name: _resource_list(server, name), wanted)
    answers = list(zip(wanted, lists))
    unnamed = without_hash(answers)
    found = dict(zip(unnamed, await gather_limited(_PARALLEL, lambda name: _hash_from_crd(server, name), unnamed)))
    hashes = {name: hashed for name, hashed in found.items() if hashed}
    return merge_resource_lists(answers, hashes), tuple(name for name, hashed in found.items() if hashed == _HIDDEN)


def _preferred_first(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The versions of a group with the server's preferred one in front; requests will use that one."""
    preferred = (group.get("preferredVersion") or {}).get("groupVersion")
    return sorted(group.get("versions") or [], key=lambda version: version.get("groupVersion") != preferred)


async def _resource_list(server: ApiServer, name: str) -> dict[str, Any] | None:
    path = f"/apis/{name}" if "/" in name else f"/api/{name}"
    try:
        return await _of_kind(server, path, "APIResourceList")
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _of_kind(server: ApiServer, path: str, kind: str) -> dict[str, Any]:
    """A discovery document. Raises ApiError for anything else, which must not pass for one that lists nothing."""
    answer = await server.get(path)
    if answer.get("kind") != kind:
        raise ApiError(
            f"{server.url} answered {path} with something that is not a document of kind {kind} (is it an API server?)",
            status=200,
            reason="UnexpectedAnswer",
        )
    return answer


async def _hash_from_crd(server: ApiServer, name: str) -> str | None:
    """The hash that discovery leaves out if a CRD's storage version is not served; None if there is no such CRD.

    Empty (_HIDDEN) if the user may not get it. See k8s.io/apiextensions-apiserver,
    pkg/apiserver/customresource_discovery_controller.go.
    """
    try:
        crd = await require_crd(server, name)
    except ApiError as error:
        if error.status == 403:
            return _HIDDEN
        raise
    if crd is None:
        return None
    spec, stored = crd["spec"], crd_storage_version(crd)
    return None if stored is None else storage_version_hash(spec["group"], stored, spec["names"]["kind"])


async def _aggregated(server: ApiServer) -> set[str]:
    """Group versions that an extension server answers for."""
    answer = await _of_kind(server, _APISERVICES, "APIServiceList")
    return aggregated_group_versions(answer)


def aggregated_group_versions(api_services: dict[str, Any]) -> set[str]:
    """The group versions of an APIServiceList whose spec names a service."""
    found = set()
    for item in api_services.get("items") or []:
        spec = item.get("spec") or {}
        if spec.get("service"):
            found.add(group_version(spec.get("group") or "", spec.get("version") or ""))
    return found


def without_hash(answers: Iterable[tuple[str, dict[str, Any] | None]]) -> list[str]:
    """Names of resources that look stored although discovery has no hash for them."""
    found = set()
    for name, answer in answers:
        group, _version = split_group_version(name)
        for item in (answer or {}).get("resources") or []:
            plural, verbs = str(item.get("name") or ""), item.get("verbs") or ()
            if group and "/" not in plural and not item.get("storageVersionHash") and {"list", "patch"} <= set(verbs):
                found.add(resource_name(plural, group))
    return sorted(found)


def merge_resource_lists(
    answers: Iterable[tuple[str, dict[str, Any] | None]], other_hashes: Mapping[str, str] | None = None
) -> dict[str, ServedResource]:
    """Stored resources by name out of (group version, APIResourceList or None for 404) in order of preference.

    Names with a slash are subresources; those without a hash are not stored (reviews, bindings), unless
    ``other_hashes`` has one for them by name.
    """
    found: dict[str, ServedResource] = {}
    for name, answer in answers:
        if answer is None:
            continue
        group, version = split_group_version(name)
        for item in answer.get("resources") or []:
            plural = str(item.get("name") or "")
            key = resource_name(plural, group)
            hashed = item.get("storageVersionHash") or (other_hashes or {}).get(key)
            if "/" in plural or not hashed:
                continue
            known = found.get(key)
            found[key] = ServedResource(
                name=key,
                group=group,
                plural=plural,
                kind=known.kind if known else str(item.get("kind") or ""),
                namespaced=known.namespaced if known else bool(item.get("namespaced")),
                verbs=known.verbs if known else frozenset(item.get("verbs") or ()),
                versions=(*(known.versions if known else ()), version),
                hashes=tuple(sorted({*(known.hashes if known else ()), str(hashed)})),
            )
    return found
