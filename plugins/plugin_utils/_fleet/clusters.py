# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster's report as its row in the fleet: what is known, how bad it is, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import (
    ClusterRow,
    EtcdUse,
    FleetServer,
    KeyInUse,
    Severity,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.findings import headline
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    Check,
    EtcdContents,
    ReportedFinding,
    SeenServer,
    Snapshot,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import things

UNREACHABLE = "unreachable"
PLAIN = "identity"
SECRETS = "secrets"
# etcd should be defragmented or given more room before it is this full.
FULL = 0.8
_REASONS = 3
_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")
_STAGES = ("alpha", "beta", "")


def row_of(host: str, report: Snapshot, pages: Mapping[str, str], before: ClusterRow | None = None) -> ClusterRow:
    """The row of one cluster. ``before``: what an earlier run had, for when each key was first seen."""
    check, stored = report.check, report.stored
    row = ClusterRow(
        host=host,
        state=Severity.FINE.value,
        name=report.cluster,
        uid=report.uid,
        observed=report.updated,
        pages=dict(pages),
        servers=[_server(server) for server in report.servers],
        agree=report.converged,
        target=report.version,
        migrated=report.migrated_at,
        snapshot=report.snapshot_at,
    )
    if check is not None:
        row = replace(
            row,
            target=check.target_version or report.version,
            blockers=len(open_blockers(check)),
            concerns=len(check.concerns),
            safe_up_to=check.safe_up_to,
            untrimmed=check.untrimmed,
        )
    if stored is not None:
        row = replace(
            row,
            objects=stored.total("objects"),
            stale=stored.total("stale"),
            unprovable=stored.total("unprovable"),
            stale_resources={name: found.stale for name, found in stored.resources.items() if found.stale},
            oldest=_oldest(stored),
            keys=_keys(stored, report.updated, before),
            plain_secrets=_plain_secrets(stored),
            etcd=[
                EtcdUse(member.endpoint, member.size, member.in_use, member.quota) for member in stored.databases or ()
            ],
        )
    found = sorted(_evaluate(report, row), key=lambda reason: -reason[0].rank)
    if found:
        row.state = found[0][0].value
        row.why = [sentence for _severity, sentence in found[:_REASONS]]
    return row


def open_blockers(check: Check) -> list[ReportedFinding]:
    """The blockers that the user does not ignore."""
    return [blocker for blocker in check.blockers if not blocker.ignored]


def same_cluster(rows: Iterable[ClusterRow]) -> list[ClusterRow]:
    """The rows. If several hosts reach the same cluster, the first keeps it, and the rows of the others say so."""
    first: dict[str, str] = {}
    found = []
    for row in rows:
        known = first.setdefault(row.uid, row.host) if row.uid else row.host
        found.append(row if known == row.host else _twin(row, known))
    return found


def _twin(row: ClusterRow, first: str) -> ClusterRow:
    sentence = (
        f"It is the same cluster as {first}: in both, the namespace kube-system has the uid {row.uid}. Correct its kubeconfig, or remove "
        "one of the two from the inventory."
    )
    # Its figures are those of the first, and must not count twice.
    return ClusterRow(
        host=row.host,
        state=Severity.FAILURE.value,
        name=row.name,
        uid=row.uid,
        wave=row.wave,
        why=[sentence],
        observed=row.observed,
        pages=row.pages,
    )


def _evaluate(report: Snapshot, row: ClusterRow) -> Iterator[tuple[Severity, str]]:
    """Each reason why it is not fine."""
    if report.failures:
        silent = report.error == UNREACHABLE and not report.servers
        severity = Severity.NOT_REACHED if silent else Severity.FAILURE
        yield from ((severity, failure) for failure in report.failures)
    elif report.converged is None:
        yield Severity.FAILURE, "No API server was asked, so nothing is known."
    for blocker in open_blockers(report.check) if report.check else ():
        yield Severity.BLOCKER, headline(blocker)
    if report.converged is False:
        yield Severity.DISAGREEMENT, " ".join(report.reasons) or "The API servers do not agree."
    if row.stale:
        yield Severity.STALE, f"{things(row.stale, 'object')} stored in an old form."
    yield from ((Severity.CONCERN, sentence) for sentence in _concerns(report, row))


def _concerns(report: Snapshot, row: ClusterRow) -> Iterator[str]:
    if report.check:
        yield from (headline(concern) for concern in report.check.concerns)
    if row.untrimmed:
        yield f"{things(len(row.untrimmed), 'CRD')} with status.storedVersions to trim."
    if row.unprovable:
        yield f"The version of {things(row.unprovable, 'object')} is unknown."
    if row.plain_secrets and any(key.objects for key in row.keys):
        yield f"{things(row.plain_secrets, 'Secret')} not encrypted, while other objects are."
    if row.etcd_share is not None and row.etcd_share > FULL:
        yield f"etcd has used {row.etcd_share:.0%} of its quota."
    if report.converged and report.unchecked:
        yield f"Whether other API servers are alive was not cross-checked: {report.unchecked}."
    if report.converged and report.sampling:
        yield "That the API servers agree is known by sampling only."


def _server(server: SeenServer) -> FleetServer:
    return FleetServer(server.name or server.url or "", server.emulated_version or server.version, server.ready)


def _oldest(stored: EtcdContents) -> str | None:
    """The oldest version that should not be stored anymore; None if there is none, or encryption hides it."""
    found = [
        (_age(variant.version), f"{name} {short_version(variant.version, name)}")
        for name, resource in stored.resources.items()
        for variant in resource.stored
        if variant.version and "version" in variant.stale
    ]
    return min(found)[1] if found else None


def _age(version: str) -> tuple[int, int, int]:
    """alpha before beta before stable, and by number within them, as Kubernetes orders versions."""
    match = _VERSION.fullmatch(version.rpartition("/")[2])
    if match is None:
        return (-1, 0, 0)
    return (_STAGES.index(match[2] or ""), int(match[1]), int(match[3] or 0))


def _keys(stored: EtcdContents, now: str, before: ClusterRow | None) -> list[KeyInUse]:
    known = {(key.provider, key.key): key.seen for key in before.keys} if before else {}
    objects: dict[tuple[str, str | None], int] = {}
    for resource in stored.resources.values():
        for variant in resource.stored:
            if variant.provider and variant.provider != PLAIN:
                key = (variant.provider, variant.key)
                objects[key] = objects.get(key, 0) + variant.objects
    return [
        KeyInUse(provider, name, count, known.get((provider, name), now))
        for (provider, name), count in sorted(
            objects.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or "")
        )
    ]


def _plain_secrets(stored: EtcdContents) -> int | None:
    """How many Secrets are not encrypted; None if none is stored, or they were not read."""
    found = stored.resources.get(SECRETS)
    return None if found is None else sum(form.objects for form in found.stored if form.provider == PLAIN)
