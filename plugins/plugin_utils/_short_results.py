# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results shortened for the screen: the message, the totals, and what matters in a few lines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import sizes_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._table import table_lines

_WIDTH = 110
_ROWS = 15

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Short:
    """How a result is shortened: the keys to leave out, most important first, and the lines that summarize them."""

    left_out: Sequence[str]
    summary: Callable[[Result], list[str]]


def shorten(result: dict[str, Any], short: Short) -> dict[str, Any]:
    """Keeps what every result has (changed, msg, warnings, what Ansible adds); a result without details is left alone."""
    gone = [name for name in short.left_out if name in result]
    if not gone:
        return result
    kept = {name: value for name, value in result.items() if name not in short.left_out}
    if result.get("failed"):
        kept["_ansible_verbose_always"] = True  # one line of the summary in each line of the output
    return {
        **kept,
        "summary": short.summary(result),
        "left_out": f"{some_of(gone)}; run with -v to see all, or register the result to use it.",
    }


def _rows(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[str]:
    """A title and a table, cut after some rows; nothing without rows."""
    if not rows:
        return []
    more = len(rows) - _ROWS
    return [title, *table_lines(rows[:_ROWS], columns, _WIDTH), *([f"and {more} more"] if more > 0 else [])]


def _items(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = len(lines) - _ROWS
    return [title, *(f"- {line}" for line in lines[:_ROWS]), *([f"and {more} more"] if more > 0 else [])]


def _short(version: str | None, resource: str) -> str | None:
    return None if version is None else short_version(version, resource)


def _versions_short(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [{**row, **{key: _short(row[key], row["resource"]) for key in keys}} for row in rows]


# storage_migrate


def _migration(result: Result) -> list[str]:
    resources: Mapping[str, Mapping[str, Any]] = result.get("resources") or {}
    notable = [
        {"resource": name, **found, "as": _short(found.get("storage_version"), name)}
        for name, found in resources.items()
        if found.get("rewritten", 0) is None or any(found.get(count) for count in ("rewritten", "failed", "pruned"))
    ]
    notable.sort(key=lambda row: (-(row.get("failed") or 0), -(row.get("rewritten") or 0)))
    rest = len(resources) - len(notable)
    sizes = sizes_of(result.get("etcd_space"))
    return [
        *_rows(
            "Resources in which something was done or failed:",
            notable,
            {
                "Resource": "resource",
                "Rewritten": "rewritten",
                "Current": "unchanged",
                "Failed": "failed",
                "Stored as": "as",
            },
        ),
        *([f"Resources in which nothing had to be rewritten: {rest}."] if rest and "would_visit" not in result else []),
        *_rows(
            "What failed:",
            [{**failure, "object": _object(failure)} for failure in result.get("failures") or ()],
            {"Object": "object", "Status": "status", "Reason": "message"},
        ),
        *_items(
            "CRDs whose storedVersions were trimmed:",
            [
                f"{crd['crd']}: {', '.join(crd['before'])} to {', '.join(crd['after'])}"
                for crd in result.get("trimmed") or ()
            ],
        ),
        *_items(
            "CRDs whose storedVersions were not trimmed:",
            [f"{crd['crd']}: {crd['reason']}" for crd in result.get("untrimmed") or ()],
        ),
        *_items(
            "Objects with field managers at older versions:",
            [
                f"{left['resource']}: {'unknown' if left['objects'] is None else left['objects']}. {left['remediation']}"
                for left in result.get("managers_left") or ()
            ],
        ),
        *_left(result.get("proof")),
        *([] if sizes is None else [sizes.text()]),
        *_pace(result.get("pace")),
    ]


def _pace(pace: Mapping[str, Any] | None) -> list[str]:
    """Nothing if nothing was written."""
    if not pace or pace["latency_ms"]["p50"] is None:
        return []
    latency, servers = pace["latency_ms"], [server for server in pace["servers"] if server["in_flight"] is not None]
    flights = ", ".join(f"{server['in_flight']:g}" for server in servers)
    where = "to each API server" if len(servers) > 1 else "on average"
    return [
        f"Impact {pace['impact']}: half of the writes took at most {latency['p50']:g} ms, 99 of 100 at most {latency['p99']:g} ms, "
        f"with {flights} in flight {where}."
    ]


def _object(failure: Mapping[str, Any]) -> str:
    name = "/".join(part for part in (failure.get("namespace"), failure.get("name")) if part)
    return f"{failure['resource']} {name or '(its list)'}"


def _left(proof: Mapping[str, Any] | None) -> list[str]:
    if not proof:
        return []
    return [
        f"etcd at revision {proof['revision']}: {proof['stale']} stale objects remain, "
        f"the version of {proof['unprovable']} is unknown.",
        *_items(
            "Objects whose encryption key is unknown:",
            [f"{name}: {count}" for name, count in (proof.get("encryption_unknown_resources") or {}).items()],
        ),
        *_items("Why this is incomplete:", proof.get("problems") or []),
    ]


MIGRATION = Short(
    (
        "resources",
        "failures",
        "history",
        "rewritten",
        "unchanged",
        "conflicts",
        "deleted",
        "uncertain",
        "moved",
        "pruned",
        "trimmed",
        "untrimmed",
        "managers_left",
        "skipped_resources",
        "proof",
        "etcd_space",
        "pace",
        "engine_reason",
        "resumed",
        "sampling",
    ),
    _migration,
)


# storage_version_hashes


def _hashes(result: Result) -> list[str]:
    changed = result.get("changed_resources") or []
    baseline = result.get("baseline_found")
    return [
        *_rows(
            "API servers:",
            result.get("servers") or [],
            {
                "URL": "url",
                "Name": "name",
                "Version": "version",
                "Emulates": "emulated_version",
                "Compatible with": "min_compatibility_version",
                "Ready": "ready",
                "Error": "error",
            },
        ),
        *_items("They do not agree:", result.get("reasons") or []),
        *_rows(
            "Changed since the last complete migration:",
            _versions_short(changed, "before", "after") if baseline else [],
            {"Resource": "resource", "Before": "before", "Now": "after"},
        ),
        *(["Nothing changed since the last complete migration."] if baseline and not changed else []),
        *([] if baseline else ["No baseline is on record, so what changed is unknown."]),
    ]


HASHES = Short(
    (
        "resources",
        "servers",
        "changed_resources",
        "disagreements",
        "reasons",
        "history",
        "baseline_found",
        "observed_at",
        "sampling",
        "unchecked_reason",
        "unlisted_servers",
    ),
    _hashes,
)


# stored_versions_info


def _stored(result: Result) -> list[str]:
    stale = [
        {
            "resource": name,
            **found,
            "because": [why for why, count in found["stale_reasons"].items() if count],
            "as": _variants(name, found["stored"]),
        }
        for name, found in (result.get("resources") or {}).items()
        if found["stale"]
    ]
    stale.sort(key=lambda row: -row["stale"])
    unprovable = [
        {"resource": name, "why": [f"{reason} {count}" for reason, count in why.items()]}
        for name, why in (result.get("unprovable_resources") or {}).items()
    ]
    return [
        *_rows(
            "Stale:",
            stale,
            {
                "Resource": "resource",
                "Objects": "objects",
                "Stale": "stale",
                "Because of": "because",
                "Stored as": "as",
            },
        ),
        *_rows("Version unknown or not comparable:", unprovable, {"Resource": "resource", "Why": "why"}),
        *_rows(
            "Unknown whether encrypted with the current key:",
            [
                {"resource": name, "why": [f"{reason} {count}" for reason, count in why.items() if reason != "guessed"]}
                for name, why in (result.get("encryption_unknown_resources") or {}).items()
                if set(why) != {"guessed"}  # true for all resources, and the message says so
            ],
            {"Resource": "resource", "Why": "why"},
        ),
        *_rows(
            "Keys that belong to no known resource:",
            result.get("unknown") or [],
            {"Prefix": "prefix", "Keys": "objects"},
        ),
        *_items("Why this is incomplete:", result.get("problems") or []),
    ]


def _variants(resource: str, stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """``v1beta1 protobuf``, or the key where encryption hides that."""
    found = []
    for variant in stored:
        if variant["stale"]:
            plain = [_short(variant["version"], resource), variant["encoding"]]
            found.append(" ".join(str(word) for word in (*plain, *_encryption(variant)) if word))
    return found


def _encryption(variant: Mapping[str, Any]) -> list[Any]:
    plain = variant["provider"] == "identity" and not variant["key"] and variant["version"]
    return [] if plain else [variant["provider"], variant["key"]]


STORED = Short(
    (
        "resources",
        "stale_resources",
        "unprovable_resources",
        "encryption_unknown_resources",
        "unknown",
        "internal",
        "problems",
        "etcd",
        "revision",
        "consistent",
        "converged",
        "rate",
    ),
    _stored,
)


# upgrade_check


def _check(result: Result) -> list[str]:
    """Without concerns, which Ansible prints as warnings."""
    plan: Mapping[str, Any] = result.get("plan") or {}
    return [
        *_rows(
            "Blockers:", result.get("blockers") or [], {"Name": "id", "What": "what", "How to fix it": "remediation"}
        ),
        *_items("Not known:", result.get("unknown") or []),
        *_rows(
            "Storage versions that will change:",
            _versions_short(plan.get("changes") or [], "from", "to"),
            {"Resource": "resource", "From": "from", "To": "to", "Objects": "objects"},
        ),
    ]


CHECK = Short(
    (
        "stored",
        "objects",
        "plan",
        "blockers",
        "concerns",
        "unknown",
        "safe_up_to_limited_by",
        "data",
    ),
    _check,
)


# openshift_update


def _openshift(result: Result) -> list[str]:
    return [
        *_rows(
            "Masters, by the kube-apiserver operator:",
            result.get("masters") or [],
            {"Node": "node", "Revision": "revision", "Latest": "latest"},
        ),
        *_rows(
            "API servers:",
            result.get("servers") or [],
            {"URL": "url", "Name": "name", "Version": "version", "Ready": "ready", "Error": "error"},
        ),
    ]


OPENSHIFT = Short(
    (
        "masters",
        "servers",
        "converged",
        "reasons",
        "disagreements",
        "history",
        "observed_at",
        "image",
        "migrator",
    ),
    _openshift,
)
