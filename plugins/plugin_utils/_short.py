# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results for somebody who reads them on a screen: the sentence, the totals, and what is notable in a few lines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._table import table_lines

_WIDTH = 110
_ROWS = 15

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Short:
    """How a result is shortened: the keys that go, those that matter most first, and the lines that stand for them."""

    left_out: Sequence[str]
    summary: Callable[[Result], list[str]]


def shorten(result: dict[str, Any], short: Short) -> dict[str, Any]:
    """What every result has (changed, msg, warnings, what Ansible adds) stays; one that holds no details is left alone."""
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
    """A title and a table, cut where it gets too long; nothing without rows."""
    if not rows:
        return []
    more = len(rows) - _ROWS
    return [title, *table_lines(rows[:_ROWS], columns, _WIDTH), *([f"and {more} more"] if more > 0 else [])]


def _items(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = len(lines) - _ROWS
    return [title, *(f"- {one}" for one in lines[:_ROWS]), *([f"and {more} more"] if more > 0 else [])]


def _short(version: str | None, resource: str) -> str | None:
    return None if version is None else short_version(version, resource)


def _versions_short(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [{**one, **{key: _short(one[key], one["resource"]) for key in keys}} for one in rows]


# storage_migrate


def _migration(result: Result) -> list[str]:
    resources: Mapping[str, Mapping[str, Any]] = result.get("resources") or {}
    notable = [
        {"resource": name, **one, "as": _short(one.get("storage_version"), name)}
        for name, one in resources.items()
        if one.get("rewritten") or one.get("failed") or one.get("pruned") or one.get("rewritten", 0) is None
    ]
    notable.sort(key=lambda one: (-(one.get("failed") or 0), -(one.get("rewritten") or 0)))
    rest = len(resources) - len(notable)
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
            [{**one, "object": _object(one)} for one in result.get("failures") or ()],
            {"Object": "object", "Status": "status", "Reason": "message"},
        ),
        *_items(
            "CRDs whose storedVersions were trimmed:",
            [
                f"{one['crd']}: {', '.join(one['before'])} to {', '.join(one['after'])}"
                for one in result.get("trimmed") or ()
            ],
        ),
        *_items(
            "CRDs whose storedVersions were not trimmed:",
            [f"{one['crd']}: {one['reason']}" for one in result.get("untrimmed") or ()],
        ),
        *_left(result.get("proof")),
    ]


def _object(failure: Mapping[str, Any]) -> str:
    name = "/".join(one for one in (failure.get("namespace"), failure.get("name")) if one)
    return f"{failure['resource']} {name or '(its list)'}"


def _left(proof: Mapping[str, Any] | None) -> list[str]:
    if not proof:
        return []
    return [
        f"etcd at revision {proof['revision']}: {proof['stale']} stale objects are left, "
        f"{proof['unprovable']} can't be told."
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
        "pruned",
        "trimmed",
        "untrimmed",
        "skipped_resources",
        "proof",
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
        *([] if baseline else ["No baseline is on record, so what changed is not known."]),
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
    ),
    _hashes,
)


# stored_versions_info


def _stored(result: Result) -> list[str]:
    stale = [
        {
            "resource": name,
            **one,
            "because": [why for why, count in one["stale_reasons"].items() if count],
            "as": _variants(name, one["stored"]),
        }
        for name, one in (result.get("resources") or {}).items()
        if one["stale"]
    ]
    stale.sort(key=lambda one: -one["stale"])
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
        *_rows("Whose version can't be told or compared:", unprovable, {"Resource": "resource", "Why": "why"}),
        *_rows("Keys of no known resource:", result.get("unknown") or [], {"Prefix": "prefix", "Keys": "objects"}),
        *_items("What keeps this from being the whole truth:", result.get("problems") or []),
    ]


def _variants(resource: str, stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """``v1beta1 protobuf``, or the key where encryption hides that."""
    found = []
    for one in stored:
        if one["stale"]:
            plain = [_short(one["version"], resource), one["encoding"]]
            found.append(" ".join(str(word) for word in (*plain, *_encryption(one)) if word))
    return found


def _encryption(one: Mapping[str, Any]) -> list[Any]:
    return [] if one["provider"] == "identity" and not one["key"] and one["version"] else [one["provider"], one["key"]]


STORED = Short(
    (
        "resources",
        "stale_resources",
        "unprovable_resources",
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
    """Concerns are printed by Ansible already, as warnings."""
    plan: Mapping[str, Any] = result.get("plan") or {}
    return [
        *_rows("Blockers:", result.get("blockers") or [], {"Name": "id", "What": "what", "How to mend it": "mend"}),
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
