# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the page of an audit shows: how API servers write, what etcd holds, what of it is stale and why, under which keys. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.parts import Claim, Figure, Heading, Table
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.pictures import (
    NARROW,
    WIDE,
    held_picture,
    parts_text,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.servers import (
    agreement,
    agreement_claim,
    servers_table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    StoredRow,
    number,
    stored_rows,
    things,
)

_WHY = {
    "version": "not the storage version",
    "encoding": "another encoding",
    "encryption": "another encryption or key",
    "encrypted": "encryption hides the version",
    "corrupt": "it can't be read",
    "empty": "it is empty",
    "nothing_expected": "no API server serves it, or they disagree",
}


def audit_page(record: Record) -> dict[str, Any]:
    """What the template needs."""
    stored = record["stored"]
    rows = audit_rows(record)
    return {
        "heading": _heading(record),
        "to_do": _to_do(record),
        "figures": _figures(record),
        "claims": _claims(record),
        "servers": servers_table(record),
        "changed": _changed(record),
        "held_pictures": [one for one in (held_picture(rows, width) for width in (WIDE, NARROW)) if one is not None],
        "stale": _stale(stored) if stored else None,
        "unprovable": _unprovable(stored) if stored else None,
        "keys": _keys(stored) if stored else None,
        "unknown": _unknown(stored) if stored else None,
        "everything": Table(
            f"All {things(len(rows), 'resource')} in etcd, and how their objects are stored.",
            (("Resource", ""), ("Stored as", "")),
            [(row.resource, parts_text(row.after)) for row in sorted(rows, key=lambda one: one.resource)],
        ),
    }


def audit_rows(record: Record) -> list[StoredRow]:
    """Stale ones first, then the largest."""
    rows = stored_rows({**record, "stored": {"before": None, "after": record["stored"]}}, ())
    return sorted(rows, key=lambda row: (-row.stale_after, -sum(one.objects for one in row.after or ()), row.resource))


def _heading(record: Record) -> Heading:
    title = "What is stored, and how"
    stored = record["stored"]
    if record["failures"]:
        return Heading(title, "Not all could be looked at", "bad", record["failures"][0])
    if not record["converged"]:
        return Heading(title, "The API servers do not agree", "bad", " ".join(record["reasons"]))
    if stored is None:
        return Heading(
            title,
            "Etcd was not read",
            "open",
            f"The API servers were asked, and {agreement(record)}. What is really stored was not read; set rolling_upgrade_etcd for that.",
        )
    total = stored["totals"]
    seen = f"Of {things(total['objects'], 'object')} in etcd"
    if total["stale"]:
        return Heading(
            title,
            things(total["stale"], "stale object"),
            "fair",
            f"{seen}, {number(total['stale'])} are stored otherwise than the API servers write now.",
        )
    if total["unprovable"] or total["unknown"]:
        doubts = total["unprovable"] + total["unknown"]
        return Heading(
            title, "Nothing is seen to be stale", "fair", f"{seen} none is stale; {number(doubts)} can't be told."
        )
    return Heading(title, "Nothing is stale", "good", f"{seen} each is stored as the API servers would write it now.")


def _to_do(record: Record) -> list[str]:
    stored = record["stored"]
    steps = []
    if record["converged"] is False:
        steps.append("Finish or repair the API servers that differ. Migrate nothing before they agree.")
    if stored and stored["totals"]["stale"]:
        steps.append("Run the playbook kube_storage.upgrade.migrate: it rewrites what is stale.")
        if any("encryption" in one["reasons"] for one in stored["resources"].values()):
            steps.append("Keep every old encryption key until nothing is under it any more.")
    if stored and stored["totals"]["unknown"]:
        steps.append(
            "Look at the keys of no known resource: usually a CRD was deleted, or they belong to an aggregated API server."
        )
    return steps


def _figures(record: Record) -> list[Figure]:
    ready = sum(1 for one in record["servers"] if one["ready"])
    found = [Figure("API servers ready", f"{ready} of {len(record['servers'])}", agreement(record))]
    if record["baseline_found"]:
        found.append(
            Figure("Storage versions changed", number(len(record["changed"])), "since the last complete migration")
        )
    stored = record["stored"]
    if stored:
        total = stored["totals"]
        found += [
            Figure("Objects in etcd", number(total["objects"]), f"of {things(total['resources'], 'resource')}"),
            Figure("Stale", number(total["stale"]), ""),
            Figure("Can't be told", number(total["unprovable"]), "version hidden or not comparable"),
            Figure("Of no known resource", number(total["unknown"]), "keys"),
        ]
    return found


def _claims(record: Record) -> list[Claim]:
    stored = record["stored"]
    agreed = agreement_claim(record)
    if stored is None:
        return [agreed, Claim(None, "That etcd holds nothing stale: it was not read.")]
    total = stored["totals"]
    left = f": {number(total['stale'])} are" if total["stale"] else ""
    found = [
        agreed,
        Claim(
            not total["stale"],
            f"None of the {things(total['objects'], 'object')} that etcd held at revision {stored['revision']} is stale{left}.",
        ),
    ]
    if total["unprovable"]:
        found.append(Claim(None, f"Of {things(total['unprovable'], 'object')} the version can't be told or compared."))
    if total["unknown"]:
        found.append(Claim(None, f"{things(total['unknown'], 'key')} belong to no known resource."))
    return found + [Claim(None, str(problem)) for problem in stored["problems"]]


def _changed(record: Record) -> Table | None:
    if not record["baseline_found"]:
        return None
    return Table(
        "Storage versions that changed since the last complete migration.",
        (("Resource", ""), ("Before", ""), ("Now", "")),
        [
            (one["resource"], *(short_version(one[when] or "unknown", one["resource"]) for when in ("before", "after")))
            for one in record["changed"]
        ],
    )


def _stale(stored: Record) -> Table:
    rows = [(name, one) for name, one in stored["resources"].items() if one["stale"]]
    rows.sort(key=lambda row: (-row[1]["stale"], row[0]))
    return Table(
        "Stale objects, and why. One object may be stale for several reasons.",
        (("Resource", ""), ("Stale", "n"), ("Of", "n"), ("Because", "text"), ("Expected", "")),
        [
            (
                name,
                number(one["stale"]),
                number(one["objects"]),
                _reasons(one["reasons"]),
                short_version(one["expected"], name) if one["expected"] else "not known",
            )
            for name, one in rows
        ],
    )


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_WHY.get(why, why)} ({number(count)})" for why, count in counts.items())


