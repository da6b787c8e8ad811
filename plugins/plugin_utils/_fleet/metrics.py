# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as metrics, in the text format that Prometheus, node_exporter's textfile collector and the Pushgateway read. Pure.

The text is also valid OpenMetrics: every family is a gauge with its help before it, and the last line is ``# EOF``. What is unknown has
no sample, so that no alert takes it for zero; ``kube_storage_cluster_reached`` says whether anything is known at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import parse_time
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import (
    NOT_BEGUN,
    ClusterRow,
    FleetRecord,
    Severity,
)

Sample = tuple[Mapping[str, str], float]


@dataclass
class Family:
    name: str
    help: str
    samples: list[Sample] = field(default_factory=list)


def exposition(record: FleetRecord) -> str:
    """All metrics of a fleet, as one text."""
    lines = []
    for family in families(record):
        if family.samples:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} gauge"]
            lines += [f"{family.name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    return "\n".join([*lines, "# EOF"]) + "\n"


def families(record: FleetRecord) -> list[Family]:
    """Each family, with its samples in the order of the clusters."""
    found = {name: Family(f"kube_storage_{name}", text) for name, text in _HELP.items()}
    titles = Counter(row.title for row in record.clusters)
    for row in record.clusters:
        # No two clusters may have the same series.
        cluster = row.title if titles[row.title] == 1 else row.host
        for name, labels, value in _of_cluster(row):
            found[name].samples.append(({"cluster": cluster, **labels}, value))
    last = parse_time(record.updated)
    if last is not None:
        found["fleet_last_run_timestamp_seconds"].samples.append(({}, last.timestamp()))
    return list(found.values())


_HELP = {
    "cluster_reached": "Whether the last run got a complete result from the cluster.",
    "cluster_state": "The state of the cluster that the last run found; 1 for the current one.",
    "cluster_observed_timestamp_seconds": "When the cluster was last examined.",
    "api_server_info": "An API server and the release that it runs as.",
    "api_servers": "API servers of the cluster.",
    "api_servers_ready": "API servers that were ready.",
    "api_servers_agree": "Whether all API servers report the same storage versions.",
    "releases": "Different releases among the API servers.",
    "stored_objects": "Objects in etcd.",
    "stale_objects": "Objects that are stored differently from how the API servers would write them now.",
    "stale_resource_objects": "Stale objects of a resource; only resources that have some.",
    "unprovable_objects": "Objects whose version is unknown or can't be compared.",
    "blockers": "What blocks the upgrade to the target release.",
    "concerns": "What to consider before the upgrade to the target release.",
    "untrimmed_crds": "CRDs whose status.storedVersions name more than the storage version.",
    "plain_secrets": "Secrets that are not encrypted in etcd.",
    "encryption_key_objects": "Objects under an encryption key.",
    "encryption_key_first_seen_timestamp_seconds": "When a run first found objects under this key.",
    "etcd_database_bytes": "Size of etcd's database file.",
    "etcd_database_in_use_bytes": "How much of that file is in use.",
    "etcd_quota_bytes": "Space quota of etcd.",
    "last_migration_timestamp_seconds": "When the last complete migration of a resource ended.",
    "last_snapshot_timestamp_seconds": "When the newest snapshot of etcd was taken.",
    "fleet_last_run_timestamp_seconds": "When the record of the fleet was last written.",
}


def _of_cluster(row: ClusterRow) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Names without their prefix, labels and values."""
    lost = (Severity.NOT_REACHED.value, Severity.FAILURE.value, NOT_BEGUN)
    yield "cluster_reached", {}, float(row.state not in lost)
    for state in [*(severity.value for severity in Severity), NOT_BEGUN]:
        yield "cluster_state", {"state": state}, float(row.state == state)
    yield from _times(row)
    if row.servers:
        yield "api_servers", {}, len(row.servers)
        yield "api_servers_ready", {}, sum(server.ready for server in row.servers)
        yield "releases", {}, len({server.release for server in row.servers if server.release})
        for server in row.servers:
            yield "api_server_info", {"server": server.name, "release": server.release or ""}, 1
    counts = {
        "api_servers_agree": row.agree,
        "stored_objects": row.objects,
        "stale_objects": row.stale,
        "unprovable_objects": row.unprovable,
        "untrimmed_crds": None if row.untrimmed is None else len(row.untrimmed),
        "plain_secrets": row.plain_secrets,
    }
    for name, count in counts.items():
        if count is not None:
            yield name, {}, float(count)
    for name, count in (("blockers", row.blockers), ("concerns", row.concerns)):
        if count is not None:
            yield name, {"target": row.target or ""}, count
    for resource, count in row.stale_resources.items():
        yield "stale_resource_objects", {"resource": resource}, count
    for key in row.keys:
        yield "encryption_key_objects", {"provider": key.provider, "key": key.key or ""}, key.objects
    for use in row.etcd:
        sizes = {
            "etcd_database_bytes": use.size,
            "etcd_database_in_use_bytes": use.in_use,
            "etcd_quota_bytes": use.quota,
        }
        for name, size in sizes.items():
            if size is not None:
                yield name, {"endpoint": use.endpoint or ""}, size


def _times(row: ClusterRow) -> Iterator[tuple[str, Mapping[str, str], float]]:
    told: list[tuple[str, Mapping[str, str], str | None]] = [
        ("cluster_observed_timestamp_seconds", {}, row.observed),
        ("last_migration_timestamp_seconds", {}, row.migrated),
        ("last_snapshot_timestamp_seconds", {}, row.snapshot),
    ]
    told += [
        ("encryption_key_first_seen_timestamp_seconds", {"provider": key.provider, "key": key.key or ""}, key.seen)
        for key in row.keys
    ]
    for name, labels, text in told:
        moment = parse_time(text)
        if moment is not None:
            yield name, labels, moment.timestamp()


def metric_names() -> Iterable[str]:
    """The name of every family."""
    return [f"kube_storage_{name}" for name in _HELP]


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
