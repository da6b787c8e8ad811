# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.diff import diff_of, versions_on_record
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    storage_version_hash,
)

THING = ServedResource(
    "things.example.com", "example.com", "things", "Thing", True, frozenset(), ("v1", "v1beta1"), ("hash",)
)


def test_only_what_differs_is_shown() -> None:
    diff = diff_of("stored", "would be", [("b", "v1", "v2"), ("a", None, "v1"), ("c", "v1", "v1")])
    assert diff["before"] == "a: not on record\nb: v1\n"
    assert diff["after"] == "a: v1\nb: v2\n"
    assert diff["before_header"] == "stored" and diff["after_header"] == "would be"


def test_hashes_on_record_are_shown_as_versions() -> None:
    known = (storage_version_hash("example.com", "v1beta1", "Thing"), "unheardOf=")
    found = versions_on_record({THING.name: THING}, {THING.name: known}, ())
    assert found == {THING.name: "example.com/v1beta1, unheardOf="}
    assert versions_on_record({THING.name: THING}, None, ()) == {THING.name: None}
