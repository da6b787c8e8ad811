# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A finding of a check as its page shows it: a headline that names its subject, and a command to copy. Pure."""

from __future__ import annotations

import json
import shlex

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import ReportedFinding

# What storage_migrate, run before the upgrade, resolves; the others need somebody to look first.
_MIGRATED_AWAY = ("crd_drops_stored_version", "outstanding_migration", "unfinished_migration")
_SHOWN_BY_LIST = ("list_fails", "missing_namespace", "undecodable", "write_refused")
_WEBHOOKS = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"


def headline(finding: ReportedFinding) -> str:
    """What is wrong, and with what: a headline is read alone."""
    what, resource = finding.what or "", finding.resource or ""
    return what if resource.lower() in what.lower() else f"{resource}: {what}"


def command(finding: ReportedFinding) -> str | None:
    """What fixes it, or shows it. None if no single command does."""
    check, resource = finding.check or "", finding.resource
    if not resource:
        return None
    if check in _MIGRATED_AWAY:
        arguments = json.dumps({"resources": [resource]})
        return f"ansible localhost -m kube_storage.upgrade.storage_migrate -a {shlex.quote(arguments)}"
    if check.startswith("crd_"):
        return f"kubectl get crd {shlex.quote(resource)} -o yaml"
    if check == "webhook":
        return _WEBHOOKS
    if check in _SHOWN_BY_LIST:
        return f"kubectl get {shlex.quote(resource)} --all-namespaces"
    return None
