# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of an upgrade, as the JSON beside the report holds it, and how news is added to it. Pure.

One record tells one undertaking: the upgrade to one release, in as many runs as it took. So nothing that an
earlier run saw is dropped when a later one goes on. Only named fields of results are taken over: no option of
a task, no key of an object in etcd, and nothing else that a record has no use for.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import Any

FORMAT = 1
UPGRADE, ROTATION = "upgrade", "key_rotation"
_RUNS_KEPT = 50
_OBSERVATIONS_KEPT = 500
_MIGRATIONS_KEPT = 10
_FAILURES_KEPT = 20
_REASONS_KEPT = 20
_TEXT_LIMIT = 2000
_FORSAKEN_AFTER = 3600.0
_COUNTS = ("rewritten", "unchanged", "conflicts", "deleted", "failed", "pruned")

Record = dict[str, Any]


def new_record(version: str | None, now: str, kind: str = UPGRADE, key: str | None = None) -> Record:
    return {
        "format": FORMAT,
        "kind": kind,
        "version": version,
        "rotation": {"key": key} if kind == ROTATION else None,
        "status": "running",
        "started": now,
        "updated": now,
        "masters": [],
        "runs": [],
        "steps": [],
        "observations": [],
        "storage_versions_before": {},
        "migrations": [],
        "stored": {"before": None, "after": None},
        "proof": None,
    }


def belongs(record: Record, kind: str, version: str | None, key: str | None = None) -> bool:
    """Whether news about an upgrade to ``version`` (None: a migration alone), or a rotation to ``key``, goes on with this record."""
    if record.get("kind", UPGRADE) != kind:
        return False
    if kind == ROTATION:
        return bool(record["rotation"]["key"] == key)
    return version is None or record.get("version") is None or release(record["version"]) == release(version)


def release(text: str | None) -> str:
    """``1.37.2`` for ``v1.37.2`` and, of a distribution's build, for ``v1.37.2+rke2r1``."""
    return (text or "").strip().lstrip("v").partition("+")[0]


def at_release(version: str | None, target: str | None) -> bool:
    """Whether ``v1.37.2`` is at ``1.37``."""
    return bool(version and target) and (release(version) + ".").startswith(release(target) + ".")


def add_news(record: Record, news: Mapping[str, Any], now: str) -> Record:
    """The record with what one task of the role has to tell; ``now`` is in UTC, like all times here."""
    record = copy.deepcopy(record)
    record["updated"] = now
    if news.get("version") and not record["version"]:
        record["version"] = bounded(news["version"])
    if news.get("rotation"):
        record["rotation"] = _rotation(news["rotation"], record["rotation"] or {})
    _add_masters(record, news.get("masters") or {})
    run = _current_run(record, bool(news.get("begin")), now)
    run["updated"] = now
    if news.get("step"):
        _add_step(record, news["step"], now)
    for result in news.get("observed") or ():
        _add_observations(record, result, now)
    if was_told(news.get("migration")) and "rewritten" in news["migration"]:
        record["migrations"].append(_migration(news["migration"], now))
        _drop_old_migrations(record)
    for when in ("before", "after"):
        result = news.get(f"stored_{when}") or {}
        if was_told(result) and "totals" in result and not (when == "before" and record["stored"]["before"]):
            record["stored"][when] = stored_record(result, now)
    _add_failures(run, news, now)
    if news.get("verified") and not run["failures"]:
        after = record["stored"]["after"] if was_told(news.get("stored_after")) else None
        record["proof"] = {"at": now, "etcd": after is not None, "agreed": True}
    if news.get("end") or news.get("verified") or run["failures"]:
        _end(record, run, now)
    record["status"] = run["status"]
    return record


# Runs


def _current_run(record: Record, begin: bool, now: str) -> Record:
    """The run that news belongs to: the open one, unless a new one begins; that cuts off one left open."""
    runs = record["runs"]
    if not begin and runs and runs[-1]["finished"] is None and not _forsaken(record, runs[-1], now):
        return runs[-1]  # type: ignore[no-any-return]
    for run in runs:
        if run["finished"] is None:
            run.update(finished=run["updated"], status="cut off")
    for step in record["steps"]:
        if step["state"] == "running":
            step.update(state="cut off", finished=runs[-1]["finished"] if runs else now)
    runs.append({"started": now, "updated": now, "finished": None, "status": "running", "failures": []})
    del runs[:-_RUNS_KEPT]
    record["proof"] = None
    return runs[-1]  # type: ignore[no-any-return]


def _forsaken(record: Record, run: Mapping[str, Any], now: str) -> bool:
    """Whether an open run had no news for so long that it can't be under way. A master's upgrade may take any time."""
    if any(step["state"] == "running" for step in record["steps"]):
        return False
    return _seconds(now) - _seconds(run["updated"]) > _FORSAKEN_AFTER


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _end(record: Record, run: Record, now: str) -> None:
    run["finished"] = now
    if run["failures"]:
        run["status"] = "failed"
    else:
        run["status"] = "succeeded" if record["proof"] else "unfinished"


