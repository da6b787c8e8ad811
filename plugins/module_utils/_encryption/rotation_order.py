# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The conditions for the next step of a rotation: the order of masters and stages. Pure.

A fact of another run counts as missing, and a missing fact keeps a master as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_proof import (
    is_result,
    uncounted_sentences,
    unreadable_by_file,
    unreadable_sentences,
)

_DROP = 3


@dataclass(frozen=True)
class RotationState:
    """What a run of the role knows about itself, as the values that its tasks set.

    If a task failed, was ignored or skipped, or belongs to another run, its value is missing or has another ID.
    ``states``: by master ``{"plan": id, "done": stage}``. ``read``: ``{"plan": id, "stage": stage}``, the last stage after which
    every API server read everything, 0 before the first. ``proven``: the ID of the plan whose proof was found. ``lease``: True while
    this run holds the Lease.
    """

    run: str
    plan: Mapping[str, Any]
    states: Mapping[str, Any]
    read: Any = None
    proven: Any = None
    lease: Any = None

    @property
    def problem(self) -> str | None:
        """Why this plan must not be executed."""
        if self.lease is not True:
            return "this run does not hold the Lease; see what failed before."
        if not self.run or not isinstance(self.plan, Mapping) or self.plan.get("run") != self.run:
            return "this run has no plan; see what failed before."
        problem = self.plan.get("problem", "this run has no plan; see what failed before.")
        return None if problem is None else str(problem)

    def done(self, master: str) -> int:
        state = self.states.get(master)
        if isinstance(state, Mapping) and state.get("plan") == self.plan.get("id"):
            return int(state["done"])
        return 0

    @property
    def stage_read(self) -> int:
        if isinstance(self.read, Mapping) and self.read.get("plan") == self.plan.get("id"):
            return int(self.read["stage"])
        return -1

    @property
    def is_proven(self) -> bool:
        return self.problem is None and bool(self.plan.get("id")) and self.proven == self.plan["id"]


def why_not_yet(rotation_state: RotationState, stage: int, master: str, own_url: str, asked: Any) -> str:
    """Why a master must not take a stage (1 to 3) now; empty if it may. ``asked``: the result of encryption_config_info."""
    left = f"{master} was left unchanged, because"
    if rotation_state.problem is not None:
        return f"{left} {rotation_state.problem}"
    order = list(rotation_state.plan["order"])
    if master not in order:
        return f"{left} it is not in the plan."
    behind = [name for name in order if rotation_state.done(name) < stage - 1]
    behind += [
        name for name in order[: order.index(master)] if rotation_state.done(name) < stage and name not in behind
    ]
    if behind:
        return (
            f"{left} {', '.join(behind)} did not complete the previous step. Fix that and run again; the rotation resumes from there. "
            "(The role needs the linear strategy.)"
        )
    if stage == _DROP and not rotation_state.is_proven:
        return f"{master} keeps its old keys, because it is not proven that etcd holds nothing under them."
    if rotation_state.stage_read < stage - 1:
        return f"{left} not every API server has shown that it can read everything; see what failed before."
    if not is_result(asked, "servers"):
        return f"{left} the state of the API servers is unknown."
    others = [server for server in asked["servers"] if server["url"] != own_url]
    if len(others) == len(asked["servers"]) or len(asked["servers"]) != len(order):
        return f"{left} its own API server was not asked, or their number differs from that of the masters in the play ({len(order)})."
    down = [server for server in others if not server["ready"] or server["error"]]
    if down:
        why = " ".join(server["error"] for server in down if server["error"]) or "not ready."
        return f"{left} {', '.join(server['url'] for server in down)} can't be used: {why} Fix that and run again; the rotation resumes from there."
    # Before the second stage, a server may not have loaded yet what a killed run wrote; the plan knows only what is there now.
    strange = _with_another_file(rotation_state.plan, stage, others) if stage > 1 else []
    if strange:
        return (
            f"{left} {', '.join(strange)} loaded a configuration that isn't part of this rotation. Something else writes the file, such as "
            "configuration management: stop that, and run again."
        )
    return ""


def _with_another_file(plan: Mapping[str, Any], stage: int, others: Iterable[Mapping[str, Any]]) -> list[str]:
    """URLs of servers that report the hash of another file than those before and after this stage; before 1.34 none is reported."""
    steps = [master["steps"][stage - 1] for master in (plan.get("masters") or {}).values() if master.get("steps")]
    expected = {step[name] for step in steps for name in ("replaces", "sha256")}
    return [server["url"] for server in others if server.get("config_hash") and server["config_hash"] not in expected]


def why_no_rewrite(rotation_state: RotationState) -> str:
    """Why nothing may be rewritten or proven yet; empty if it may."""
    if rotation_state.problem is not None:
        return f"Nothing was rewritten: {rotation_state.problem}"
    behind = [name for name in rotation_state.plan["order"] if rotation_state.done(name) < _DROP - 1]
    if behind or rotation_state.stage_read < _DROP - 1:
        return (
            "Nothing was rewritten, because not every master writes with the new key yet, or not every one has shown that it can read "
            f"everything ({', '.join(behind) or 'see above'}). Fix what failed above and run again."
        )
    return ""


def why_not_ended(rotation_state: RotationState, stage: int) -> str:
    """Why a rotation, whose last stage is this one, has not finished; empty if it has."""
    if not rotation_state.is_proven:
        return "it is not proven that etcd holds nothing under an old key"
    behind = [name for name in rotation_state.plan["order"] if rotation_state.done(name) < stage]
    if behind or rotation_state.stage_read < stage:
        return f"not every master completed the last stage ({', '.join(behind) or 'not all can read everything'})"
    return ""


def why_no_start(plan: Mapping[str, Any], stored: Any, reading: Any) -> str:
    """Why a rotation must not begin or continue, judging by the state before the first write; empty if it may."""
    if plan.get("problem") is not None:
        return str(plan["problem"])
    for master, steps in sorted(plan["masters"].items()):
        missing = unreadable_by_file(steps["reads"], stored)
        if missing:
            return (
                f"With its current file, {master} could not read what etcd holds: {'; '.join(missing)}. Put back the missing keys "
                "(there may be a copy beside the file), let the API server load them, and run again."
            )
    if unread := unreadable_sentences(reading):
        return (
            f"Not every API server can read everything now: {'; '.join(unread)}. Fix that first (an object that no server can read "
            "has to be restored or deleted), then run again."
        )
    if uncounted := uncounted_sentences(stored, plan, reading):
        return (
            f"What etcd holds differs from what the API servers list: {'; '.join(uncounted)}. Make sure that rolling_upgrade_etcd names this "
            "cluster's etcd with its prefix, then run again."
        )
    return ""
