# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which webhooks a migration calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import webhooks
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServedResource
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import SERVED


def test_which_webhooks_match() -> None:
    def matches(resource: ServedResource = SERVED["secrets"], **rule: Any) -> bool:
        usual = {"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]}
        document = {"metadata": {"name": "a"}, "webhooks": [{"name": "a", "rules": [{**usual, **rule}]}]}
        return webhooks.webhooks_of([document], "ValidatingWebhookConfiguration")[0].matches(resource)

    assert matches()
    assert matches(operations=["*"], apiGroups=["*"], apiVersions=["*"], resources=["*/*"])
    assert not matches(operations=["CREATE", "DELETE"])
    assert not matches(apiGroups=["apps"])
    assert not matches(resources=["secrets/status"])
    assert not matches(scope="Cluster")
    group = "admissionregistration.k8s.io"
    own = ServedResource("x", group, "validatingwebhookconfigurations", "X", False, frozenset(), ("v1",), ("h",))
    assert not matches(own, apiGroups=["*"], resources=["*"])


def test_webhooks_that_are_down() -> None:
    document = {"metadata": {"name": "a"}, "webhooks": [{"name": "a.b.c", "rules": []}]}
    (hook,) = webhooks.webhooks_of([document], "ValidatingWebhookConfiguration")

    def blocks(hook: webhooks.Webhook, passed: frozenset[str] = frozenset()) -> bool:
        finding = webhooks.evaluate_webhooks(hook, ["secrets"], "its service is gone", passed)
        assert finding is not None
        return finding.blocks

    assert blocks(hook) is True
    assert blocks(replace(hook, fails=False)) is False
    assert blocks(replace(hook, selective=True)) is True
    assert blocks(replace(hook, selective=True), frozenset({"secrets"})) is False
    assert webhooks.evaluate_webhooks(hook, [], "gone", frozenset()) is None
    assert webhooks.evaluate_webhooks(hook, ["secrets"], None, frozenset()) is None
