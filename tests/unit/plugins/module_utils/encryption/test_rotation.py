# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which configuration follows which when a key is rotated, and what keeps an old key."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from copy import deepcopy
from datetime import date
from typing import Any

import pytest
import yaml
from ansible_collections.kube_storage.upgrade.plugins.filter.encryption_key_rotation import encryption_key_rotation
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption import rotation_plan
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_keys import (
    RotationProblem,
    Wish,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_order import (
    RotationState,
    why_no_rewrite,
    why_no_start,
    why_not_ended,
    why_not_yet,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_plan import (
    plan_rotation,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._encryption.rotation_proof import (
    still_needed,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.encryption import covers
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.providers import LOCAL_PROVIDERS
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.encryption_metrics import parse_metrics
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._encryption_yaml import dump, load
from hypothesis import given, settings
from hypothesis import strategies as st

SERVED = ["secrets", "configmaps", "events", "events.events.k8s.io", "deployments.apps"]


def key(name: str, size: int = 32) -> dict[str, str]:
    return {"name": name, "secret": base64.b64encode(name.encode().ljust(size, b".")).decode()}


def config(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> dict[str, Any]:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": list(resources), "providers": list(providers)}],
    }


def names(document: dict[str, Any]) -> list[Any]:
    """Each provider with its keys' names."""
    return [
        (kind, *(named_key["name"] for named_key in settings.get("keys", ())))
        for provider in document["resources"][0]["providers"]
        for kind, settings in provider.items()
    ]


OLD = config({"aescbc": {"keys": [key("k1")]}}, {"identity": {}})
WISH = Wish("k2", ("secrets",))


def test_a_new_key_is_read_before_it_writes_and_is_alone_at_the_end() -> None:
    found = plan_rotation({"a": OLD}, WISH, SERVED)
    assert [names(document) for document in found.masters["a"].documents] == [
        [("aescbc", "k1", "k2"), ("identity",)],
        [("aescbc", "k2", "k1"), ("identity",)],
        [("aescbc", "k2"), ("identity",)],
    ]
    assert (found.provider, found.resources, found.all_known) == ("aescbc", ("secrets",), True)
    assert found.old == (("aescbc", "k1"),)
    assert found.masters["a"].done == 0
    assert names(OLD) == [("aescbc", "k1"), ("identity",)]


def test_a_random_secret_is_the_same_on_all_masters_and_never_twice_the_same() -> None:
    secrets = []
    for _time in range(2):
        found = plan_rotation({"a": OLD, "b": OLD}, WISH, SERVED)
        of = {
            steps.documents[2]["resources"][0]["providers"][0]["aescbc"]["keys"][0]["secret"]
            for steps in found.masters.values()
        }
        assert len(of) == 1
        secrets.append(of.pop())
    assert len(set(secrets)) == 2
    assert len(base64.b64decode(secrets[0])) == 32


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_interrupted_rotation_resumes_with_the_same_secret(stage: int) -> None:
    first = plan_rotation({"a": OLD}, WISH, SERVED).masters["a"].documents
    behind = max(0, stage - 1)
    again = plan_rotation({"behind": first[behind], "a": first[stage]}, WISH, SERVED)
    assert again.masters["a"].done == stage + 1
    assert again.masters["behind"].documents == tuple(first[max(behind, number)] for number in range(3))
    assert again.masters["a"].documents == tuple(first[max(stage, number)] for number in range(3))


def test_to_another_provider() -> None:
    found = plan_rotation({"a": OLD}, Wish("k2", ("secrets",), provider="secretbox"), SERVED)
    assert [names(document) for document in found.masters["a"].documents] == [
        [("aescbc", "k1"), ("secretbox", "k2"), ("identity",)],
        [("secretbox", "k2"), ("aescbc", "k1"), ("identity",)],
        [("secretbox", "k2"), ("identity",)],
    ]


@pytest.mark.parametrize("provider", LOCAL_PROVIDERS)
@pytest.mark.parametrize("secret", [None, key("k2")["secret"]])
def test_a_generated_key_and_one_of_32_bytes_fit_every_provider(provider: str, secret: str | None) -> None:
    found = plan_rotation({"a": OLD}, Wish("k2", ("secrets",), provider, secret), SERVED)
    (written,) = found.masters["a"].documents[2]["resources"][0]["providers"][0][provider]["keys"]
    assert len(base64.b64decode(written["secret"])) in LOCAL_PROVIDERS[provider].key_sizes


def test_from_plain_text_and_from_kms() -> None:
    plain = plan_rotation({"a": config({"identity": {}})}, WISH, SERVED)
    assert [names(document) for document in plain.masters["a"].documents] == [
        [("identity",), ("secretbox", "k2")],
        [("secretbox", "k2"), ("identity",)],
        [("secretbox", "k2"), ("identity",)],
    ]
    assert plain.old == ()
    wish = Wish("k2", ("secrets",), provider="secretbox")
    kms = plan_rotation({"a": config({"kms": {"apiVersion": "v2", "name": "p"}})}, wish, SERVED)
    assert kms.old == (("kms", "p"),)
    assert names(kms.masters["a"].documents[2]) == [("secretbox", "k2")]


def test_only_the_entry_of_the_resource_changes_and_the_first_that_names_it_counts() -> None:
    document = config({"aescbc": {"keys": [key("k1")]}})
    document["resources"].append({"resources": ["secrets"], "providers": [{"identity": {}}]})
    document["resources"].append({"resources": ["*.*"], "providers": [{"aesgcm": {"keys": [key("g")]}}]})
    before = deepcopy(document["resources"][1:])
    found = plan_rotation({"a": document}, WISH, SERVED)
    assert found.masters["a"].documents[2]["resources"][1:] == before
    assert found.resources == ("secrets",)
    wide = plan_rotation({"a": document}, Wish("k2", ("configmaps",)), SERVED)
    assert wide.resources == ("configmaps", "deployments.apps", "events")
    assert wide.all_known is False
    assert wide.provider == "aesgcm"


def test_what_a_second_entry_for_the_resource_reads_is_readable() -> None:
    document = config({"aescbc": {"keys": [key("k1")]}})
    document["resources"].append(
        {"resources": ["configmaps", "secrets"], "providers": [{"aesgcm": {"keys": [key("g")]}}]}
    )
    document["resources"].append({"resources": ["*."], "providers": [{"identity": {}}]})
    found = plan_rotation({"a": document}, WISH, SERVED).masters["a"]
    assert found.reads == {"secrets": (("aescbc", "k1"), ("aesgcm", "g"))}


def two_entries(*second: dict[str, Any]) -> dict[str, Any]:
    """Secrets are written by the first entry, and read by both."""
    document = config({"aescbc": {"keys": [key("k0")]}})
    document["resources"].append({"resources": ["configmaps", "secrets"], "providers": list(second)})
    return document


def test_what_reads_by_a_rotated_entry_that_another_one_writes_is_affected() -> None:
    """API servers join all entries that name a resource, so Secrets may be under the key that the entry of ConfigMaps drops."""
    document = two_entries({"aescbc": {"keys": [key("k1")]}})
    assert plan_of(document, "secrets")["kept"] == [["aescbc", "k1"]]
    plan = plan_of(document, "configmaps")
    assert plan["kept"] == []
    assert (plan["resources"], plan["affected"], plan["all_known"]) == (["configmaps"], ["configmaps", "secrets"], True)
    assert plan["lost"] == {"configmaps": [["aescbc", "k1"]], "secrets": [["aescbc", "k1"]]}
    both = {"configmaps": 0, "secrets": 3}
    left = still_needed(held_secrets(row("aescbc", "k1", 2), row("aescbc", "k0")), plan, read_all(both))
    assert left == ["2 of secrets, under a key to be dropped"]
    assert still_needed(held_secrets(row("aescbc", "k0", 3)), plan, read_all(both)) == []
    # Each API server has to show that it reads these, too.
    assert any(
        "did not list secrets" in reason
        for reason in still_needed(held_secrets(row("aescbc", "k0", 3)), plan, read_all({"configmaps": 0}))
    )


def test_a_key_that_another_entry_keeps_for_a_resource_is_not_lost() -> None:
    document = two_entries({"aescbc": {"keys": [key("k0")]}})
    assert plan_of(document, "configmaps")["lost"] == {"configmaps": [["aescbc", "k0"]], "secrets": []}
    document["resources"][0]["providers"][0]["aescbc"]["keys"][0]["secret"] = key("other")["secret"]
    assert plan_of(document, "configmaps")["lost"]["secrets"] == [["aescbc", "k0"]]


def test_the_new_key_has_no_namesake_among_the_keys_that_read() -> None:
    """With two secrets under one name etcd doesn't show which of them a value is under."""
    document = two_entries({"aescbc": {"keys": [key("k1")]}}, {"aesgcm": {"keys": [key("k2")]}})
    with pytest.raises(RotationProblem, match="already exists with a different secret"):
        plan_rotation({"a": document}, Wish("k2", ("secrets",), "aesgcm", key("other")["secret"]), SERVED)
    found = plan_rotation({"a": document}, Wish("k2", ("secrets",), "aesgcm"), SERVED).masters["a"].documents[-1]
    assert found["resources"][0]["providers"] == [{"aesgcm": {"keys": [key("k2")]}}]


@pytest.mark.parametrize("name", ["widgets.example.com", "clustertrustbundles.certificates.k8s.io"])
def test_what_a_wildcard_covers_counts_whenever_it_appeared(name: str) -> None:
    """A CRD that was added, or a resource that is no longer served, may have objects under the old key."""
    document = config({"aescbc": {"keys": [key("k1")]}})
    document["resources"].append({"resources": ["*.*"], "providers": [{"aescbc": {"keys": [key("k1")]}}]})
    plan = plan_of(document, "configmaps")
    assert plan["resources"] == plan["affected"] == ["configmaps", "deployments.apps", "events"]
    reading = read_all(dict.fromkeys(plan["affected"], 0))
    for rows, left in (
        ([row("aescbc", "k1", 2), row("aescbc", "k2")], [f"2 of {name}, under a key to be dropped"]),
        ([row("aescbc", None)], [f"1 of {name}, under a key to be dropped"]),
        ([row("aescbc", "k2"), row("identity", None)], []),
    ):
        # Secrets have an entry of their own, which keeps its key of that name.
        resources = {name: {"stored": rows}, "secrets": {"stored": [row("aescbc", "k1")]}}
        assert still_needed(held(resources=resources), plan, reading) == left


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ([["pods"], ["*.*"]], "a and b name other resources"),
        ([["*.*"], ["secrets"]], "b names secrets after *.*, which covers it"),
        ([["*."], ["secrets"], ["*.*"]], "b names secrets after *., which covers it"),
        ([["*.apps"], ["deployments.apps"], ["secrets"], ["*.*"]], "b names deployments.apps after *.apps, which covers it"),
    ],
)  # fmt: skip
def test_masters_whose_files_cover_other_resources_are_refused(other: list[list[str]], says: str) -> None:
    """What has an entry of its own on one master could lose its key by the wildcard of another."""
    files = [
        {
            **config(),
            "resources": [
                {"resources": patterns, "providers": OLD["resources"][0]["providers"]} for patterns in entries
            ],
        }
        for entries in ([["secrets"], ["*.*"]], other)
    ]
    with pytest.raises(RotationProblem) as found:
        plan_rotation({"a": files[0], "b": files[1]}, Wish("k2", ("configmaps",)), SERVED)
    assert says in str(found.value)


@pytest.mark.parametrize(
    ("configurations", "wish", "says"),
    [
        ({}, WISH, "no masters"),
        ({"a": OLD}, Wish("", ("secrets",)), "no name"),
        ({"a": {"kind": "Pod"}}, WISH, "a has no valid EncryptionConfiguration"),
        ({"a": OLD}, Wish("k2", ("configmaps",)), "no entry for configmaps"),
        ({"a": OLD}, Wish("k2", ("secrets",), provider="rot13"), f"one of {', '.join(LOCAL_PROVIDERS)}, not 'rot13'"),
        ({"a": OLD}, Wish("k2", ("secrets",), secret="??"), "not base64"),
        ({"a": OLD}, Wish("k2", ("secrets",), secret="AAAA"), "has 3 bytes; aescbc takes 16 or 24 or 32"),
        ({"a": OLD}, Wish("k1", ("secrets",), secret=key("other")["secret"]), "already exists with a different secret"),
        (
            {"a": OLD, "b": config({"aescbc": {"keys": [{**key("k1"), "name": "k2"}]}}), "c": config({"aescbc": {"keys": [key("k2")]}})},
            WISH,
            "different secrets under the name k2",
        ),
        ({"a": OLD, "b": config({"identity": {}}, resources=("secrets", "x.y.z"))}, WISH, "of a and b name other resources"),
        ({"a": OLD, "b": config({"aescbc": {"keys": [{**key("other"), "name": "k1"}]}}, {"identity": {}})}, WISH, "different secrets under the name k1"),
        ({"a": OLD, "b": config({"aescbc": {"keys": [key("k0"), key("k1")]}}, {"identity": {}})}, WISH, "a can't read what b writes"),
        ({"a": config({"aescbc": {"keys": [key("k2")]}}), "b": OLD}, WISH, "can't read what"),
        ({"a": OLD}, Wish("k2", ("secrets",), secret=key("k1")["secret"]), "is that of k1"),
        ({"a": config({"aescbc": {"keys": [{"name": 7, "secret": key("k1")["secret"]}]}})}, WISH, "not text; put both in quotes"),
        ({"a": config({"aescbc": {"keys": [{"name": date(2026, 1, 10), "secret": key("k1")["secret"]}]}})}, WISH, "put names in quotes"),
        ({"a": config({"aescbc": {"keys": [key("k1")]}, "identity": {}})}, WISH, "not one name with its settings"),
        ({"a": config({"kms": {"apiVersion": "v2", "name": "p"}}, {"identity": {}})}, WISH, "rotated in the KMS itself"),
        ({"a": config({"identity": {}}, {"kms": {"apiVersion": "v2", "name": "p"}})}, WISH, "rotated in the KMS itself"),
        ({"a": config({"identity": {}}, {"aescbc": {"keys": [key("k1")]}})}, WISH, "identity comes first although there are keys (aescbc k1)"),
        ({"a": config({"aescbc": {"keys": [key("k1"), key("k2")]}}, {"aesgcm": {"keys": [key("k2")]}})}, WISH, "Several providers are in use"),
    ],
)  # fmt: skip
def test_an_impossible_rotation_is_one_sentence_without_a_key(
    configurations: dict[str, Any], wish: Wish, says: str
) -> None:
    with pytest.raises(RotationProblem) as found:
        plan_rotation(configurations, wish, SERVED)
    assert says in str(found.value)
    for name in ("k0", "k1", "k2", "other"):
        assert key(name)["secret"] not in str(found.value)


def test_plain_text_stays_what_the_rotation_began_with() -> None:
    """[identity, k2] is its own first stage, so it needs no provider to continue."""
    begun = plan_rotation({"a": config({"identity": {}})}, WISH, SERVED).masters["a"].documents[0]
    again = plan_rotation({"a": begun}, WISH, SERVED)
    assert (again.provider, again.masters["a"].done) == ("secretbox", 1)


def test_entries_that_share_their_providers_are_separated() -> None:
    """Issue 11, 11 a: a YAML anchor is one object in two entries."""
    shared = [{"aescbc": {"keys": [key("k1")]}}, {"identity": {}}]
    document = config(*shared)
    document["resources"] = [
        {"resources": ["secrets"], "providers": shared},
        {"resources": ["configmaps"], "providers": shared},
    ]
    before = deepcopy(document["resources"][1])
    for planned in plan_rotation({"a": document}, WISH, SERVED).masters["a"].documents:
        assert planned["resources"][1] == before


def test_an_entry_that_would_change_as_well_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 11, 11 a: whatever the steps do, entries that aren't rotated are compared."""
    document = config({"aescbc": {"keys": [key("k1")]}})
    document["resources"].append({"resources": ["configmaps"], "providers": document["resources"][0]["providers"]})
    monkeypatch.setattr(rotation_plan, "_unshared", lambda _master, found: found)
    with pytest.raises(RotationProblem, match="more of the configuration of a"):
        plan_rotation({"a": document}, WISH, SERVED)


def plan_of(document: dict[str, Any], *resources: str) -> dict[str, Any]:
    """As the filter returns it, for one master."""
    files = {"a": base64.b64encode(yaml.safe_dump(document).encode()).decode()}
    found = encryption_key_rotation(files, "k2", list(resources), SERVED, run="r")
    assert found["problem"] is None
    return found


PLAN = {
    "id": "p",
    "run": "r",
    "problem": None,
    "resources": ["secrets"],
    "affected": ["secrets"],
    "patterns": ["secrets"],
    "lost": {"secrets": [["aescbc", "k1"]]},
    "provider": "aescbc",
    "key": "k2",
    "old": [["aescbc", "k1"]],
    "order": ["a", "b"],
    "masters": {"a": {"reads": {"secrets": [["aescbc", "k2"], ["identity", None]]}}},
}


def row(provider: str, name: str | None, objects: int = 1, encoding: str | None = None) -> dict[str, Any]:
    return {"provider": provider, "key": name, "objects": objects, "encoding": encoding}


def held(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A result of stored_versions_info."""
    found: dict[str, Any] = {
        "resources": {"secrets": {"stored": list(rows)}, "configmaps": {"stored": [row("aescbc", "k1")]}},
        "unknown": [],
        "internal": [],
        "problems": [],
        "consistent": True,
        "cluster_verified": True,
        "revision": 7,
        "error": None,
    }
    return {**found, **more}


def held_secrets(*rows: dict[str, Any]) -> dict[str, Any]:
    return held(resources={"secrets": {"stored": list(rows)}})


def read_all(objects: dict[str, int]) -> dict[str, Any]:
    """A result of readable_objects_info, of one server."""
    resources = {name: {"objects": number, "error": None} for name, number in objects.items()}
    server = {"name": "a", "url": "https://a", "error": None, "resources": resources}
    return {"servers": [server], "revision": 7, "readable": True, "error": None}


def read(objects: int | None, **more: Any) -> dict[str, Any]:
    """A result of readable_objects_info, of two servers."""
    servers = [
        {"name": name, "url": f"https://{name}", "error": None, "resources": {"secrets": {"objects": objects, "error": None}}}
        for name in ("a", "b")
    ]  # fmt: skip
    return {"servers": servers, "revision": 7, "readable": True, "error": None, **more}


@pytest.mark.parametrize(
    ("rows", "elsewhere", "problems", "left"),
    [
        ([row("aescbc", "k2", 5)], [row("identity", None)], [], []),
        ([], [], [], []),
        ([row("aescbc", "k2"), row("aescbc", "k1", 3)], [], [], ["3 of secrets (aescbc k1)"]),
        ([row("aesgcm", "k2")], [], [], ["1 of secrets (aesgcm k2)"]),
        ([row("aescbc", None)], [], [], ["1 of secrets (aescbc (a key whose name is unknown))"]),
        ([row("identity", None, 2, "protobuf")], [], [], ["2 of secrets (not encrypted)"]),
        ([row("identity", None, 1, "unknown")], [], [], ["1 of secrets (corrupt)"]),
        ([], [row("aescbc", "k1", 4)], [], ["4 under ranges, which no API server serves"]),
        ([], [row("aescbc", None, 4)], [], ["4 under ranges, which no API server serves"]),
        ([], [row("aescbc", "k0", 4)], [], []),
        ([], [], ["compacted"], ["compacted"]),
    ],
)
def test_an_old_key_goes_only_if_nothing_is_under_it(
    rows: list[Any], elsewhere: list[Any], problems: list[str], left: list[str]
) -> None:
    stored = held(*rows, internal=[{"prefix": "ranges", "encryption": elsewhere}], problems=problems)
    assert still_needed(stored, PLAN, read(sum(row["objects"] for row in rows))) == left


@pytest.mark.parametrize(
    ("stored", "reading", "says"),
    [
        ({}, read(0), "etcd was not read"),
        ({"failed": True, **held()}, read(0), "etcd was not read"),
        ({"skipped": True}, read(0), "etcd was not read"),
        ({**held(), "error": "etcd"}, read(0), "etcd was not read"),
        (held(consistent=False), read(0), "not read at one revision"),
        (held(cluster_verified=None), read(0), "not shown that this etcd"),
        (held(), {}, "were not asked"),
        (held(), {"skipped": True}, "were not asked"),
        (held(), {**read(0), "servers": []}, "were not asked"),
        (held(), {**read(0), "revision": 6}, "at the revision"),
        (held(), read(3), "a lists 3 secrets where etcd holds 0"),
        (held(row("aescbc", "k2", 2)), read(3), "a lists 3 secrets where etcd holds 2"),
        (held(row("aescbc", "k2", 2)), read(None), "a did not list secrets"),
        (held(), {**read(0), "servers": [{"name": "a", "error": "a is down.", "resources": {}}]}, "a: a is down."),
        (
            held(),
            {**read(0), "servers": [{"name": "a", "error": None, "resources": {"secrets": {"objects": 0, "error": "no prefix"}}}]},
            "a can't read all secrets: no prefix",
        ),
    ],
)  # fmt: skip
def test_what_was_not_found_out_keeps_the_old_keys(stored: Any, reading: Any, says: str) -> None:
    """Issue 11, 11 b: an empty etcd, a server that was not asked or a number that doesn't fit prove nothing."""
    assert any(says in reason for reason in still_needed(stored, PLAN, reading))


@pytest.mark.parametrize(
    ("stored", "reading", "says"),
    [
        (held(row("aescbc", "k2", 3)), read(3), ""),
        (held(row("identity", None, 3, "protobuf")), read(3), ""),
        (held(row("aescbc", "k1", 3)), read(3), "a could not read what etcd holds: 3 of secrets (aescbc k1)"),
        ({"skipped": True}, read(3), "etcd was not read"),
        (held(), {"failed": True}, "were not asked"),
        (held(), read(3), "differs from what the API servers list: a lists 3 secrets where etcd holds 0"),
    ],
)
def test_a_rotation_begins_only_where_all_can_be_read(stored: Any, reading: Any, says: str) -> None:
    found = why_no_start(PLAN, stored, reading)
    assert (says in found) if says else found == ""


def rotation_state(done: int = 2, stage_read: int = 2, **more: Any) -> RotationState:
    states = {name: {"plan": "p", "done": done} for name in ("a", "b")}
    known: dict[str, Any] = {"run": "r", "plan": PLAN, "states": states, "read": {"plan": "p", "stage": stage_read}}
    return RotationState(**{**known, "proven": "p", "lease": True, **more})


def asked(**changes: Any) -> dict[str, Any]:
    servers = [{"url": f"https://{name}", "ready": True, "error": None, **changes} for name in ("a", "b")]
    return {"servers": servers, "error": None}


def test_the_old_keys_go_after_the_proof() -> None:
    assert why_not_yet(rotation_state(), 3, "a", "https://a", asked()) == ""
    assert why_no_rewrite(rotation_state()) == ""
    assert why_not_ended(rotation_state(done=3, stage_read=3), 3) == ""
    assert why_not_yet(rotation_state(done=0, stage_read=0), 1, "a", "https://a", asked()) == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lease": False}, "does not hold the Lease"),
        ({"lease": None}, "does not hold the Lease"),
        ({"run": ""}, "no plan"),
        ({"run": "another"}, "no plan"),
        ({"plan": {}}, "no plan"),
        ({"plan": {**PLAN, "problem": "No way."}}, "No way."),
        ({"plan": {**PLAN, "id": "another"}}, "did not complete"),
        ({"states": {}}, "a, b did not complete"),
        ({"states": {"a": {"plan": "p", "done": 2}, "b": {"plan": "earlier", "done": 3}}}, "b did not complete"),
        ({"proven": ""}, "not proven"),
        ({"proven": None}, "not proven"),
        ({"proven": True}, "not proven"),
        ({"proven": "earlier"}, "not proven"),
        ({"read": {}}, "has shown that it can read"),
        ({"read": {"plan": "earlier", "stage": 2}}, "has shown that it can read"),
        ({"read": {"plan": "p", "stage": 1}}, "has shown that it can read"),
    ],
)
def test_no_old_key_is_dropped_on_missing_evidence_or_that_of_another_run(changes: dict[str, Any], says: str) -> None:
    """Issue 11, 10: what an ignored failure left out, or an earlier play left behind, is not permission."""
    assert says in why_not_yet(rotation_state(**changes), 3, "a", "https://a", asked())
    if "proven" not in changes:
        assert why_no_rewrite(rotation_state(**changes)) != ""
    assert why_not_ended(rotation_state(done=3, stage_read=3, **changes), 3) != ""


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({}, "the state of the API servers is unknown"),
        ({"failed": True, "servers": []}, "the state of the API servers is unknown"),
        ({"servers": []}, "was not asked"),
        ({"servers": asked()["servers"][:1]}, "was not asked"),
        (asked(ready=False), "https://b can't be used: not ready."),
        (asked(error="b is down."), "b is down."),
    ],
)
def test_no_master_is_touched_while_another_may_be_down(result: Any, says: str) -> None:
    assert says in why_not_yet(rotation_state(), 1, "a", "https://a", result)


