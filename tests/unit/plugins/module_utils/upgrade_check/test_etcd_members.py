# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether etcd is healthy, from what its members say."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.client import Etcd, EtcdClusters
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.membership import (
    Listed,
    Membership,
    state_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import HttpClient, Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.etcd_members import check_etcd
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import Findings

URLS = {number: f"https://10.0.0.{number}:2379" for number in (1, 2, 3)}


@dataclass
class Members(HttpClient):
    """Three members; by number: what is unusual about each."""

    down: tuple[int, ...] = ()
    unstarted: bool = False
    denied: bool = False
    leaders: dict[int, str] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)
    hashes: dict[int, list[int]] = field(default_factory=dict)
    compacted: dict[int, list[int]] = field(default_factory=dict)
    learner: int = 0
    dies_after_hash: tuple[int, ...] = ()

    async def request(self, method: str, url: str, *, body: bytes | None, **_rest: Any) -> Response:
        number, path = int(url.partition(":2379")[0][-1]), url.partition("/v3/")[2]
        if number in self.down:
            raise UnreachableError("refused", kind="refused")
        if self.denied:
            return Response(403, {}, b'{"error":"etcdserver: permission denied","code":7}')
        header = {"cluster_id": "7", "member_id": f"1{number}", "revision": f"{100 + number}"}
        document: dict[str, Any] = {"header": header}
        if path == "maintenance/status":
            document["version"] = self.versions.get(number, "3.6.8")
            leader = self.leaders.get(number, "11")
            document |= {"leader": leader} if leader else {}
        elif path == "maintenance/hashkv":
            assert json.loads(body or b"{}") == {"revision": "101"}, "the newest that all have"
            self.down += (number,) if number in self.dies_after_hash else ()
            document["hash"] = (self.hashes.get(number) or [5]).pop(0)
            compacted = self.compacted.get(number) or [90]
            document["compact_revision"] = str(compacted.pop(0) if len(compacted) > 1 else compacted[0])
        else:
            assert path == "cluster/member/list", path
            document["members"] = [
                {"ID": f"1{member}", "name": f"m{member}", "clientURLs": [url], "isLearner": member == self.learner}
                for member, url in URLS.items()
            ] + ([{"ID": "19", "peerURLs": ["https://10.0.0.9:2380"]}] if self.unstarted else [])
        return Response(200, {}, json.dumps(document).encode())

    async def close(self) -> None:
        pass


def check(http: Members, *endpoints: int) -> Findings:
    urls = [URLS[number] for number in endpoints or (1,)]
    return asyncio.run(check_etcd(EtcdClusters(Etcd(urls, http))))


def names(found: Findings) -> tuple[list[str], list[str]]:
    return [finding.check for finding in found.blockers], [finding.check for finding in found.warnings]


def test_a_healthy_etcd() -> None:
    for endpoints in ((1,), (1, 2), (1, 2, 3)):
        found = check(Members(), *endpoints)
        assert (found.found, found.unknown) == ([], [])
    assert asyncio.run(check_etcd(None)).found == []


@pytest.mark.parametrize("endpoints", [(1,), (1, 2), (1, 2, 3)])
def test_a_member_that_is_down_blocks(endpoints: tuple[int, ...]) -> None:
    found = check(Members(down=(3,)), *endpoints)
    assert names(found) == (["etcd_member_down"], [])
    assert found.blockers[0].what == "1 member of etcd did not answer: m3 (https://10.0.0.3:2379)."


def test_a_member_that_never_started_blocks() -> None:
    (finding,) = check(Members(unstarted=True)).blockers
    assert (finding.check, finding.what) == ("etcd_member_down", "1 member of etcd did not answer: 19.")


def test_no_leader_or_two_block() -> None:
    lost = check(Members(leaders={2: ""}))
    assert names(lost) == (["etcd_no_leader"], []) and "https://10.0.0.2:2379 knows no leader" in lost.blockers[0].what
    assert names(check(Members(leaders={2: "13"}))) == (["etcd_no_leader"], [])


def test_a_learner_is_a_concern() -> None:
    assert names(check(Members(learner=2))) == ([], ["etcd_learner"])


@pytest.mark.parametrize(
    ("versions", "concerns", "unknown"),
    [
        (dict.fromkeys(URLS, "3.5.25"), ["etcd_before_3_6"], 1),
        (dict.fromkeys(URLS, "3.5.26"), [], 1),
        (dict.fromkeys(URLS, "3.4.13"), [], 1),
        ({1: "3.6.8", 2: "3.6.8", 3: "3.5.9"}, ["etcd_before_3_6", "etcd_versions_differ"], 1),
        ({1: "3.6.8", 2: "3.6.8", 3: "3.7.0"}, ["etcd_versions_differ"], 0),
    ],
)
def test_versions(versions: dict[int, str], concerns: list[str], unknown: int) -> None:
    """Before 3.6 the JSON gateway doesn't tell hashes."""
    found = check(Members(versions=versions))
    assert (names(found), len(found.unknown)) == (([], concerns), unknown)


def test_members_that_hold_different_data_block() -> None:
    found = check(Members(hashes={2: [6]}))
    assert names(found) == (["etcd_hashes_differ"], []) and "10.0.0.2:2379: 6" in found.blockers[0].what


def test_hashes_are_compared_only_after_the_same_compaction() -> None:
    """One member compacts between two answers: it is asked again."""
    assert check(Members(hashes={2: [6, 5]}, compacted={2: [95, 90]})).found == []
    undecided = check(Members(hashes={2: [6, 6, 6]}, compacted={2: [95]}))
    assert undecided.found == [] and "compacting" in undecided.unknown[0]


@pytest.mark.parametrize("dead", [(3,), (2, 3), (1, 2, 3)])
def test_hashes_of_the_members_that_are_left_prove_nothing(dead: tuple[int, ...]) -> None:
    """Members that were compacting are asked again, and some don't answer anymore."""
    found = check(Members(compacted={1: [80, 90]}, dies_after_hash=dead))
    assert found.found == []
    assert len(found.unknown) == 1
    assert found.unknown[0].startswith("Whether all members of etcd at https://10.0.0.1:2379 hold the same: ")


def test_without_permission_it_is_unknown() -> None:
    found = check(Members(denied=True))
    assert found.found == [] and found.unknown[0].startswith("Whether etcd at https://10.0.0.1:2379 is healthy")


def test_who_raised_an_alarm() -> None:
    """Any member tells it, so the one that answers isn't the one that is meant."""
    state = state_of("https://a:2379", {"header": {"member_id": "3"}, "errors": ["memberID:171 alarm:CORRUPT "]})
    listed = Listed("171", "m2", ("https://b:2379",), False)
    assert Membership((state,), listed=(listed,)).text_of("171") == "m2 (https://b:2379)"
    assert Membership((state,)).text_of("171") == "the member ab"
    assert Membership((state,)).text_of("3") == "https://a:2379"


def test_a_state_is_read_from_real_answers() -> None:
    """Zeros and ``false`` are left out, alarms are among the errors (etcd 3.7)."""
    errors = ["etcdserver: no leader", "memberID:10501334649042878790 alarm:CORRUPT "]
    state = state_of(
        "https://a:2379", {"header": {"member_id": "3", "cluster_id": "4"}, "isLearner": True, "errors": errors}
    )
    assert (state.leader, state.learner, state.alarms, state.revision, state.leads) == (
        None,
        True,
        (("CORRUPT", "10501334649042878790"),),
        0,
        False,
    )
