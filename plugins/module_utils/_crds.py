# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CustomResourceDefinitions: what they store, and trimming status.storedVersions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import (
    MERGE_PATCH,
    METADATA_LIST,
    ApiServer,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError, UnreachableError, is_passing
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import storage_version_hash

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_TRIES = 4


@dataclass(frozen=True)
class Trimmed:
    """A CRD whose status.storedVersions was trimmed."""

    crd: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Untrimmed:
    """A CRD that could not be trimmed: it was edited or, where ``failed``, the server refused."""

    crd: str
    reason: str
    status: int = 0
    status_reason: str = ""
    failed: bool = False


async def read(server: ApiServer, name: str) -> dict[str, Any] | None:
    """A CRD; None if there is none of that name, or the user may not read it."""
    try:
        return await server.get(f"{_CRDS}/{name}")
    except ApiError as error:
        if error.status in (403, 404):
            return None
        raise


async def generations(server: ApiServer) -> dict[str, int]:
    """metadata.generation of every CRD; it changes with each edit of the spec."""
    found: dict[str, int] = {}
    token = ""
    while True:
        page = await server.get(
            f"{_CRDS}?limit=500" + (f"&continue={token}" if token else ""), accept=METADATA_LIST, timeout=60
        )
        for item in page.get("items") or ():
            found[item["metadata"]["name"]] = int(item["metadata"].get("generation") or 0)
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


def storage_version(crd: Mapping[str, Any]) -> str | None:
    """The version that a CRD says it stores its objects in; it need not be served."""
    return next((one["name"] for one in crd["spec"]["versions"] if one.get("storage")), None)


def _stored(crd: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple((crd.get("status") or {}).get("storedVersions") or ())


def why_not_trim(crd: Mapping[str, Any], generation: int | None, hashed: str) -> str | None:
    """Why storedVersions may not be cut down to the storage version; None if it may.

    ``generation`` and ``hashed`` are those that the migration of its objects began with.
    """
    metadata, spec = crd["metadata"], crd["spec"]
    if metadata.get("deletionTimestamp"):
        return "it is being deleted"
    stored = storage_version_hash(spec["group"], storage_version(crd) or "", spec["names"]["kind"])
    if int(metadata.get("generation") or 0) != generation or stored != hashed:
        return "it was edited during the migration; run again when nobody edits it"
    return None


async def trim(server: ApiServer, name: str, generation: int | None, hashed: str) -> Trimmed | Untrimmed | None:
    """Cuts status.storedVersions of one CRD down to the version that all its objects are now stored in.

    The caller has made sure that every object was rewritten and that all API servers agree. Returns
    None where there is nothing to trim.
    """
    for tries in itertools.count(1):
        try:
            return await _trim(server, name, generation, hashed)
        except (ApiError, UnreachableError) as error:
            status = error.status if isinstance(error, ApiError) else 0
            if status == 404:
                return None
            # 409: somebody else wrote its status or labels; an edit of its spec shows in the generation.
            if tries == _TRIES or not (status == 409 or is_passing(error)):
                reason = error.reason if isinstance(error, ApiError) else error.kind
                return Untrimmed(name, error.message, status, reason, failed=True)
            await asyncio.sleep(tries)
    return None


async def _trim(server: ApiServer, name: str, generation: int | None, hashed: str) -> Trimmed | Untrimmed | None:
    crd = await server.get(f"{_CRDS}/{name}")
    before, stored = _stored(crd), storage_version(crd)
    if before == (stored,):
        return None
    why_not = why_not_trim(crd, generation, hashed)
    if why_not is not None:
        return Untrimmed(name, why_not)
    await _patch_status(server, crd, {"storedVersions": [stored]})
    return Trimmed(name, before, (stored or "",))


async def stored_versions(server: ApiServer, name: str) -> tuple[str, ...] | None:
    """status.storedVersions of a CRD; None if it is none, or can't be read."""
    crd = await read(server, name)
    return None if crd is None else _stored(crd)


async def put_back(server: ApiServer, name: str, before: tuple[str, ...]) -> bool:
    """Makes status.storedVersions hold again what it held; whether anything had to be done.

    Objects may still be stored in those versions, and an operator who drops one would lose them.
    """
    crd = await server.get(f"{_CRDS}/{name}")
    now = list(_stored(crd))
    defined = {one["name"] for one in crd["spec"]["versions"]}
    wanted = [one for one in before if one in defined]
    wanted += [one for one in now if one not in wanted]
    if sorted(wanted) == sorted(now):
        return False
    await _patch_status(server, crd, {"storedVersions": wanted})
    return True


async def end_migrating(server: ApiServer, name: str) -> None:
    """Takes back the condition StorageMigrating, which a withdrawn migration would leave for good."""
    crd = await server.get(f"{_CRDS}/{name}")
    conditions = (crd.get("status") or {}).get("conditions") or []
    held = [one for one in conditions if one.get("type") == "StorageMigrating" and one.get("status") == "True"]
    if held:
        for one in held:
            one.update(
                status="False", reason="MigrationWithdrawn", message="The migration was withdrawn before its end"
            )
        await _patch_status(server, crd, {"conditions": conditions})


async def _patch_status(server: ApiServer, crd: Mapping[str, Any], status: dict[str, Any]) -> None:
    """On condition that the CRD is still as it was read."""
    body = {"metadata": {"resourceVersion": crd["metadata"]["resourceVersion"]}, "status": status}
    path = f"{_CRDS}/{crd['metadata']['name']}/status"
    await server.json("PATCH", path, content_type=MERGE_PATCH, body=body)
