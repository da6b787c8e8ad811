# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why the role must not touch a master now. Pure. Turns results of tasks into sentences; no sentence means that it may.

A missing or malformed answer is a reason, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._masters import is_ready


def not_all_ready(found: Any, expected: Any) -> list[str]:
    """Why an upgrade can't begin, from the result of storage_version_hashes; ``expected`` is a number, or 0 for any."""
    servers = found.get("servers") if isinstance(found, Mapping) else None
    if not servers:
        return ["The API servers could not be asked."]
    wanted = int(expected or 0) or len(servers)
    ready = sum(is_ready(server) for server in servers)
    if ready == len(servers) == wanted and not found.get("unlisted_servers"):
        return []
    return _reasons(found) or [f"{ready} of {wanted} API servers are ready."]


def others_not_ready(found: Any, own: Any, expected: Any) -> list[str]:
    """Why a master may not be taken down; ``own`` is a list of just its own API server."""
    servers = found.get("servers") if isinstance(found, Mapping) else None
    if not servers or not isinstance(own, Sequence) or len(own) != 1:
        return ["The API servers could not be asked."]
    others = [server for server in servers if server.get("url") != own[0].get("url")]
    ready = sum(is_ready(server) for server in others)
    if len(others) != len(servers) - 1:
        return [f"{own[0].get('url')} is not one of the API servers that answered."]
    wanted = max(len(servers), int(expected or 0))
    if ready == wanted - 1:
        return []
    return _reasons(found) or [f"{ready} of {wanted - 1} other API servers are ready."]


def in_its_turn(
    master: str, found: Any, own: Any, others: Collection[str], expected: Any, masters: Collection[str] = ()
) -> str:
    """Why a master must not be touched in its turn, and what to do; empty if it may be.

    ``found``: the result of upgrade_turn. ``own``: a list of just its own API server. ``others``: the URLs of other masters' API servers.
    ``masters``: all of them. Each has an API server, and the cluster soon stops listing one that is down.
    """
    untouched = f"{master} was not touched"
    if not isinstance(found, Mapping) or found.get("failed") or found.get("error", "other") is not None:
        why = str((found.get("msg") if isinstance(found, Mapping) else None) or "The API servers could not be asked.")
        return f"{why.splitlines()[0]} {untouched}."
    known = ", ".join(str(server.get("url")) for server in found.get("servers") or ())
    if not isinstance(own, Sequence) or len(own) != 1:
        return (
            f"No API server could be matched with {master} (known are {known}); set rolling_upgrade_server for this host to its URL, or use the "
            "kubeconfig of its cluster. "
            f"{untouched}."
        )
    url = own[0].get("url")
    if url in others:
        return f"{url} is the API server of {master} and of another master; set rolling_upgrade_server of each to its own address. {untouched}."
    down = others_not_ready(found, own, max(int(expected or 0), len(masters)))
    if down:
        return (
            f"{untouched}, because not all other API servers are ready: {' '.join(down)} Bring them back and run again."
        )
    return ""


def _reasons(found: Mapping[str, Any]) -> list[str]:
    return [str(reason) for reason in found.get("reasons") or ()]


def cut_off_steps(looks: Any, open_step: Any) -> list[dict[str, Any]]:
    """Every step that began and has not ended, according to the markers on masters and the Lease: id, master, begun, who, host."""
    found: dict[str, dict[str, Any]] = {}
    for look in looks or ():
        for step in look.get("steps") or ():
            about = step.get("about") or {}
            found[step["id"]] = {"id": step["id"], "master": step.get("master"), **_told(about)}
    if isinstance(open_step, Mapping) and open_step.get("id"):
        known = {"id": open_step["id"], "master": open_step.get("master"), **_told(open_step)}
        found[open_step["id"]] = known
    return list(found.values())


def _told(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: about.get(name) for name in ("begun", "who", "host")}


def still_at_work(looks: Any, open_step: Any, masters: Collection[str], ended: Any, this_run: str) -> list[str]:
    """Why no master may be touched yet, from the results of upgrade_step on each master and the Lease's open step.

    ``ended`` are IDs of steps that the user says are over.
    """
    sure = {ended} if isinstance(ended, str) else set(ended or ())
    looks = list(looks or ())
    steps = [step for step in cut_off_steps(looks, open_step) if step["id"] not in sure]
    seen = {str(look.get("item")): look for look in looks}
    reasons = [_unseen(name, seen.get(str(name))) for name in masters]
    for step in steps:
        reasons.append(_of_step(step, seen.get(str(step["master"])), open_step, this_run))
    return [reason for reason in reasons if reason]


def _unseen(master: str, look: Mapping[str, Any] | None) -> str:
    if look is not None and "processes" in look and not look.get("unreachable") and not look.get("failed"):
        return ""
    why = str((look or {}).get("msg") or "it was not checked").strip().splitlines()[0].rstrip(".")
    return f"Whether an upgrade step is still running on {master} is unknown: {why}. Make sure that Ansible can log in and run tasks there, and run again."


def _of_step(step: Mapping[str, Any], look: Mapping[str, Any] | None, open_step: Any, this_run: str) -> str:
    name = (
        f"The step on {step['master']}" + (f", begun at {step['begun']}," if step["begun"] else "") + " was interrupted"
    )
    way_out = f"when none of its processes remain, set rolling_upgrade_cut_off_ended to '{step['id']}'"
    of_lease = isinstance(open_step, Mapping) and open_step.get("id") == step["id"]
    if of_lease and open_step.get("holder") == this_run:
        return f"{name} in this run. Check {step['master']} and run again."
    if look is None:
        return f"{name}, and no such master is in this play, so its processes can't be checked; {way_out}."
    busy = [
        f"{process['name']} (pid {process['pid']})"
        for process in look.get("processes") or ()
        if process.get("step") == step["id"]
    ]
    if busy:
        return f"{name}, and its tasks are still running there: {', '.join(busy[:5])}. Wait until they have ended, or end them; {way_out}."
    if look.get("run_at_work"):
        return f"{name}, and the run that began it still runs tasks on this controller. Wait until it has ended, or end it; {way_out}."
    if "processes" in look and not look.get("complete"):
        return f"{name}, and this user can't see all processes there. Run again as root (become), or {way_out}."
    return ""