def steps(name: str) -> list[dict[str, str]]:
    files = [f"{name}-{number}" for number in range(4)]
    return [{"replaces": before, "sha256": after} for before, after in zip(files, files[1:])]


@pytest.mark.parametrize(
    ("stage", "loaded", "allowed"),
    [
        (1, "b-0", True),
        (1, "written before a killed run", True),
        (2, "b-1", True),
        (3, "b-2", True),
        (3, "b-3", True),
        (3, None, True),
        (3, "b-0", False),
        (2, "x", False),
    ],
)
def test_no_stage_begins_while_another_server_has_a_file_of_somebody_else(
    stage: int, loaded: str | None, allowed: bool
) -> None:
    """Configuration management restored an old file after the proof, so that server may write with a key that is about to go."""
    plan = {**PLAN, "masters": {name: {"steps": steps(name)} for name in ("a", "b")}}
    state = rotation_state(done=stage - 1, stage_read=stage - 1, plan=plan)
    refusal = why_not_yet(state, stage, "a", "https://a", asked(config_hash=loaded))
    assert refusal == "" if allowed else "https://b loaded a configuration that isn't part of this rotation" in refusal


def test_one_master_after_the_other() -> None:
    begun = rotation_state(states={"a": {"plan": "p", "done": 0}, "b": {"plan": "p", "done": 0}}, stage_read=0)
    assert "a did not complete" in why_not_yet(begun, 1, "b", "https://b", asked())