def _unprovable(stored: Record) -> Table:
    return Table(
        "Objects whose version can't be told or compared.",
        (("Resource", ""), ("Why", "text")),
        [(name, _reasons(counts)) for name, counts in sorted(stored["unprovable"].items())],
    )


def _keys(stored: Record) -> Table:
    """Over all resources, how many objects are under which key."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for name, one in stored["resources"].items():
        for row in one["stored"]:
            of = found.setdefault((row["provider"] or "unknown", row["key"] or ""), {})
            of[name] = of.get(name, 0) + row["objects"]
    return Table(
        "How values are encrypted. A key may go only when nothing is under it.",
        (("Provider", ""), ("Key", ""), ("Objects", "n"), ("Resources", "text")),
        [
            (
                "none (plain)" if provider == "identity" else provider,
                key or "-",
                number(sum(of.values())),
                _some(sorted(of, key=lambda name: (-of[name], name))),
            )
            for (provider, key), of in sorted(found.items(), key=lambda item: -sum(item[1].values()))
        ],
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _unknown(stored: Record) -> Table:
    return Table(
        "Keys in etcd of no known resource, by the first part of their path.",
        (("Prefix", ""), ("Keys", "n")),
        [(one["prefix"], number(one["objects"])) for one in stored["unknown"]],
    )
