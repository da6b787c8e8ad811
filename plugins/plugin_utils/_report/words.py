# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a record is told: the heading, what to do, what is proven and what isn't. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.parts import Claim, Figure, Heading
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record, at_release
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.story import (
    StoredRow,
    Timeline,
    all_rewritten,
    clock,
    duration,
    number,
    open_failures,
    resource_rows,
    seconds,
    things,
)


def heading(record: Record, line: Timeline) -> Heading:
    version = record["version"]
    title = f"Upgrade to Kubernetes {version}" if version else "Migration of stored objects"
    rewritten = all_rewritten(resource_rows(record))
    status = record["status"]
    if status == "succeeded" and (record["proof"] or {}).get("etcd"):
        total = record["stored"]["after"]["totals"]
        unprovable = total.get("unprovable", 0)
        whole = f"etcd was read: of {things(total.get('objects', 0), 'object')} none is stale"
        whole += f", {number(unprovable)} can't be told" if unprovable else ""
        text = f"{_agreement(record, line)}; {things(rewritten, 'object')} rewritten; {whole}."
        reserved = bool(unprovable or _sampling(record))
        return Heading(
            title,
            "Done, with reservations" if reserved else "Done and proven",
            "fair" if reserved else "good",
            text,
        )
    if status == "succeeded":
        text = (
            f"{_agreement(record, line)}; {things(rewritten, 'object')} rewritten. "
            "Etcd was not read, so it is not proven from there that nothing stale is left."
        )
        return Heading(title, "Done, not proven from etcd", "fair", text)
    if status == "failed":
        failures = last_failures(record)
        return Heading(title, "Stopped", "bad", failures[0]["message"] if failures else "The last run failed.")
    if status == "running":
        text = (
            f"This is how things stood at {clock(seconds(record['updated']), date=True)} UTC. "
            "If no run is under way, it was cut off: run again, it goes on from here."
        )
        return Heading(title, "Under way, or cut off", "open", text)
    return Heading(
        title,
        "Not finished",
        "open",
        "The last run ended before the result was proven. Run again, it goes on from here.",
    )


def _sampling(record: Record) -> Mapping[str, Any] | None:
    """What the last look rests on, where samples were taken."""
    last = record["observations"][-1] if record["observations"] else {}
    return last.get("sampling")


def _agreement(record: Record, line: Timeline) -> str:
    sampling = _sampling(record)
    if sampling is None:
        return f"All {len(line.masters)} API servers agree"
    return f"All API servers agree as far as sampling can tell ({samples_text(sampling)})"


def samples_text(sampling: Mapping[str, Any]) -> str:
    asked = f"{things(sampling['connections'] or 0, 'fresh connection')} to one address"
    if sampling["told_apart"] is not None:
        return f"{asked}, {things(sampling['told_apart'], 'API server')} told apart"
    chance = sampling["chance_missed"]
    missed = (
        ""
        if chance is None
        else f", each of {number(sampling['servers'])} met but for a chance of {100 * chance:.1g} %"
    )
    return f"{asked}, API servers not told apart{missed}"


def last_failures(record: Record) -> list[dict[str, Any]]:
    return list(record["runs"][-1]["failures"]) if record["runs"] else []


def to_do(record: Record, line: Timeline) -> list[str]:
    """What a person does now, step by step; empty where nothing is left to do."""
    if record["status"] == "succeeded":
        if (record["proof"] or {}).get("etcd"):
            return []
        return ["Set rolling_upgrade_etcd and run the entry point verify, if you want the proof from etcd."]
    steps = []
    during = next((one["during"] for one in last_failures(record)), None)
    down = [one for one in line.masters if one.still_down]
    mixed = len({one.now for one in line.masters if one.now}) > 1
    for one in down:
        steps.append(
            f"Bring {one.name} ({one.url}) back: look at its kube-apiserver's log and its manifest; it must be ready"
            + (f" at {record['version']}." if any(step["state"] != "done" for step in one.steps) else ".")
        )
    if not down and during == "upgrade":
        steps.append("Mend what stopped the upgrade of the master (the message above names it).")
    if down or mixed:
        steps.append(
            "Leave the other masters as they are, and migrate nothing by hand: while masters are mixed, a write may be stored in the old version."
        )
    if during == "check":
        steps.append("Mend what the message says; no master was touched in this run.")
    if during == "agreement" and not down:
        steps.append("See below which servers differ, and finish or repair these.")
    if open_failures(record):
        steps.append("Mend the objects under Failures; each has a hint.")
    elif during == "migration" and not down and not mixed:
        steps.append("Mend what the message says. What was rewritten stays rewritten, and counts.")
    if during == "proof":
        steps.append("Run the entry point migrate again, then verify: it visits only what is left where that is known.")
    steps.append(
        "Run the same playbook again. Masters that are done are left alone, the migration goes on where it was, and this report goes on with it."
    )
    return steps