# Properties, of any configuration

_PROVIDERS = st.sampled_from(sorted(LOCAL_PROVIDERS))
_NAMES = st.sampled_from(["k1", "k3", "aescbckey-2026-01-10T22:54:38Z", "on", "1e3", "ключ"])


@st.composite
def _configurations(draw: st.DrawFn) -> dict[str, Any]:
    """One file, in which entries may share their providers, and a writer that is neither a KMS nor identity before keys."""
    used: dict[tuple[str, str], str] = {}

    def a_key(kind: str) -> dict[str, str]:
        name = draw(_NAMES)
        return {"name": name, "secret": used.setdefault((kind, name), key(f"{kind}{len(used)}")["secret"])}

    def providers() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for kind in draw(st.lists(_PROVIDERS, max_size=3, unique=True)):
            keys = {drawn["name"]: drawn for drawn in (a_key(kind) for _time in range(draw(st.integers(1, 3))))}
            found.append({kind: {"keys": list(keys.values())}})
        if draw(st.booleans()) and found:
            found.append({"kms": {"apiVersion": "v2", "name": "plugin", "endpoint": "unix:///kms", "timeout": "3s"}})
        return found + ([{"identity": {}}] if draw(st.booleans()) or not found else [])

    shared = providers()
    patterns = [*draw(st.permutations(["secrets", "configmaps", "*.apps"])), "*.*"]
    entries = [
        {"resources": [pattern], "providers": shared if draw(st.booleans()) else providers()} for pattern in patterns
    ]
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": entries}