def _add_failures(run: Record, news: Mapping[str, Any], now: str) -> None:
    """Notes what failed among the results given, once each."""
    results = [*(news.get("outcomes") or ()), *(news.get("observed") or ())]
    results += [news.get(name) for name in ("migration", "stored_before", "stored_after")]
    for result in results:
        if isinstance(result, Mapping) and result.get("failed") and not result.get("skipped"):
            message = bounded(result.get("msg")) or "A task failed; see the playbook's output."
            if message not in [one["message"] for one in run["failures"]]:
                run["failures"].append(
                    {
                        "at": now,
                        "host": bounded(news.get("host")),
                        "during": bounded(news.get("during")),
                        "message": message,
                    }
                )
    del run["failures"][_FAILURES_KEPT:]


# Masters


def _add_masters(record: Record, masters: Mapping[str, Any]) -> None:
    """Inventory names in their order, and the hosts they are reached at."""
    known = {one["name"]: one for one in record["masters"]}
    for name, host in masters.items():
        known[str(name)] = {"name": str(name), "host": bounded(host) or ""}
    record["masters"] = list(known.values())


def _add_step(record: Record, step: Mapping[str, Any], now: str) -> None:
    """The upgrade of one master, or one stage of its rotation: ``state`` is running, done or failed."""
    state = step.get("state")
    if state != "running":
        for known in reversed(record["steps"]):
            if known["master"] == step["master"] and known["state"] == "running":
                known.update(state=state, finished=now)
                return
    entry: dict[str, Any] = {name: bounded(step.get(name)) for name in ("master", "server", "from", "to")}
    if step.get("stage"):
        entry["stage"] = int(step["stage"])
    record["steps"].append({**entry, "started": now, "finished": None if state == "running" else now, "state": state})


# Observations


def _add_observations(record: Record, result: Any, now: str) -> None:
    if not was_told(result):
        return
    for one in result.get("history") or ():
        _add_observation(record, one, now)
    if "servers" in result:
        _add_observation(record, result, now)


