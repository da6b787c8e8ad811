# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which entries of managedFields are dropped."""

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.direct import kept_managed_fields

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
