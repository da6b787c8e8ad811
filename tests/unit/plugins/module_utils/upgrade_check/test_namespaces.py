# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects whose namespace is gone."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import ObjectKey
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import namespaces
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import (
    WIDGETS,
    served,
)


def orphans(namespace: str, number: int | None, *keys: str) -> namespaces.Orphans:
    resource = served(WIDGETS, "Widget", "v1", stored_as="v1")
    return namespaces.Orphans(resource, namespace, number, ObjectKey(namespace, "a"), keys)


def test_objects_without_a_namespace_are_named() -> None:
    """Issue 11, number 1."""
    (found,) = namespaces.evaluate_namespaces(
        [orphans("lost", 2, "/registry/example.com/widgets/lost/a")], {WIDGETS: "lost"}
    )
    assert found.blocks and found.id == f"missing_namespace/{WIDGETS}"
    assert found.what == (
        f"2 objects of {WIDGETS} are in a namespace that no longer exists: lost (/registry/example.com/widgets/lost/a)."
    )
    assert found.remediation == "Create the namespace again, or delete the objects."
    (concern,) = namespaces.evaluate_namespaces([orphans("lost", 1), orphans("away", None)], {})
    assert not concern.blocks
    assert concern.what.startswith(f"Objects of {WIDGETS} are in namespaces that no longer exist: lost, away")
    (told,) = namespaces.evaluate_namespaces([], {WIDGETS: "lost"})
    assert told.blocks and "lost" in told.what