def _add_observation(record: Record, result: Mapping[str, Any], now: str) -> None:
    at = bounded(result.get("observed_at")) or now
    disagreements = {
        str(one["resource"]): {
            str(url): bounded(said.get("storage_version")) for url, said in (one.get("by_server") or {}).items()
        }
        for one in result.get("disagreements") or ()
    }
    servers = [
        {
            "url": bounded(one.get("url")),
            "name": bounded(one.get("name")),
            "version": bounded(one.get("emulated_version") or one.get("version")),
            "ready": bool(one.get("ready")) and not one.get("error"),
            "error": bounded(one.get("error")),
        }
        for one in result.get("servers") or ()
    ]
    agreed = {
        str(name): bounded(one.get("storage_version"))
        for name, one in (result.get("resources") or {}).items()
        if str(name) not in disagreements
    }
    if not record["storage_versions_before"] and agreed:
        record["storage_versions_before"] = {**agreed, **_before(disagreements, servers, record["version"])}
    before = record["storage_versions_before"]
    versions = dict(disagreements)
    for name, version in agreed.items():
        if version != before.get(name):
            versions[name] = {str(one["url"]): version for one in servers if one["ready"]}
    seen = {
        "servers": servers,
        "converged": bool(result.get("converged")),
        "reasons": [bounded(one) for one in (result.get("reasons") or ())[:_REASONS_KEPT]],
        "disagreeing": sorted(disagreements),
        # Only a whole result tells of every resource; what was seen while waiting tells of disagreements.
        "versions": versions,
        "complete": bool(result.get("resources")),
        "sampling": sampling_record(result.get("sampling")),
    }
    kept = record["observations"]
    if kept and {**kept[-1], "first": 0, "last": 0} == {**seen, "first": 0, "last": 0}:
        kept[-1]["last"] = max(kept[-1]["last"], at)
        return
    kept.append({"first": at, "last": at, **seen})
    if len(kept) > _OBSERVATIONS_KEPT:
        del kept[_OBSERVATIONS_KEPT // 2]


def sampling_record(evidence: Any) -> Record | None:
    """What agreement rests on where samples were taken; None where each server was asked at its own address."""
    if not isinstance(evidence, Mapping):
        return None
    numbers = {name: evidence.get(name) for name in ("connections", "told_apart", "servers")}
    chance = evidence.get("chance_missed")
    return {
        **{name: None if number is None else int(number) for name, number in numbers.items()},
        "chance_missed": None if chance is None else float(chance),
    }


def _before(
    disagreements: Mapping[str, Mapping[str, str | None]], servers: list[dict[str, Any]], target: str | None
) -> dict[str, str | None]:
    """Where a report begins among mixed masters: what those report that are not at the target yet."""
    found: dict[str, str | None] = {}
    for name, by_server in disagreements.items():
        old = [one["url"] for one in servers if not at_release(one["version"], target) and one["url"] in by_server]
        value = by_server[old[0]] if old else None
        if value is not None:
            found[name] = value
    return found


def _rotation(news: Mapping[str, Any], known: Mapping[str, Any]) -> Record:
    """Names only: no key, and nothing of a file, gets in. A later run finds fewer old keys than there were."""
    old = [[bounded(part) for part in one] for one in news.get("old") or ()]
    found = {
        "key": bounded(news.get("key")),
        "provider": bounded(news.get("provider")),
        "resources": None if news.get("resources") is None else [str(name) for name in news["resources"]],
        "drop_old": news.get("drop_old"),
    }
    return {
        **known,
        **{name: value for name, value in found.items() if value is not None},
        "old": [*known.get("old", ()), *(one for one in old if one not in known.get("old", ()))],
    }


# Migration and etcd


def _migration(result: Mapping[str, Any], now: str) -> Record:
    history = result.get("history") or {}
    return {
        "started": bounded(history.get("started")) or now,
        "finished": now,
        "ok": not result.get("failed"),
        "message": bounded(result.get("msg")) if result.get("failed") else None,
        "seconds": float(result.get("seconds") or 0),
        "rate": float(result.get("rate") or 0),
        "resumed": bool(result.get("resumed")),
        "totals": {name: _count(count) for name, count in (result.get("totals") or {}).items()},
        "resources": {
            str(name): {
                **{count: _count(one.get(count, 0)) for count in _COUNTS},
                "seconds": float(one.get("seconds") or 0),
                "storage_version": bounded(one.get("storage_version")),
                "persisted": bool(one.get("persisted")),
                "reason": bounded(one.get("reason")),
            }
            for name, one in (result.get("resources") or {}).items()
        },
        "skipped": [
            {"resource": bounded(one.get("resource")), "reason": bounded(one.get("reason"))}
            for one in result.get("skipped_resources") or ()
        ],
        "failures": [
            {
                **{name: bounded(one.get(name)) for name in ("resource", "namespace", "name", "reason", "message")},
                "status": int(one.get("status") or 0),
            }
            for one in result.get("failures") or ()
        ],
        "trimmed": [
            {
                "crd": bounded(one.get("crd")),
                "before": [bounded(version) for version in one.get("before") or ()],
                "after": [bounded(version) for version in one.get("after") or ()],
            }
            for one in result.get("trimmed") or ()
        ],
        "samples": [
            {
                "seconds": float(one["seconds"]),
                "resources": {
                    str(name): [int(count["visited"] or 0), int(count["rewritten"] or 0)]
                    for name, count in one["resources"].items()
                },
            }
            for one in history.get("samples") or ()
        ],
    }


def _count(count: Any) -> int | None:
    """None where nobody could count."""
    return None if count is None else int(count)


def _drop_old_migrations(record: Record) -> None:
    """Keeps those that did something, and the last one."""
    kept = record["migrations"]
    idle = [one for one in kept[:-1] if not one["totals"].get("rewritten") and one["ok"] and not one["trimmed"]]
    for one in idle:
        kept.remove(one)
    while len(kept) > _MIGRATIONS_KEPT:
        del kept[1]


def stored_record(result: Mapping[str, Any], now: str) -> Record:
    return {
        "at": now,
        "revision": int(result.get("revision") or 0),
        "consistent": bool(result.get("consistent", True)),
        "totals": {name: int(count) for name, count in (result.get("totals") or {}).items()},
        "problems": [bounded(one) for one in result.get("problems") or ()],
        "unprovable": {
            str(name): {str(why): int(count) for why, count in reasons.items()}
            for name, reasons in (result.get("unprovable_resources") or {}).items()
        },
        "resources": {
            str(name): {
                "objects": int(one.get("objects") or 0),
                "stale": int(one.get("stale") or 0),
                "reasons": {str(why): int(count) for why, count in (one.get("stale_reasons") or {}).items() if count},
                "unprovable": int(one.get("unprovable") or 0),
                "expected": bounded((one.get("expected") or {}).get("version")),
                "stored": [
                    {
                        **{part: bounded(row.get(part)) for part in ("version", "encoding", "provider", "key")},
                        "objects": int(row.get("objects") or 0),
                        "stale": [str(reason) for reason in row.get("stale") or ()],
                    }
                    for row in one.get("stored") or ()
                ],
            }
            for name, one in (result.get("resources") or {}).items()
        },
    }


# Values


def was_told(result: Any) -> bool:
    """Whether a registered result is one: the task was neither left out nor unknown."""
    return isinstance(result, Mapping) and bool(result) and not result.get("skipped")


def bounded(value: Any) -> str | None:
    """A plain string of bounded length."""
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
