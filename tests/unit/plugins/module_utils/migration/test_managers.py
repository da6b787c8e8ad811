# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which entries of managedFields are dropped, and which an API server may drop on its own."""

from __future__ import annotations

import json

from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import Response
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managers import (
    is_doubtful,
    kept_managed_fields,
    lost_entries,
    may_drop_managers,
)

SERVED = {"shop.example.com/v1"}
OLD, NEW = {"apiVersion": "shop.example.com/v1beta1"}, {"apiVersion": "shop.example.com/v1"}
FOREIGN, GONE = {"apiVersion": "autoscaling/v1"}, {"apiVersion": "extensions/v1beta1"}
# Another resource of the group is still served as v1beta1.
ANYWHERE = {"shop.example.com/v1", "shop.example.com/v1beta1", "autoscaling/v1"}


def test_only_versions_that_are_gone_are_dropped() -> None:
    assert kept_managed_fields([OLD, NEW, FOREIGN, GONE], "shop.example.com", SERVED, ANYWHERE) == [NEW, FOREIGN]


def test_nothing_to_drop_needs_no_patch() -> None:
    assert kept_managed_fields([NEW, FOREIGN], "shop.example.com", SERVED, ANYWHERE) is None
    assert kept_managed_fields([], "shop.example.com", SERVED, ANYWHERE) is None
    assert kept_managed_fields(None, "shop.example.com", SERVED, ANYWHERE) is None


def test_all_dropped_is_an_empty_entry() -> None:
    assert kept_managed_fields([OLD], "shop.example.com", SERVED, ANYWHERE) == [{}]


def test_the_core_group() -> None:
    assert kept_managed_fields([{"apiVersion": "v1"}, {"apiVersion": "v0"}], "", {"v1"}, {"v1"}) == [
        {"apiVersion": "v1"}
    ]


def test_only_the_binary_s_release_counts() -> None:
    assert not may_drop_managers(["v1.37.2", "v1.38.0-alpha.1", "v2.0.0"])
    assert may_drop_managers(["v1.37.2", "v1.36.6"]) and may_drop_managers(["v1.35.4+rke2r1"])
    assert may_drop_managers([""]) and may_drop_managers([None])


def test_what_has_to_be_tried() -> None:
    """Issue 11, number 7: entries that need a conversion, and custom resources, whose schema may not fit anymore."""
    assert is_doubtful([NEW, OLD], "shop.example.com/v1", custom=False)
    assert is_doubtful([NEW], "shop.example.com/v1", custom=True)
    assert not is_doubtful([NEW], "shop.example.com/v1", custom=False)
    assert not is_doubtful([], "shop.example.com/v1", custom=True) and not is_doubtful(None, "v1", custom=True)


def test_what_was_lost() -> None:
    def answer(*entries: dict[str, str]) -> Response:
        return Response(200, {}, json.dumps({"metadata": {"managedFields": list(entries)}}).encode())

    assert not lost_entries([OLD, NEW], answer(NEW, OLD))
    assert lost_entries([OLD, NEW], answer()) and lost_entries([OLD, NEW], answer(NEW))
    assert lost_entries([NEW], answer({**NEW, "manager": "another"}))
    assert not lost_entries([OLD, NEW], answer(NEW), dead=[OLD["apiVersion"]])
    assert not lost_entries([{}], answer())
    assert lost_entries([NEW], Response(200, {}, b"<html>"))
