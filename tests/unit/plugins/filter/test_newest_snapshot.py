# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kube_storage.upgrade.plugins.filter.newest_snapshot import newest_snapshot

OLDER = "/s/etcd-c1-20261127T114502Z-r70.db"
NEWER = "/s/etcd-c1-20261128T000000Z-r81234.db"


def test_the_newest_that_can_be_of_this_cluster() -> None:
    assert newest_snapshot([NEWER, OLDER], 81234) == "2026-11-28T00:00:00Z"
    assert newest_snapshot([NEWER, OLDER], "70") == "2026-11-27T11:45:02Z", "the other is of a later revision"
    assert newest_snapshot([NEWER, OLDER], 0) == newest_snapshot([NEWER], None) == newest_snapshot([], 5) == ""


def test_other_files_are_left_out() -> None:
    assert newest_snapshot(["/s/etcd-c1-mine.db", "/s/etcd-c1-20269999T000000Z-r1.db"], 9) == ""
    assert newest_snapshot(["/s/etcd-c1-mine.db", OLDER], 99) == "2026-11-27T11:45:02Z"