def _keys_of(entry: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (kind, entry.get("name", ""), entry.get("secret", ""))
        for provider in entry["providers"]
        for kind, settings in provider.items()
        for entry in settings.get("keys", [settings])
    ]


@given(_configurations(), st.sampled_from(["secrets", "configmaps", "deployments.apps"]))
@settings(max_examples=50, deadline=None)
def test_whatever_the_configuration_nothing_is_ever_unreadable(document: dict[str, Any], resource: str) -> None:
    """Stages contain each other, the rest stays, any mix that a roll can leave leads to the same end, and files are read as written."""
    original = json.loads(json.dumps(document))
    wish = Wish("new", (resource,), provider="aescbc", secret=key("new")["secret"])
    served = [*SERVED, "nodes"]
    way = plan_rotation({"a": load(yaml.safe_dump(document).encode())}, wish, served).masters["a"]
    files = [original, *way.documents]
    rotated = next(number for number, entry in enumerate(original["resources"]) if covers(entry["resources"], resource))
    for before, after in itertools.pairwise(files):
        assert [entry for n, entry in enumerate(after["resources"]) if n != rotated] == [
            entry for n, entry in enumerate(original["resources"]) if n != rotated
        ]
        assert after["resources"][rotated]["resources"] == original["resources"][rotated]["resources"]
        old, new = (_keys_of(content["resources"][rotated]) for content in (before, after))
        if after is not files[3]:
            assert set(old) <= set(new)
        # While one master has the file before and the other the one after, each can read what the other writes.
        assert old[0] in new or after is files[3]
        assert new[0] in old or after is files[1]
    assert _keys_of(files[1]["resources"][rotated])[0] == _keys_of(original["resources"][rotated])[0]
    last = _keys_of(files[3]["resources"][rotated])
    assert [kept for kept in last if kept[0] != "identity"] == [("aescbc", "new", key("new")["secret"])]
    for stage, document_now in enumerate(files):
        text = dump(document_now)
        assert "&" not in text and yaml.safe_load(text) == load(text.encode()) == document_now
        for other in (stage, stage + 1):
            if other < len(files):
                again = plan_rotation({"a": document_now, "b": files[other]}, wish, served)
                assert again.masters["a"].documents[2] == again.masters["b"].documents[2] == files[3]


