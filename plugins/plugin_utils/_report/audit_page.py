# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of an audit's page: how API servers write, what etcd holds under which keys, what is stale, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.charts import (
    NARROW,
    WIDE,
    held_chart,
    parts_text,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import (
    Figure,
    Heading,
    ProofClaim,
    Table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import EtcdContents, Snapshot
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.sentences import encryption_unknown
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.servers import (
    agreement,
    agreement_claim,
    ready_count,
    servers_table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.timeline import StoredRow, snapshot_rows
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import number, things

_WHY = {
    "version": "not the storage version",
    "encoding": "another encoding",
    "encryption": "another encryption or key",
    "encrypted": "encryption hides the version",
    "corrupt": "it can't be read",
    "empty": "it is empty",
    "nothing_expected": "no API server serves it, or they disagree",
    "counts_differ": "the API servers list objects other than those that this etcd holds",
    "not_counted": "whether this etcd holds all is unknown",
}


def audit_page(record: Snapshot) -> dict[str, Any]:
    """The template's variables."""
    stored = record.stored
    rows = audit_rows(record)
    return {
        "heading": _heading(record),
        "to_do": _to_do(record),
        "figures": _figures(record),
        "claims": _claims(record),
        "servers": servers_table(record),
        "changed": _changed(record),
        "held_charts": [chart for chart in (held_chart(rows, width) for width in (WIDE, NARROW)) if chart is not None],
        "stale": _stale(stored) if stored else None,
        "unprovable": _unprovable(stored) if stored else None,
        "keys": _keys(stored) if stored else None,
        "unknown": _unknown(stored) if stored else None,
        "everything": Table(
            f"All {things(len(rows), 'resource')} in etcd, and how their objects are stored.",
            (("Resource", ""), ("Stored as", "")),
            [(row.resource, parts_text(row.after)) for row in sorted(rows, key=lambda row: row.resource)],
        ),
    }


def audit_rows(record: Snapshot) -> list[StoredRow]:
    """Stale ones first, then the largest."""
    rows = snapshot_rows(record.stored) if record.stored else []
    return sorted(
        rows, key=lambda row: (-row.stale_after, -sum(part.objects for part in row.after or ()), row.resource)
    )


def _heading(record: Snapshot) -> Heading:
    title = "What is stored, and how"
    stored = record.stored
    if record.failures:
        return Heading(title, "Not everything could be checked", "bad", record.failures[0])
    if record.converged is None:
        return Heading(title, "Not checked", "open", "No API server was asked, so nothing is known about them.")
    if not record.converged:
        return Heading(title, "The API servers do not agree", "bad", " ".join(record.reasons))
    if stored is None:
        return Heading(
            title,
            "Etcd was not read",
            "open",
            f"The API servers were asked, and {agreement(record)}. What is really stored was not read; set rolling_upgrade_etcd for that.",
        )
    return _heading_of_stored(title, stored)


def _heading_of_stored(title: str, stored: EtcdContents) -> Heading:
    seen = f"Of {things(stored.total('objects'), 'object')} in etcd"
    stale, doubts = stored.total("stale"), stored.total("unprovable") + stored.total("unknown")
    if stale:
        return Heading(
            title,
            things(stale, "stale object"),
            "fair",
            f"{seen}, {number(stale)} are stored differently from how the API servers would write them now.",
        )
    if doubts:
        return Heading(
            title,
            "Nothing is known to be stale",
            "fair",
            f"{seen}, none is known to be stale; {number(doubts)} are unknown.",
        )
    if stored.total("encryption_unknown"):
        return Heading(
            title,
            "Nothing is in an old version",
            "good",
            f"{seen}, each is in the version and encoding in which the API servers would write it now. "
            f"{encryption_unknown(stored)}",
        )
    return Heading(title, "Nothing is stale", "good", f"{seen}, each is stored as the API servers would write it now.")


def _to_do(record: Snapshot) -> list[str]:
    stored = record.stored
    steps = []
    if record.converged is False:
        steps.append("Finish or repair the API servers that differ. Migrate nothing before they agree.")
    if stored and stored.total("stale"):
        steps.append("Run the playbook kube_storage.upgrade.migrate: it rewrites what is stale.")
        if any("encryption" in found.reasons for found in stored.resources.values()):
            steps.append("Keep every old encryption key until nothing is under it anymore.")
    if stored and stored.total("unknown"):
        steps.append(
            "Check the keys that belong to no known resource: usually a CRD was deleted, or they belong to an aggregated API server."
        )
    return steps


def _figures(record: Snapshot) -> list[Figure]:
    found = [ready_count(record)]
    if record.baseline_found:
        found.append(
            Figure("Storage versions changed", number(len(record.changed)), "since the last complete migration")
        )
    stored = record.stored
    if stored:
        resources = things(stored.total("resources"), "resource")
        found += [
            Figure("Objects in etcd", number(stored.total("objects")), f"of {resources}"),
            Figure("Stale", number(stored.total("stale")), ""),
            Figure("Unknown", number(stored.total("unprovable")), "version hidden or not comparable"),
            Figure("Unknown keys", number(stored.total("unknown")), "of no known resource"),
        ]
    return found


def _claims(record: Snapshot) -> list[ProofClaim]:
    stored = record.stored
    agreed = agreement_claim(record)
    if stored is None:
        return [agreed, ProofClaim(None, "That etcd holds nothing stale: it was not read.")]
    found = [agreed, _stale_claim(stored)]
    if stored.total("encryption_unknown"):
        found.append(ProofClaim(None, encryption_unknown(stored)))
    if stored.total("unprovable"):
        unprovable = things(stored.total("unprovable"), "object")
        found.append(ProofClaim(None, f"The version of {unprovable} is unknown or not comparable."))
    if stored.total("unknown"):
        found.append(ProofClaim(None, f"{things(stored.total('unknown'), 'key')} belong to no known resource."))
    return found + [ProofClaim(None, problem) for problem in stored.problems]


def _stale_claim(stored: EtcdContents) -> ProofClaim:
    stale = stored.total("stale")
    what = "in an old version" if stored.total("encryption_unknown") else "stale"
    objects = things(stored.total("objects"), "object")
    if stale:
        return ProofClaim(
            False, f"Etcd holds nothing stale: of {objects} at revision {stored.revision}, {number(stale)} are."
        )
    return ProofClaim(True, f"None of the {objects} that etcd held at revision {stored.revision} is {what}.")


def _changed(record: Snapshot) -> Table | None:
    if not record.baseline_found:
        return None
    return Table(
        "Storage versions that changed since the last complete migration.",
        (("Resource", ""), ("Before", ""), ("Now", "")),
        [
            (
                changed.resource,
                *(short_version(version or "unknown", changed.resource) for version in (changed.before, changed.after)),
            )
            for changed in record.changed
        ],
    )


def _stale(stored: EtcdContents) -> Table:
    rows = [(name, found) for name, found in stored.resources.items() if found.stale]
    rows.sort(key=lambda row: (-row[1].stale, row[0]))
    return Table(
        "Stale objects, and why. One object may be stale for several reasons.",
        (("Resource", ""), ("Stale", "n"), ("Of", "n"), ("Because", "text"), ("Expected", "")),
        [
            (
                name,
                number(found.stale),
                number(found.objects),
                _reasons(found.reasons),
                short_version(found.expected, name) if found.expected else "unknown",
            )
            for name, found in rows
        ],
    )


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_WHY.get(why, why)} ({number(count)})" for why, count in counts.items())


def _unprovable(stored: EtcdContents) -> Table:
    return Table(
        "Objects whose version is unknown or not comparable.",
        (("Resource", ""), ("Why", "text")),
        [(name, _reasons(counts)) for name, counts in sorted(stored.unprovable.items())],
    )


def _keys(stored: EtcdContents) -> Table:
    """Over all resources, how many objects are under which key."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for name, resource in stored.resources.items():
        for variant in resource.stored:
            under = found.setdefault((variant.provider or "unknown", variant.key or ""), {})
            under[name] = under.get(name, 0) + variant.objects
    return Table(
        "How values are encrypted. Drop a key only when nothing is under it.",
        (("Provider", ""), ("Key", ""), ("Objects", "n"), ("Resources", "text")),
        [
            (
                "none (plain)" if provider == "identity" else provider,
                key or "-",
                number(sum(under.values())),
                _some(sorted(under, key=lambda name: (-under[name], name))),
            )
            for (provider, key), under in sorted(found.items(), key=lambda item: -sum(item[1].values()))
        ],
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _unknown(stored: EtcdContents) -> Table:
    return Table(
        "Keys in etcd that belong to no known resource, by the first part of their path.",
        (("Prefix", ""), ("Keys", "n")),
        [(found.prefix, number(found.objects)) for found in stored.unknown or ()],
    )
