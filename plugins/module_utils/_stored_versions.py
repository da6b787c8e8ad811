# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What module stored_versions_info does: read etcd, ask the API servers what they would write, compare."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._convergence import Observation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, open_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import (
    EncryptionRules,
    read_configuration,
    read_manifest,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import KeyMap
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import Stored, Tally, scan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import (
    Judgement,
    Knowledge,
    judge_all,
    resource_result,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._events import Report, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._options import (
    require_known,
    require_not_negative,
)

_LEASES = "leases.coordination.k8s.io"
# Any of these in the task (or its K8S_AUTH_* variable) means that the user wants the API servers asked.
_AUTH_OPTIONS = ("kubeconfig", "context", "host", "api_key", "username", "client_cert", "servers")


async def stored_versions(params: Mapping[str, Any], check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    require_not_negative(params, ["max_rate", "samples"])
    rules, media_type = local_configuration(params.get("encryption_config"))
    async with open_etcd(params.get("etcd")) as etcd:
        seen = await _observe(params)
        if params.get("resources") and seen is not None and seen.resources:
            require_known(params["resources"], seen.resources, "resources")
        judgement = await read_stored(
            etcd,
            seen,
            resources=params.get("resources"),
            encryption=rules,
            media_type=media_type,
            max_rate=params.get("max_rate") or 0,
            report=report,
        )
        member = await etcd.status()
        return describe(judgement, seen, params["samples"], etcd, member)


async def read_stored(
    etcd: Etcd,
    seen: Observation | None,
    *,
    resources: Iterable[str] | None = None,
    encryption: EncryptionRules | None = None,
    media_type: str | None = None,
    max_rate: float = 0,
    keep: int = 0,
    report: Report = nobody_listens,
) -> Judgement:
    """Scans and judges: what is stored, what is expected, by resource."""
    # Where no server could be asked, nothing is known, which is not the same as nothing being served.
    served = seen.resources if seen is not None and any(one.usable for one in seen.reports) else None
    stored = await scan(etcd, KeyMap(served), resources=resources, max_rate=max_rate, keep=keep, report=report)
    evidence = stored
    if resources is not None and media_type is None and _LEASES not in stored.resources:
        evidence = _together(stored, await scan(etcd, KeyMap(served), resources=[_LEASES], max_rate=max_rate))
    disagreeing = frozenset(one.resource for one in seen.disagreements) if seen is not None else frozenset()
    return judge_all(
        stored,
        Knowledge(
            served=served,
            other_groups=seen.other_groups if seen is not None else (),
            disagreeing=disagreeing,
            encryption=encryption,
            media_type=media_type,
            evidence=evidence,
        ),
    )


def _together(stored: Stored, leases: Stored) -> Stored:
    return Stored(resources={**leases.resources, **stored.resources})


def local_configuration(path: str | None) -> tuple[EncryptionRules | None, str | None]:
    """(encryption rules, storage media type) from the file given, else from this host's static pod manifest."""
    if path:
        return read_configuration(path), None
    flags = read_manifest()
    if flags is None:
        return None, None
    media_type = flags.storage_media_type or "application/vnd.kubernetes.protobuf"
    if not flags.encryption_config:
        return EncryptionRules(), media_type
    return (
        read_configuration(flags.encryption_config) if os.access(flags.encryption_config, os.R_OK) else None
    ), media_type


async def _observe(params: Mapping[str, Any]) -> Observation | None:
    """What the API servers report; None where the task names no cluster, as the scan makes sense without."""
    default = os.path.expanduser(os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep)[0]
    if not any(params.get(name) for name in _AUTH_OPTIONS) and not os.path.exists(default):
        return None
    cluster: Cluster
    async with open_cluster(params) as cluster:
        return await cluster.observe()


def describe(
    judgement: Judgement, seen: Observation | None, samples: int, etcd: Etcd, member: Mapping[str, Any]
) -> dict[str, Any]:
    """The result; never more of a value than its envelope."""
    stored = judgement.stored
    resources = {name: resource_result(name, judgement, samples) for name in sorted(stored.resources)}
    problems = []
    if not stored.consistent:
        problems.append(
            f"etcd was compacted during the scan, so it was read at several revisions ({stored.revision} to "
            f"{stored.last_revision}); raise max_rate, or read fewer resources, for one consistent view."
        )
    if seen is not None and not seen.converged:
        problems.append(f"The API servers don't agree, so not every expected version is known: {seen.summary()}.")
    if seen is not None:
        problems += seen.reservations
    totals = {
        "objects": stored.objects,
        "bytes": stored.bytes,
        "resources": len(resources),
        "stale": sum(one["stale"] for one in resources.values()),
        "unprovable": sum(one["unprovable"] for one in resources.values()),
        "unknown": sum(one.objects for one in stored.unknown.values()),
        "internal": sum(one.objects for one in stored.internal.values()),
    }
    return {
        "msg": _sentence(totals),
        "resources": resources,
        "totals": totals,
        "stale_resources": sorted(name for name, one in resources.items() if one["stale"]),
        "unprovable_resources": {
            name: one["unprovable_reasons"] for name, one in resources.items() if one["unprovable"]
        },
        "unknown": [_other(prefix, tally, samples) for prefix, tally in sorted(stored.unknown.items())],
        "internal": [_other(prefix, tally, samples) for prefix, tally in sorted(stored.internal.items())],
        "revision": stored.revision,
        "consistent": stored.consistent,
        "converged": None if seen is None else seen.converged,
        "proven_by": None if seen is None else seen.proven_by,
        "etcd": {"endpoints": list(etcd.endpoints), "prefix": etcd.prefix, **member},
        "seconds": round(stored.seconds, 3),
        "rate": round(stored.objects / stored.seconds) if stored.seconds > 0 else 0,
        "problems": problems,
    }


def _sentence(totals: Mapping[str, int]) -> str:
    stale = f"{totals['stale']} are stale" if totals["stale"] else "none is stale"
    unprovable = (
        f", and of {totals['unprovable']} the version can't be told or compared" if totals["unprovable"] else ""
    )
    return f"etcd holds {totals['objects']} objects of {totals['resources']} resources: {stale}{unprovable}."


def _other(prefix: str, tally: Tally, samples: int) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "objects": tally.objects,
        "bytes": tally.bytes,
        "encryption": [
            {"provider": provider, "provider_version": version, "key": key, "objects": objects}
            for (provider, version, key), objects in sorted(tally.encryption.items(), key=lambda one: -one[1])
        ],
        "samples": tally.samples[:samples],
    }
