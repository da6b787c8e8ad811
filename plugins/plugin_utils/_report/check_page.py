# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a check's page: the verdict, what to fix and how, and what the upgrade will change. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import (
    Figure,
    Heading,
    ProofClaim,
    Table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.findings import headline
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    Check,
    ReadableVersion,
    ReportedFinding,
    Snapshot,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.servers import (
    ready_claim,
    ready_count,
    servers_table,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import number, things, time_taken

_SOURCES = {"etcd": "read from etcd", "record": "on record", "hash": "what is written now"}


def check_page(record: Snapshot) -> dict[str, Any]:
    """The template's variables."""
    check = record.check
    return {
        "heading": _heading(record),
        "to_do": _to_do(record),
        "figures": _figures(record),
        "claims": _claims(record),
        "servers": servers_table(record),
        "changes": _changes(check) if check else None,
        "stored": _stored(check) if check else None,
    }


def _open_blockers(record: Snapshot) -> list[ReportedFinding]:
    return [blocker for blocker in (record.check.blockers if record.check else ()) if not blocker.ignored]


def _heading(record: Snapshot) -> Heading:
    check, blockers = record.check, _open_blockers(record)
    title = f"Check before the upgrade to Kubernetes {record.version}" if record.version else "Check"
    if blockers:
        verdict = "1 thing blocks the upgrade" if len(blockers) == 1 else f"{len(blockers)} things block the upgrade"
        return Heading(title, verdict, "bad", "No master was touched. Fix what is listed below, and check again.")
    if record.failures:
        return Heading(title, "Not ready" if record.servers else "Not checked", "bad", record.failures[0])
    if not record.servers:
        return Heading(title, "Not checked", "open", "No API server was asked, so nothing is known about them.")
    ready = ready_claim(record)
    if ready.holds is False:
        return Heading(title, "Not ready", "bad", " ".join(record.reasons) or f"Not true: {ready.text}")
    if check is None:
        text = "Whether a release can read what is stored was not checked: set rolling_upgrade_version for that."
        return Heading(title, "The API servers are ready", "fair", text)
    return _verdict(title, check)


def _verdict(title: str, check: Check) -> Heading:
    """Without blockers, except for those that the user ignores."""
    text = f"From {check.current_version} to {check.target_version}: nothing was found that blocks it"
    if not check.proven_from_etcd:
        text += ", as far as is known without reading all of etcd"
    if check.concerns:
        text += f"; {things(len(check.concerns), 'concern')} to consider"
    if check.blockers:
        ignored = things(len(check.blockers), "blocker")
        return Heading(
            title, f"Ready, with {ignored} ignored", "fair", f"{text}, apart from what is ignored on request."
        )
    doubts = check.unknown or check.concerns or not check.proven_from_etcd
    return Heading(title, "Nothing blocks the upgrade", "fair" if doubts else "good", f"{text}.")


def _to_do(record: Snapshot) -> list[str]:
    steps = [f"{headline(blocker)} {blocker.remediation}" for blocker in _open_blockers(record)]
    if not steps:
        steps = record.failures[1:]
    if _open_blockers(record) or record.failures:
        steps = [*steps, "Run the check again. The upgrade's playbook runs it, too, before it touches a master."]
    elif record.check and not record.check.proven_from_etcd and not _etcd_was_read(record.check):
        steps = ["Set rolling_upgrade_etcd to read what is stored instead of inferring it."]
    return steps


def _etcd_was_read(check: Check) -> bool:
    """If only in part."""
    return any(stored.source == "etcd" for stored in check.stored)


def _limit(check: Check) -> str:
    if check.safe_up_to and check.safe_up_to == check.newest:
        return "the newest release known to this version of the collection"
    return "the last release known to read all that is stored"


def _figures(record: Snapshot) -> list[Figure]:
    check = record.check
    found = [ready_count(record)]
    if check is None:
        return found
    everything = check.all
    took = time_taken(everything.seconds) if everything.seconds is not None else ""
    return [
        Figure("Blockers", number(len(_open_blockers(record))), ""),
        Figure("Concerns", number(len(check.concerns)), f"and {things(len(check.unknown), 'unknown')}"),
        *found,
        Figure("Readable up to", check.safe_up_to or "none", _limit(check)),
        Figure("Storage versions", number(len(check.changes)), "change with the upgrade"),
        Figure(
            "Objects",
            number(int(everything.objects)) if everything.objects is not None else "?",
            f"to visit afterwards, about {took}" if took else "to visit afterwards",
        ),
    ]


def _claims(record: Snapshot) -> list[ProofClaim]:
    check = record.check
    found = [ready_claim(record)]
    if check is None:
        return found
    target = check.target_version
    unreadable = sorted({stored.resource for stored in check.stored if stored.readable is False})
    readable = f"{target} and the releases before it can read every version that is stored"
    if unreadable:
        found.append(ProofClaim(False, f"{readable}, except those of {', '.join(unreadable)}."))
    else:
        proven = True if check.proven_from_etcd else None
        how = (
            "etcd was read"
            if proven
            else "inferred from records and from what the API servers write; etcd was not read, or not completely"
        )
        found.append(ProofClaim(proven, f"{readable} ({how})."))
    found += [ProofClaim(None, unknown) for unknown in check.unknown]
    return found


def _changes(check: Check) -> Table:
    return Table(
        "Storage versions that change with the upgrade. The migration after the upgrade rewrites their objects.",
        (("Resource", ""), ("Now", ""), ("Then", ""), ("Objects", "n"), ("Bytes", "n"), ("About", "n")),
        [
            (
                change.resource,
                *(
                    short_version(version, change.resource) if version else "unknown"
                    for version in (change.from_version, change.to_version)
                ),
                *("unknown" if count is None else number(int(count)) for count in (change.objects, change.bytes)),
                "unknown" if change.seconds is None else time_taken(change.seconds),
            )
            for change in check.changes
        ],
    )


def _stored(check: Check) -> Table:
    rows = sorted(
        check.stored,
        key=lambda stored: (stored.readable is not False, stored.safe_up_to == check.newest, stored.resource),
    )
    return Table(
        f"{things(len(rows), 'stored version')}, and the last release that can read each"
        + (f" ({check.newest} is the newest that is known)" if check.newest else "")
        + ". For custom resources the CRD decides.",
        (("Resource", ""), ("Stored as", ""), ("Objects", "n"), ("Last release", ""), ("Known how", "")),
        [
            (
                stored.resource,
                short_version(stored.version, stored.resource) if stored.version else "hidden by encryption",
                "not read" if stored.objects is None else number(int(stored.objects)),
                _last_reader(stored),
                _SOURCES.get(stored.source or "", stored.source or ""),
            )
            for stored in rows
        ],
    )


def _last_reader(stored: ReadableVersion) -> str:
    if stored.safe_up_to:
        return stored.safe_up_to
    if stored.readable is False:
        return "none"
    return "the CRD decides" if stored.version else "unknown"
