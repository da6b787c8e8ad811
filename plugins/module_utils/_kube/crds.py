# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CustomResourceDefinitions: which exist, what they store, and how status.storedVersions is trimmed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    EtcdFullError,
    StorageUpgradeError,
    UnreachableError,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import parse_date
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    MERGE_PATCH,
    METADATA,
    ApiServer,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import pages, path_of, with_query
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import (
    CrdFacts,
    CrdIdentity,
    CrdLook,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import storage_version_hash

_PLURAL = "customresourcedefinitions"
_BASE = "/apis/apiextensions.k8s.io/v1"
CRDS_PATH = path_of(_BASE, _PLURAL)
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_TRIES = 4
_PARALLEL = 8


@dataclass(frozen=True)
class Trimmed:
    """A CRD whose status.storedVersions was trimmed; ``uid`` identifies it among those of that name."""

    crd: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    uid: str = ""


@dataclass(frozen=True)
class Untrimmed:
    """A CRD that could not be trimmed: it was edited or, if ``failed``, the server refused.

    ``unread``: it could not be read, so whether anything is to be trimmed is unknown.
    """

    crd: str
    reason: str
    status: int = 0
    status_reason: str = ""
    failed: bool = False
    unread: bool = False


async def read_crd(server: ApiServer, name: str) -> dict[str, Any] | None:
    """A CRD; None if it doesn't exist, or the user may not read it."""
    try:
        return await server.get(crd_path(name))
    except ApiError as error:
        if error.status in (403, 404):
            return None
        raise


async def require_crd(server: ApiServer, name: str) -> dict[str, Any] | None:
    """A CRD; None only if it doesn't exist. Raises ApiError if the user may not read it."""
    try:
        return await server.get(crd_path(name))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def look_at_crds(entry: ApiServer, servers: Sequence[ApiServer] = (), names: Collection[str] = ()) -> CrdLook:
    """Reads the metadata of all CRDs, and whether each of these servers has the current state of the named ones.

    A server answers a GET with a resourceVersion from its watch cache once that is at least as new
    (k8s.io/apiserver, pkg/storage/cacher), and its handlers of custom resources follow the
    same cache within milliseconds.
    """
    try:
        facts = await _facts(entry)
    except ApiError as error:
        # A 404 may come from a proxy, and doesn't prove that there are no CRDs.
        if error.status in (403, 404):
            return CrdLook(None, refused=error.message)
        raise
    newest = _newest(facts[name].resource_version for name in names if name in facts)
    if not servers or newest is None:
        return CrdLook(facts)
    name = next(name for name in names if name in facts and facts[name].resource_version == newest)
    clocks = await asyncio.gather(*(_clock_of(server, name, newest) for server in servers))
    told = [clock for clock in clocks if clock is not None]
    if len(told) < len(servers):
        return CrdLook(facts)
    return CrdLook(facts, everywhere=True, earliest=min(told), latest=max(told))


async def _facts(server: ApiServer) -> dict[str, CrdFacts]:
    found: dict[str, CrdFacts] = {}
    async for page in pages(server, CRDS_PATH):
        if page.from_start:
            found.clear()
        found.update((item["metadata"]["name"], CrdFacts.of(item)) for item in page.items)
    return found


def _newest(versions: Iterable[str]) -> str | None:
    """The greatest resourceVersion; those of one resource can be compared as numbers (KEP-5504)."""
    return max((version for version in versions if version.isdecimal()), key=int, default=None)


async def _clock_of(server: ApiServer, name: str, version: str) -> datetime | None:
    """A server's time once its cache has that resourceVersion of a CRD; None if it doesn't say so."""
    path = with_query(crd_path(name), resourceVersion=version)
    try:
        answer = await server.request("GET", path, accept=METADATA)
        found = server.document(answer, "GET", path)["metadata"]["resourceVersion"]
        return parse_date(answer.headers["Date"]) if int(found) >= int(version) else None
    except (StorageUpgradeError, KeyError, TypeError, ValueError):
        return None


async def crds_with_older_versions(server: ApiServer, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The named CRDs whose status.storedVersions isn't just [storage version], with its value.

    This needs whole CRDs, which may have a megabyte each, so only a few are held at once. Raises ApiError.
    """

    async def older(name: str) -> tuple[str, ...] | None:
        crd = await require_crd(server, name)
        if crd is None:
            return None  # Deleted meanwhile: there is nothing to migrate.
        return None if _stored(crd) == (crd_storage_version(crd),) else _stored(crd)

    names = list(names)
    found = await gather_limited(_PARALLEL, older, names)
    return {name: versions for name, versions in zip(names, found) if versions is not None}


def crd_storage_version(crd: Mapping[str, Any]) -> str | None:
    """The version that a CRD says it stores its objects in; it need not be served."""
    return next((version["name"] for version in crd["spec"]["versions"] if version.get("storage")), None)


def has_conversion_webhook(crd: Mapping[str, Any]) -> bool:
    """Whether objects differ by more than their apiVersion between the versions of a CRD."""
    strategy = (crd["spec"].get("conversion") or {}).get("strategy")
    return strategy not in (None, "None")


def _stored(crd: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple((crd.get("status") or {}).get("storedVersions") or ())


def why_not_trim(crd: Mapping[str, Any], identity: CrdIdentity, hashed: str) -> str | None:
    """Why storedVersions may not be reduced to the storage version; None if it may.

    ``identity`` and ``hashed`` are from the beginning of the migration of its objects.
    """
    metadata, spec = crd["metadata"], crd["spec"]
    if metadata.get("deletionTimestamp"):
        return "it is being deleted"
    present = CrdIdentity.of(crd)
    if present.uid != identity.uid:
        return "it was deleted and created again during the migration; run again"
    stored = storage_version_hash(spec["group"], crd_storage_version(crd) or "", spec["names"]["kind"])
    if present != identity or stored != hashed:
        return "it was edited during the migration; run again when nobody edits it"
    return None


async def trim_stored_versions(
    server: ApiServer,
    name: str,
    identity: CrdIdentity,
    hashed: str,
    why_not: Callable[[], Awaitable[str | None]],
) -> Trimmed | Untrimmed | None:
    """Trims status.storedVersions of one CRD to the version that all its objects are now stored in.

    The caller has made sure that every object was rewritten and that all API servers agree. ``why_not``: asked right before
    the write, since time has passed since then; why that no longer counts, None if it does. Returns None if there is
    nothing to trim.
    """
    for tries in itertools.count(1):
        crd = None
        try:
            crd = await server.get(crd_path(name))
            return await _trim_once(server, crd, identity, hashed, why_not)
        except EtcdFullError:
            raise
        except (ApiError, UnreachableError) as error:
            status = error.status if isinstance(error, ApiError) else 0
            if status == 404:
                return Untrimmed(name, "it no longer exists")
            # 409: somebody else wrote its status or labels; an edit of its spec shows in the generation.
            if tries == _TRIES or not (status == 409 or is_passing(error)):
                reason = error.reason if isinstance(error, ApiError) else error.kind.value
                return Untrimmed(name, error.message, status, reason, failed=True, unread=crd is None)
            await asyncio.sleep(tries)
    return None


async def _trim_once(
    server: ApiServer,
    crd: Mapping[str, Any],
    identity: CrdIdentity,
    hashed: str,
    why_not: Callable[[], Awaitable[str | None]],
) -> Trimmed | Untrimmed | None:
    name = crd["metadata"]["name"]
    edited = why_not_trim(crd, identity, hashed)
    if edited is not None:
        return Untrimmed(name, edited)
    before, stored = _stored(crd), crd_storage_version(crd)
    if before == (stored,):
        return None
    unproven = await why_not()
    if unproven is not None:
        return Untrimmed(name, unproven)
    await _patch_status(server, crd, {"storedVersions": [stored]})
    return Trimmed(name, before, (stored or "",), identity.uid)


@dataclass(frozen=True)
class StoredVersions:
    """status.storedVersions of the CRD with that uid."""

    uid: str
    versions: tuple[str, ...]


async def read_stored_versions(server: ApiServer, name: str) -> StoredVersions | None:
    """status.storedVersions of a CRD; None if it doesn't exist or can't be read."""
    crd = await read_crd(server, name)
    return None if crd is None else StoredVersions(CrdIdentity.of(crd).uid, _stored(crd))


async def put_back_stored_versions(server: ApiServer, name: str, before: StoredVersions) -> bool:
    """Restores status.storedVersions; returns whether anything had to be done.

    Objects may still be stored in those versions, and an operator who drops one would lose them.
    A CRD of that name that was created in the meantime is left alone. Raises ApiError and UnreachableError.
    """
    for tries in itertools.count(1):
        try:
            return await _put_back_once(server, name, before)
        except ApiError as error:
            # The controller still writes its conditions.
            if error.status != 409 or tries == _TRIES:
                raise
    return False


async def _put_back_once(server: ApiServer, name: str, before: StoredVersions) -> bool:
    crd = await server.get(crd_path(name))
    if CrdIdentity.of(crd).uid != before.uid:
        return False
    now = list(_stored(crd))
    defined = {version["name"] for version in crd["spec"]["versions"]}
    wanted = [version for version in before.versions if version in defined]
    wanted += [version for version in now if version not in wanted]
    if sorted(wanted) == sorted(now):
        return False
    await _patch_status(server, crd, {"storedVersions": wanted})
    return True


async def end_migrating(server: ApiServer, name: str, uid: str) -> None:
    """Removes the condition StorageMigrating, which a withdrawn migration would leave behind.

    A CRD of that name that was created in the meantime is left alone.
    """
    crd = await server.get(crd_path(name))
    if CrdIdentity.of(crd).uid != uid:
        return
    conditions = (crd.get("status") or {}).get("conditions") or []
    held = [
        condition
        for condition in conditions
        if condition.get("type") == "StorageMigrating" and condition.get("status") == "True"
    ]
    if held:
        for condition in held:
            condition.update(
                status="False", reason="MigrationWithdrawn", message="The migration was withdrawn before it finished"
            )
        await _patch_status(server, crd, {"conditions": conditions})


async def _patch_status(server: ApiServer, crd: Mapping[str, Any], status: dict[str, Any]) -> None:
    """Writes only if the CRD hasn't changed since it was read."""
    body = {"metadata": {"resourceVersion": crd["metadata"]["resourceVersion"]}, "status": status}
    path = crd_path(crd["metadata"]["name"], subresource="status")
    await server.json("PATCH", path, content_type=MERGE_PATCH, body=body)


def crd_path(name: str, *, subresource: str | None = None) -> str:
    return path_of(_BASE, _PLURAL, name=name, subresource=subresource)
