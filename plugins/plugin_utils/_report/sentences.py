# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sentences of an upgrade's report: the heading, what to do, what is proven and what isn't. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import epoch_seconds
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.counts import compared_objects
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.kms_keys import is_kms_failure
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import size_text
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.components import Figure, Heading, ProofClaim
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.news import one_at_a_time
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    EtcdContents,
    FailedObject,
    Record,
    RunFailure,
    Sampling,
    SkippedResource,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.timeline import (
    MasterTimeline,
    StoredRow,
    Timeline,
    all_rewritten,
    open_failures,
    resource_rows,
    rewritten_off_record,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.wording import (
    clock,
    number,
    some_of,
    things,
    time_taken,
)

_CUT_OFF_STATES = ("failed", "running", "cut off")


# The heading depends on what is proven, never on whether the run finished


def heading(record: Record, line: Timeline, proven: Sequence[ProofClaim]) -> Heading:
    title = f"Upgrade to Kubernetes {record.version}" if record.version else "Migration of stored objects"
    if record.status in ("failed", "cut off"):
        failures = last_failures(record)
        badge = "Stopped" if record.status == "failed" else "Interrupted"
        return Heading(title, badge, "bad", failures[0].message if failures else "The last run failed.")
    if record.status == "running":
        text = (
            f"This was the state at {clock(epoch_seconds(record.updated), date=True)} UTC. "
            "If no run is in progress, it was interrupted: run the playbook again to resume."
        )
        return Heading(title, "In progress, or interrupted", "open", text)
    wrong = [claim.text for claim in proven if claim.holds is False]
    if record.status == "succeeded" and not wrong:
        return _heading_of_success(title, record, line)
    if record.status == "succeeded":
        return Heading(title, "Done, but something is wrong", "bad", f"Not true: {' '.join(wrong)}")
    text = "The last run ended before the result was proven."
    text += f" Not true: {' '.join(wrong)}" if wrong else ""
    return Heading(title, "Not finished", "open", f"{text} Run the playbook again to resume.")


def _heading_of_success(title: str, record: Record, line: Timeline) -> Heading:
    done = f"{_agreement(record, line)}; {_rewritten_text(record)}"
    after = record.stored.after
    if record.proof is None or not record.proof.etcd or after is None:
        text = f"{done}. Etcd was not read, so it is not proven that nothing stale remains there."
        return Heading(title, "Done, not proven from etcd", "fair", text)
    unprovable = after.total("unprovable")
    doubt = one_at_a_time(record)[1] if one_at_a_time(record)[0] is None else ""
    text = f"{done}; etcd was read: of {things(after.total('objects'), 'object')}, {_nothing_left(after)}"
    text += f", {number(unprovable)} of unknown version." if unprovable else "."
    text += f" {doubt}" if doubt else ""
    if unprovable or doubt or _sampling(record) or _unchecked(record):
        return Heading(title, "Done, with reservations", "fair", text)
    return Heading(title, "Done and proven", "good", text)


def _rewritten_text(record: Record) -> str:
    rows = resource_rows(record)
    text = f"{things(all_rewritten(rows), 'object')} rewritten"
    more = rewritten_off_record(record, rows)
    if more == 0:
        return text
    return f"{text}, and {'an unknown number' if more is None else number(more)} by an interrupted run"


def _sampling(record: Record) -> Sampling | None:
    """The evidence of the last observation if samples were taken."""
    last = record.last_observation
    return last.sampling if last else None


def _unchecked(record: Record) -> str | None:
    """Why the last observation was not compared with the Leases of all living servers; None if it was."""
    last = record.last_observation
    return last.unchecked if last else None


def not_cross_checked(why: str) -> str:
    """A sentence for agreement of the servers that were asked."""
    return f"Whether other API servers are alive was not cross-checked, because {why}."


def _agreement(record: Record, line: Timeline) -> str:
    sampling = _sampling(record)
    if sampling is None and _unchecked(record):
        return f"The {len(line.masters)} API servers that were asked agree (not cross-checked whether others are alive)"
    if sampling is None:
        return f"All {len(line.masters)} API servers agree"
    return f"All API servers agree as far as sampling can tell ({samples_text(sampling)})"


def samples_text(sampling: Sampling) -> str:
    asked = f"{things(sampling.connections or 0, 'fresh connection')} to one address"
    if sampling.told_apart is not None:
        return f"{asked}, {things(sampling.told_apart, 'API server')} distinguished"
    missed = ""
    if sampling.chance_missed is not None:
        missed = f", one of {number(sampling.servers)} missed with a chance of {100 * sampling.chance_missed:.1g} %"
    return f"{asked}, API servers not distinguished{missed}"


def _nothing_left(stored: EtcdContents) -> str:
    return "none is in an old version" if stored.total("encryption_unknown") else "none is stale"


def last_failures(record: Record) -> list[RunFailure]:
    return list(record.runs[-1].failures) if record.runs else []


# What to do


def to_do(record: Record, line: Timeline) -> list[str]:
    """What to do now, step by step; empty if nothing remains to be done."""
    if record.status == "succeeded":
        if record.proof and record.proof.etcd:
            return []
        return ["Set rolling_upgrade_etcd and run the entry point verify, if you want the proof from etcd."]
    during = next((failure.during for failure in last_failures(record)), None)
    down = [master for master in line.masters if master.still_down]
    mixed = len({master.now for master in line.masters if master.now}) > 1
    return [
        *(_bring_back(record, master) for master in down),
        *_about_masters(during, bool(down), mixed),
        *_about_objects(record, during, bool(down) or mixed),
        "Run the same playbook again. Masters that are done are left alone, the migration resumes, and this report is continued.",
    ]


def _bring_back(record: Record, master: MasterTimeline) -> str:
    begun = any(step.state != "done" for step in master.steps)
    return (
        f"Bring {master.name} ({master.url}) back: check its kube-apiserver's log and its manifest; it must be ready"
        + (f" at {record.version}." if begun else ".")
    )


def _about_masters(during: str | None, down: bool, mixed: bool) -> list[str]:
    steps = []
    if not down and during == "upgrade":
        steps.append("Fix what stopped the upgrade of the master (the message above names it).")
    if down or mixed:
        steps.append(
            "Leave the other masters as they are, and migrate nothing by hand: while masters are mixed, a write may be stored in the "
            "old version."
        )
    if during == "check":
        steps.append("Fix what the message says; no master was touched in this run.")
    if during == "agreement" and not down:
        steps.append("See below which servers differ, and finish or repair them.")
    return steps


def _about_objects(record: Record, during: str | None, masters_first: bool) -> list[str]:
    steps = []
    if open_failures(record):
        steps.append("Fix the objects under Failures; each has a hint.")
    elif during == "migration" and not masters_first:
        steps.append("Fix what the message says. What was rewritten stays rewritten, and counts.")
    if during == "proof":
        steps.append("Run the entry point migrate again, then verify. It visits only what remains, if that is known.")
    return steps


def standing(record: Record, line: Timeline) -> list[str]:
    """The state of each master, a sentence each."""
    return [f"{master.name} {_standing(record, master)}." for master in line.masters]


def _standing(record: Record, master: MasterTimeline) -> str:
    tried = master.steps[-1].state if master.steps else None
    if master.still_down:
        return "is down" + (" (its upgrade was begun)" if tried in _CUT_OFF_STATES else "")
    if master.now is None:
        return "was not seen"
    text = f"is ready at {master.now}"
    if record.version is None or master.at_target:
        return text
    return text + (", not upgraded yet" if tried is None else ", its upgrade did not succeed")


# What is proven


def claims(record: Record, line: Timeline) -> list[ProofClaim]:
    return [
        *_master_claims(record, line),
        _agreement_claim(record, line),
        *([ProofClaim(*one_at_a_time(record))] if record.steps else []),
        *_migration_claims(record, line),
        *_etcd_claims(record),
    ]


def _master_claims(record: Record, line: Timeline) -> list[ProofClaim]:
    version = record.version
    if not version:
        return []
    if not line.masters:
        return [ProofClaim(None, f"That all masters are ready at {version}: none was seen.")]
    behind = [master.name for master in line.masters if master.still_down or not master.at_target]
    if behind:
        verb = "isn't" if len(behind) == 1 else "aren't"
        return [ProofClaim(False, f"All masters are ready at {version}: {', '.join(behind)} {verb}.")]
    if _sampling(record) is not None:
        return [ProofClaim(None, f"Each API server that samples found is ready at {version}.")]
    return [ProofClaim(True, f"All {len(line.masters)} masters are ready at {version}.")]


def _agreement_claim(record: Record, line: Timeline) -> ProofClaim:
    last = record.last_observation
    if last is None:
        return ProofClaim(
            None, "That all API servers report the same storage version for every resource: none was asked."
        )
    if not last.converged:
        return ProofClaim(False, "All API servers report the same storage version for every resource.")
    at = clock(epoch_seconds(last.last), date=True)
    if last.sampling is not None:
        return ProofClaim(
            None,
            "That all API servers report the same storage version for every resource is known by sampling only, which proves "
            f"less than asking each at its own address: {samples_text(last.sampling)} ({at} UTC).",
        )
    if len(last.servers) < len(line.masters):
        return ProofClaim(False, "All API servers report the same storage version for every resource.")
    if last.unchecked:
        text = f"The API servers that were asked reported the same storage version for every resource ({at} UTC)."
        return ProofClaim(None, f"{text} {not_cross_checked(last.unchecked)}")
    return ProofClaim(True, f"All API servers reported the same storage version for every resource ({at} UTC).")


def _migration_claims(record: Record, line: Timeline) -> list[ProofClaim]:
    if not record.migrations:
        # The content of etcd is proof, however it got there; without it, only a run that visited the objects is.
        if record.proof is not None and record.proof.etcd:
            return []
        return [ProofClaim(False, "Objects are rewritten in the new storage versions: no migration is on record.")]
    return [
        *_mixed_claims(record, line),
        _visited_claim(record),
        *_failure_claims(record),
        *_off_record_claims(record),
        *_skipped_claims(record.migrations[-1].skipped),
    ]


def _mixed_claims(record: Record, line: Timeline) -> list[ProofClaim]:
    if not line.mixed:
        return []
    spans = [
        (epoch_seconds(migration.started), migration.seconds)
        for migration in record.migrations
        if migration.totals.get("rewritten") != 0
    ]
    early = any(
        start < began < end and began + seconds > line.mixed[0][0]
        for began, seconds in spans
        for start, end in line.mixed
    )
    return [ProofClaim(not early, "Nothing was migrated while masters were mixed.")]


def _visited_claim(record: Record) -> ProofClaim:
    rows = resource_rows(record)
    left = [row.resource for row in rows if not row.persisted]
    if left:
        return ProofClaim(False, f"Not recorded as persisted: {things(len(left), 'resource')} ({some_of(left, 5)}).")
    if not rows:
        return ProofClaim(None, "That every object was visited: the migration on record visited no resource.")
    return ProofClaim(
        True,
        f"Every object of {things(len(rows), 'resource')} was visited after all agreed; the versions are recorded as persisted.",
    )


def _failure_claims(record: Record) -> list[ProofClaim]:
    count = len(open_failures(record))
    told = things(count, "object or list", "objects or lists")
    return [ProofClaim(False, f"{told} could not be rewritten.")] if count else []


def _off_record_claims(record: Record) -> list[ProofClaim]:
    """A migration's work after its run was interrupted is known only from etcd before and after."""
    more = rewritten_off_record(record, resource_rows(record))
    if more == 0:
        return []
    if more is None:
        return [ProofClaim(None, "How many objects an interrupted run rewrote.")]
    return [ProofClaim(True, f"{things(more, 'object')} were rewritten by an interrupted run, as etcd shows.")]


def _skipped_claims(skipped: Sequence[SkippedResource]) -> list[ProofClaim]:
    reasons: dict[str, list[str]] = {}
    for resource in skipped:
        reasons.setdefault(str(resource.reason), []).append(str(resource.resource))
    return [
        ProofClaim(None, f"Left out: {some_of(names, 6)} ({reason.rstrip('.')}).")
        for reason, names in sorted(reasons.items())
    ]


def _etcd_claims(record: Record) -> list[ProofClaim]:
    after = record.stored.after
    if after is None:
        hint = "" if record.stored.before else " Set rolling_upgrade_etcd for that."
        return [ProofClaim(None, f"That etcd holds nothing stale: it was not read after a migration.{hint}")]
    at = f"at revision {after.revision}, {clock(epoch_seconds(after.at), date=True)} UTC"
    objects = things(compared_objects(after.totals), "object")
    if after.total("stale"):
        found = [ProofClaim(False, f"Etcd still held {things(after.total('stale'), 'stale object')} ({at}).")]
    else:
        found = [ProofClaim(True, f"Etcd held {objects}, none of them in an old version ({at}).")]
    if after.total("unprovable"):
        unprovable = things(after.total("unprovable"), "object")
        found.append(ProofClaim(None, f"The version of {unprovable} in etcd is unknown: {_unprovable(after)}."))
    if after.total("encryption_unknown"):
        found.append(ProofClaim(None, encryption_unknown(after)))
    if after.total("unknown"):
        keys = things(after.total("unknown"), "key")
        found.append(ProofClaim(None, f"{keys} in etcd belong to no known resource (deleted CRDs, aggregated APIs)."))
    return found + [ProofClaim(None, problem) for problem in after.problems]


def encryption_unknown(stored: EtcdContents) -> str:
    """A sentence for objects whose encryption is unknown."""
    objects = things(stored.total("encryption_unknown"), "object")
    return f"Whether {objects} in etcd are encrypted as the API servers would encrypt them now is unknown."


def _unprovable(stored: EtcdContents) -> str:
    """``300 secrets (encrypted), 2 widgets.example.com (corrupt)``."""
    parts = [
        f"{number(sum(reasons.values()))} {name} ({', '.join(why.replace('_', ' ') for why in reasons)})"
        for name, reasons in sorted(stored.unprovable.items(), key=lambda item: -sum(item[1].values()))
    ]
    return some_of(parts, 5) or "encrypted, unreadable, or without a known storage version"


def hint(failure: FailedObject) -> str:
    """What to do about an object that could not be rewritten."""
    status, message = failure.status, (failure.message or "").lower()
    if "conversion webhook" in message:
        return "The CRD's conversion webhook does not answer: bring it back (its Deployment, Service and CA bundle)."
    if "failed calling webhook" in message:
        return "An admission webhook does not answer: bring it back, or exempt these objects from it."
    if "admission webhook" in message or "denied the request" in message:
        return "An admission webhook or policy refuses the object as it is: fix the object, or exempt the migration's user."
    if "too large" in message or status == 413:
        return "The object is too large for etcd: make it smaller."
    if status == 403:
        return "The user lacks permissions: allow list and patch for this resource (see the page Permissions of the documentation)."
    if status == 422:
        return "The object does not pass the current validation: correct it (kubectl edit), or relax the CRD's schema."
    if status in (404, 405):
        return "The API does not support this request: leave the resource out with exclude."
    if is_kms_failure(message):
        return "The KMS plugin does not answer, or refuses to decrypt the object: bring it back, with access to old keys. Delete nothing."
    if any(
        word in message for word in ("no kind", "unable to decode", "decod", "illegal base64", "decrypt", "transform")
    ):
        return (
            "The API server can't read what etcd holds: stored in a version or with a key that it no longer has. "
            "Bring that back. Delete nothing before upgrade_check has shown that no API server can read it."
        )
    if status in (0, 429, 502, 503, 504):
        return "The API server did not answer in time: make sure that all servers are healthy, and run again with fewer workers or a max_rate."
    return "Fix what the message says."


# Figures


def figures(record: Record, line: Timeline, stored: Sequence[StoredRow]) -> list[Figure]:
    return [
        *_master_figures(record, line),
        *migration_figures(record),
        *stale_figure(record, stored, "Stale in etcd", "before → after"),
    ]


def _master_figures(record: Record, line: Timeline) -> list[Figure]:
    found = []
    if record.version and line.masters:
        done = sum(master.at_target and not master.still_down for master in line.masters)
        found.append(Figure(f"Masters at {record.version}", f"{done} of {len(line.masters)}", ""))
    if record.steps:
        mixed = sum(end - start for start, end in line.mixed)
        found.append(Figure("Masters mixed", time_taken(mixed) if line.mixed else "never", ""))
        worst = max(line.masters, key=lambda master: master.away, default=None)
        if worst is not None and worst.away:
            found.append(Figure("Longest out of service", f"≤ {time_taken(worst.away)}", worst.name))
    return found


def migration_figures(record: Record) -> list[Figure]:
    if not record.migrations:
        return []
    rows = resource_rows(record)
    took = time_taken(sum(migration.seconds for migration in record.migrations))
    more = rewritten_off_record(record, rows)
    note = "" if more == 0 else f", {'unknown' if more is None else number(more)} more by an interrupted run"
    failures = len(open_failures(record))
    return [
        Figure("Objects rewritten", number(all_rewritten(rows)), f"in {took}{note}"),
        Figure("Failures", number(failures), "open" if failures else ""),
        *_etcd_size_figure(record),
    ]


def _etcd_size_figure(record: Record) -> list[Figure]:
    """From before the first migration to after the last one."""
    sizes = [migration.etcd_sizes for migration in record.migrations if migration.etcd_sizes is not None]
    if not sizes:
        return []
    freed = sizes[-1].reclaimable
    note = "" if freed is None else f"a defragmentation would free {size_text(freed)}"
    return [Figure("Size of etcd", f"{size_text(sizes[0].before)} → {size_text(sizes[-1].after)}", note)]


def stale_figure(record: Record, rows: Sequence[StoredRow], label: str, note: str) -> list[Figure]:
    """What was stale before and after, as far as etcd was read."""
    sides = (record.stored.before, record.stored.after)
    if not any(sides):
        return []
    counts = (sum(row.stale_before for row in rows), sum(row.stale_after for row in rows))
    return [Figure(label, " → ".join(number(count) if side else "?" for side, count in zip(sides, counts)), note)]
