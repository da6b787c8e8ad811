# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An upgrade as the role reports it, task by task, with times of our own."""

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.news import add_news, new_record
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import Record

URLS = {name: f"https://10.0.0.{number}:6443" for number, name in enumerate(("alpha", "beta", "gamma"), 11)}
THINGS = "things.example.com"


def at(second: float) -> str:
    hours, rest = divmod(second, 3600)
    return f"2026-11-24T{12 + int(hours):02d}:{int(rest // 60):02d}:{rest % 60:06.3f}Z"


def look(second: float, states: str, masters: str = "abc", **more: Any) -> dict[str, Any]:
    """A result of storage_version_hashes; ``states`` has ``6`` or ``7`` (ready at 1.36, 1.37) or ``x`` (down) each."""
    names = [name for name in URLS if name[0] in masters.replace("c", "g")]
    servers, stored = [], {}
    for name, state in zip(names, states):
        url = URLS[name]
        release = {"6": "v1.36.4", "7": "v1.37.2", "x": None}[state]
        error = None if release else f"{url} refuses connections."
        servers.append({"url": url, "name": name, "version": release, "ready": release is not None, "error": error})
        if release:
            stored[url] = "example.com/v1beta1" if state == "6" else "example.com/v1"
    agreed = len(set(stored.values())) <= 1
    return {
        "observed_at": at(second),
        "servers": servers,
        "converged": agreed and "x" not in states,
        "cross_checked": True,
        "reasons": [server["error"] for server in servers if server["error"]],
        "disagreements": []
        if agreed
        else [
            {"resource": THINGS, "by_server": {url: {"storage_version": version} for url, version in stored.items()}}
        ],
        "resources": {
            THINGS: {"storage_version": min(stored.values())},
            "secrets": {"storage_version": "v1"},
        }
        if stored
        else {},
        **more,
    }


def migration(second: float, failures: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """A result of storage_migrate that rewrote 40 things, minus those that failed."""
    failures = failures or []
    counts = {"rewritten": 40 - len(failures), "unchanged": 2, "conflicts": 1, "deleted": 0, "failed": len(failures)}
    of_things = {**counts, "pruned": 0, "seconds": 2.0, "storage_version": "example.com/v1", "persisted": not failures}
    quiet = {**dict.fromkeys(counts, 0), "unchanged": 300, "seconds": 1.0, "storage_version": "v1", "persisted": True}
    return {
        "changed": True,
        **{name: counts[name] for name in ("rewritten", "unchanged", "conflicts", "deleted")},
        "totals": {**counts, "unchanged": 302, "skipped": 1},
        "resources": {THINGS: {**of_things, "reason": "all"}, "secrets": {**quiet, "reason": "all"}},
        "skipped_resources": [{"resource": "events", "reason": "events expire on their own"}],
        "failures": failures,
        "trimmed": [{"crd": THINGS, "before": ["v1beta1", "v1"], "after": ["v1"]}],
        "seconds": 4.0,
        "history": {
            "started": at(second),
            "samples": [
                {"seconds": 1.0, "resources": {THINGS: {"visited": 10, "rewritten": 10}}},
                {"seconds": 2.0, "resources": {THINGS: {"visited": 43, "rewritten": 40 - len(failures)}}},
            ],
        },
        "failed": bool(failures),
        "msg": "Some objects could not be rewritten." if failures else None,
        **more,
    }


def failure(name: str = "thing-1", message: str = "denied the request", **more: Any) -> dict[str, Any]:
    named = {"resource": THINGS, "namespace": "default", "name": name, "status": 403, "reason": "Forbidden"}
    return {**named, "message": message, **more}


def stored(version: str, stale: int = 0) -> dict[str, Any]:
    """A result of stored_versions_info: 40 things in this version, and 300 Secrets."""

    def row(name: str, objects: int, reasons: list[str]) -> dict[str, Any]:
        return {"version": name, "encoding": "json", "provider": "identity", "objects": objects, "stale": reasons}

    return {
        "revision": 77,
        "consistent": True,
        "totals": {"objects": 340, "stale": stale, "unprovable": 0, "unknown": 0},
        "problems": [],
        "resources": {
            THINGS: {
                "objects": 40,
                "stale": stale,
                "expected": {"version": version},
                "stored": [row(version, 40, ["version"] if stale else [])],
            },
            "secrets": {"objects": 300, "expected": {"version": "v1"}, "stored": [row("v1", 300, [])]},
        },
    }


class ReportedUpgrade:
    """The record, to which news is added second by second."""

    def __init__(self, version: str | None = "1.37") -> None:
        self.record: Record = new_record(version, at(0))

    def tell(self, second: float, **news: Any) -> ReportedUpgrade:
        self.record = add_news(self.record, news, at(second))
        return self

    def begin(self, second: float) -> ReportedUpgrade:
        return self.tell(second, begin=True, masters={name: url[8:-5] for name, url in URLS.items()})

    def step(self, second: float, master: str, state: str, **news: Any) -> ReportedUpgrade:
        step = {"master": master, "server": URLS[master], "from": "1.36.4", "to": "1.37", "state": state}
        return self.tell(second, during="upgrade", step=step, **news)


def first_run_fails() -> ReportedUpgrade:
    """Alpha is upgraded; beta does not come back."""
    upgrade = ReportedUpgrade().begin(0)
    upgrade.tell(1, during="check", observed=[look(1, "666")]).tell(2, stored_before=stored("example.com/v1beta1"))
    upgrade.step(5, "alpha", "running", observed=[look(4, "666")])
    waited = look(15, "7", "a", history=[look(8, "x", "a"), look(15, "7", "a")])
    upgrade.step(16, "alpha", "done", observed=[waited, look(16, "766")])
    upgrade.step(20, "beta", "running", observed=[look(19, "766")])
    stopped = {"failed": True, "msg": "The upgrade of beta to 1.37 failed."}
    return upgrade.step(50, "beta", "failed", observed=[look(49, "7x6")], outcomes=[stopped])


def second_run_finishes(upgrade: ReportedUpgrade, failures: list[dict[str, Any]] | None = None) -> ReportedUpgrade:
    """Ten minutes later, after beta was repaired."""
    upgrade.begin(600).tell(601, during="check", observed=[look(601, "766")])
    upgrade.step(605, "beta", "running", observed=[look(604, "766")])
    upgrade.step(615, "beta", "done", observed=[look(614, "776")])
    upgrade.step(620, "gamma", "running", observed=[look(619, "776")])
    upgrade.step(630, "gamma", "done", observed=[look(629, "777")])
    upgrade.tell(640, during="agreement", observed=[look(640, "777")])
    upgrade.tell(648, during="migration", migration=migration(644, failures))
    if failures:
        return upgrade
    return upgrade.tell(
        650, during="proof", observed=[look(649, "777")], stored_after=stored("example.com/v1"), verified=True
    )
