# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last words of the role: what was done or why it stopped, and what to do next. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import count, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import short_version
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._proof_text import proof_text

_MASTERS_NAMED = 10
# Where a run may end on purpose.
_NEXT = {
    "finalize": "the second step, in which nothing is emulated anymore",
    "migrate": "the migration",
    "trim": "status.storedVersions of CRDs are trimmed",
}
_BEFORE_REWRITING = ("finalize", "migrate")
# The end of what a command said is about its error; more than this is not a sentence anymore.
_MOST_SAID = 300
_WORDS_OF_COMMANDS = ("non-zero return code", "MODULE FAILURE")


def failure_text(result: Mapping[str, Any]) -> str:
    """A failed task's message, with the end of what its command said on stderr (else stdout) in its first line."""
    items = [item for item in result.get("results") or () if isinstance(item, Mapping) and item.get("failed")]
    if items:
        return failure_text(items[0])
    message = str(result.get("msg") or "see the task before.").strip()
    first, *more = message.splitlines()
    if result.get("rc") is None or (more and not first.startswith(_WORDS_OF_COMMANDS)):
        return message
    said = _end_of(result.get("stderr")) or _end_of(result.get("stdout"))
    if not said or f" {said}".rstrip(".") in message:
        return message
    code = f" {result['rc']}" if first.rstrip(".") == "non-zero return code" else ""
    return "\n".join([f"{first.rstrip('.:')}{code}: {_as_sentence(said)}", *more])


def _end_of(output: Any) -> str:
    """The last line that says something, and those before it that belong to the same error, such as apt's "E: ..." lines."""
    lines = [line.strip() for line in str(output or "").splitlines() if line.strip()]
    errors = [line for line in lines[-5:] if line.lower().startswith(("e:", "error", "fatal"))]
    return " ".join(errors or lines[-1:])[-_MOST_SAID:]


def _as_sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def failed_outcome(outcomes: Iterable[Any]) -> str:
    """The message of the last of these results of tasks that failed; empty if none did."""
    messages = [
        str(outcome.get("msg") or "")
        for outcome in outcomes
        if isinstance(outcome, Mapping) and (outcome.get("failed") or outcome.get("error"))
    ]
    return messages[-1] if messages else ""


def stopped_lines(message: str, report: str, command: Sequence[str], extra_variables: Iterable[str] = ()) -> list[str]:
    """For a failed run: why, and what to do. ``extra_variables``: those of the command as Ansible has parsed them, such as ``@vars.yml``."""
    first, *more = message.splitlines() or [""]
    return ["", f"STOPPED: {first}", *more, *_report_line(report), *_again(command, extra_variables)]


def _again(command: Sequence[str], extra_variables: Iterable[str]) -> list[str]:
    """The command to run again, unless it has values of variables, which may be secrets."""
    if not command:
        return []
    if not all(given.startswith("@") for given in extra_variables):
        return ["Next: fix this, then run the same command again."]
    return ["Next: fix this, then run:", f"    {shlex.join(command)}"]


def _report_line(report: str) -> list[str]:
    return [f"Report: {report}"] if report else []


@dataclass(frozen=True)
class Asked:
    """What this run was to do: ``stops_before`` names the step before which it ends (finalize, migrate or trim), and ``emulate`` a release."""

    version: str
    emulate: str = ""
    stops_before: str = ""
    rollback: bool = False

    @property
    def state(self) -> str:
        return f"{self.version}, emulating {self.emulate}" if self.emulate else self.version


def done_lines(
    masters: Sequence[str], asked: Asked, proof: Mapping[str, Any], migration: Mapping[str, Any], report: str
) -> list[str]:
    """For a run in which the result was verified."""
    etcd, untrimmed = proof.get("source") == "etcd", asked.stops_before == "trim"
    word = "DONE AND PROVEN" if proof.get("proven") else "DONE"
    sentences = [f"{word}{' EXCEPT FOR TRIMMING' if untrimmed else ''}: {_masters(masters)} at {asked.state}."]
    rewritten = (migration.get("totals") or {}).get("rewritten", migration.get("rewritten"))
    if rewritten is not None:
        sentences.append(f"{count(int(rewritten), 'object')} rewritten.")
    sentences.append(
        proof_text(proof) if etcd else "Etcd was not read, so it is not proven that nothing stale remains."
    )
    return ["", " ".join(sentences), *_report_line(report), *_following(etcd, untrimmed)]


