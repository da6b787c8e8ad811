# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phase after the proof: trims status.storedVersions of CRDs, and says which CRDs are left alone, and why."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import some_of
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.crds import (
    Trimmed,
    Untrimmed,
    trim_stored_versions,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.context import RunContext
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.engines.base import ResourceRun
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.guard import Guard
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity

_TRIMMED_AT_ONCE = 8


async def trim(context: RunContext, guard: Guard) -> None:
    """Trims the CRDs whose objects are all proven to be stored in the current version."""
    runs = context.result.runs
    proven = [runs[name] for name in context.checkpoint.done if name in runs]
    crds = [(run, run.crd) for run in proven if run.trims and run.crd is not None]
    await gather_limited(_TRIMMED_AT_ONCE, lambda pair: _trim(context, guard, *pair), crds)
    context.result.trimmed.sort(key=lambda trimmed: trimmed.crd)
    _explain_unproven(context)


async def _trim(context: RunContext, guard: Guard, run: ResourceRun, crd: CrdIdentity) -> None:
    name = run.target.name

    async def why_not() -> str | None:
        return await _why_not(context, guard, name)

    done = await trim_stored_versions(context.cluster.entry, name, crd, run.target.hash, why_not)
    if isinstance(done, Untrimmed) and context.control.stopped is not None:
        context.result.untrimmed.append(done)  # The next run finds that only this is left to do.
        return
    unseen = isinstance(done, Untrimmed) and done.unread and done.status == 403
    if unseen and context.chosen.trims_by_itself:
        context.result.doubts.append(
            f"Whether the CRD {name} was trimmed is unknown, since this user is not allowed to get it. kube-controller-manager trims "
            "CRDs since Kubernetes 1.36; on an older release, run select: all as a user with the role crds."
        )
    elif isinstance(done, Untrimmed):
        context.checkpoint.not_trimmed(name)
        context.result.untrimmed.append(done)
        context.report(Event("notice", f"The CRD {name} was not trimmed: {done.reason}.", {}))
        return
    context.checkpoint.trimmed(name)
    if isinstance(done, Trimmed):
        context.result.trimmed.append(done)


async def _why_not(context: RunContext, guard: Guard, name: str) -> str | None:
    """Why the migration no longer counts; None if it does. Since it was proven this process may have been suspended."""
    await guard.refresh()
    if context.control.stopped is not None:
        return "the run was stopped before that"
    if name not in context.checkpoint.done:
        return "an API server may have written since its objects were visited; run again"
    if not guard.fresh or not context.lease.valid:
        return "the API servers could not be checked again; run again"
    return None


def _explain_unproven(context: RunContext) -> None:
    """Says why custom resources that were visited without a failure don't count as persisted."""
    result = context.result
    uncounted = result.agreement.why_uncounted
    by_reason: dict[str, list[str]] = {}
    for name, run in sorted(result.runs.items()):
        if run.custom and run.complete and name not in context.checkpoint.done:
            reason = (run.doubt or uncounted or "the API servers did not all agree at the end").rstrip(".")
            by_reason.setdefault(reason, []).append(name)
            result.doubted.append(name)
            if context.options.trim_stored_versions and name not in {crd.crd for crd in result.untrimmed}:
                result.untrimmed.append(Untrimmed(name, reason))
    result.doubts += [_unproven_sentence(names, reason) for reason, names in by_reason.items()]
    done = context.checkpoint.done
    plain = [name for name, run in sorted(result.runs.items()) if not run.custom and run.complete and name not in done]
    if plain:
        why = uncounted or "they were not served everywhere at the end, or changed their storage version"
        if not result.agreement.converged:
            why = "the API servers did not all agree at the end"
        result.doubts.append(f"What was visited of {some_of(plain)} does not count as persisted: {why}.")


def _unproven_sentence(names: list[str], reason: str) -> str:
    if len(names) == 1:
        return f"{names[0]} was visited, but does not count as persisted, and its CRD was left alone: {reason}."
    return f"{some_of(names)} were visited, but don't count as persisted, and their CRDs were left alone: {reason}."
