# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module etcd_snapshot: a verified snapshot of each etcd in a folder, and the oldest ones removed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.clock import boottime
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError, EtcdError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import require_not_negative
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import Speed, progress_event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters, document_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.membership import MemberState, membership
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.opening import open_clusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot_files import SnapshotFolder
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.snapshot_stream import SnapshotStream

_PATH = "/v3/maintenance/snapshot"
# One key that need not exist; a linearizable read, so that the member first catches up.
_ANY_KEY = {"key": "AA==", "keys_only": True}
_PROGRESS_EVERY = 1.0
_MIB = 1 << 20


@dataclass(frozen=True)
class SnapshotOptions:
    """The module's options. ``etcd``: the option of that name. ``keep``: snapshots of each etcd; 0 keeps all."""

    folder: str
    etcd: Mapping[str, Any]
    keep: int = 0

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> SnapshotOptions:
        """From the module's parameters. Raises BadInputError."""
        require_not_negative(params, ["keep"])
        folder = params["path"]
        if not os.path.isabs(folder):
            raise BadInputError(f"path must be an absolute path, not '{folder}'.")
        return cls(folder, params.get("etcd") or {}, params.get("keep") or 0)


async def etcd_snapshot(options: SnapshotOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors. In check mode everything is checked and nothing is written."""
    folder = SnapshotFolder(options.folder)
    async with open_clusters(options.etcd) as clusters:
        sources = [(etcd, await _members(etcd)) for etcd in _each(clusters)]
        sizes = [max(member.db_size for member in members) for _etcd, members in sources]
        folder.prepare(sum(sizes), check_mode=check_mode)
        if check_mode:
            return _result([_planned(members[0], size) for (_etcd, members), size in zip(sources, sizes)], [], True)
        taken = [await _take(etcd, members, folder, report) for etcd, members in sources]
    paths = [snapshot["path"] for snapshot in taken]
    ids = list(dict.fromkeys(snapshot["cluster"] for snapshot in taken))
    mixed = [cluster for cluster in ids if options.keep and folder.are_mixed(cluster, paths)]
    removed = [path for cluster in ids for path in folder.remove_old(cluster, options.keep, paths)]
    result = _result(taken, removed, False)
    if mixed:
        result["msg"] += (
            f" No older one with the id {', '.join(mixed)} was removed: their revisions don't rise with their times, so some are of "
            "another cluster with the same id, of the time before a restore, or of a time when this host's clock was wrong; move those to another folder."
        )
    return result


def _each(clusters: EtcdClusters) -> list[Etcd]:
    return [clusters.default, *(etcd for _patterns, etcd in clusters.overrides)]


async def _members(etcd: Etcd) -> list[MemberState]:
    """Those that can give a snapshot, in the order to try: a follower spares the leader. Raises EtcdError."""
    found = await membership(etcd)
    if found.is_kine:
        raise EtcdError(
            f"{etcd.endpoints[0]} is kine, which takes no snapshots; back up its database instead (SQLite of k3s: the folder "
            "/var/lib/rancher/k3s/server/db)."
        )
    corrupt = {raised_by for state in found.states for alarm, raised_by in state.alarms if alarm == "CORRUPT"}
    if corrupt:
        raise EtcdError(
            f"etcd has raised the alarm CORRUPT at {', '.join(map(found.text_of, sorted(corrupt)))}, so a snapshot may hold damaged data; "
            "repair that member first (etcd.io/docs, Operating etcd clusters, Data corruption)."
        )
    usable = [state for state in found.states if not state.learner and state.leader is not None]
    if not usable:
        raise EtcdError(
            f"No member of etcd at {', '.join(etcd.endpoints)} knows a leader, so a snapshot may lack writes; find out which members are "
            "down (etcdctl endpoint status --cluster), and run again."
        )
    return sorted(usable, key=lambda state: state.leads)


async def _take(etcd: Etcd, members: list[MemberState], folder: SnapshotFolder, report: Report) -> dict[str, Any]:
    """From the first member that gives a whole one."""
    failed: EtcdError | None = None
    for member in members:
        try:
            return await _from(etcd, member, folder, report)
        except EtcdError as error:
            report(Event("notice", f"No snapshot from {member.address}: {error.message}", {}))
            failed = failed or error
    raise failed or EtcdError("etcd lists no members.")


async def _from(etcd: Etcd, member: MemberState, folder: SnapshotFolder, report: Report) -> dict[str, Any]:
    header = document_of(await etcd.ask_member(member.address, "/v3/kv/range", _ANY_KEY)).get("header") or {}
    asked_at = int(header.get("revision") or 0)
    report(Event("notice", f"Taking a snapshot of etcd from {member.address}.", {}))
    with folder.new(member.cluster_id, datetime.now(timezone.utc)) as file:
        stream = SnapshotStream(file.write)
        told = _Progress(stream, report)

        def take(data: bytes) -> None:
            stream.feed(data)
            told.tell(boottime())  # maybe in a thread

        await etcd.stream(member.address, _PATH, {}, take)
        digest = stream.end()
        revision = file.revision()
        if revision < asked_at:
            raise EtcdError(
                f"The snapshot of {member.address} ends at revision {revision}, although the member was at {asked_at} before; run again."
            )
        path = file.keep(revision)
    return {
        "path": path,
        "revision": revision,
        "sha256": digest,
        "bytes": file.size,
        "member": member.address,
        "version": member.version,
        "cluster": member.cluster_id,
    }


def _planned(member: MemberState, size: int) -> dict[str, Any]:
    return {
        "path": None,
        "revision": member.revision,
        "sha256": None,
        "bytes": size,
        "member": member.address,
        "version": member.version,
        "cluster": member.cluster_id,
    }


def _result(taken: list[dict[str, Any]], removed: list[str], check_mode: bool) -> dict[str, Any]:
    first = taken[0]
    size = f"{sum(snapshot['bytes'] for snapshot in taken) / _MIB:.1f} MiB"
    if check_mode:
        text = f"Would take a snapshot of etcd at {first['member']}, of up to {size}."
    else:
        text = (
            f"The snapshot of etcd at revision {first['revision']} is in {first['path']} ({size}, checksum verified)."
        )
        if len(taken) > 1:
            others = ", ".join(snapshot["path"] for snapshot in taken[1:])
            text = text[:-1] + f"; those of the others are in {others}."
    return {"changed": True, "msg": text, **first, "snapshots": taken, "removed": removed}


class _Progress:
    """Events about the bytes that arrived, at most one per second."""

    def __init__(self, stream: SnapshotStream, report: Report) -> None:
        self._stream = stream
        self._report = report
        self._speed = Speed()
        self._last: float | None = None

    def tell(self, now: float) -> None:
        if self._stream.size is None or (self._last is not None and now < self._last + _PROGRESS_EVERY):
            return
        self._last = now
        done, total = self._stream.done // _MIB, -(-self._stream.size // _MIB)
        rate = self._speed.at(now, self._stream.done) / _MIB
        self._report(progress_event("MiB of etcd's snapshot", done, total, rate))
