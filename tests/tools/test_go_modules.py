# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which releases ``make update`` moves the Go modules to."""

from __future__ import annotations

import pytest

from tests.control_plane.releases import Release
from tests.tools.go_modules import ROWS, TABLE, _row, newest_patch, repin


@pytest.mark.parametrize(
    ("version", "published", "newest"),
    [
        ("1.37.2", "k8s.io/kubernetes v1.36.9 v1.37.2 v1.37.10 v1.38.0", "1.37.10"),
        ("1.37.2", "k8s.io/kubernetes v1.37.0 v1.37.3-rc.0", "1.37.2"),
        ("1.3.1", "k8s.io/kubernetes v1.37.5", "1.3.1"),
    ],
)
def test_the_minor_stays(version: str, published: str, newest: str) -> None:
    assert newest_patch(version, published) == newest


def test_staging_modules_move_too() -> None:
    old = Release("1.37.2", etcd="3.7.0", go_mod="go.mod", minutes=1)
    new = Release("1.37.10", etcd="3.7.1", go_mod="go.mod", minutes=1)
    text = "\tgo.etcd.io/etcd/server/v3 v3.7.0\n\tk8s.io/kubernetes v1.37.2\n\tk8s.io/api => k8s.io/api v0.37.2\n\tk8s.io/klog/v2 v2.37.2\n"
    assert repin(text, old, new) == (
        "\tgo.etcd.io/etcd/server/v3 v3.7.1\n\tk8s.io/kubernetes v1.37.10\n\tk8s.io/api => k8s.io/api v0.37.10\n"
        "\tk8s.io/klog/v2 v2.37.2\n"
    )


def test_each_row_is_found_in_the_table() -> None:
    table = TABLE.read_text(encoding="utf-8")
    moved = [row for rows in ROWS.values() for row in rows if not row.older_modules]
    assert [row for row in moved if _row(row) not in table] == []