def standing(record: Record, line: Timeline) -> list[str]:
    """Each master in a sentence."""
    found = []
    for one in line.masters:
        tried = one.steps[-1]["state"] if one.steps else None
        if one.still_down:
            text = "is down" + (" (its upgrade was begun)" if tried in ("failed", "running", "cut off") else "")
        elif one.now:
            text = f"is ready at {one.now}"
            if record["version"] and not at_release(one.now, record["version"]):
                text += ", not upgraded yet" if tried is None else ", its upgrade did not come through"
        else:
            text = "was not seen"
        found.append(f"{one.name} {text}.")
    return found


def claims(record: Record, line: Timeline) -> list[Claim]:
    found = []
    version = record["version"]
    if version:
        behind = [one.name for one in line.masters if one.still_down or not at_release(one.now, version)]
        if behind or not line.masters:
            found.append(Claim(False, f"All masters are ready at {version}: {', '.join(behind) or 'none'} not."))
        elif _sampling(record) is not None:
            found.append(Claim(None, f"Each API server that samples found is ready at {version}."))
        else:
            found.append(Claim(True, f"All {len(line.masters)} masters are ready at {version}."))
    last = record["observations"][-1] if record["observations"] else None
    sampling = _sampling(record)
    if last is not None and last["converged"] and sampling is not None:
        at = clock(seconds(last["last"]), date=True)
        found.append(
            Claim(
                None,
                "That all API servers report the same storage version for every resource is known by sampling only, which proves "
                f"less than asking each at its own address: {samples_text(sampling)} ({at} UTC).",
            )
        )
    elif last is not None and last["converged"] and len(last["servers"]) >= len(line.masters):
        at = clock(seconds(last["last"]), date=True)
        found.append(Claim(True, f"All API servers reported the same storage version for every resource ({at} UTC)."))
    else:
        found.append(Claim(False, "All API servers report the same storage version for every resource."))
    overlap = _two_at_a_time(record)
    if record["steps"]:
        found.append(
            Claim(overlap is None, "At no time two masters were being upgraded." if overlap is None else overlap)
        )
    found += _migration_claims(record, line)
    found += _etcd_claims(record)
    return found


def _two_at_a_time(record: Record) -> str | None:
    spans = sorted((step["started"], step["finished"] or step["started"], step["master"]) for step in record["steps"])
    for earlier, later in zip(spans, spans[1:]):
        if later[0] < earlier[1]:
            return f"{earlier[2]} and {later[2]} were being upgraded at the same time."
    return None


def _migration_claims(record: Record, line: Timeline) -> list[Claim]:
    if not record["migrations"]:
        return [Claim(False, "Objects are rewritten in the new storage versions: no migration was made yet.")]
    found = []
    wrote = [one for one in record["migrations"] if one["totals"].get("rewritten") != 0]
    early = [
        one
        for one in wrote
        if any(start < seconds(one["started"]) < end for start, end in line.mixed)
        and seconds(one["started"]) + one["seconds"] > line.mixed[0][0]
    ]
    if line.mixed:
        found.append(Claim(not early, "Nothing was migrated while masters were mixed."))
    rows = resource_rows(record)
    open_ones = [row["resource"] for row in rows if not row["persisted"]]
    if not open_ones:
        found.append(
            Claim(
                True,
                f"Every object of {things(len(rows), 'resource')} was visited after all agreed; the versions are recorded as persisted.",
            )
        )
    else:
        shown = ", ".join(open_ones[:5]) + (" …" if len(open_ones) > 5 else "")
        found.append(Claim(False, f"Not recorded as persisted: {things(len(open_ones), 'resource')} ({shown})."))
    failures = open_failures(record)
    if failures:
        found.append(
            Claim(False, f"{things(len(failures), 'object or list', 'objects or lists')} could not be rewritten.")
        )
    skipped = record["migrations"][-1]["skipped"]
    if skipped:
        reasons: dict[str, list[str]] = {}
        for one in skipped:
            reasons.setdefault(str(one["reason"]), []).append(str(one["resource"]))
        for reason, names in sorted(reasons.items()):
            shown = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
            found.append(Claim(None, f"Left out: {shown} ({reason.rstrip('.')})."))
    return found


