# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Webhooks that a migration would call: which resources' UPDATE they match, and whether they answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Finding, listed
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource

# An API server never calls webhooks for these (k8s.io/apiserver, plugin/webhook/predicates/rules).
_EXEMPT_GROUP = "admissionregistration.k8s.io"


@dataclass(frozen=True)
class Webhook:
    """One webhook of a Validating- or MutatingWebhookConfiguration."""

    kind: str
    configuration: str
    name: str
    client: Mapping[str, Any]
    fails: bool
    selective: bool
    rules: tuple[Mapping[str, Any], ...]

    def matches(self, resource: ServedResource) -> bool:
        """Whether it is called for an UPDATE of objects of a resource, selectors aside."""
        if resource.group == _EXEMPT_GROUP and resource.plural.endswith(
            ("webhookconfigurations", "admissionpolicies", "admissionpolicybindings")
        ):
            return False
        return any(_rule_matches(rule, resource) for rule in self.rules)


def webhooks_of(documents: Iterable[Mapping[str, Any]], kind: str) -> list[Webhook]:
    """All webhooks of some configurations."""
    found = []
    for document in documents:
        for webhook in document.get("webhooks") or ():
            selectors = (
                webhook.get("namespaceSelector"),
                webhook.get("objectSelector"),
                webhook.get("matchConditions"),
            )
            found.append(
                Webhook(
                    kind=kind,
                    configuration=str(document["metadata"]["name"]),
                    name=str(webhook.get("name") or ""),
                    client=webhook.get("clientConfig") or {},
                    fails=(webhook.get("failurePolicy") or "Fail") == "Fail",
                    selective=any(selectors),
                    rules=tuple(webhook.get("rules") or ()),
                )
            )
    return found


def _rule_matches(rule: Mapping[str, Any], resource: ServedResource) -> bool:
    operations = rule.get("operations") or ()
    groups, versions, names = (rule.get(key) or () for key in ("apiGroups", "apiVersions", "resources"))
    scope = rule.get("scope") or "*"
    # matchPolicy Equivalent, the default, also matches by another version of the same resource.
    return (
        bool({"*", "UPDATE"} & set(operations))
        and bool({"*", resource.group} & set(groups))
        and bool({"*", *resource.versions} & set(versions))
        and bool({"*", "*/*", resource.plural, f"{resource.plural}/*"} & set(names))
        and scope in ("*", "Namespaced" if resource.namespaced else "Cluster")
    )


def evaluate_webhooks(
    webhook: Webhook, resources: Iterable[str], problem: str | None, rewritable: frozenset[str]
) -> Finding | None:
    """``problem``: why it doesn't answer; None if it does. ``rewritable``: resources of which a sample object passed."""
    names = sorted(resources)
    if problem is None or not names:
        return None
    # With selectors it may match nothing; if the sample passed all webhooks, it did not match the sample.
    certain = not webhook.selective or not set(names) <= rewritable
    blocks = webhook.fails and certain
    effect = (
        "Each write of them is refused, and the migration fails."
        if blocks
        else "Each write of objects that it matches is refused."
        if webhook.fails
        else "Each write of them waits for its timeout, so the migration is slow."
    )
    return Finding(
        "webhook",
        f"{webhook.configuration}/{webhook.name}",
        f"The webhook {webhook.name} of {webhook.kind} {webhook.configuration} is called for every update of "
        f"{listed(names)}, and {problem}.",
        effect,
        f"Make its {'service' if webhook.client.get('service') else 'server'} answer again, or delete the {webhook.kind} if its owner is gone.",
        blocks=blocks,
    )
