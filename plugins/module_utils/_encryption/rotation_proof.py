# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What modules' results prove during a rotation: that everything can be read, and that nothing needs an old key. Pure.

Anything that isn't positively shown (a count that doesn't match, a server that was not asked) keeps the old keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import pattern_of

Row = Mapping[str, Any]


def unreadable_by_file(reads: Mapping[str, Iterable[Sequence[str | None]]], stored: Any) -> list[str]:
    """Objects of the rotated resources in etcd that a master could not read with its current file, by names of keys.

    ``reads``: the file's (provider, key) by resource, as in Steps.
    """
    if not is_result(stored, "resources"):
        return ["etcd was not read"]
    found = []
    for name, keys in sorted(reads.items()):
        readable = {tuple(key) for key in keys}
        missing: dict[str, int] = {}
        for row in (stored["resources"].get(name) or {}).get("stored") or ():
            if row["encoding"] not in ("empty", "unknown") and (row["provider"], row["key"]) not in readable:
                missing[_encryption_text(row)] = missing.get(_encryption_text(row), 0) + row["objects"]
        found += [f"{count} of {name} ({kind})" for kind, count in sorted(missing.items())]
    return found


def still_needed(stored: Any, plan: Mapping[str, Any], reading: Any) -> list[str]:
    """What keeps the old keys from being dropped; empty only if it is positively proven that nothing does.

    ``stored``: the result of stored_versions_info; ``plan``: that of plan_rotation; ``reading``: the result of
    readable_objects_info at the revision at which etcd was read. All objects of the resources must be under the new key, there
    must be exactly as many as every API server lists, and nothing else that was read may be under a key with which
    it can be read only now.
    """
    if not is_result(stored, "resources", "unknown", "internal", "revision", "problems", "consistent"):
        return ["etcd was not read"]
    found: list[str] = []
    for name in plan["resources"]:
        rows: Iterable[Row] = (stored["resources"].get(name) or {}).get("stored") or ()
        wrong = [row for row in rows if (row["provider"], row["key"]) != (plan["provider"], plan["key"])]
        if wrong:
            count = sum(row["objects"] for row in wrong)
            kinds = sorted({_encryption_text(row) for row in wrong})
            found.append(f"{count} of {name} ({', '.join(kinds)})")
    found += _others_under_lost_keys(stored["resources"], plan)
    for part in ("unknown", "internal"):
        for keys in stored[part]:
            count = _count_under(keys["encryption"], plan["old"])
            if count:
                found.append(f"{count} under {keys['prefix']}, which no API server serves")
    found += stored["problems"] or []
    if not stored["consistent"] and not stored["problems"]:
        found.append("etcd was not read at one revision")
    if stored.get("cluster_verified") is not True:
        found.append("it was not shown that this etcd is the API servers'")
    return found + uncounted_sentences(stored, plan, reading)


def _others_under_lost_keys(resources: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """Objects under old keys of resources that the plan doesn't rewrite.

    These are resources that another entry writes, those of a wildcard that weren't served when the plan was made (a CRD that was
    added meanwhile, whose objects may have been written before every API server wrote with the new key), and those that aren't served.
    """
    found = []
    for name in sorted(set(resources) - set(plan["resources"])):
        lost = plan["lost"].get(pattern_of(name, plan["patterns"])) or ()
        count = _count_under(resources[name]["stored"], lost)
        if count:
            found.append(f"{count} of {name}, under a key to be dropped")
    return found


def _count_under(rows: Iterable[Row], keys: Iterable[Sequence[str]]) -> int:
    """How many objects are, or may be, under one of the keys."""
    those = {tuple(key) for key in keys}
    # A key whose name is unknown may be any of its provider's.
    suspects = {provider for provider, *_key in those}
    return sum(
        row["objects"]
        for row in rows
        if (row["provider"], row["key"]) in those or (row["key"] is None and row["provider"] in suspects)
    )


def uncounted_sentences(stored: Mapping[str, Any], plan: Mapping[str, Any], reading: Any) -> list[str]:
    """Differences between what the API servers list or read and what etcd holds."""
    if not is_result(reading, "servers", "revision"):
        return ["the API servers were not asked whether they can read everything"]
    found = unreadable_sentences(reading)
    if plan.get("several_etcds"):
        return found  # their revisions can't be compared; stored_versions_info has counted each with the API servers
    if not reading["servers"] or reading["revision"] != stored["revision"]:
        return [*found, "the API servers were not asked at the revision at which etcd was read"]
    for server in reading["servers"]:
        for name in plan["affected"]:
            held = sum(row["objects"] for row in (stored["resources"].get(name) or {}).get("stored") or ())
            listed = ((server.get("resources") or {}).get(name) or {}).get("objects")
            if listed is not None and listed != held:
                found.append(
                    f"{server['name']} lists {listed} {name} where etcd holds {held}, so it may be another etcd"
                )
            elif listed is None and not server.get("error"):
                found.append(f"{server['name']} did not list {name}")
    return found


def unreadable_sentences(reading: Any) -> list[str]:
    """Which API servers could not read everything, by the result of readable_objects_info; empty: all did."""
    if not is_result(reading, "servers") or not reading["servers"]:
        return ["the API servers were not asked whether they can read everything"]
    found = []
    for server in reading["servers"]:
        if server.get("error"):
            found.append(f"{server['name']}: {server['error']}")
        for name, resource in sorted((server.get("resources") or {}).items()):
            if resource.get("error"):
                found.append(f"{server['name']} can't read all {name}: {resource['error']}")
    return found


def is_result(result: Any, *names: str) -> bool:
    """Whether a module succeeded and returned these."""
    return (
        isinstance(result, Mapping)
        and not result.get("failed")
        and not result.get("skipped")
        and result.get("error") is None
        and all(name in result for name in names)
    )


def _encryption_text(row: Row) -> str:
    if row["provider"] == "identity":
        return {"empty": "empty", "unknown": "corrupt"}.get(row["encoding"], "not encrypted")
    return f"{row['provider']} {row['key'] or '(a key whose name is unknown)'}"