def _etcd_claims(record: Record) -> list[Claim]:
    after = record["stored"]["after"]
    found = []
    if after is None:
        hint = "" if record["stored"]["before"] else " Set rolling_upgrade_etcd for that."
        return [Claim(None, f"That etcd holds nothing stale: it was not read after a migration.{hint}")]
    total = after["totals"]
    at = f"at revision {after['revision']}, {clock(seconds(after['at']), date=True)} UTC"
    if total.get("stale"):
        found.append(Claim(False, f"Etcd still held {things(total['stale'], 'stale object')} ({at})."))
    else:
        found.append(
            Claim(
                True, f"Etcd held {things(total.get('objects', 0), 'object')}, none of them in an old version ({at})."
            )
        )
    if total.get("unprovable"):
        found.append(
            Claim(
                None,
                f"Of {things(total['unprovable'], 'object')} in etcd the version can't be told: {_unprovable(after)}.",
            )
        )
    if total.get("unknown"):
        found.append(
            Claim(
                None,
                f"{things(total['unknown'], 'key')} in etcd belong to no known resource (deleted CRDs, aggregated APIs).",
            )
        )
    found += [Claim(None, str(problem)) for problem in after["problems"]]
    return found


def _unprovable(stored: Mapping[str, Any]) -> str:
    """``300 secrets (encrypted), 2 widgets.example.com (corrupt)``."""
    parts = [
        f"{number(sum(reasons.values()))} {name} ({', '.join(why.replace('_', ' ') for why in reasons)})"
        for name, reasons in sorted(stored["unprovable"].items(), key=lambda item: -sum(item[1].values()))
    ]
    return (
        ", ".join(parts[:5]) + (" …" if len(parts) > 5 else "")
        or "encrypted, unreadable, or of no known storage version"
    )


def hint(failure: Mapping[str, Any]) -> str:
    """What to do about an object that could not be rewritten."""
    status, message = failure["status"], (failure["message"] or "").lower()
    if "conversion webhook" in message:
        return "The CRD's conversion webhook does not answer: bring it back (its Deployment, Service and CA bundle)."
    if "failed calling webhook" in message:
        return "An admission webhook does not answer: bring it back, or exempt these objects from it."
    if "admission webhook" in message or "denied the request" in message:
        return "An admission webhook or policy refuses the object as it is: mend the object, or exempt the migration's user."
    if "too large" in message or status == 413:
        return "The object is larger than etcd takes: make it smaller."
    if status == 403:
        return "The user lacks rights: allow list and patch for this resource (see Permissions in the README)."
    if status == 422:
        return "The object does not pass today's validation: correct it (kubectl edit), or loosen the CRD's schema."
    if status in (404, 405):
        return "The API does not support this request: leave the resource out with exclude."
    if any(
        word in message for word in ("no kind", "unable to decode", "decod", "illegal base64", "decrypt", "transform")
    ):
        return (
            "The API server can't read what etcd holds: stored in a version or with a key that it no longer has. "
            "Bring that back, or remove the object in etcd."
        )
    if status in (0, 429, 502, 503, 504):
        return "The API server did not answer in time: see that all are well, and run again with fewer workers or a max_rate."
    return "Mend what the message says."


def figures(record: Record, line: Timeline, stored: list[StoredRow]) -> list[Figure]:
    found = []
    if record["version"] and line.masters:
        done = sum(1 for one in line.masters if at_release(one.now, record["version"]) and not one.still_down)
        found.append(Figure(f"Masters at {record['version']}", f"{done} of {len(line.masters)}", ""))
    if record["steps"]:
        mixed = sum(end - start for start, end in line.mixed)
        found.append(Figure("Masters mixed", duration(mixed) if line.mixed else "never", ""))
        worst = max(line.masters, key=lambda one: one.away, default=None)
        if worst is not None and worst.away:
            found.append(Figure("Longest out of service", f"≤ {duration(worst.away)}", worst.name))
    if record["migrations"]:
        rows = resource_rows(record)
        rewritten = all_rewritten(rows)
        took = sum(one["seconds"] for one in record["migrations"])
        found.append(Figure("Objects rewritten", number(rewritten), f"in {duration(took)}"))
        failures = open_failures(record)
        found.append(Figure("Failures", number(len(failures)), "open" if failures else ""))
    before, after = record["stored"]["before"], record["stored"]["after"]
    if before or after:
        counts = (sum(row.stale_before for row in stored), sum(row.stale_after for row in stored))
        values = [number(count) if side else "?" for side, count in zip((before, after), counts)]
        found.append(Figure("Stale in etcd", " → ".join(values), "before → after"))
    return found
