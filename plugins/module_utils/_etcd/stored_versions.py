# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What module stored_versions_info does: read etcd, ask the API servers what they would write, compare."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Report, nobody_listens
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import (
    require_known,
    require_not_negative,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counting import compare_counts, with_misplaced
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import (
    COUNTS_DIFFER,
    compared_objects,
    count_problems,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import (
    EncryptionRules,
    parse_keys,
    read_configuration,
    read_manifest,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.envelope import NO_NAMES, KeyNames, key_names
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.identity import require_own_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import LEASES, KeyMap
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import KeyIds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_status import present_key_ids
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import (
    Stored,
    Tally,
    misplaced,
    scan,
    scan_clusters,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import (
    Evaluation,
    Knowledge,
    evaluate_all,
    kms_plugins,
    resource_result,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import ApiServer
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.named import names_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import Observation

# Any of these in the task (or its K8S_AUTH_* variable) means that the API servers should be asked.
_AUTH_OPTIONS = ("kubeconfig", "context", "host", "api_key", "username", "client_cert", "servers")


@dataclass(frozen=True)
class StoredVersionsOptions:
    """The options of stored_versions_info.

    ``cluster``: None if nothing names one; the scan is useful without. ``etcd``: the option of that name, as given.
    ``resources``: None for all. ``max_rate``: keys per second, 0 for no limit. ``samples``: keys returned of each variant.
    """

    cluster: ClusterOptions | None = None
    etcd: Mapping[str, Any] | None = field(default=None, repr=False)
    resources: tuple[str, ...] | None = None
    encryption_config: str | None = None
    encryption_keys: tuple[str, ...] = ()
    max_rate: float = 0.0
    samples: int = 5

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> StoredVersionsOptions:
        """From the module's parameters. Raises BadInputError."""
        require_not_negative(params, ["max_rate", "samples"])
        return cls(
            cluster=ClusterOptions.from_params(params) if _names_a_cluster(params) else None,
            etcd=params.get("etcd"),
            resources=tuple(params["resources"]) if params.get("resources") else None,
            encryption_config=params.get("encryption_config"),
            encryption_keys=tuple(params.get("encryption_keys") or ()),
            max_rate=params.get("max_rate") or 0,
            samples=params["samples"],
        )


@names_cluster
async def stored_versions(options: StoredVersionsOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    rules, media_type = local_configuration(options.encryption_config)
    names = known_names(rules, options.encryption_keys)
    async with AsyncExitStack() as opened:
        etcd = await opened.enter_async_context(open_clusters(options.etcd))
        seen = servers = None
        if options.cluster is not None:
            cluster = await opened.enter_async_context(open_cluster(options.cluster))
            seen = await cluster.observe()
            servers = Servers(cluster.entry, cluster.writers(seen))
            if options.resources and seen.resources:
                require_known(options.resources, seen.resources, "resources")
        evaluation = await read_stored(
            etcd,
            seen,
            servers,
            resources=options.resources,
            encryption=rules,
            media_type=media_type,
            names=names,
            max_rate=options.max_rate,
            report=report,
        )
        members = [await part.status() for part, _stored in evaluation.stored.parts]
        return describe(evaluation, seen, options.samples, etcd, members)


@dataclass(frozen=True)
class Servers:
    """The address to ask, and each API server to count with."""

    entry: ApiServer
    each: Sequence[ApiServer]


async def read_stored(
    etcd: EtcdClusters,
    seen: Observation | None,
    servers: Servers | None,
    *,
    resources: Iterable[str] | None = None,
    encryption: EncryptionRules | None = None,
    media_type: str | None = None,
    names: KeyNames = NO_NAMES,
    max_rate: float = 0,
    keep: int = 0,
    ask_kms: bool = True,
    report: Report = nobody_listens,
) -> Evaluation:
    """Verifies whose etcd it is, scans it, compares counts with the API servers and, by resource, with what they would write.

    ``ask_kms``: waits until it is known which key of each KMS v2 plugin the API servers use.
    Raises EtcdError if this is not the API servers' etcd. If none can be asked, nothing is compared.
    """
    # If no server could be asked, it is unknown what is served, which is not the same as nothing being served.
    served = seen.resources if seen is not None and any(server.usable for server in seen.reports) else None
    asked = servers if served is not None else None
    wanted = None if resources is None else list(resources)
    if asked is not None and served is not None:
        require_known((pattern for pattern in etcd.overridden if "*" not in pattern), served, "etcd.overrides")
        await require_own_etcd(etcd, asked.entry, served, None if wanted is None else [*wanted, LEASES])
    stored = await scan_clusters(
        etcd, served, resources=wanted, max_rate=max_rate, keep=keep, names=names, report=report
    )
    uncounted = {}
    if asked is not None and served is not None:
        counted = await compare_counts(etcd, asked.each, served, wanted)
        odd = misplaced(etcd, stored, served, wanted)
        uncounted = with_misplaced(counted, odd, stored.number_of)
        for name, doubt in uncounted.items():
            if doubt.kind == COUNTS_DIFFER or name in odd:
                stored.resources.setdefault(name, {})
    known = Knowledge(
        served=served,
        other_groups=seen.other_groups if seen is not None else (),
        disagreeing=frozenset(differing.resource for differing in seen.disagreements)
        if seen is not None
        else frozenset(),
        encryption=encryption,
        media_type=media_type,
        evidence=await _evidence(
            etcd, stored, KeyMap(served), max_rate, scan_leases=wanted is not None and media_type is None
        ),
        key_ids=await _key_ids(kms_plugins(stored, encryption) if ask_kms else [], seen, servers, report),
    )
    evaluation = evaluate_all(stored, known)
    evaluation.uncounted = uncounted
    evaluation.verified = asked is not None
    return evaluation


async def _evidence(etcd: EtcdClusters, stored: Stored, keys: KeyMap, max_rate: float, *, scan_leases: bool) -> Stored:
    """The newest writes, which show how built-in resources are encoded now; Leases are always among them."""
    evidence = _part_with_leases(etcd, stored)
    if not scan_leases or LEASES in evidence.resources:
        return evidence
    leases = await scan(etcd.of(LEASES), keys, resources=[LEASES], max_rate=max_rate, may_be_empty=True)
    return Stored(resources={**leases.resources, **evidence.resources})


def _part_with_leases(etcd: EtcdClusters, stored: Stored) -> Stored:
    """The scan of the etcd that has the Leases: only revisions of the same etcd can be compared."""
    home = etcd.of(LEASES)
    return next((scanned for part, scanned in stored.parts if part is home), Stored())


async def _key_ids(plugins: Sequence[str], seen: Observation | None, servers: Servers | None, report: Report) -> KeyIds:
    """Which key of each KMS v2 plugin all API servers use now."""
    if not plugins or seen is None or servers is None:
        return KeyIds(unknown=dict.fromkeys(plugins, "no API server was asked"))
    if seen.evidence is not None or len(servers.each) != len(seen.reports):
        return KeyIds(unknown=dict.fromkeys(plugins, "not every API server can be asked"))
    return await present_key_ids(servers.each, plugins, report)


def unknown_key_sentence(plugin: str, why: str) -> str:
    """Says that the key of a KMS v2 plugin is unknown, and what to do."""
    return (
        f"Which key of the KMS plugin {plugin} the API servers use now is unknown: {why}. So nothing is claimed about the "
        "objects under it; keep its old keys, and run again."
    )


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


def known_names(rules: EncryptionRules | None, keys: Iterable[str]) -> KeyNames:
    """Names of encryption keys from the configuration and the option ``encryption_keys``. Raises BadInputError."""
    return key_names([*(rules.keys if rules is not None else ()), *parse_keys(keys)])


def _names_a_cluster(params: Mapping[str, Any]) -> bool:
    """Whether to ask API servers; the scan is useful without."""
    default = os.path.expanduser(os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep)[0]
    return any(params.get(name) for name in _AUTH_OPTIONS) or os.path.exists(default)


def describe(
    evaluation: Evaluation,
    seen: Observation | None,
    samples: int,
    etcd: EtcdClusters,
    members: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The result, with only the envelope of a value."""
    stored = evaluation.stored
    resources = {name: resource_result(name, evaluation, samples) for name in sorted(stored.resources)}
    totals = {
        "objects": stored.objects,
        "bytes": stored.bytes,
        "resources": len(resources),
        "stale": sum(row["stale"] for row in resources.values()),
        "unprovable": sum(row["unprovable"] for row in resources.values()),
        "encryption_unknown": sum(row["encryption_unknown"] for row in resources.values()),
        "unknown": sum(row.objects for row in stored.unknown.values()),
        "internal": sum(row.objects for row in stored.internal.values()),
    }
    return {
        "msg": _sentence(
            totals,
            evaluation.verified,
            sum(row["encryption_unknown_reasons"].get("guessed", 0) for row in resources.values()),
        ),
        "resources": resources,
        "totals": totals,
        "stale_resources": sorted(name for name, row in resources.items() if row["stale"]),
        "unprovable_resources": {
            name: row["unprovable_reasons"] for name, row in resources.items() if row["unprovable"]
        },
        "encryption_unknown_resources": {
            name: row["encryption_unknown_reasons"] for name, row in resources.items() if row["encryption_unknown"]
        },
        "cluster_verified": True if evaluation.verified else None,
        "unknown": [_other(prefix, tally, samples) for prefix, tally in sorted(stored.unknown.items())],
        "internal": [_other(prefix, tally, samples) for prefix, tally in sorted(stored.internal.items())],
        "revision": stored.revision,
        "consistent": stored.consistent,
        "converged": None if seen is None else seen.converged,
        "proven_by": None if seen is None else seen.proven_by,
        "cross_checked": None if seen is None else seen.cross_checked,
        "etcd": _etcd_result(etcd, stored, members),
        "seconds": round(stored.seconds, 3),
        "rate": round(stored.objects / stored.seconds) if stored.seconds > 0 else 0,
        "problems": _problems(evaluation, seen),
    }


def _problems(evaluation: Evaluation, seen: Observation | None) -> list[str]:
    """Why the result is incomplete, one sentence each."""
    stored = evaluation.stored
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
    if not evaluation.verified:
        asked = "was" if seen is None else "could be"
        problems.append(
            f"No API server {asked} asked, so it is unknown whether this etcd is theirs and holds everything."
        )
    problems += count_problems(evaluation.uncounted)
    problems += [unknown_key_sentence(plugin, why) for plugin, why in sorted(evaluation.key_ids.unknown.items())]
    return problems


def _etcd_result(etcd: EtcdClusters, stored: Stored, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which etcd was read, and which others."""
    patterns = {cluster: list(resources) for resources, cluster in etcd.overrides}
    found = [
        {"endpoints": list(cluster.endpoints), "prefix": cluster.prefix, **member}
        | ({"resources": patterns[cluster], "revision": part.revision} if cluster in patterns else {})
        for (cluster, part), member in zip(stored.parts, members)
    ]
    return {**found[0], "overrides": found[1:]}


def _sentence(totals: Mapping[str, int], verified: bool, guessed: int) -> str:
    """``guessed``: for how many objects only the newest of their kind shows how the API servers encrypt them."""
    stale = f"{totals['stale']} are stale" if totals["stale"] else "none is stale"
    if not verified:
        stale = f"{totals['stale'] or 'none'} {'look' if totals['stale'] > 1 else 'looks'} stale"
    if totals["encryption_unknown"] and not totals["stale"]:
        stale += " in version or encoding"
    unprovable = (
        f"; the version of {totals['unprovable']} is unknown or can't be compared" if totals["unprovable"] else ""
    )
    unknown = totals["encryption_unknown"] - guessed
    encryption = (
        f" Whether {unknown} are under the current encryption key is unknown (see encryption_unknown_resources)."
        if unknown
        else ""
    )
    if guessed:
        encryption += " How the API servers encrypt is unknown here (see encryption_config), so nothing is proven about encryption."
    if totals["unknown"]:
        unprovable += f"; {totals['unknown']} more keys belong to no resource that is served (see unknown)"
    held = f"etcd holds {compared_objects(totals)} objects of {totals['resources']} resources: {stale}{unprovable}"
    if verified:
        return f"{held}.{encryption}"
    return f"{held}; no API server was asked whether this is its etcd, so nothing is proven.{encryption}"


def _other(prefix: str, tally: Tally, samples: int) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "objects": tally.objects,
        "bytes": tally.bytes,
        "encryption": [
            {
                "provider": provider,
                "provider_version": version,
                "key": key,
                "key_begins_with": begins_with,
                "objects": objects,
            }
            for (provider, version, key, begins_with), objects in sorted(
                tally.encryption.items(), key=lambda row: -row[1]
            )
        ],
        "samples": tally.samples[:samples],
    }
