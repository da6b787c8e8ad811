# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rehearsal: one object of each resource is patched as a migration would, as a dry run, through all admission.

The API server itself asks its webhooks and policies, and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.gathering import gather_limited
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.retry import REPEATABLE
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.api_server import (
    ApiServer,
    forbidden_sentence,
    status_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.objects import (
    dry_run,
    no_op_patch,
    object_path,
    send_patch,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.outcome import (
    About,
    Verdict,
    error_outcome,
    missing_namespace,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import EVENTS, ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.refusals import (
    what_is_said,
    who_refuses,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.webhooks import Webhook
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

# As API servers say it of a webhook whose sideEffects don't rule out any (k8s.io/apiserver, admission/plugin/webhook/errors).
NO_DRY_RUN = re.compile(r'admission webhook "[^"]+" does not support dry run')
_PARALLEL = 4
_CALL_FAILED = re.compile(r'failed calling webhook "([^"]+)"')
# Answers that say nothing about the next try: a concurrent write, overload.
_NO_ANSWER = (409, 410, 429, 502, 503, 504)


@dataclass(frozen=True)
class Refusal:
    """Why an API server does not write an object, in its own words, which may quote the object."""

    status: int
    message: str = field(repr=False)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class Rehearsal:
    """``passed``: resources with an object that could be written; ``silent``: webhooks that failed, with the resources.

    ``orphaned``: resources with an object that was refused because its namespace is gone, with that namespace.
    ``unclear``: resources with an answer of 404 that doesn't name the object. ``unrehearsed``: those with a webhook without dry runs.
    """

    passed: set[str] = field(default_factory=set)
    silent: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    forbidden: list[str] = field(default_factory=list)
    orphaned: dict[str, str] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)
    unrehearsed: list[str] = field(default_factory=list)


async def rehearse(
    server: ApiServer,
    served: Mapping[str, ServedResource],
    samples: Mapping[str, ObjectKey],
    webhooks: Sequence[Webhook],
    more: Sequence[tuple[ServedResource, ObjectKey]] = (),
) -> Rehearsal:
    """Patches the samples, and ``more`` objects; doesn't wait again for a webhook that failed once."""
    done = Rehearsal()

    async def patch(sample: tuple[ServedResource, ObjectKey]) -> None:
        resource, key = sample
        if not any(hook.name in done.silent and hook.fails and hook.matches(resource) for hook in webhooks):
            await _patch(server, resource, key, done)

    wanted = [*((served[name], key) for name, key in samples.items()), *more]
    await gather_limited(
        _PARALLEL,
        patch,
        (sample for sample in wanted if "patch" in sample[0].verbs and sample[0].name not in EVENTS),
    )
    return done


async def _patch(server: ApiServer, resource: ServedResource, key: ObjectKey, done: Rehearsal) -> None:
    path = dry_run(object_path(resource, key.namespace, key.name))
    try:
        answer = await send_patch(server, path, no_op_patch(key.resource_version), timeout=60, retry=REPEATABLE)
    except UnreachableError:
        return
    if answer.status < 300:
        done.passed.add(resource.name)
        return
    _reason, message, details = status_of(answer)
    failed = _CALL_FAILED.search(message)
    if failed:
        done.silent.setdefault(failed[1], []).append(resource.name)
    elif answer.status == 400 and NO_DRY_RUN.fullmatch(message):
        done.unrehearsed.append(resource.name)
    elif answer.status == 403 and forbidden_sentence(message):
        done.forbidden.append(resource.name)
    elif answer.status == 404:
        _take_404(answer, details, resource, key, done)
    elif answer.status not in _NO_ANSWER:
        done.refused[resource.name] = Refusal(answer.status, message, details)


def _take_404(
    answer: Response, details: Mapping[str, Any], resource: ServedResource, key: ObjectKey, done: Rehearsal
) -> None:
    about = About(resource.group, resource.plural, key.namespace, key.name)
    outcome = error_outcome(answer, about)
    namespace = missing_namespace(details, about)
    if namespace is not None:
        done.orphaned[resource.name] = namespace
    elif outcome.verdict is Verdict.FAILED:  # A webhook may deny with any code.
        done.refused[resource.name] = Refusal(answer.status, status_of(answer)[1], details)
    elif outcome.verdict is not Verdict.DELETED:
        done.unclear.append(resource.name)


def evaluate_rewrites(done: Rehearsal, down: frozenset[str], *, show_messages: bool = False) -> list[Finding]:
    """What the rehearsal found beyond the webhooks (by name) that are known to be down."""
    found = []
    for name, resources in sorted(done.silent.items()):
        if name not in down:
            found.append(
                Finding(
                    "webhook",
                    name,
                    f"The API server gets no answer from the webhook {name} for an update of {listed(sorted(resources))}.",
                    "Each such write is refused, and the migration fails.",
                    "Bring it back, or delete its configuration if its owner is gone.",
                )
            )
    for resource, refusal in sorted(done.refused.items()):
        said = what_is_said(resource, refusal.message, refusal.details, shown=show_messages)
        found.append(
            Finding(
                "write_refused",
                resource,
                f"{who_refuses(refusal.message)} refuses to write an unchanged object of {resource} ({refusal.status}){said}.",
                "Those objects can't be migrated as they are.",
                "Exempt this user, or fix the objects or the policy.",
            )
        )
    return found
