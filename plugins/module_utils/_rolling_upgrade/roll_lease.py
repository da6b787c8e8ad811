# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One roll of the masters at a time: the content of a roll's Lease, and what may be written to it. Pure.

No process lives as long as a roll, so nothing renews its Lease in the background: each step of the role does. So the
Lease lasts as long as the longest step may take. It also says who holds it and where, so that a run on the same
controller can see at once that the holder has ended.

A step may take a master down. It stays on record from its beginning to its orderly end, whoever holds the Lease:
a roll that died leaves its step there, and no other step can begin before somebody has made sure that it is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import AlreadyRunningError, CutOffError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import micros_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.lease import lease_seconds_left

NAME, NAMESPACE = "kube-storage-upgrade-roll", "kube-system"
# How long an unattended driver may take: OpenShift's has three hours.
DURATION = 14400
ANNOTATION = "kube-storage-upgrade/roll"

Step = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """Who wants the Lease. ``holder`` names one run of ansible-playbook, ``process`` where it runs."""

    holder: str
    who: str = ""
    host: str = ""
    process: Mapping[str, Any] = field(default_factory=dict)
    purpose: str = ""
    doing: str = ""
    duration: int = DURATION


@dataclass(frozen=True)
class Roll:
    """The content of the Lease. ``holder`` is empty if nobody holds it; ``seconds_left`` is 0 or less once it has expired."""

    holder: str = ""
    seconds_left: float = 0.0
    who: str = ""
    host: str = ""
    since: str = ""
    purpose: str = ""
    doing: str = ""
    process: Mapping[str, Any] = field(default_factory=dict)
    step: Step | None = None

    @property
    def active(self) -> bool:
        return bool(self.holder) and self.seconds_left > 0

    def told(self) -> dict[str, Any]:
        """For a result."""
        names = ("holder", "who", "host", "since", "purpose", "doing")
        found: dict[str, Any] = {name: getattr(self, name) or None for name in names}
        return {**found, "process": dict(self.process), "seconds_left": round(max(self.seconds_left, 0.0))}


def read(lease: Mapping[str, Any] | None, now: datetime) -> Roll:
    """``now`` by the server's clock. Unintelligible content counts as an unknown holder."""
    if lease is None:
        return Roll()
    spec = lease.get("spec") or {}
    notes = _notes(lease)
    step = notes.get("step")
    return Roll(
        holder=str(spec.get("holderIdentity") or ""),
        seconds_left=lease_seconds_left(spec, now),
        process=notes["process"] if isinstance(notes.get("process"), dict) else {},
        step=step if isinstance(step, dict) and step.get("id") else None,
        **{name: str(notes.get(name) or "") for name in ("who", "host", "since", "purpose", "doing")},
    )


def _notes(lease: Mapping[str, Any]) -> dict[str, Any]:
    annotations = (lease.get("metadata") or {}).get("annotations") or {}
    try:
        found = json.loads(annotations.get(ANNOTATION) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def require_free(roll: Roll, claim: Claim, where: str, take_over: str | None) -> None:
    """Raises AlreadyRunningError while another run holds the Lease; ``take_over`` names a holder known to have ended."""
    if not roll.active or roll.holder in (claim.holder, take_over):
        return
    raise AlreadyRunningError(
        f"Another roll is active: {_holder(roll)}. This task touched nothing. Wait until it ends and run again; if you know that it has "
        f"ended, set rolling_upgrade_take_over to '{roll.holder}', else the Lease {where} expires in {span(roll.seconds_left)}.",
        {"other": roll.told()},
    )


def require_held(roll: Roll, claim: Claim, where: str) -> None:
    """Raises AlreadyRunningError if this run held the Lease and has lost it."""
    if roll.holder == claim.holder:
        return
    now = f"now it is held by {_holder(roll)}" if roll.active else "somebody took or released it meanwhile"
    raise AlreadyRunningError(
        f"This roll no longer holds the Lease {where}: {now}. It was stopped; make sure that no other roll is active and run again.",
        {"other": roll.told() if roll.active else None},
    )


def cut_off(step: Step, where: str) -> CutOffError:
    """``step`` is on record and did not end properly, so no other one may begin."""
    return CutOffError(
        f"A step on {step.get('master')}, begun at {step.get('begun')}, was interrupted, and its tasks may still be running there. "
        f"This task touched nothing. Check that master; when none of its processes remain, set rolling_upgrade_cut_off_ended to '{step['id']}' "
        f"(the Lease {where} has it on record) and run again.",
        {"open_step": step},
    )


def new_step(identity: str, master: str, claim: Claim, now: datetime) -> Step:
    return {
        "id": identity,
        "master": master,
        "begun": text(now),
        "holder": claim.holder,
        "who": claim.who,
        "host": claim.host,
        "process": dict(claim.process),
    }


def _holder(roll: Roll) -> str:
    who = " on ".join(part for part in (roll.who or roll.holder, roll.host) if part)
    parts = [
        f"{who} since {roll.since}" if roll.since else who,
        roll.purpose,
        f"now at {roll.doing}" if roll.doing else "",
    ]
    return ", ".join(part for part in parts if part)


def held(lease: Mapping[str, Any] | None, roll: Roll, claim: Claim, now: datetime, step: Step | None) -> dict[str, Any]:
    """The Lease once ``claim`` holds it, with ``step`` on record."""
    stamp = micros_text(now)
    ours = roll.holder == claim.holder
    old = dict((lease or {}).get("spec") or {})
    spec = {
        **old,
        "holderIdentity": claim.holder,
        "leaseDurationSeconds": claim.duration,
        "renewTime": stamp,
        "acquireTime": old.get("acquireTime") or stamp if ours else stamp,
    }
    if lease is not None and not ours:
        spec["leaseTransitions"] = int(old.get("leaseTransitions") or 0) + 1
    notes = {
        "who": claim.who,
        "host": claim.host,
        "since": roll.since if ours and roll.since else text(now),
        "purpose": claim.purpose or (roll.purpose if ours else ""),
        "doing": claim.doing or (roll.doing if ours else ""),
        "process": dict(claim.process),
        "step": step,
    }
    return _with(lease, spec, notes)


def released(lease: Mapping[str, Any], step: Step | None) -> dict[str, Any]:
    """The released Lease. It isn't deleted, which would need one more permission; an open step stays on record."""
    spec = {**(lease.get("spec") or {}), "holderIdentity": "", "leaseDurationSeconds": 1}
    return _with(lease, spec, {"step": step} if step else {})


def _with(lease: Mapping[str, Any] | None, spec: dict[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    metadata = dict((lease or {}).get("metadata") or {})
    packed = json.dumps({name: note for name, note in notes.items() if note}, sort_keys=True)
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION: packed}
    return {**(lease or {}), "metadata": {**metadata, "annotations": annotations}, "spec": spec}


def text(now: datetime) -> str:
    """``2026-11-26 16:12:34 UTC``."""
    return now.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 50 min``."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    return (
        f"{minutes} min" if minutes < 120 else f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    )
