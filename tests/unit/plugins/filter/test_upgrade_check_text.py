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
        "From 1.36 to 1.37: 0 blockers, 0 concerns. What is stored was not read from etcd, or not completely; as far as is known, no known release "
        "can read all of it.",
        "",
        "No storage version will change.",
    ]


def test_the_end_of_the_data_is_no_limit_of_what_is_stored() -> None:
    """Issue 15, number 11."""
    known = {**CHECKED, "data": {"releases": ["1.36", "1.37"]}}
    newest = "1.37, the newest release known to this version of the collection, can read all of it."
    assert newest in upgrade_check_text({**known, "safe_up_to": "1.37"})[0]
    assert "1.36 is the last release known to read all of it." in upgrade_check_text({**known, "safe_up_to": "1.36"})[0]


def test_the_last_snapshot_has_its_age() -> None:
    for age, said in ((59, "59 seconds"), (60, "1 minute"), (7300, "2 hours"), (86400 * 3, "3 days")):
        taken = {"path": "/s/etcd-1.db", "taken_at": "2026-11-27T10:15:00Z", "age": age}
        lines = upgrade_check_text({**CHECKED, "last_snapshot": taken})
        assert f"The last snapshot of etcd was taken at 2026-11-27T10:15:00Z, {said} ago: /s/etcd-1.db" in lines
    assert upgrade_check_text({**CHECKED, "last_snapshot": None}) == upgrade_check_text(CHECKED)


def test_each_finding_is_a_block_with_a_command_to_copy() -> None:
    """Issue 15, number 10."""
    finding = {"id": "undecodable/secrets", "check": "undecodable", "resource": "secrets"}
    told = {"what": "3 objects are stored as v0.", "why": "1.37 can't decode it.", "remediation": "Rewrite them."}
    change = {"resource": "deployments.apps", "from": "apps/v1beta1", "to": "apps/v1", "objects": 3}
    found = {"blockers": [{**finding, **told}], "concerns": [{**finding, **told}], "unknown": ["Etcd was not read."]}
    lines = upgrade_check_text({**CHECKED, **found, "plan": {"changes": [change, {**change, "from": None}]}})
    assert "1 blocker, 1 concern." in lines[0]
    at = lines.index("BLOCKER undecodable/secrets")
    assert lines[at + 1 : at + 8] == [
        "  3 objects are stored as v0.",
        "  Why: 1.37 can't decode it.",
        "  Remedy: Rewrite them.",
        "  To migrate it now:",
        """    ansible localhost -m kube_storage.upgrade.storage_migrate -a '{"resources": ["secrets"]}'""",
        "  To upgrade despite it, add:",
        """    -e '{"rolling_upgrade_ignore_blockers": ["undecodable/secrets"]}'""",
    ]
    assert lines.count("  To upgrade despite it, add:") == 1 and "Concern undecodable/secrets" in lines
    assert "  Etcd was not read." in lines and "v1beta1" in lines[-2] and "apps/v1" not in lines[-2]


def test_stored_forms_are_rows() -> None:
    sealed = {"version": None, "encoding": "encrypted", "provider": "secretbox", "key": "key1"}
    plain = {"version": "apps/v1", "encoding": "protobuf", "provider": "", "key": None}
    counts = {"objects": 2, "bytes": 20, "stale": []}
    rows = stored_rows({"deployments.apps": {"stored": [{**plain, **counts}, {**sealed, **counts}]}})
    assert [(row["version"], row["encryption"], row["objects"]) for row in rows] == [
        ("v1", "", 2),
        ("not visible", "secretbox key1", 2),
    ]
    stale = {**plain, **counts, "stale": ["version"]}
    rows = stored_rows({"a": {"stored": [{**plain, **counts}]}, "b": {"stored": [stale]}})
    assert [row["resource"] for row in rows] == ["b", "a"]
