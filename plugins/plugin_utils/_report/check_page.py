# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the page of a check shows: the verdict, what to mend and how, and what the upgrade is going to change. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.parts import Claim, Figure, Heading, Table
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.servers import (
    agreement,
    ready_claim,
    servers_table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import duration, number, things

_SOURCES = {"etcd": "read from etcd", "record": "on record", "hash": "what is written now"}


def check_page(record: Record) -> dict[str, Any]:
    """What the template needs."""
    check = record["check"]
    return {
        "heading": _heading(record),
        "to_do": _to_do(record),
        "figures": _figures(record),
        "claims": _claims(record),
        "servers": servers_table(record),
        "changes": _changes(check) if check else None,
        "stored": _stored(check) if check else None,
    }


def _open_blockers(record: Record) -> list[Record]:
    return [one for one in (record["check"] or {}).get("blockers", ()) if not one["ignored"]]


def _heading(record: Record) -> Heading:
    check, blockers = record["check"], _open_blockers(record)
    title = f"Check before the upgrade to Kubernetes {record['version']}" if record["version"] else "Check"
    if blockers:
        verdict = "1 thing blocks the upgrade" if len(blockers) == 1 else f"{len(blockers)} things block the upgrade"
        return Heading(title, verdict, "bad", "No master was touched. Mend what is listed below, and check again.")
    if record["failures"]:
        return Heading(title, "Not ready", "bad", record["failures"][0])
    if check is None:
        return Heading(
            title,
            "The API servers are ready",
            "fair",
            "Whether a release can read what is stored was not asked: set rolling_upgrade_version for that.",
        )
    text = f"From {check['current_version']} to {check['target_version']}: nothing was found that blocks it"
    if not check["proven_from_etcd"]:
        text += ", as far as can be told without reading etcd"
    if check["concerns"]:
        text += f"; {things(len(check['concerns']), 'concern')} should be known"
    doubts = check["unknown"] or check["concerns"] or not check["proven_from_etcd"]
    return Heading(title, "Nothing blocks the upgrade", "fair" if doubts else "good", f"{text}.")


def _to_do(record: Record) -> list[str]:
    steps = [f"{one['id']}: {one['mend']}" for one in _open_blockers(record)]
    if not steps:
        steps = record["failures"][1:]
    if _open_blockers(record) or record["failures"]:
        steps = [*steps, "Run the check again. The upgrade's playbook runs it, too, before it touches a master."]
    elif record["check"] and not record["check"]["proven_from_etcd"]:
        steps = ["Set rolling_upgrade_etcd, if what is stored shall be read instead of concluded."]
    return steps


def _figures(record: Record) -> list[Figure]:
    check = record["check"]
    ready = sum(1 for one in record["servers"] if one["ready"])
    found = [Figure("API servers ready", f"{ready} of {len(record['servers'])}", agreement(record))]
    if check is None:
        return found
    everything = check["all"]
    took = duration(everything["seconds"]) if everything["seconds"] is not None else ""
    return [
        Figure("Blockers", number(len(_open_blockers(record))), ""),
        Figure("Concerns", number(len(check["concerns"])), f"and {things(len(check['unknown']), 'thing')} not known"),
        *found,
        Figure("Readable up to", check["safe_up_to"] or "none", "the last release that can read all that is stored"),
        Figure("Storage versions", number(len(check["changes"])), "change with the upgrade"),
        Figure(
            "Objects",
            number(int(everything["objects"])) if everything["objects"] is not None else "?",
            f"to visit afterwards, about {took}" if took else "to visit afterwards",
        ),
    ]


def _claims(record: Record) -> list[Claim]:
    check = record["check"]
    found = [ready_claim(record)]
    if check is None:
        return found
    target = check["target_version"]
    unreadable = sorted({one["resource"] for one in check["stored"] if one["readable"] is False})
    readable = f"{target} and the releases on the way to it can read every version that is stored"
    if unreadable:
        found.append(Claim(False, f"{readable}: not those of {', '.join(unreadable)}."))
    else:
        proven = True if check["proven_from_etcd"] else None
        how = (
            "etcd was read"
            if proven
            else "concluded from records and from what the API servers write; etcd was not read"
        )
        found.append(Claim(proven, f"{readable} ({how})."))
    found += [Claim(None, str(one)) for one in check["unknown"]]
    return found


def _changes(check: Record) -> Table:
    return Table(
        "Storage versions that change with the upgrade. Their objects are what the migration afterwards rewrites.",
        (("Resource", ""), ("Now", ""), ("Then", ""), ("Objects", "n"), ("Bytes", "n"), ("About", "n")),
        [
            (
                one["resource"],
                *(short_version(one[when], one["resource"]) if one[when] else "unknown" for when in ("from", "to")),
                *("not known" if one[count] is None else number(int(one[count])) for count in ("objects", "bytes")),
                "not known" if one["seconds"] is None else duration(one["seconds"]),
            )
            for one in check["changes"]
        ],
    )


def _stored(check: Record) -> Table:
    rows = sorted(
        check["stored"],
        key=lambda one: (one["readable"] is not False, one["safe_up_to"] == check["newest"], one["resource"]),
    )
    return Table(
        f"{things(len(rows), 'stored version')}, and the last release that can read each"
        + (f" ({check['newest']} is the newest that is known)" if check["newest"] else "")
        + ". Of custom resources the CRD decides.",
        (("Resource", ""), ("Stored as", ""), ("Objects", "n"), ("Last release", ""), ("Known how", "")),
        [
            (
                one["resource"],
                short_version(one["version"], one["resource"]) if one["version"] else "hidden by encryption",
                "not read" if one["objects"] is None else number(int(one["objects"])),
                one["safe_up_to"]
                or ("none" if one["readable"] is False else "the CRD decides" if one["version"] else "not known"),
                _SOURCES.get(one["source"] or "", one["source"] or ""),
            )
            for one in rows
        ],
    )
