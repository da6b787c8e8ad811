# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a rewrite keeps an object's field managers.

An API server compares each entry of metadata.managedFields at the entry's own version. If one can't be converted,
because its version was removed from the CRD or the conversion fails, servers before 1.37 store the object without *any*
managedFields, even for a patch that changes nothing (k8s.io/apimachinery, pkg/util/managedfields/internal,
UpdateNoErrors; kubernetes/kubernetes#136919). A dry run of the same patch shows what would be left.

From built-in objects every release drops the entries of versions that it does not know, and only those, with every
write (sigs.k8s.io/structured-merge-diff, merge/update.go, IsMissingVersionError).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Optional

from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import REPEATABLE
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer, status_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import Patch, dry_run, send_patch
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    group_version,
    split_group_version,
)

# The first release whose API servers keep managers that they can't update.
_KEPT_SINCE = (1, 37)
# manager, operation, version, subresource, fields
_Entry = tuple[str, str, str, str, str]
Entries = Optional[list[dict[str, Any]]]
FIELD_MANAGERS = "FieldManagersWouldBeLost"
DROPPED_AFTER_ALL = (
    "the API server dropped some of its field managers when it was rewritten, although a dry run had kept them; "
    "have their owners apply it again"
)
KEPT_AFTER_ALL = (
    "the API server left its field managers unchanged, because one of them can't be converted: make sure that the object "
    "fits its schema and that the conversion of its CRD works, and run again"
)


def may_drop_managers(versions: Iterable[str | None]) -> bool:
    """Whether one of these API servers, by gitVersion of the binary (not what it emulates), may drop managers."""
    for version in versions:
        found = re.match(r"v?(\d+)\.(\d+)", version or "")
        if found is None or (int(found[1]), int(found[2])) < _KEPT_SINCE:
            return True
    return False


def is_doubtful(entries: Entries, version: str, *, custom: bool) -> bool:
    """Whether a patch through the group version ``version`` must first be tried as a dry run.

    Entries at that same version need no conversion. ``custom``: custom resources are always tried, since
    one that no longer fits its schema (which ratcheting tolerates) loses its managers in the same way.
    """
    return bool(entries) and (custom or any(entry.get("apiVersion") != version for entry in entries or ()))


def kept_managed_fields(
    entries: Entries, group: str, own: Collection[str], anywhere: Collection[str]
) -> list[Any] | None:
    """The managedFields without entries of versions that are no longer served; None if there is nothing to drop.

    ``own``: the group versions of this resource, since another one of its group may still be served in an old
    version; ``anywhere``: all served group versions, which count for entries of other groups.
    """
    unserved = unserved_versions(entries, group, own, anywhere)
    if entries is None or not unserved:
        return None
    kept = [entry for entry in entries if str(entry.get("apiVersion") or "") not in unserved]
    return kept or [{}]  # An empty entry resets all of them (KEP-555).


def unserved_versions(entries: Entries, group: str, own: Collection[str], anywhere: Collection[str]) -> tuple[str, ...]:
    """The versions in entries that are no longer served; arguments as for ``kept_managed_fields``."""

    def is_served(version: str) -> bool:
        return version in own or (split_group_version(version)[0] != group and version in anywhere)

    versions = {str(entry.get("apiVersion") or "") for entry in entries or ()}
    return tuple(sorted(version for version in versions if not is_served(version)))


def entries_in(answer: Response) -> Entries:
    """The managedFields of the object in an answer. Raises ValueError if it is not an object."""
    try:
        entries = json.loads(answer.body)["metadata"].get("managedFields")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no object") from error
    return entries if isinstance(entries, list) else None


def lost_entries(before: Entries, answer: Response, *, dead: Collection[str] = (), fields: bool = True) -> bool:
    """Whether the object in an answer lacks an entry that it had ``before``, not counting those of ``dead`` versions.

    ``fields``: whether an entry with other fields counts as another one. The API server adapts the paths of
    an entry that moved to another version if the schema of that version combines fields.
    """
    try:
        after = entries_in(answer)
    except ValueError:
        return True
    return any(entry[2] not in dead for entry in _identities(before, fields) - _identities(after, fields))


def refuses_dry_runs(answer: Response) -> bool:
    """Whether a webhook with side effects prevents a dry run."""
    return answer.status == 400 and "does not support dry run" in status_of(answer)[1]


def why_lost(unserved: Collection[str]) -> str:
    """Why an object is not patched, and what to do."""
    tail = "API servers before 1.37 would drop all its field managers on a rewrite (kubernetes/kubernetes#136919)"
    if unserved:
        refers = f"its field managers refer to {', '.join(sorted(unserved))}, which is no longer served"
        return (
            f"{refers}; {tail}: upgrade them first, or have those entries moved or dropped with managed_fields: rewrite or "
            "prune (with a conversion webhook only prune)"
        )
    return (
        f"one of its field managers can't be converted; {tail}: upgrade them first, or make sure that the object fits its "
        "schema and that the conversion of its CRD works"
    )


async def would_lose_managers(
    server: ApiServer, resource: ServedResource, path: str, patch: Patch, metadata: Mapping[str, Any]
) -> bool:
    """Whether a merge patch that changes nothing would cost the object managers; also True if that can't be known.

    For questions that another object can answer just as well. Raises StorageUpgradeError.
    """
    before = metadata.get("managedFields")
    if not before or not may_drop_managers([str((await server.get("/version")).get("gitVersion") or "")]):
        return False
    answer = await send_patch(server, dry_run(path), patch, retry=REPEATABLE)
    if refuses_dry_runs(answer):
        served = {group_version(resource.group, version) for version in resource.versions}
        return bool(unserved_versions(before, resource.group, served, ()))
    return answer.status >= 300 or lost_entries(before, answer)


def _identities(entries: Entries, fields: bool) -> set[_Entry]:
    return {
        (
            str(entry.get("manager") or ""),
            str(entry.get("operation") or ""),
            str(entry.get("apiVersion") or ""),
            str(entry.get("subresource") or ""),
            json.dumps(entry.get("fieldsV1"), sort_keys=True) if fields else "",
        )
        for entry in entries or ()
        if entry
    }