@pytest.mark.parametrize(
    "text",
    ["kind: A\nkind: B\n", "number: 12:30\n", "number: 0o17\nother: 017\n"],
)
def test_yaml_that_parsers_read_differently_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load(text.encode())


def test_a_plan_names_for_each_step_what_it_replaces() -> None:
    """Issue 11, 11 c: a step's file is made from one that is known to the byte."""
    raw = "# a comment\n" + yaml.safe_dump(OLD)
    files = {"a": base64.b64encode(raw.encode()).decode()}
    found = encryption_key_rotation(files, "k2", ["secrets"], SERVED, run="r")
    first, second, third = found["masters"]["a"]["steps"]
    assert first["replaces"] == hashlib.sha256(raw.encode()).hexdigest()
    assert second["replaces"] == first["sha256"] and third["replaces"] == second["sha256"]
    begun = encryption_key_rotation({"a": first["content"]}, "k2", ["secrets"], SERVED, run="s")
    again = begun["masters"]["a"]
    assert (again["done"], again["steps"]) == (1, [{**first, "replaces": first["sha256"]}, second, third])
    assert begun["id"] != found["id"]
    assert found["keys"] == ["aescbc:k1", "aescbc:k2"]
    assert encryption_key_rotation({"a": None}, "k2", ["secrets"], SERVED)["problem"]


def test_metrics_of_a_server() -> None:
    digest = "ab" * 32
    text = (
        "# TYPE process_start_time_seconds gauge\n"
        "process_start_time_seconds 1.7e+09\n"
        f'apiserver_encryption_config_controller_last_config_info{{apiserver_id_hash="sha256:{"cd" * 32}",hash="sha256:{digest}"}} 1\n'
        'apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{apiserver_id_hash="x",status="failure"} 1.9e+09\n'
        'apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{apiserver_id_hash="x",status="success"} 1.8e+09\n'
    )
    assert parse_metrics(text) == {"config_hash": digest, "started": 1.7e9, "reloaded": 1.8e9}
    assert parse_metrics("") == {"config_hash": None, "started": None, "reloaded": None}