def _following(etcd: bool, untrimmed: bool) -> list[str]:
    steps = [] if etcd else ["set rolling_upgrade_etcd and run again for the proof"]
    if untrimmed:
        steps.append("run again without rolling_upgrade_stop_before, which trims status.storedVersions of CRDs")
    elif steps:
        steps.append("nothing else remains to be done")
    return [f"Next: {'; '.join(steps)}."] if steps else []


def _masters(names: Sequence[str]) -> str:
    return f"{listed(names, _MASTERS_NAMED)} {'is' if len(names) == 1 else 'are'}"


def plan_lines(
    masters: Sequence[str],
    done: Collection[str],
    asked: Asked,
    checked: Mapping[str, Any],
    preview: Mapping[str, Any],
    select: str,
    by_platform: bool,
) -> list[str]:
    """For a run in check mode that found nothing in the way: what a real one would do."""
    state = replace(asked, version=str(checked.get("target_version"))).state
    way = f"from {checked.get('current_version')} to {state}"
    to_do = [name for name in masters if name not in done]
    parts = []
    if by_platform:
        parts.append(f"have the platform upgrade its masters {way}" if checked.get("upgrade_pending") else "")
    elif to_do:
        in_turn = ", one at a time" if len(to_do) > 1 else ""
        parts.append(f"{'roll back' if asked.rollback else 'upgrade'} {listed(to_do, _MASTERS_NAMED)} {way}{in_turn}")
    if asked.stops_before not in _BEFORE_REWRITING:
        parts.append(_rewriting(checked.get("plan") or {}, preview, select, asked))
    parts = [part for part in parts if part]
    left = [name for name in masters if name in done and not by_platform]
    end = f" This run ends before {_NEXT[asked.stops_before]}." if asked.stops_before in _NEXT else ""
    nothing = "nothing remains to be done" + (" in this run." if end else ".")
    sentences = [f"CHECKED, NOTHING WAS CHANGED: would {'; then '.join(parts)}." if parts else f"CHECKED: {nothing}"]
    if left and to_do:
        sentences.append(f"{_masters(left)} at {state} already.")
    return ["", " ".join(sentences) + end]


def _rewriting(plan: Mapping[str, Any], preview: Mapping[str, Any], select: str, asked: Asked) -> str:
    if asked.emulate:  # The plan is about what the new release itself would store.
        return f"rewrite what is not stored as {asked.emulate} stores it"
    changes = [change for change in plan.get("changes") or () if change.get("objects") != 0]
    objects = (plan.get("changed") or {}).get("objects")
    resources = count(len(changes), "resource")
    work = f"{_number(objects)} of {resources}{_about((plan.get('changed') or {}).get('seconds'))}"
    words = [f"rewrite {work}" if changes else "find no object whose storage version changes"]
    every = (plan.get("all") or {}).get("objects", preview.get("would_visit"))
    if select == "all" and every:
        words.append(
            f"visiting {count(int(every), 'object')} to make sure{_about((plan.get('all') or {}).get('seconds'))}"
        )
    crds = plan.get("trims") or ()
    if crds and asked.stops_before != "trim":
        words.append(f"trim {count(len(crds), 'CRD')}")
    return ", ".join(words)


def _number(objects: Any) -> str:
    return "an unknown number of objects" if objects is None else count(int(objects), "object")


def _about(seconds: Any) -> str:
    return "" if not isinstance(seconds, (int, float)) else f" (about {max(1, round(seconds))} s)"


def stored_diff(checked: Mapping[str, Any]) -> dict[str, list[str]]:
    """For diff mode: the versions in which objects of the resources that change are stored now, and in which afterwards."""
    before, after = [], []
    for change in (checked.get("plan") or {}).get("changes") or ():
        name = str(change["resource"])
        held = [version for version in checked.get("stored") or () if version.get("resource") == name]
        told = [
            f"{short_version(version.get('version') or 'not visible', name)}{_objects(version)}" for version in held
        ]
        before.append(f"{name}: {', '.join(told) or short_version(change.get('from') or 'unknown', name)}")
        after.append(f"{name}: {short_version(change.get('to') or 'unknown', name)}{_objects(change)}")
    return {"before": before, "after": after}


def _objects(counted: Mapping[str, Any]) -> str:
    number = counted.get("objects")
    return "" if number is None else f" ({count(int(number), 'object')})"
