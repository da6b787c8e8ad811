# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.filter.stored_rows import stored_rows
from ansible_collections.kube_storage.upgrade.plugins.filter.upgrade_check_text import upgrade_check_text

CHECKED: dict[str, Any] = {
    "current_version": "1.36",
    "target_version": "1.37",
    "blockers": [],
    "concerns": [],
    "unknown": [],
    "proven_from_etcd": False,
    "safe_up_to": None,
    "plan": {"changes": []},
}


def test_nothing_is_in_the_way() -> None:
    assert upgrade_check_text(CHECKED) == [
        "From 1.36 to 1.37: 0 blockers, 0 concerns. What is stored was not read from etcd; as far as is known, no release "
        "is the last release that can read all of it.",
        "No storage version will change.",
    ]


def test_what_was_found_is_in_tables() -> None:
    finding = {"id": "list_fails/secrets", "what": "LIST fails.", "remediation": "Restore the key."}
    change = {"resource": "deployments.apps", "from": "apps/v1beta1", "to": "apps/v1", "objects": 3}
    found = {"blockers": [finding], "concerns": [finding], "unknown": ["Etcd was not read."]}
    lines = upgrade_check_text({**CHECKED, **found, "plan": {"changes": [change, {**change, "from": None}]}})
    assert [line for line in lines if line.endswith(":")] == [
        "Blockers:",
        "Concerns:",
        "Unknown:",
        "Storage versions that will change:",
    ]
    assert "list_fails/secrets  LIST fails.  Restore the key." in lines and "Etcd was not read." in lines
    assert "v1beta1" in lines[-2] and "apps/v1" not in lines[-2]


def test_stored_forms_are_rows() -> None:
    sealed = {"version": None, "encoding": "encrypted", "provider": "secretbox", "key": "key1"}
    plain = {"version": "apps/v1", "encoding": "protobuf", "provider": "", "key": None}
    counts = {"objects": 2, "bytes": 20, "stale": []}
    rows = stored_rows({"deployments.apps": {"stored": [{**plain, **counts}, {**sealed, **counts}]}})
    assert [(row["version"], row["encryption"], row["objects"]) for row in rows] == [
        ("v1", "", 2),
        ("not visible", "secretbox key1", 2),
    ]
