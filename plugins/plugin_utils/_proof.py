# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is proven after an upgrade or a migration. Pure. Anything unknown is not proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import compared_objects
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import at_release
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._masters import is_ready


def upgrade_proof(found: Mapping[str, Any], stored: Mapping[str, Any], version: str) -> dict[str, Any]:
    """From the results of storage_version_hashes and stored_versions_info; without the latter, etcd was not read."""
    totals: Mapping[str, Any] = stored.get("totals") or {}
    behind = servers_behind(found, version)
    return {
        "source": "etcd" if totals else "api_servers",
        "proven": not behind and _all_agree(found) and _nothing_is_left(stored, totals),
        "behind": behind,
        "agreement": found.get("proven_by"),
        "cross_checked": found.get("cross_checked"),
        "sampling": found.get("sampling"),
        "stale": totals.get("stale"),
        "stale_resources": stored.get("stale_resources") or [],
        "unprovable": totals.get("unprovable"),
        "unprovable_resources": stored.get("unprovable_resources") or {},
        "encryption_unknown": totals.get("encryption_unknown"),
        "encryption_unknown_resources": stored.get("encryption_unknown_resources") or {},
        "unknown": totals.get("unknown"),
        "unknown_prefixes": [str(other.get("prefix")) for other in stored.get("unknown") or ()],
        "objects": compared_objects(totals) if totals else None,
        "revision": stored.get("revision"),
        "consistent": stored.get("consistent"),
        "problems": stored.get("problems") or [],
    }


def servers_behind(found: Mapping[str, Any], version: str) -> list[str]:
    """URLs of API servers that are not ready, or not at the release if one is given."""
    return [
        str(server.get("url"))
        for server in found.get("servers") or ()
        if not is_ready(server)
        or (version and not at_release(server.get("version"), version, server.get("emulated_version")))
    ]


def _all_agree(found: Mapping[str, Any]) -> bool:
    asked = bool(found.get("servers")) and found.get("proven_by") == "each_server"
    return asked and found.get("converged") is True and found.get("cross_checked") is True


def _nothing_is_left(stored: Mapping[str, Any], totals: Mapping[str, Any]) -> bool:
    counts = [totals.get(name) for name in ("stale", "unprovable", "unknown")]
    return counts == [0, 0, 0] and not totals.get("encryption_unknown") and not stored.get("problems")
