# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import StateStoreError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state import (
    ResourceState,
    State,
    from_document,
    parse,
    render,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServedResource, ServerReport

NAME = "things.example.com"


def report(hashed: str, url: str = "https://a") -> ServerReport:
    thing = ServedResource(NAME, "example.com", "things", "Thing", True, frozenset(), ("v1",), (hashed,))
    return ServerReport(url=url, name=url, version="v1.37.2", ready=True, resources={NAME: thing})


def baseline(hashed: str) -> State:
    return State().record([report(hashed)], {NAME: "example.com/v1"}, "2026-01-01T00:00:00Z")


def test_nothing_is_known_at_first() -> None:
    assert not State().known
    assert State().persisted is None


def test_first_baseline_takes_objects_to_be_stored_as_reported() -> None:
    assert baseline("old").persisted == {NAME: ("old",)}


def test_a_second_baseline_does_not_forget_objects_that_wait_for_their_migration() -> None:
    again = baseline("old").record([report("new")], {NAME: "example.com/v2"}, "2026-02-01T00:00:00Z")
    assert again.of(NAME).persisted == ("old", "new")
    assert again.of(NAME).before == "example.com/v2"


def test_a_resource_that_appears_after_the_first_baseline_has_no_record() -> None:
    first = State().record([], {}, "2026-01-01T00:00:00Z")
    assert first.record([report("new")], {}, "2026-02-01T00:00:00Z").of(NAME).persisted == ()


def test_a_complete_migration_leaves_one_hash() -> None:
    done = baseline("old").observe([report("new")]).completed(NAME, "new", "2026-01-02T00:00:00Z")
    assert done.of(NAME) == ResourceState(("new",), "example.com/v1", "2026-01-02T00:00:00Z", None)


def test_an_old_master_seen_after_the_migration_makes_it_count_again() -> None:
    done = baseline("old").completed(NAME, "new", "2026-01-02T00:00:00Z")
    assert done.observe([report("new"), report("old", "https://b")]).of(NAME).persisted == ("new", "old")


def test_what_an_unusable_server_reports_is_not_taken() -> None:
    broken = ServerReport(url="https://b", name="b", error="down", resources=report("old").resources)
    assert baseline("new").observe([broken]).of(NAME).persisted == ("new",)


def test_stored_text_comes_back_as_it_was() -> None:
    state = baseline("old").with_resource(NAME, ResourceState(("old", "new"), None, None, {"token": "t"}))
    assert parse(render(state), "x") == state


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "no state of this collection"),
        ('{"formatVersion": 99}', "format 99"),
        ('{"formatVersion": 1, "resources": {"a": 3}}', "damaged"),
    ],
)
def test_other_data_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(StateStoreError, match=says):
        parse(text, "file x")


def test_unknown_keys_of_the_same_format_are_ignored() -> None:
    document = json.loads(render(baseline("old")))
    document["later"] = True
    assert from_document(document, "x") == baseline("old")
