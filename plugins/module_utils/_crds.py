# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CustomResourceDefinitions: what they store, and trimming status.storedVersions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import (
    MERGE_PATCH,
    METADATA_LIST,
    ApiServer,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import ApiError

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True)
class Trimmed:
    """A CRD whose status.storedVersions was trimmed."""

    crd: str
    before: tuple[str, ...]
    after: tuple[str, ...]


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
    """The version that a CRD says it stores its objects in."""
    return next((one["name"] for one in crd["spec"]["versions"] if one.get("storage")), None)


def may_trim(crd: Mapping[str, Any], generation: int, stored: str) -> bool:
    """Whether storedVersions may be cut down to ``stored``: the CRD was not edited since the migration began."""
    metadata = crd["metadata"]
    return (
        int(metadata.get("generation") or 0) == generation
        and not metadata.get("deletionTimestamp")
        and storage_version(crd) == stored
        and list((crd.get("status") or {}).get("storedVersions") or ()) != [stored]
    )


async def trim(server: ApiServer, name: str, generation: int, stored: str) -> Trimmed | None:
    """Cuts status.storedVersions of one CRD down to the version that all its objects are now stored in.

    The caller has made sure that every object was rewritten and that all API servers agree. Returns
    None where there was nothing to trim, or the CRD was edited meanwhile (409 included).
    """
    try:
        crd = await server.get(f"{_CRDS}/{name}")
        if not may_trim(crd, generation, stored):
            return None
        await _patch_status(server, crd, {"storedVersions": [stored]})
    except ApiError as error:
        if error.status in (404, 409):
            return None
        raise
    return Trimmed(name, tuple(crd["status"]["storedVersions"]), (stored,))


async def stored_versions(server: ApiServer, name: str) -> tuple[str, ...] | None:
    """status.storedVersions of a CRD; None if it is none, or can't be read."""
    try:
        crd = await server.get(f"{_CRDS}/{name}")
    except ApiError as error:
        if error.status in (403, 404):
            return None
        raise
    return tuple((crd.get("status") or {}).get("storedVersions") or ())


async def put_back(server: ApiServer, name: str, before: tuple[str, ...]) -> bool:
    """Makes status.storedVersions hold again what it held; whether anything had to be done.

    Objects may still be stored in those versions, and an operator who drops one would lose them.
    """
    crd = await server.get(f"{_CRDS}/{name}")
    now = list((crd.get("status") or {}).get("storedVersions") or ())
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
