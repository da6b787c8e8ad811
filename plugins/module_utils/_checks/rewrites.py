# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rehearsal: one object of each resource is patched as a migration would, as a dry run, through all admission.

The API server itself asks its webhooks and policies, and writes nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.kube_storage.upgrade.plugins.module_utils._api_server import (
    MERGE_PATCH,
    METADATA,
    ApiServer,
    forbidden_sentence,
    status_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks.finding import Finding, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._checks.webhooks import Webhook
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import EVENTS, ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource

_PARALLEL = 4
_CALL_FAILED = re.compile(r'failed calling webhook "([^"]+)"')
_DENIED = re.compile(r'admission webhook "([^"]+)" denied')
_MESSAGE = 300
# Answers that say nothing of the next try: gone, written meanwhile, overload.
_NO_ANSWER = (404, 409, 410, 429, 502, 503, 504)


@dataclass
class Rehearsal:
    """``passed``: resources of which an object could be written; ``silent``: webhooks that failed, with the resources."""

    passed: set[str] = field(default_factory=set)
    silent: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    forbidden: list[str] = field(default_factory=list)


async def rehearse(
    server: ApiServer,
    served: Mapping[str, ServedResource],
    samples: Mapping[str, ObjectKey],
    webhooks: Sequence[Webhook],
) -> Rehearsal:
    """Patches the samples; a webhook that failed once is not waited for again."""
    done = Rehearsal()
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(resource: ServedResource, key: ObjectKey) -> None:
        async with slots:
            if any(hook.name in done.silent and hook.fails and hook.matches(resource) for hook in webhooks):
                return
            await _patch(server, resource, key, done)

    await asyncio.gather(
        *(
            one(served[name], key)
            for name, key in samples.items()
            if "patch" in served[name].verbs and name not in EVENTS
        )
    )
    return done


async def _patch(server: ApiServer, resource: ServedResource, key: ObjectKey, done: Rehearsal) -> None:
    namespace = f"/namespaces/{key.namespace}" if key.namespace else ""
    path = f"{resource.path}{namespace}/{resource.plural}/{key.name}?dryRun=All"
    body = json.dumps({"metadata": {"resourceVersion": key.resource_version}}).encode()
    try:
        answer = await server.request("PATCH", path, accept=METADATA, content_type=MERGE_PATCH, body=body, timeout=60)
    except UnreachableError:
        return
    if answer.status < 300:
        done.passed.add(resource.name)
        return
    _reason, message, _details = status_of(answer)
    failed = _CALL_FAILED.search(message)
    if failed:
        done.silent.setdefault(failed[1], []).append(resource.name)
    elif answer.status == 403 and forbidden_sentence(message):
        done.forbidden.append(resource.name)
    elif answer.status not in _NO_ANSWER:
        done.refused[resource.name] = (answer.status, message[:_MESSAGE])


def judge(done: Rehearsal, down: frozenset[str]) -> list[Finding]:
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
    for resource, (status, message) in sorted(done.refused.items()):
        denied = _DENIED.search(message)
        who = f"The admission webhook {denied[1]}" if denied else "The API server"
        found.append(
            Finding(
                "write_refused",
                resource,
                f"{who} refuses to write an unchanged object of {resource} ({status}): {message.rstrip('.')}.",
                "Those objects can't be migrated as they are.",
                "Exempt this user, or mend the objects or the policy.",
            )
        )
    return found
